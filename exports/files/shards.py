"""WebDataset shards: `{name}-{split}-{00000}.tar`, per sample `key.json` and the image's original bytes; and an index.

Which sample is in which shard follows from sizes that are known beforehand, so shards can be written in any order, by
any number of workers. The index (`index.parquet`, one row a sample) knows where each sample's bytes are.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from exports.dataset.sample_buffer import Entry, digest_of
from exports.files import source_images, tar
from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.manifest import FileEntry
from exports.files.staged_file import StagedFile
from schemas.defect import DefectType
from schemas.records import Split
from schemas.sample import EXTENSIONS, Sample
from sdg_data.blobs import Blobs

INDEX = "index.parquet"
DEFAULT_SHARD_BYTES = 512_000_000
LAYOUT = 1
"""Part of every plan: raised when the bytes of a shard are laid out in another way."""

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("position", pa.int32()),
        ("json_offset", pa.int64()),
        ("json_bytes", pa.int32()),
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("media_type", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("seed", pa.int64()),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("label_source", pa.string()),
        ("composition", pa.string()),
        ("defects", pa.int32()),
        ("artifacts", pa.int32()),
        ("misalignments", pa.int32()),
        ("max_importance", pa.int16()),
        ("quality", pa.float64()),
    ]
)
_ROWS = 1000
_AHEAD = 4
"""How many images are read and checked while earlier ones are being written."""


@dataclass(frozen=True)
class PlannedShard:
    """A shard to write: the samples at these places, in order."""

    name: str
    split: Split
    entries: Sequence[Entry]


_NAMED = re.compile(rf"-({'|'.join(Split)})-\d{{5}}\.tar$")


def named_split(path: str) -> Split | None:
    """The split that a shard's name says, as `shards` names it; None where it is named otherwise."""
    match = _NAMED.search(path)
    return None if match is None else Split(match.group(1))


def shards(name: str, split: Split, entries: Sequence[Entry], shard_bytes: int) -> list[PlannedShard]:
    """Cut a split into shards of at most `shard_bytes` (a single larger sample has one of its own)."""
    cuts, size = [0], 0
    for index, entry in enumerate(entries):
        added = tar.member_bytes(entry.length) + tar.member_bytes(entry.image_bytes)
        if size and size + added > shard_bytes:
            cuts.append(index)
            size = 0
        size += added
    cuts.append(len(entries))
    return [
        PlannedShard(f"{name}-{split}-{number:05d}.tar", split, entries[start:end])
        for number, (start, end) in enumerate(pairwise(cuts))
    ]


def write(job: ExportJob, *, shard_bytes: int = DEFAULT_SHARD_BYTES) -> list[FileEntry]:
    """Write the shards and the index. UnreadableImage names an image whose bytes cannot be had."""
    planned = [
        shard
        for split in job.buffer.splits
        for shard in shards(job.name, split, job.buffer.of_split(split), shard_bytes)
    ]
    source = _JobSource(job)
    entries = job.write_shards(
        (
            FileTask(
                shard.name,
                plan_digest(shard.entries, layout=LAYOUT),
                partial(write_shard, source, shard.entries),
                samples=len(shard.entries),
                split=shard.split,
                records=digest_of(shard.entries),
                entries=shard.entries,
            )
            for shard in planned
        ),
        write_shard,
    )
    plan = plan_digest(job.buffer.entries, index=LAYOUT, shard_bytes=shard_bytes)
    return entries + job.write([FileTask(INDEX, plan, partial(_index, job, planned))])


class SampleSource(Protocol):
    """Where the samples of a shard come from: an export's job, or what a worker was given."""

    blobs: Blobs

    def text(self, entry: Entry) -> bytes:
        """A sample's JSON."""

    def check(self) -> None:
        """Raise Cancelled if the run is being stopped."""

    def advance(self, number: int) -> None:
        """Count samples as written."""


class _JobSource:
    def __init__(self, job: ExportJob) -> None:
        self.blobs, self.text = job.blobs, job.buffer.text
        self.check, self.advance = job.check, job.progress.advance


