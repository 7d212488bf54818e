"""What of a batch may go into the store: nothing that contradicts what the store has.

A prompt keeps its split, an id its picture. And an image of which the store has a word of its own takes no other word
from outside, unless that is asked for: an outside annotation, review or enrichment could change what counts as gold.
Two words are no conflict: the store's own, which came back, and a later version by the publisher who had the last word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from exports.formats.contract import RejectedRow
from exports.imports.rows import Boxes, PreparedRecord
from schemas.records import Annotation, ImageRecord, Prelabel, Prompt, Verdict
from sdg_data.store import annotations, defect_rows, gold, images, prelabels, prompts
from sdg_data.store.connection import Tx
from sdg_data.store.gold import Gold, GoldRule

MAX_ROUND = 10
"""The highest round of review that a file may state; a higher one would outrank every later review here."""
AHEAD = timedelta(days=1)
"""How far another machine's clock may be ahead."""
_ANY = GoldRule(unreviewed=True)


@dataclass(frozen=True)
class Conflict:
    """An image, what counts for it now, and what the source says."""

    image_id: str
    now: str
    after: str

    def __str__(self) -> str:
        return f"{self.image_id}: now {self.now}; after {self.after}"


Bad = tuple[RejectedRow, Boxes]


def fitting(
    tx: Tx, rows: Sequence[PreparedRecord], *, replace: bool
) -> tuple[list[PreparedRecord], list[Bad], list[Conflict]]:
    """Part a batch.

    Args:
        tx: A transaction that looks.
        rows: With ids of this store's.
        replace: Let conflicts in.

    Returns:
        The rows to store, those that are refused, and the conflicts among the former.
    """
    kept: list[PreparedRecord] = []
    bad: list[Bad] = []
    known = _Known(tx, rows)
    conflicts: list[Conflict] = []
    for row in rows:
        reason = known.contradiction(row) or _out_of_bounds(row)
        if reason is not None:
            bad.append((reason, Boxes(row.boxes.good)))
            continue
        conflict = known.conflict(row)
        if conflict is not None and not replace:
            message = f"it would change what counts: {conflict} (--replace takes it)"
            bad.append((RejectedRow(row.name, "gold-conflict", message), Boxes(row.boxes.good)))
            continue
        if conflict is not None:
            conflicts.append(conflict)
        kept.append(row)
    return kept, bad, conflicts


class _Known:
    """What the store has of the rows' images and prompts."""

    def __init__(self, tx: Tx, rows: Sequence[PreparedRecord]) -> None:
        ids = [row.image.id for row in rows]
        self._prompts: dict[str, Prompt] = prompts.by_ids(tx, [row.prompt.id for row in rows])
        self._images: dict[str, ImageRecord] = images.by_ids(tx, ids)
        self._annotations: Mapping[str, list[Annotation]] = annotations.of_images(tx, ids)
        self._prelabels: Mapping[str, list[Prelabel]] = prelabels.of_images(tx, ids)
        self._gold: Mapping[str, Gold] = gold.of_images(tx, ids, _ANY)
        self._new = {
            table: defect_rows.new_ids(tx, table, [record.id for record in records])
            for table, records in _statements(rows).items()
        }

    def contradiction(self, row: PreparedRecord) -> RejectedRow | None:
        """Another split of its prompt, or another picture under its id; what was let in counts for later rows."""
        prompt = self._prompts.setdefault(row.prompt.id, row.prompt)
        if prompt.split is not row.prompt.split:
            message = f"its prompt is in the split {prompt.split} already, not {row.prompt.split}"
            return RejectedRow(row.name, "split-conflict", message)
        if self._images.setdefault(row.image.id, row.image).blob != row.image.blob:
            return RejectedRow(row.name, "other-image", "another picture is stored under its id")
        return None

    def conflict(self, row: PreparedRecord) -> Conflict | None:
        """Whether the row says something new of an image that the store has a word about."""
        if not self._says_something_new(row):
            return None
        if row.prelabel is not None:
            model = row.prelabel.model
            others = [record for record in self._prelabels.get(row.image.id, []) if record.model == model]
            now = f"{_count(len(others[-1].defects))} by {model}" if others else ""
        else:
            said = self._annotations.get(row.image.id, [])
            others_said = [record for record in said if not _of_its_publisher(record, row)]
            now = self._now(row.image.id, others_said) if others_said else ""
        return Conflict(row.image.id, now, _summary(row)) if now else None

    def _says_something_new(self, row: PreparedRecord) -> bool:
        records = {
            "annotations": row.annotation,
            "reviews": row.review if row.foreign or row.annotation is None else None,
            "enrichments": row.enrichment if row.foreign or row.annotation is None else None,
            "prelabels": row.prelabel,
        }
        return any(record is not None and record.id in self._new[table] for table, record in records.items())

    def _now(self, image_id: str, said: Sequence[Annotation]) -> str:
        label = self._gold.get(image_id)
        if label is not None and label.annotation is not None:
            by = f"{label.annotation.annotator} ({label.annotation.source})"
            return f"{_count(len(label.defects))}, {label.source}, by {by}"
        return f"{len(said)} annotations of which none counts, by {said[-1].annotator}"


def _statements(rows: Sequence[PreparedRecord]) -> dict[str, list[Any]]:
    return {
        "annotations": [row.annotation for row in rows if row.annotation],
        "reviews": [row.review for row in rows if row.review],
        "enrichments": [row.enrichment for row in rows if row.enrichment],
        "prelabels": [row.prelabel for row in rows if row.prelabel],
    }


def _of_its_publisher(annotation: Annotation, row: PreparedRecord) -> bool:
    """Whether the publisher of an outside file said it, who may replace their own word."""
    new = row.annotation
    return (
        new is not None and not row.foreign and (annotation.annotator, annotation.source) == (new.annotator, new.source)
    )


def _out_of_bounds(row: PreparedRecord) -> RejectedRow | None:
    """A foreign record that would outrank every later one: by its round, or by its time."""
    if not row.foreign:
        return None
    rounds = [record.round for record in (row.annotation, row.review) if record is not None]
    if any(number > MAX_ROUND for number in rounds):
        return RejectedRow(row.name, "bad-round", f"its round is {max(rounds)}; {MAX_ROUND} is the highest")
    limit = datetime.now(UTC) + AHEAD
    for record in (row.annotation, row.review, row.enrichment, row.prelabel):
        if record is not None and record.created_at > limit:
            return RejectedRow(row.name, "from-the-future", f"it was made on {record.created_at:%Y-%m-%d}")
    return None


def _summary(row: PreparedRecord) -> str:
    if row.annotation is None:
        assert row.prelabel is not None
        return f"{_count(len(row.prelabel.defects))} by {row.prelabel.model}"
    accepted = row.review is not None and row.review.verdict is not Verdict.REJECTED
    state = "accepted" if accepted else "not reviewed"
    by = f"{row.annotation.annotator} ({row.annotation.source})"
    return f"{_count(len(row.annotation.defects))}, {state}, by {by}"


def _count(number: int) -> str:
    return "clean" if number == 0 else "1 defect" if number == 1 else f"{number} defects"
