"""Reading a release JSONL file (SPEC section 2, "The public release's rows") into a table of defects.

A row is an object with `filepath`, its key. Its answer is the first of these fields that is there and not null:

    in a ground-truth file   `ann_response`, `ann_translated_bboxes`, `response`
    in a prediction file     `response`, `ann_response`, `ann_translated_bboxes`

(`response` is where the release's inference scripts put the model's text, next to what they copied from the ground
truth.) `response` and `ann_response` are texts, `ann_translated_bboxes` is the list itself, read by the rules for the
list inside the text. The text is parsed by `schemas.answer` in protocol `paper` (repairs with one reading are made and
counted; anything else is a failure with its reason code) and by `schemas.release` in protocol `release` (items that
cannot be read vanish, and are counted). A row with none of the three, or with another type in them, is a failure.

The generator, of ground-truth rows only (in predictions `model` may be the detector), is `model` or `generator` of the
row, else the folder above `train` or `test` in the path, else unknown.

Nothing here stops at a bad line: it is counted and the first few are named. Rows with one key and one content are one
row; rows with one key and different contents are left out and named, because any choice would depend on the order.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from schemas.answer import Outcome, Reason, parse_answer
from schemas.answer.fast import release_items, strict_items
from schemas.base import without_lone_surrogates
from schemas.release import ReleaseOutcome, parse_release_answer
from sdg_data.errors import InputError
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import DEGENERATE, FAILED, DefectTable, TableBuilder

Role = Literal["gt", "pred"]
SHOWN = 20
"""How many bad lines and doubtful keys a report names; all are counted."""

_FIELDS = {
    "gt": ("ann_response", "ann_translated_bboxes", "response"),
    "pred": ("response", "ann_response", "ann_translated_bboxes"),
}
_GENERATOR = re.compile(r"([^/]+)/(?:train|test)/[^/]*\Z")


@dataclass
class FileReport:
    """What was in a file, for people and for the JSON.

    `rejected` lines that are no row, `conflicting` images left out because their rows differ, `repeated` rows that said
    the same again, `reasons` how often an answer failed by code, `repaired` answers read with repairs (paper),
    `dropped` items that vanished (release).
    """

    path: str
    rows: int = 0
    images: int = 0
    rejected: int = 0
    repeated: int = 0
    repaired: int = 0
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejected_lines: list[dict[str, Any]] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)

    def reject(self, line: int, code: str) -> None:
        """Count a line that is no row."""
        self.rejected += 1
        if len(self.rejected_lines) < SHOWN:
            self.rejected_lines.append({"line": line, "code": code})

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `conflicting` in full, because those images are missing from the figures."""
        return {**vars(self), "reasons": dict(sorted(self.reasons.items()))}


@dataclass
class ReleaseFile:
    """A release JSONL file as a source of defects; `report` is filled by `read`."""

    path: Path
    role: Role
    protocol: Protocol = Protocol.PAPER
    report: FileReport = field(init=False)

    def __post_init__(self) -> None:
        self.report = FileReport(str(self.path))

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> DefectTable:
        """All images of the file, in its order.

        Returns:
            The table; `report` then says what was left out.

        Raises:
            InputError: The file cannot be opened, or holds no row at all.
        """
        report, builder = FileReport(str(self.path)), TableBuilder()
        self.report = report
        add = _ADD[self.protocol]
        fields = _FIELDS[self.role]
        for row in _rows(self.path, report):
            key = row["filepath"]
            group = _generator(row, key) if self.role == "gt" else ""
            for name in fields:
                answer = row.get(name)
                if answer is not None:
                    break
            else:
                report.reasons["no-answer"] += 1
                builder.add_unread(key, FAILED, group=group)
                continue
            if type(answer) is list and name == "ann_translated_bboxes":
                answer = _as_text(answer)
            if type(answer) is not str:
                report.reasons["not-text"] += 1
                builder.add_unread(key, FAILED, group=group)
                continue
            add(builder, report, key, group, answer)
        if not builder.keys:
            raise InputError(
                f"no row with a filepath in {report.rejected} lines",
                item=str(self.path),
                hint='Each line is an object: {"filepath": …, "ann_response": …}.',
            )
        table = _without_repeats(builder.finish(), report)
        report.images = len(table)
        return table


