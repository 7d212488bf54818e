"""Writing what a source's generator gives into the store: in batches, counted, refused with a code, one unit in all.

A batch is looked at first (what contradicts the store is refused, `exports.imports.conflicts`), then its pictures are
written, then its rows in one transaction. While pictures are written the source's generator makes the next batch.
Importing twice changes nothing; importing what was replaced since makes it count again.
"""

import itertools
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from exports.formats.contract import RejectedRow
from exports.imports.conflicts import Conflict, fitting
from exports.imports.last_word import renewed_acceptances
from exports.imports.rows import LABELS, Boxes, ImportRow, LooseBoxes, PreparedRecord, RefusedRow
from exports.imports.stated import with_own_ids
from schemas.records import Failure, Split
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.ingest.batches import batched
from sdg_data.ingest.import_unit import STAGE, ImportUnit, Records, import_unit
from sdg_data.ingest.report import ImportReport
from sdg_data.json_values import without_surrogates
from sdg_data.progress import Progress
from sdg_data.store import images
from sdg_data.store.connection import Store, Tx

UNIT = "images"
BATCH_ROWS = 1024
BATCH_BYTES = 32 << 20
"""Of pictures in memory; two batches are there at a time."""
_SHOWN = 10

log = logging.getLogger(__name__)


@dataclass
class ImportResult:
    """What became of a source: `read` = `new` + `already_there` + `failed` images, and how many labels were new.

    `replaced` counts the images whose gold another took the place of.
    """

    source: str
    read: int = 0
    new: int = 0
    already_there: int = 0
    failed: int = 0
    labels: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)
    replaced: int = 0


@dataclass(frozen=True)
class ImportCommand:
    """Which command imports, and with what: `sdg import list` shows it, and an unfinished import is known by it.

    `replace`: what contradicts the store's gold takes its place, instead of being refused.
    """

    name: str = "import"
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    dry_run: bool = False
    replace: bool = False


