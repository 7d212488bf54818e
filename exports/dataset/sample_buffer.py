"""Keep the selected samples on disk: written in one pass over the store, read as often as a format needs them.

A sample's JSON is in an unnamed temporary file. In memory there is one short `Entry` for each, so an export's memory
hardly grows with the number of samples. Many threads may read at a time.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import orjson

from exports.dataset.assemble import sample_json
from exports.dataset.order import Fields, filled_fields, schema_examples_first
from schemas.records import Split
from schemas.sample import Sample


class Entry(NamedTuple):
    """A sample's place in the buffer, and what planning needs to know of the sample.

    `order`, `fields`: see `exports.dataset.order`. `digest`: sha256 of the JSON, which names the image's bytes too.
    """

    order: str
    key: str
    split: Split
    blob: str
    media_type: str
    image_bytes: int
    digest: bytes
    offset: int
    length: int
    fields: Fields = frozenset()
    width: int = 0
    height: int = 0


class SampleBuffer:
    """Samples on disk with their entries in order: `add` samples, `arrange` once, then read."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: where there is room for the JSON (a few KB a sample); None: the system's folder for such files."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._end = 0
        self._fields: dict[Fields, Fields] = {}
        self.entries: list[Entry] = []

    def __enter__(self) -> "SampleBuffer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, sample: Sample, order: str) -> None:
        """Append a sample to the file; `order` is the key by which `arrange` sorts the entries."""
        text = sample_json(sample)
        fields = filled_fields(orjson.loads(text))
        self._file.write(text)
        self.entries.append(
            Entry(
                order,
                sample.key,
                sample.split,
                sample.sha256,
                sample.media_type,
                sample.bytes,
                hashlib.sha256(text).digest(),
                self._end,
                len(text),
                self._fields.setdefault(fields, fields),  # one for all samples that fill the same
                sample.width,
                sample.height,
            )
        )
        self._end += len(text)

    def arrange(self, kept: Iterable[Entry] | None = None) -> None:
        """Put the entries (or only those `kept`) in order: by split (train first), then by `exports.dataset.order`."""
        self._file.flush()
        wanted = list(self.entries if kept is None else kept)
        self.entries = [
            entry
            for split in Split
            for entry in schema_examples_first(
                (entry for entry in wanted if entry.split is split),
                order=lambda entry: entry.order,
                fields=lambda entry: entry.fields,
            )
        ]

    def leave_out(self, keys: Iterable[str]) -> None:
        """Take samples out, and put the others in order anew."""
        out = set(keys)
        self.arrange([entry for entry in self.entries if entry.key not in out])

    def text(self, entry: Entry) -> bytes:
        """Read the canonical JSON of an entry's sample from the file."""
        return os.pread(self._file.fileno(), entry.length, entry.offset)

    def sample(self, entry: Entry) -> Sample:
        """Read an entry's sample from the file."""
        return Sample.model_validate_json(self.text(entry))

    def samples(self, split: Split | None = None) -> Iterator[Sample]:
        """Read all samples in order, or those of a split."""
        for entry in self.of_split(split):
            yield self.sample(entry)

    def of_split(self, split: Split | None) -> list[Entry]:
        """The entries of a split in their present order; of all splits where `split` is None."""
        return self.entries if split is None else [entry for entry in self.entries if entry.split is split]

    @property
    def splits(self) -> list[Split]:
        """The splits that have at least one sample, train first."""
        present = {entry.split for entry in self.entries}
        return [split for split in Split if split in present]

    def digest(self) -> str:
        """sha256 over all samples' JSON in order: equal for equal selections, whatever store they came from."""
        return digest_of(self.entries)


def digest_of(entries: Iterable[Entry]) -> str:
    """sha256 over the entries' digests in order: what is to be written, known before it is."""
    total = hashlib.sha256()
    for entry in entries:
        total.update(entry.digest)
    return total.hexdigest()
