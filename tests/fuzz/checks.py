"""What must hold of an import, whatever the source: said as problems, in words that name the item."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.codecs import Qwen3VL
from sdg_data.ids import normalise_prompt
from sdg_data.store import gold, images, prompts
from sdg_data.store.connection import Store
from tests.fuzz.running import Outcome
from tests.fuzz.source import Fate, Item, Source

_CODEC = Qwen3VL()


@dataclass(frozen=True)
class Stored:
    """An image of the store, or a prompt without one (`blob` None)."""

    prompt: str
    split: str
    blob: str | None = None
    size: tuple[int, int] | None = None
    boxes: tuple[tuple[int, ...], ...] | None = None
    """Those of gold, in thousandths; None: it has no gold."""


def stored_by_source(home: Path) -> dict[str, list[Stored]]:
    """Everything that the store of `home` has, by the name of the source that it is from."""
    with Store(home).read() as tx:
        texts = {prompt.id: prompt for prompt in prompts.page(tx, limit=1_000_000)}
        records = images.page(tx, limit=1_000_000)
        counted = {label.image_id: label for label in gold.page(tx)}
    result: dict[str, list[Stored]] = defaultdict(list)
    with_images = set()
    for record in records:
        prompt, label = texts[record.prompt_id], counted.get(record.id)
        with_images.add(prompt.id)
        boxes = None if label is None else tuple(tuple(_CODEC.write(defect.box)) for defect in label.defects)
        size = (record.width, record.height)
        result[record.source].append(Stored(prompt.text, str(prompt.split), record.blob, size, boxes))
    for prompt in texts.values():
        if prompt.id not in with_images:
            result[prompt.source].append(Stored(prompt.text, str(prompt.split)))
    return result


def problems_of(source: Source, outcome: Outcome, stored: Iterable[Stored]) -> list[str]:
    """What is wrong with the import of `source`."""
    if outcome.raised is not None:
        return [outcome.raised]
    problems = list(_of_totals(source, outcome))
    problems += _of_rows(source, outcome, list(stored))
    return problems


def _of_totals(source: Source, outcome: Outcome) -> Iterable[str]:
    if outcome.code not in {0, 4, 10} | source.exits:
        yield f"exit {outcome.code}: {outcome.stderr[-300:]}"
        return
    if outcome.code not in (0, 10):
        if not outcome.stderr.rpartition("error: ")[2].strip():
            yield f"exit {outcome.code} without a word"
        return
    report = outcome.source
    if report is None:
        yield "no report"
        return
    refused = 0
    for unit, totals in report["totals"].items():
        counted = totals["taken"] + totals["already_there"] + totals["refused"]
        if counted != totals["seen"]:
            yield f"{unit}: {totals['seen']} seen, {counted} told"
        by_code = sum(totals["refused_by_code"].values())
        listed = sum(refusal["unit"] == unit for refusal in report["refused"])
        if not by_code == listed == totals["refused"]:
            yield f"{unit}: {totals['refused']} refused, {by_code} by code, {listed} listed"
        refused += totals["refused"]
    if (outcome.code == 10) != (refused > 0):
        yield f"exit {outcome.code}, though {refused} were refused"
    for unit, number in source.seen.items():
        seen = report["totals"].get(unit, {"seen": 0})["seen"]
        if seen != number:
            yield f"{unit}: {seen} seen, but the source has {number}"
    if source.entries is not None:
        accounted = sum(totals["seen"] + totals["used"] for totals in report["totals"].values())
        if accounted != source.entries:
            yield f"{accounted} entries are accounted for, the source has {source.entries}"


def _of_rows(source: Source, outcome: Outcome, stored: list[Stored]) -> Iterable[str]:
    by_text: dict[str, list[Stored]] = defaultdict(list)
    for row in stored:
        by_text[row.prompt].append(row)
    items: dict[str, list[Item]] = defaultdict(list)
    for item in source.items:
        items[normalise_prompt(item.prompt)].append(item)
    missing = 0
    for text, same in items.items():
        rows = by_text.pop(text, [])
        own = sum(not item.another for item in same)
        missing += own - min(len(rows), len(same))
        # A source that failed as a whole where it may has to take nothing.
        excused = outcome.code not in (0, 10) and source.whole
        must = sum(item.fate is Fate.MUST for item in same)
        if must > len(rows) and not excused:
            yield f"not taken: {text[:80]!r} (exit {outcome.code}; {_said(outcome, text)})"
        if rows and not source.altered and all(item.fate is Fate.NEVER for item in same):
            yield f"taken, though it is none: {text[:80]!r}"
        for row in rows:
            yield from _of_row(source, row, same)
    for text in () if source.altered else by_text:
        yield f"in the store, but not in the source: {text[:80]!r}"
    if source.altered:  # what was cut off is not there to be counted
        return
    report = outcome.source
    if outcome.code == 0 and missing:
        yield f"exit 0, and {missing} items are neither in the store nor counted"
    if outcome.code == 10 and report is not None and not source.cut:
        refused = sum(totals["refused"] for totals in report["totals"].values())
        if missing > refused:
            yield f"{missing} items are not in the store, {refused} are counted"


def _of_row(source: Source, row: Stored, items: list[Item]) -> Iterable[str]:
    if row.blob is None:
        return
    fitting = [item for item in items if item.blob in (None, row.blob)]
    if not fitting and source.altered:
        return
    if not fitting:
        yield f"other bytes than the source's: {row.prompt[:80]!r}"
        return
    item = fitting[0]
    if item.size is not None and row.size != item.size:
        yield f"{row.size} in the store, {item.size} for a person: {row.prompt[:80]!r}"
    if item.split is not None and row.split != item.split:
        yield f"split {row.split} instead of {item.split}: {row.prompt[:80]!r}"
    if row.boxes is None:
        return
    if not row.boxes and not any(item.clean for item in fitting):
        yield f"CLEAN in gold, which its source does not say: {row.prompt[:80]!r}"
    if len(row.boxes) > max(item.boxes for item in fitting):
        yield f"{len(row.boxes)} boxes, the source has {item.boxes}: {row.prompt[:80]!r}"
    if item.exact is not None and len(fitting) == 1:
        wanted, found = sorted(item.exact), sorted(row.boxes)
        near = len(wanted) == len(found) and all(
            abs(edge - other) <= 1
            for box, stored in zip(wanted, found, strict=True)
            for edge, other in zip(box, stored, strict=True)
        )
        if not near:
            yield f"boxes {found} instead of {wanted}: {row.prompt[:80]!r}"


def _said(outcome: Outcome, text: str) -> str:
    report = outcome.source
    if report is None:
        return outcome.stderr.strip()[-200:]
    refusals: list[dict[str, Any]] = report["refused"]
    return "; ".join(
        f"{refusal['code']} {refusal['name'][-30:]}: {refusal['message'][:90]}" for refusal in refusals[:4]
    )
