"""A line of a release JSONL file, read: what it states, or why it cannot be believed.

A row states its defects up to three times: in the answer, in the list of translated boxes, in the raw boxes of people.
Where two of these contradict each other, nobody knows which is right, so the row is refused.
"""

from pathlib import PurePosixPath
from typing import Any, NamedTuple

import orjson

from exports.formats.contract import RejectedRow
from exports.imports.splits import is_split_name
from schemas.answer.parse import parse_answer
from schemas.defect import Defect
from sdg_data.json_values import parse_json

_NEAR = 1
"""Thousandths by which two statements of one edge may differ."""
_RAW = ("artifact_bboxes_ann", "misalignment_bboxes_ann")


class ReleaseRow(NamedTuple):
    """A row that was read: all its keys, and what they state. `model` and `split` are None where it does not say."""

    fields: dict[str, Any]
    filepath: str
    caption: str
    defects: tuple[Defect, ...]
    trace: str | None
    model: str | None
    split: str | None


def parse_row(name: str, line: bytes) -> ReleaseRow:
    """Read a line of such a file. Unless a key says them, the split and the model are the folders of its path.

    Args:
        name: Names the row in a rejection.
        line: One row of JSON.

    Raises:
        RejectedRow: It is no JSON (`not-json`), lacks a path or a caption (`bad-row`), or an answer (`no-answer`), the
            answer cannot be read (`answer-` and the parser's reason), or it contradicts itself (`contradiction`).
    """
    try:
        row = parse_json(line)
    except ValueError as error:
        raise RejectedRow(name, "not-json", str(error)) from error
    if not isinstance(row, dict) or not isinstance(row.get("filepath"), str) or not isinstance(row.get("caption"), str):
        raise RejectedRow(name, "bad-row", "a row has a filepath and a caption")
    defects, trace = _answer(name, row)
    folder = PurePosixPath(row["filepath"].replace("\\", "/")).parent
    split = folder.name if is_split_name(folder.name) else None
    model_folder = folder.parent.name if split else None
    said = row.get("split")
    if said is not None and said != "":
        if not isinstance(said, str) or (split is not None and said.strip().casefold() != split.casefold()):
            raise RejectedRow(name, "contradiction", f"its split is {said!r:.60}, its folder {folder.name!r:.60}")
        split = said
    model = row.get("model") or row.get("generator") or model_folder
    if model is not None and not isinstance(model, str):
        raise RejectedRow(name, "bad-row", f"its model is {model!r:.60}")
    return ReleaseRow(row, row["filepath"], row["caption"], defects, trace, model or None, split)


def _answer(name: str, row: dict[str, Any]) -> tuple[tuple[Defect, ...], str | None]:
    """(defects, trace) of the row's answer, or of its list of boxes."""
    text, items = row.get("ann_response"), row.get("ann_translated_bboxes")
    if items is not None and not isinstance(items, list):
        raise RejectedRow(name, "bad-row", "ann_translated_bboxes is no list")
    listed = None
    if items is not None:
        text_of_items = orjson.dumps(items).decode().replace("<", "\\u003c")
        listed = _parsed(name, f"<answer>{text_of_items}</answer>")[0]
    if text is None and listed is not None:
        stated, trace = listed, None
    elif isinstance(text, str):
        stated, trace = _parsed(name, text)
        if listed is not None and not _alike(stated, listed):
            message = f"ann_response has {_boxes(stated)}, ann_translated_bboxes {_boxes(listed)}: not the same ones"
            raise RejectedRow(name, "contradiction", message, text)
    else:
        raise RejectedRow(name, "no-answer", "the row has neither ann_response nor ann_translated_bboxes")
    drawn = [row[key] for key in _RAW if isinstance(row.get(key), list)]
    if (any(drawn) and not stated) or (len(drawn) == len(_RAW) and not any(drawn) and stated):
        message = f"people drew {sum(map(len, drawn))} boxes, its answer has {_boxes(stated)}"
        raise RejectedRow(name, "contradiction", message)
    return stated, trace


def _parsed(name: str, text: str) -> tuple[tuple[Defect, ...], str | None]:
    parsed = parse_answer(text)
    if parsed.defects is None:
        raise RejectedRow(name, f"answer-{parsed.reason}", parsed.detail or "the answer cannot be read", text)
    return parsed.defects, parsed.trace


def _alike(defects: tuple[Defect, ...], others: tuple[Defect, ...]) -> bool:
    """The same types and, but for a rounding, the same boxes, in any order."""
    if len(defects) != len(others):
        return False
    return all(
        first[0] == second[0] and all(abs(a - b) <= _NEAR for a, b in zip(first[1], second[1], strict=True))
        for first, second in zip(sorted(map(_key, defects)), sorted(map(_key, others)), strict=True)
    )


def _key(defect: Defect) -> tuple[str, tuple[int, int, int, int]]:
    box = defect.box
    return defect.type.value, (box.x0, box.y0, box.x1, box.y1)


def _boxes(defects: tuple[Defect, ...]) -> str:
    return f"{len(defects)} boxes" if len(defects) != 1 else "1 box"