def import_rows(
    store: Store,
    blobs: Blobs,
    source: str,
    rows: Iterable[ImportRow],
    *,
    command: ImportCommand | None = None,
    report: ImportReport | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Store rows in batches, as one import.

    Args:
        store: Takes the records.
        blobs: Take the pictures.
        source: What is imported, for people.
        rows: What its generator gives.
        command: The command that imports.
        report: The account, kept for a caller that shows it.
        progress: Shows how far it is.

    Returns:
        What became of the rows.

    Raises:
        InputError: There are no rows, or none can be used.
    """
    command = command or ImportCommand()
    account = ImportReport(source, unit=UNIT) if report is None else report
    blobs.sweep_temporary()
    with ExitStack() as stack:
        if report is None:
            stack.enter_context(account)
        unit = None
        chosen = itertools.islice(rows, command.limit)
        batches = batched(chosen, _in_memory, most=BATCH_ROWS, most_bytes=BATCH_BYTES)
        first = next(batches, [])  # before anything is made for a source that is none
        if first and not command.dry_run:
            options = dict(command.options)
            unit = stack.enter_context(import_unit(store, blobs, command=command.name, source=source, options=options))
        running = stack.enter_context((progress or Progress(STAGE, unit=UNIT)).running(None))
        writer = _Writer(store, unit, command, account)
        try:
            for batch in itertools.chain([first] if first else [], batches):
                writer.write(batch)
                running.advance(len(batch))
        finally:
            writer.finish()
        result = writer.result(source)
        if unit is not None:
            unit.end({unit_name: tally.as_json() for unit_name, tally in account.tallies.items()})
    if result.read == 0:
        raise InputError("nothing to import", item=source)
    if result.failed == result.read:
        reasons = ", ".join(f"{number} {code}" for code, number in sorted(result.failed_by_code.items()))
        raise InputError(f"none of the {result.read} rows can be used ({reasons})", item=source)
    return result


def _in_memory(row: ImportRow) -> int:
    return len(row.data) if isinstance(row, PreparedRecord) and isinstance(row.data, bytes) else 0


class _Writer:
    """Writes batches and keeps the account."""

    def __init__(self, store: Store, unit: ImportUnit | None, command: ImportCommand, report: ImportReport) -> None:
        self._store, self._unit, self._command, self._report = store, unit, command, report
        self._said: dict[str, tuple[str, str, Split]] = {}
        self._labels = 0
        self._replaced = 0
        self._under_way: Generator[None] | None = None

    def result(self, source: str) -> ImportResult:
        """The counts so far."""
        tally = self._report.tally(UNIT)
        return ImportResult(
            source,
            read=tally.seen,
            new=tally.taken,
            already_there=tally.already_there,
            failed=tally.refused,
            labels=self._labels,
            failed_by_code=dict(sorted(tally.refused_by_code.items())),
            replaced=self._replaced,
        )

    def write(self, batch: Sequence[ImportRow]) -> None:
        """Look at a batch, then begin to store what of it can be used."""
        good: list[PreparedRecord] = []
        failed: list[Failure] = []
        for row in batch:
            boxes = Boxes() if isinstance(row, RejectedRow) else row.boxes
            self._report.saw(boxes.good + len(boxes.left_out), unit=LABELS)
            for box in boxes.left_out:
                self._report.refuse(box.code, box.message, name=box.name, unit=LABELS)
            if isinstance(row, LooseBoxes):
                continue
            self._report.saw()
            if isinstance(row, PreparedRecord):
                good.append(row)
            else:
                failed.append(self._refuse(row.reason if isinstance(row, RefusedRow) else row, boxes))
        if self._unit is None:
            self._look(good)
            return
        self.finish()
        self._under_way = self._storing(self._unit, good, failed)
        next(self._under_way)

    def finish(self) -> None:
        """Wait until the last batch is stored."""
        under_way, self._under_way = self._under_way, None
        for _ in under_way or ():
            pass

    def _look(self, good: Sequence[PreparedRecord]) -> None:
        """What a dry run does: nothing is written, everything is counted."""
        if not self._store.path.exists():
            for row in self._told_once(good):
                self._count(row, new=True)
            return
        with self._store.read() as tx:
            rows = [settled.row for settled in with_own_ids(tx, self._told_once(good))]
            kept, bad, replacing = fitting(tx, rows, replace=self._command.replace)
            stored = _there(tx, kept)
        self._tell(replacing)
        for reason, boxes in bad:
            self._refuse(reason, boxes)
        for row in kept:
            self._count(row, new=row.image.id not in stored)

    def _storing(self, unit: ImportUnit, good: Sequence[PreparedRecord], failed: list[Failure]) -> Generator[None]:
        """Store a batch, in two steps: it yields once, while the pictures are being written."""
        with self._store.read() as tx:
            settled = with_own_ids(tx, self._told_once(good, failed))
            kept, bad, replacing = fitting(tx, [item.row for item in settled], replace=self._command.replace)
            stored = _there(tx, kept)
        self._tell(replacing)
        failed += [self._refuse(reason, boxes) for reason, boxes in bad]
        with unit.putting_blobs({row.image.blob: row.data for row in kept}) as wait:
            yield
            wait()
        chosen = {row.image.id for row in kept}
        with self._store.write() as tx:
            new = unit.insert(tx, _records(kept))
            taken = [item for item in settled if item.row.image.id in chosen]
            unit.insert_stated(tx, {ours: theirs for item in taken for ours, theirs in item.stated.items()})
            renewed = renewed_acceptances(tx, kept, replacing={conflict.image_id for conflict in replacing})
            unit.insert(tx, Records(reviews=renewed))
            unit.record_failures(tx, failed, cleared=[row.name for row in kept])
        labelled = new.get("annotation", set()) | {review.annotation_id for review in renewed}
        self._labels += len(labelled) + len(new.get("prelabel", ()))
        for row in kept:
            self._count(row, new=row.image.id not in stored)

    def _told_once(self, rows: Sequence[PreparedRecord], failed: list[Failure] | None = None) -> list[PreparedRecord]:
        """The rows without those about a picture of which the source has spoken before."""
        kept = []
        for row in rows:
            statement = _statement(row)
            before = self._said.get(row.image.id)
            if before is None:
                self._said[row.image.id] = (row.name, statement, row.prompt.split)
                kept.append(row)
            elif before[2] is not row.prompt.split:  # refused as such, when it is compared with the store
                kept.append(row)
            elif before[1] == statement:
                self._count(row, new=False)
            else:
                message = f"{before[0]} says otherwise of the same picture; what stands first was taken"
                failure = self._refuse(RejectedRow(row.name, "said-twice", message), Boxes(row.boxes.good))
                if failed is not None:
                    failed.append(failure)
        return kept

    def _count(self, row: PreparedRecord, *, new: bool) -> None:
        if new:
            self._report.take()
            self._report.take(row.boxes.good, unit=LABELS)
        else:
            self._report.keep()
            self._report.keep(row.boxes.good, unit=LABELS)

    def _refuse(self, reason: RejectedRow, boxes: Boxes) -> Failure:
        """Count a row that is left out, with the good boxes that it takes along."""
        self._report.refuse(reason.code, reason.message, name=reason.name)
        for _ in range(boxes.good):
            self._report.refuse("image-refused", f"its image is left out: {reason.code}", name=reason.name, unit=LABELS)
        return Failure(
            stage=STAGE,
            item_id=without_surrogates(reason.name) or "?",
            code=reason.code,
            message=without_surrogates(reason.message),
            raw=None if reason.raw is None else without_surrogates(reason.raw),
            attempt=1,
        )

    def _tell(self, replacing: Sequence[Conflict]) -> None:
        for conflict in replacing[: max(0, _SHOWN - self._replaced)]:
            log.warning("replaced: %s", conflict)
        self._replaced += len(replacing)


def _records(rows: Sequence[PreparedRecord]) -> Records:
    return Records(
        prompts=[row.prompt for row in rows],
        images=[row.image for row in rows],
        prelabels=[row.prelabel for row in rows if row.prelabel],
        annotations=[row.annotation for row in rows if row.annotation],
        reviews=[row.review for row in rows if row.review],
        enrichments=[row.enrichment for row in rows if row.enrichment],
    )


def _statement(row: PreparedRecord) -> str:
    """What tells two rows about one picture apart. An outside source may state one id for two things."""
    statement = row.annotation or row.prelabel
    if statement is None:
        return ""
    return content_id("statement", statement.model_dump_json()) if row.foreign else statement.id


def _there(tx: Tx, rows: Sequence[PreparedRecord]) -> set[str]:
    return set(images.by_ids(tx, [row.image.id for row in rows]))
