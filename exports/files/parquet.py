"""Parquet shards that `datasets.load_dataset` and the Hub's viewer read: `data/{split}-{00000}-of-{00003}.parquet`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.shards import Sink, shards
from exports.files.staged_file import StagedFile

ROW_GROUP = 100
"""Rows in memory at a time, images included."""

RowOf = Callable[[Entry], dict[str, Any]]


def write_parquet(
    job: ExportJob, options: ExportOptions, schema: pa.Schema, row_of: RowOf, *, kind: str
) -> list[FileEntry]:
    """Write the samples of each split as rows, in order; about `shard_bytes` of image bytes a file.

    `kind` names the rows' form: it is part of the plan, so change it when the rows change.
    """
    tasks = []
    for split in job.buffer.splits:
        parts = shards(job.name, split, job.buffer.of_split(split), options.shard_bytes)
        for number, part in enumerate(parts):
            plan = plan_digest(part.entries, kind=kind, options=options.model_dump(mode="json"))
            tasks.append(
                FileTask(
                    f"data/{split}-{number:05d}-of-{len(parts):05d}.parquet",
                    plan,
                    partial(_write, job, schema, row_of, part.entries),
                    samples=len(part.entries),
                    split=split,
                )
            )
    return job.write(tasks)


def _write(job: ExportJob, schema: pa.Schema, row_of: RowOf, entries: Sequence[Entry], staged: StagedFile) -> None:
    # Images are compressed already: what zstd would do to them costs time and saves nothing.
    with pq.ParquetWriter(Sink(staged), schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(entries), ROW_GROUP):
            job.check()
            rows = [row_of(entry) for entry in entries[start : start + ROW_GROUP]]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            job.progress.advance(len(rows))
