"""The manifest: what an export is, what it was made with, and the sha256 of every file. It is written last.

It holds no time and no path, so the same snapshot and settings give the same manifest. A folder without a manifest is
an export that has not ended, or no export. From version 2 on it ends in a hash of itself.
"""

import hashlib
from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, Field, ValidationError, field_validator

from exports.files.target import Target
from schemas.base import Record
from schemas.records import Named, Sha256, Split
from schemas.sample import Sample
from sdg_data.errors import InputError

MANIFEST = "manifest.json"
VERSION = 2
KIND: Final = "sdg-export"
LEFT_OUT = "left_out"
"""The note about selected images that could not be read: `images` counts them, `codes` by reason, `keys` names some."""
ORDER = 'samples of a split ascend by sha256("sdg-order:<seed>:<key>")'

_COUNTED = ("split", "model", "licence", "composition", "label_source")

Count = Annotated[int, Field(ge=0)]


def below(name: str) -> str:
    """Check that a file's name is a plain path below the export's folder.

    Returns:
        The name, as it is.

    Raises:
        ValueError: the name leads elsewhere or is not normal, as `../x`, `/x` and `./x`, or holds a zero byte.
    """
    if name != PurePosixPath(name).as_posix() or name in ("", ".") or name[0] == "/" or ".." in name.split("/"):
        raise ValueError(f"{name!r} is no path below the export's folder")
    if "\0" in name:
        raise ValueError("a path holds a zero byte")
    return name


FilePath = Annotated[Named, AfterValidator(below)]


class FileEntry(Record):
    """A file of the export. `plan` is a hash of what it holds, known before it is written; resuming compares it.

    `samples` and `split` are given for files that hold samples, `records` for shards: sha256 over their samples' JSON,
    which a reader can check without reading the images.
    """

    path: FilePath
    bytes: Count
    sha256: Sha256
    samples: Count | None = None
    split: Split | None = None
    plan: Sha256 | None = None
    records: Sha256 | None = None


class Manifest(Record):
    """`content` is a hash over all samples in order, `settings` everything else that shaped the bytes.

    `counts` are of samples: by split, model, licence, composition and label source; and of defects by type. `digest` is
    the sha256 of everything else in here, as `text` writes it; None before it was written, and in version 1.
    """

    kind: Literal["sdg-export"] = KIND
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
    digest: Sha256 | None = None

    @field_validator("counts")
    @classmethod
    def _splits_are_counted(cls, counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        if "split" not in counts:
            raise ValueError("it does not count its samples by split")
        return counts

    def text(self) -> bytes:
        """The manifest as JSON with its digest, the bytes that are written into the export."""
        fields = self.model_dump(mode="json", exclude={"digest"})
        return _rendered({**fields, "digest": _digest(fields)})

    def seal(self) -> str:
        """The digest that the manifest has in the export: 64 hex digits that stand for all of its bytes."""
        return _digest(self.model_dump(mode="json", exclude={"digest"}))

    @property
    def samples(self) -> int:
        """The number of samples in all splits together."""
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


class SampleCounts:
    """Counts samples into the tables of `Manifest.counts`."""

    def __init__(self) -> None:
        self._tables: dict[str, Counter[str]] = {name: Counter() for name in (*_COUNTED, "defects")}

    def add(self, sample: Sample) -> None:
        """Count a sample in each table, and its defects by type."""
        for name in _COUNTED:
            self._tables[name][str(getattr(sample, name))] += 1
        self._tables["defects"].update(str(defect.type) for defect in sample.defects)

    def tables(self) -> dict[str, dict[str, int]]:
        """How many samples there are of each kind, and how many defects; keys in order."""
        return {name: dict(sorted(table.items())) for name, table in self._tables.items()}


def _rendered(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(fields)).hexdigest()


def is_as_written(text: bytes) -> bool:
    """Whether a manifest's JSON is as `Manifest.text` wrote it, with whatever fields its version had."""
    fields = orjson.loads(text)
    stated = fields.get("digest")
    rest = {name: value for name, value in fields.items() if name != "digest"}
    return _rendered(fields) == text and ((fields.get("version") == 1 and stated is None) or stated == _digest(rest))


def read_manifest(target: Target, *, changed: bool = False) -> Manifest:
    """Read the manifest of a finished export.

    Args:
        target: Its folder or URL.
        changed: Give one, too, that is not as it was written, for whoever looks into what was changed.

    Raises:
        InputError: There is none, it is damaged or was changed, or it is of another version.
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
    if not 1 <= manifest.version <= VERSION:
        raise InputError(
            f"the manifest has version {manifest.version}, this software knows {VERSION}",
            item=target.path(MANIFEST),
        )
    if not changed and not is_as_written(text):
        raise InputError(
            "the manifest was changed after it was written",
            item=target.path(MANIFEST),
            hint="`sdg export verify` names what differs; `sdg export run` makes the export anew.",
        )
    return manifest
