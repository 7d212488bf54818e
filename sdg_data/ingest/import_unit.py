"""An import as one unit: whatever it brings is linked to it, so that `withdraw` can take it back as one.

A blob is named in the store before it is written and a record in the transaction that inserts it, so a process that is
killed leaves nothing that its import does not know of. The same command goes on with an unfinished import.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from schemas.records import Annotation, Enrichment, Failure, ImageRecord, Prelabel, Prompt, Review
from sdg_data.blobs import Blobs
from sdg_data.errors import SdgError, StoreError
from sdg_data.file_part import FilePart
from sdg_data.json_values import without_surrogates
from sdg_data.locks import Holder, stage_lock
from sdg_data.store import (
    annotations,
    defect_rows,
    enrichments,
    failures,
    images,
    imports,
    prelabels,
    prompts,
    reviews,
    stated_ids,
    withdrawal,
)
from sdg_data.store.connection import Store, Tx
from sdg_data.store.imports import BLOB, FAILURE, STATED, TABLES, ImportState

LOCK = "import"
STAGE = "import"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """Records of all kinds that an import inserts in one transaction."""

    prompts: Sequence[Prompt] = ()
    images: Sequence[ImageRecord] = ()
    prelabels: Sequence[Prelabel] = ()
    annotations: Sequence[Annotation] = ()
    reviews: Sequence[Review] = ()
    enrichments: Sequence[Enrichment] = ()

    def ids(self) -> dict[str, list[str]]:
        """The ids by kind, those of the images' variants too."""
        groups: dict[str, Sequence[Any]] = {
            "prompt": self.prompts,
            "variant": [images.Variant(image.model, image.revision, image.settings) for image in self.images],
            "image": self.images,
            "prelabel": self.prelabels,
            "annotation": self.annotations,
            "review": self.reviews,
            "enrichment": self.enrichments,
        }
        return {kind: [record.id for record in group] for kind, group in groups.items()}


class ImportUnit:
    """An import under way, which notes what it brings, so that it can go on or be withdrawn; made by `import_unit`."""

    def __init__(self, store: Store, blobs: Blobs | None, number: int) -> None:
        self.number = number
        self._store, self._blobs = store, blobs

    def put_blobs(self, items: Mapping[str, bytes | FilePart]) -> None:
        """Write blobs as `putting_blobs` does, and wait until they are there."""
        with self.putting_blobs(items) as wait:
            wait()

    @contextmanager
    def putting_blobs(self, items: Mapping[str, bytes | FilePart]) -> Iterator[Callable[[], None]]:
        """Store pictures' bytes by the names that their records give them, having named them in the store.

        Args:
            items: The bytes by name.

        Yields:
            What waits until they are stored; see `Blobs.putting_named`.
        """
        if not items:
            yield lambda: None
            return
        assert self._blobs is not None
        fresh = {name for name in items if not self._blobs.exists(name)}
        with self._store.write() as tx:
            imports.link(tx, self.number, BLOB, items, added=fresh)
        with self._blobs.putting_named(items) as wait:
            yield wait

    def insert(self, tx: Tx, records: Records) -> dict[str, set[str]]:
        """Insert the records that are not there yet, and link all of them.

        Returns:
            The ids of those that are new, by kind.
        """
        ids = records.ids()
        added = {kind: defect_rows.new_ids(tx, TABLES[kind], chosen) for kind, chosen in ids.items() if chosen}
        prompts.insert(tx, records.prompts)
        images.insert(tx, records.images)
        prelabels.insert(tx, records.prelabels)
        annotations.insert(tx, records.annotations)
        reviews.insert(tx, records.reviews)
        enrichments.insert(tx, records.enrichments)
        for kind, new in added.items():
            imports.link(tx, self.number, kind, ids[kind], added=new)
        return added

    def insert_stated(self, tx: Tx, stated: Mapping[str, str]) -> None:
        """Insert what a source calls its records, by our ids."""
        new = set(stated) - set(stated_ids.of_items(tx, stated))
        stated_ids.insert(tx, stated)
        imports.link(tx, self.number, STATED, stated, added=new)

    def record_failures(self, tx: Tx, failed: Sequence[Failure], *, cleared: Sequence[str] = ()) -> None:
        """Record rows that were not taken, in place of what was recorded of them before.

        Args:
            tx: A transaction that writes.
            failed: What was not taken, by its name.
            cleared: The names of rows that were taken now, whatever was wrong with them before.
        """
        names = [failure.item_id for failure in failed]
        failures.clear(tx, STAGE, [*names, *cleared])
        failures.insert(tx, failed)
        imports.link(tx, self.number, FAILURE, names, added=set(names))

    def add_failures(self, tx: Tx, failed: Sequence[Failure]) -> None:
        """Record items that were not taken, beside what was recorded of them before."""
        new = {failure.item_id for failure in failed if not failures.attempts(tx, failure.stage, [failure.item_id])}
        failures.insert(tx, failed)
        imports.link(tx, self.number, FAILURE, new, added=new)

    def end(self, counts: Mapping[str, Any]) -> None:
        """The source is read to its end. An import that brought nothing leaves no entry."""
        with self._store.write() as tx:
            if imports.brought(tx, self.number):
                imports.finish(tx, self.number, counts)
            else:
                imports.forget(tx, self.number)