def write_shard(source: SampleSource, entries: Sequence[Entry], staged: StagedFile) -> None:
    """Write a tar shard: for each sample its JSON, then its image.

    Args:
        source: has the samples.
        entries: those that go into it, in order.
        staged: the file that is written.
    """
    for entry, image in _images_ahead(source.blobs, entries):
        source.check()
        text = source.text(entry)
        image_name, json_name = f"{entry.key}.{EXTENSIONS[entry.media_type]}", f"{entry.key}.json"
        staged.write(
            tar.header(json_name, len(text)),
            text,
            tar.padding(len(text)),
            tar.header(image_name, len(image)),
            image,
            tar.padding(len(image)),
        )
        source.advance(1)
    staged.write(tar.ending(staged.size))


def _images_ahead(blobs: Blobs, entries: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """The bytes of each image, in order, from a thread of its own: hashing one image costs as much as writing it."""
    with ThreadPoolExecutor(1, thread_name_prefix="export-read") as pool:
        coming: deque[tuple[Entry, Future[bytes]]] = deque()
        try:
            for entry in entries:
                coming.append((entry, pool.submit(source_images.image_bytes, blobs, entry)))
                if len(coming) > _AHEAD:
                    first, image = coming.popleft()
                    yield first, image.result()
            for first, image in coming:
                yield first, image.result()
        finally:
            pool.shutdown(cancel_futures=True)


def image_bytes(job: ExportJob, entry: Entry) -> bytes:
    """An image's original bytes, for formats of other packages.

    Args:
        job: The export's job.
        entry: The sample.

    Returns:
        The bytes.

    Raises:
        UnreadableImage: They cannot be read; the run then leaves that image out.
    """
    return source_images.image_bytes(job.blobs, entry)


def _index(job: ExportJob, planned: Sequence[PlannedShard], staged: StagedFile) -> None:
    with pq.ParquetWriter(Sink(staged), INDEX_SCHEMA, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for shard in planned:
            for row in _rows(job, shard):
                rows.append(row)
                if len(rows) == _ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
                    rows.clear()
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))


def _rows(job: ExportJob, shard: PlannedShard) -> Iterator[dict[str, Any]]:
    offset = 0
    for position, entry in enumerate(shard.entries):
        sample = job.buffer.sample(entry)
        json_offset = offset + tar.BLOCK
        image_offset = offset + tar.member_bytes(entry.length) + tar.BLOCK
        yield {
            "shard": shard.name,
            "position": position,
            "json_offset": json_offset,
            "json_bytes": entry.length,
            "image_offset": image_offset,
            "image_bytes": entry.image_bytes,
            **facts(sample),
        }
        offset += tar.member_bytes(entry.length) + tar.member_bytes(entry.image_bytes)


def facts(sample: Sample) -> dict[str, Any]:
    """The columns of the index that say what a sample is."""
    kinds = [defect.type for defect in sample.defects]
    return {
        **{
            name: getattr(sample, name)
            for name in ("key", "split", "sha256", "media_type", "width", "height", "prompt_id", "prompt", "model")
        },
        **{name: getattr(sample, name) for name in ("revision", "seed", "licence", "source", "label_source")},
        "composition": sample.composition,
        "defects": len(kinds),
        "artifacts": kinds.count(DefectType.ARTIFACT),
        "misalignments": kinds.count(DefectType.MISALIGNMENT),
        "max_importance": max((defect.importance for defect in sample.defects), default=None),
        "quality": sample.scores.quality,
    }


class Sink:
    """Makes a staged file look like the open binary file that pyarrow wants to write to."""

    closed = False

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged

    def write(self, data: Any) -> int:
        """Append bytes to the staged file; returns how many there were."""
        block = bytes(data)
        if block:
            self._staged.write(block)
        return len(block)

    def tell(self) -> int:
        """The number of bytes that have been written so far."""
        return self._staged.size

    def flush(self) -> None:
        """Do nothing: each write is handed on at once."""

    def close(self) -> None:
        """Do nothing: the caller closes the staged file that it opened."""

    def writable(self) -> bool:
        """Whether the file can be written to: it can."""
        return True

    def readable(self) -> bool:
        """Whether the file can be read from: it cannot."""
        return False

    def seekable(self) -> bool:
        """Whether the position in the file can be moved: it cannot."""
        return False
