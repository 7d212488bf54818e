"""Reading a release JSONL file (SPEC section 2, "The public release's rows") into a table of defects.

A row is an object with `filepath`, its key. Its answer is the first of these fields that is there and not null:

    a ground-truth file, paper      `ann_response`, `ann_translated_bboxes`, `response`
    a ground-truth file, release    `ann_translated_bboxes`, `ann_response`, `response`
    a prediction file               `response` alone

`response` is where the release's inference scripts put the model's text, next to what they copied from the ground
truth. So a prediction is never taken from the other two, or a detector that says nothing would be measured by the truth
itself: a row without a `response`, or with null, is a failure. Only a file in which no row has the key at all is a file
of annotations, a second person's say, and is read like the ground truth (`FileReport.answers` tells which).

`response` and `ann_response` are texts, `ann_translated_bboxes` is the list itself. In protocol `paper` all are parsed
by `schemas.answer` (repairs with one reading are made and counted; anything else is a failure with its reason code), in
protocol `release` by `schemas.release` (items that cannot be read vanish, and are counted). A row without an answer, or
with another type in its place, is a failure.

The generator, of ground-truth rows only (in predictions `model` may be the detector), is `model` or `generator` of the
row, else the folder above `train` or `test` in the path, else unknown.

Nothing here stops at a bad line: it is counted and the first few are named. Rows with one key and one content are one
row; rows with one key and different contents are left out and named, because any choice would depend on the order.
`./a.png` and `a.png` are one key.
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
from schemas.answer.fast import are_plain_release_items, release_items, strict_items
from schemas.base import without_lone_surrogates
from schemas.release import ReleaseAnswer, ReleaseOutcome, parse_release_answer, release_items_of
from sdg_data.errors import InputError
from sdg_data.ingest.text_lines import read_lines
from sdg_data.metrics.image_paths import normalised
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import DEGENERATE, FAILED, PARSED, DefectTable, TableBuilder
from sdg_data.words import counted

Role = Literal["gt", "pred"]
SHOWN = 20
"""How many bad lines and doubtful keys a report names; all are counted."""

RESPONSE, ANNOTATIONS = "response", "annotations"
"""Where a file's answers stand: in `response`, or in the fields of annotations."""
_FIELDS = {
    Protocol.PAPER: ("ann_response", "ann_translated_bboxes", "response"),
    Protocol.RELEASE: ("ann_translated_bboxes", "ann_response", "response"),
}
_GENERATOR = re.compile(r"([^/]+)/(?:train|test)/[^/]*\Z")


@dataclass
class FileReport:
    """What was in a file, for people and for the JSON.

    `rejected` lines that are no row, `conflicting` images left out because their rows differ, `repeated` rows that said
    the same again, `reasons` how often an answer failed by code, `failures` which answers those are, `repaired` answers
    read with repairs (paper), `keys` those of the first row, `dropped` items that vanished and `misplaced` ones without
    a box of four numbers (release), `answers` where the answers stand: in "response" or in "annotations".
    """

    path: str
    rows: int = 0
    images: int = 0
    rejected: int = 0
    repeated: int = 0
    repaired: int = 0
    dropped: int = 0
    misplaced: int = 0
    answers: str = ANNOTATIONS
    reasons: Counter[str] = field(default_factory=Counter)
    rejected_lines: list[dict[str, Any]] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    conflicting: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def fail(self, key: str, code: str) -> None:
        """Count an answer that could not be read, and note its image's path with the reason's code."""
        self.reasons[code] += 1
        self.failures.append({"filepath": key, "code": code})

    def reject(self, line: int, code: str) -> None:
        """Count a line that is no row; the first ones are listed by number (from 1) with the reason's code."""
        self.rejected += 1
        if len(self.rejected_lines) < SHOWN:
            self.rejected_lines.append({"line": line, "code": code})

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON; `conflicting` is given in full, because those images are missing from the figures."""
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
        """The file's path, which stands for this source in reports."""
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
        fields: tuple[str, ...] = _FIELDS[self.protocol]
        if self.role == "pred" and any("response" in row for row in _rows(self.path, FileReport(str(self.path)))):
            report.answers, fields = RESPONSE, ("response",)
        for row in _rows(self.path, report):
            key = row["filepath"]
            group = _generator(row, normalised(key)) if self.role == "gt" else ""
            answer = name = None
            for name in fields:
                answer = row.get(name)
                if answer is not None:
                    break
            if answer is None:
                report.fail(key, "no-answer")
                builder.add_unread(key, FAILED, group=group)
            elif type(answer) is str and name != "ann_translated_bboxes":
                add(builder, report, key, group, answer)
            elif type(answer) is list and name == "ann_translated_bboxes":
                _ADD_LIST[self.protocol](builder, report, key, group, answer)
            else:
                report.fail(key, "not-text")
                builder.add_unread(key, FAILED, group=group)
        if not builder.keys:
            raise InputError(
                f"no row with a filepath in {counted(report.rejected, 'line')}",
                item=str(self.path),
                hint=_expected(self.role, report),
            )
        table = _without_repeats(builder.finish(), report)
        report.images = len(table)
        return table


def _rows(path: Path, report: FileReport) -> Iterator[dict[str, Any]]:
    """The rows that have a key; what has none is counted in the report."""
    for line in read_lines(path):
        if line.cut:
            report.reject(line.number, "too-long")
            continue
        try:
            row = orjson.loads(line.data)
        except orjson.JSONDecodeError:
            row = _patiently(line.data)
            if row is None:
                if line.data.strip():
                    report.reject(line.number, "not-json")
                continue
        if type(row) is not dict:
            report.reject(line.number, "not-an-object")
            continue
        report.keys = report.keys or tuple(row)
        key = row.get("filepath")
        if type(key) is not str or not key:
            report.reject(line.number, "no-filepath")
            continue
        report.rows += 1
        yield row


