"""The manifest: what an export is, what it was made with, and the sha256 of every file. It is written last.

It holds no time and no path, so the same snapshot and settings give the same manifest. A folder without a manifest is
an export that has not ended, or no export.
"""

from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError

from exports.files.target import Target
from schemas.base import Record
from schemas.records import Named, Sha256, Split
from sdg_data.errors import InputError

MANIFEST = "manifest.json"
VERSION = 1
ORDER = 'samples of a split ascend by sha256("sdg-order:<seed>:<key>")'

Count = Annotated[int, Field(ge=0)]


class FileEntry(Record):
    """A file of the export. `plan` is a hash of what it holds, known before it is written; resuming compares it.

    `samples` and `split` are given for files that hold samples.
    """

    path: Named
    bytes: Count
    sha256: Sha256
    samples: Count | None = None
    split: Split | None = None
    plan: Sha256 | None = None


class Manifest(Record):
    """`content` is a hash over all samples in order, `settings` everything else that shaped the bytes.

    `counts` are of samples: by split, model, licence, composition and label source; and of defects by type.
    """

    kind: str = "sdg-export"
    version: int = VERSION
    name: Named
    format: Named
    tool: Named
    schema_version: int
    order: str = ORDER
    settings: dict[str, Any]
    considered: dict[str, int]
    counts: dict[str, dict[str, int]]
    content: Sha256
    notes: dict[str, Any] = Field(default_factory=dict)
    files: tuple[FileEntry, ...]

    def text(self) -> bytes:
        """The manifest's JSON as it is written."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @property
    def samples(self) -> int:
        """The number of samples."""
        return sum(self.counts["split"].values())

    def shards(self, split: Split | None = None) -> list[FileEntry]:
        """The tar files of one split, or of all: train first, each split's in order."""
        ranks = {name: rank for rank, name in enumerate(Split)}
        ranked = [
            (ranks[entry.split], entry.path, entry)
            for entry in self.files
            if entry.path.endswith(".tar") and entry.split is not None and (split is None or entry.split is split)
        ]
        return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])]


def read_manifest(target: Target) -> Manifest:
    """Read the manifest of a finished export.

    Raises:
        InputError: There is none, it is damaged, or of another version.
    """
    text = target.read(MANIFEST)
    if text is None:
        raise InputError(
            "there is no manifest.json: no export, or one that has not ended",
            item=target.url,
            hint="Run the same `sdg export run` again; it makes what is missing.",
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"the manifest is damaged: {error.errors()[0]['msg']}", item=target.path(MANIFEST)) from error
    if manifest.version != VERSION:
        raise InputError(
            f"the manifest has version {manifest.version}, this software knows {VERSION}",
            item=target.path(MANIFEST),
        )
    return manifest