@contextmanager
def import_unit(
    store: Store, blobs: Blobs | None, *, command: str, source: str, options: Mapping[str, Any]
) -> Iterator[ImportUnit]:
    """One import at a time in a home: begin it, or go on with an unfinished one of the same command.

    Args:
        store: Takes the records.
        blobs: Take the pictures; None for an import that has none.
        command: The importing command, such as `coco`.
        source: What is imported.
        options: The command's options, as JSON knows them.

    Yields:
        The unit; call its `end`.

    Raises:
        StoreLocked: Another import is under way and does not end.
    """

    def waiting(holder: Holder | None) -> None:
        log.info("waiting for %s", holder or "another import")

    with stage_lock(store.home, LOCK, on_wait=waiting):
        with store.write() as tx:
            stated = {
                name: without_surrogates(value) if isinstance(value, str) else value for name, value in options.items()
            }
            number = imports.begin(tx, command, without_surrogates(source), stated)
        try:
            yield ImportUnit(store, blobs, number)
        except SdgError:
            with store.write() as tx:
                if not imports.brought(tx, number):
                    imports.forget(tx, number)
            raise


def withdraw(
    store: Store, blobs: Blobs, number: int, *, dry_run: bool = False
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Take an import back, finished or not; called again it goes on where a killed one stopped.

    Args:
        store: Where the records are.
        blobs: Where the pictures are.
        number: The import's, as `sdg import list` shows it.
        dry_run: Only say what would happen.

    Returns:
        How many records of each kind were deleted, and which stay because others depend on them.

    Raises:
        InputError: There is no such import.
        StoreError: It was withdrawn before.
    """
    if dry_run:
        with store.read() as tx:
            _check_living(tx, number)
            withdrawal.mark(tx, number)
            return withdrawal.count_going(tx), withdrawal.staying(tx, number)
    with stage_lock(store.home, LOCK):
        with store.write() as tx:
            _check_living(tx, number)
            withdrawal.mark(tx, number)
            stays = withdrawal.staying(tx, number)
            imports.set_state(tx, number, ImportState.WITHDRAWING)
            deleted = withdrawal.delete(tx, number)
            leftover = withdrawal.blobs_left(tx, number)
        deleted[BLOB] = blobs.delete_many(leftover)
        with store.write() as tx:
            withdrawal.end(tx, number)
            imports.set_state(tx, number, ImportState.WITHDRAWN)
    return {kind: count for kind, count in deleted.items() if count}, stays


def _check_living(tx: Tx, number: int) -> None:
    if imports.by_number(tx, number).state is ImportState.WITHDRAWN:
        raise StoreError(f"import {number} was withdrawn before")
