"""Write JSONL files, one a split: `{name}-{split}{suffix}.jsonl`."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import orjson

from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.staged_file import StagedFile
from schemas.records import Split

RowsOf = Callable[[Split], Iterable[Mapping[str, Any]]]

_FLUSH = 1 << 18


def write_lines(
    job: ExportJob, options: ExportOptions, rows_of: RowsOf, *, kind: str, suffix: str = "", counted: bool = True
) -> list[FileEntry]:
    """Write the rows of every split, one a line.

    Args:
        job: The export.
        options: Part of each file's plan.
        rows_of: Gives a split's rows, in order.
        kind: Names the rows' form; part of the plan, so change it when the rows change.
        suffix: Of the files' names.
        counted: A row is a sample, so the manifest counts them.

    Returns:
        The files' entries.
    """
    tasks = []
    for split in job.buffer.splits:
        entries = job.buffer.of_split(split)
        plan = plan_digest(entries, kind=kind, suffix=suffix, options=options.model_dump(mode="json"))
        tasks.append(
            FileTask(
                f"{job.name}-{split}{suffix}.jsonl",
                plan,
                partial(_write, job, rows_of, split),
                samples=len(entries) if counted else None,
                split=split,
            )
        )
    return job.write(tasks)


def _write(job: ExportJob, rows_of: RowsOf, split: Split, staged: StagedFile) -> None:
    lines: list[bytes] = []
    size = 0
    for row in rows_of(split):
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        lines.append(line)
        size += len(line)
        if size >= _FLUSH:
            job.check()
            staged.write(b"".join(lines))
            lines.clear()
            size = 0
    if lines:
        staged.write(b"".join(lines))