def _rows(path: Path, report: FileReport) -> Iterator[dict[str, Any]]:
    """The rows that have a key; what has none is counted in the report."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = _patiently(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                    if row is None:
                        if line.strip():
                            report.reject(number, "not-json")
                        continue
                if type(row) is not dict:
                    report.reject(number, "not-an-object")
                    continue
                key = row.get("filepath")
                if type(key) is not str or not key:
                    report.reject(number, "no-filepath")
                    continue
                report.rows += 1
                yield row
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(path)) from error


def _patiently(line: bytes) -> Any:
    """What json makes of a line that orjson refused: NaN, half characters, a byte order mark. None for nothing."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict) and isinstance(row.get("filepath"), str):
        row["filepath"] = without_lone_surrogates(row["filepath"])
    return row


def _generator(row: dict[str, Any], key: str) -> str:
    for name in ("model", "generator"):
        value = row.get(name)
        if type(value) is str and value:
            return without_lone_surrogates(value)
    found = _GENERATOR.search(key)
    return found.group(1) if found else ""


def _as_text(items: list[Any]) -> str:
    # "<" is escaped, so that no description can close the block.
    body = json.dumps(items, ensure_ascii=False).replace("<", "\\u003c")
    return f"<answer>{body}</answer>"


def _add_paper(builder: TableBuilder, report: FileReport, key: str, group: str, text: str) -> None:
    items = strict_items(text)
    if items is not None:
        builder.add_items(key, items, group=group)
        return
    parsed = parse_answer(text)
    if parsed.defects is None:
        report.reasons[str(parsed.reason)] += 1
        degenerate = parsed.reason is Reason.DEGENERATE_REPETITION
        builder.add_unread(key, DEGENERATE if degenerate else FAILED, group=group)
        return
    report.repaired += parsed.outcome is Outcome.REPAIRED
    builder.add_defects(key, parsed.defects, group=group)


def _add_release(builder: TableBuilder, report: FileReport, key: str, group: str, text: str) -> None:
    items = release_items(text)
    if items is not None:
        builder.add_items(key, items, group=group)
        return
    parsed = parse_release_answer(text)
    if parsed.outcome is not ReleaseOutcome.PARSED:
        report.reasons[parsed.outcome.value] += 1
        degenerate = parsed.outcome is ReleaseOutcome.DEGENERATE
        builder.add_unread(key, DEGENERATE if degenerate else FAILED, group=group)
        return
    report.dropped += parsed.dropped
    read = [
        {
            "box_2d": (item.box.x0, item.box.y0, item.box.x1, item.box.y1),
            "label": item.label,
            "description": item.description,
            "importance": np.nan if item.importance is None else item.importance,
        }
        for item in parsed.items
    ]
    builder.add_items(key, read, group=group)


_Add = Callable[[TableBuilder, FileReport, str, str, str], None]
_ADD: dict[Protocol, _Add] = {Protocol.PAPER: _add_paper, Protocol.RELEASE: _add_release}


def _without_repeats(table: DefectTable, report: FileReport) -> DefectTable:
    if len(set(table.keys)) == len(table):
        return table
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(table.keys):
        rows.setdefault(key, []).append(row)
    kept = []
    for key, same in rows.items():
        if all(_equal(table, same[0], other) for other in same[1:]):
            report.repeated += len(same) - 1
            kept.append(same[0])
        else:
            report.conflicting.append(key)
    report.conflicting.sort()
    return table.take(kept)


def _equal(table: DefectTable, first: int, second: int) -> bool:
    a, b = (slice(int(table.offsets[row]), int(table.offsets[row + 1])) for row in (first, second))
    return (
        table.outcomes[first] == table.outcomes[second]
        and table.groups[first] == table.groups[second]
        and table.reasons[a] == table.reasons[b]
        and np.array_equal(table.boxes[a], table.boxes[b])
        and np.array_equal(table.labels[a], table.labels[b])
        and np.array_equal(table.subtypes[a], table.subtypes[b])
        and np.array_equal(table.importance[a], table.importance[b], equal_nan=True)
    )