def _patiently(line: bytes) -> Any:
    """What json makes of a line that orjson refused: NaN, half characters, a byte order mark. None for nothing."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict) and isinstance(row.get("filepath"), str):
        row["filepath"] = without_lone_surrogates(row["filepath"])
    return row


def _expected(role: Role, report: FileReport) -> str:
    """What a row is, and what the first one is instead."""
    answer = "ann_response" if role == "gt" else "response"
    expected = f'Each line is an object: {{"filepath": …, "{answer}": …}}.'
    if report.keys:
        return f"{expected} The first one has: {', '.join(map(without_lone_surrogates, report.keys[:8]))}."
    return f"{expected} `jq -c '.[]' IN > OUT` makes one of a list in JSON."


def _generator(row: dict[str, Any], key: str) -> str:
    for name in ("model", "generator"):
        value = row.get(name)
        if type(value) is str and value:
            return without_lone_surrogates(value)
    generator = _GENERATOR.search(key)
    return generator.group(1) if generator else ""


def _add_paper(builder: TableBuilder, report: FileReport, key: str, group: str, text: str) -> None:
    items = strict_items(text)
    if items is not None:
        builder.add_items(key, items, group=group)
        return
    parsed = parse_answer(text)
    if parsed.defects is None:
        report.fail(key, str(parsed.reason))
        degenerate = parsed.reason is Reason.DEGENERATE_REPETITION
        builder.add_unread(key, DEGENERATE if degenerate else FAILED, group=group)
        return
    report.repaired += parsed.outcome is Outcome.REPAIRED
    builder.add_defects(key, parsed.defects, group=group)


def _add_paper_list(builder: TableBuilder, report: FileReport, key: str, group: str, items: list[Any]) -> None:
    # "<" is escaped, so that no description can close the block.
    body = json.dumps(items, ensure_ascii=False).replace("<", "\\u003c")
    _add_paper(builder, report, key, group, f"<answer>{body}</answer>")


def _add_release(builder: TableBuilder, report: FileReport, key: str, group: str, text: str) -> None:
    items = release_items(text)
    if items is not None:
        builder.add_items(key, items, group=group)
    else:
        _add_release_answer(builder, report, key, group, parse_release_answer(text))


def _add_release_list(builder: TableBuilder, report: FileReport, key: str, group: str, items: list[Any]) -> None:
    if are_plain_release_items(items):
        builder.add_items(key, items, group=group)
    else:
        _add_release_answer(builder, report, key, group, release_items_of(items))


def _add_release_answer(builder: TableBuilder, report: FileReport, key: str, group: str, answer: ReleaseAnswer) -> None:
    if answer.outcome is not ReleaseOutcome.PARSED:
        report.fail(key, answer.outcome.value)
    report.dropped += answer.dropped
    report.misplaced += answer.misplaced
    read = [
        {
            "box_2d": (item.box.x0, item.box.y0, item.box.x1, item.box.y1),
            "label": item.label,
            "description": item.description,
            "importance": np.nan if item.importance is None else item.importance,
        }
        for item in answer.items
    ]
    builder.add_items(key, read, group=group, outcome=_OUTCOMES[answer.outcome])


_OUTCOMES = {ReleaseOutcome.PARSED: PARSED, ReleaseOutcome.FAILED: FAILED, ReleaseOutcome.DEGENERATE: DEGENERATE}
_ADD: dict[Protocol, Callable[[TableBuilder, FileReport, str, str, str], None]] = {
    Protocol.PAPER: _add_paper,
    Protocol.RELEASE: _add_release,
}
_ADD_LIST: dict[Protocol, Callable[[TableBuilder, FileReport, str, str, list[Any]], None]] = {
    Protocol.PAPER: _add_paper_list,
    Protocol.RELEASE: _add_release_list,
}


def _without_repeats(table: DefectTable, report: FileReport) -> DefectTable:
    keys = [normalised(key) for key in table.keys]
    if len(set(keys)) == len(keys):
        return table
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    kept = []
    for same in rows.values():
        if all(_equal(table, same[0], other) for other in same[1:]):
            report.repeated += len(same) - 1
            kept.append(same[0])
        else:
            report.conflicting.append(table.keys[same[0]])
    report.conflicting.sort()
    return table.take(kept)


def copies(truth: DefectTable, other: DefectTable) -> bool:
    """Whether all that the other table says of the truth's images is the truth's own, boxes among it."""
    rows = dict(zip(truth.keys, range(len(truth)), strict=True))
    shared = [(rows[key], row) for row, key in enumerate(other.keys) if key in rows and other.outcomes[row] == PARSED]
    names = tuple(dict.fromkeys((*truth.names, *other.names)))
    truth = truth.take([row for row, _ in shared]).relabelled(names)
    other = other.take([row for _, row in shared]).relabelled(names)
    return (
        len(truth.reasons) > 0
        and truth.reasons == other.reasons
        and np.array_equal(truth.offsets, other.offsets)
        and np.array_equal(truth.boxes, other.boxes)
        and np.array_equal(truth.labels, other.labels)
        and np.array_equal(truth.importance, other.importance, equal_nan=True)
    )


def without_answers(table: DefectTable, report: FileReport) -> DefectTable:
    """The images of a table with a failure "no-answer" each, which the report counts."""
    builder = TableBuilder()
    for key, group in zip(table.keys, table.groups, strict=True):
        report.fail(key, "no-answer")
        builder.add_unread(key, FAILED, group=group)
    return builder.finish()


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
