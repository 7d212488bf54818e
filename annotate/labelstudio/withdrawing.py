"""Withdrawing answers that a server has no longer, and undoing that.

A tombstone for each version of an answer; withdrawing only the last would make the one before current again. What is
there again counts again, with the verdicts that were read from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.labelling import LabelEntry
from schemas.records import Tombstone, Withdrawn
from sdg_data.errors import InputError
from sdg_data.store import answers, label_trust, tombstones
from sdg_data.store import review_cases as cases
from sdg_data.store.connection import Store, Tx

TOOL = "label-studio"
_SOURCE = f"{TOOL}:"
_REVIEW = "review"
"""The source of the tombstones of verdicts whose answer was withdrawn (`annotate.review.rounds`)."""


@dataclass(frozen=True)
class WithdrawnAnswer:
    """An answer that was withdrawn because the server had it no longer."""

    entry: LabelEntry
    image_id: str
    reason: str
    source: str
    withdrawn_at: datetime


def withdraw(tx: Tx, server_id: int, lost: Sequence[LabelEntry], reason: str) -> None:
    """Withdraw all versions of these answers."""
    versions = answers.versions(tx, [entry.id for entry in lost])
    now = datetime.now(UTC)
    tombstones.insert(
        tx,
        [
            Tombstone(
                kind=Withdrawn.ANNOTATION,
                item_id=version,
                reason=reason,
                source=f"{_SOURCE}{server_id}/{entry.task_number}/{entry.number}",
                created_at=now,
            )
            for entry in lost
            for version in versions.get(entry.id, [])
        ],
    )
    answers.put(tx, [entry.model_copy(update={"deleted": True}) for entry in lost])
    label_trust.drop_missing(tx, [entry.id for entry in lost])


def revive(tx: Tx, entry_ids: Sequence[str]) -> int:
    """Let withdrawn answers count again, and the verdicts that were read from them; returns how many versions do."""
    if not entry_ids:
        return 0
    versions = [version for ids in answers.all_versions(tx, entry_ids).values() for version in ids]
    revived = tombstones.delete(tx, Withdrawn.ANNOTATION, versions, source_prefix=_SOURCE)
    verdicts = cases.reviews_by_answers(tx, versions)
    tombstones.delete(tx, Withdrawn.REVIEW, verdicts, source_prefix=_REVIEW)
    entries = answers.by_ids(tx, entry_ids).values()
    answers.put(tx, [entry.model_copy(update={"deleted": False}) for entry in entries if entry.deleted])
    return revived


def withdrawn(
    tx: Tx, *, ids: Sequence[str] = (), since: datetime | None = None, until: datetime | None = None
) -> list[WithdrawnAnswer]:
    """The answers that pulls withdrew, oldest withdrawal first.

    Args:
        tx: The store.
        ids: Only those with one of these ids: of the annotation (any version), its task or its image.
        since: Only those withdrawn at this time or later.
        until: Only those withdrawn before this time.
    """
    stones = {
        stone.item_id: stone
        for stone in tombstones.listed(tx, Withdrawn.ANNOTATION)
        if stone.source.startswith(_SOURCE)
        and (since is None or stone.created_at >= since)
        and (until is None or stone.created_at < until)
    }
    of_versions = answers.entries_of_versions(tx, list(stones))
    withdrawals: dict[str, WithdrawnAnswer] = {}
    wanted = set(ids)
    for version, (entry, image_id) in of_versions.items():
        named = {version, entry.id, entry.task_id, image_id, entry.annotation_id}
        if entry.deleted and (not wanted or wanted & named):
            stone = stones[version]
            withdrawals[entry.id] = WithdrawnAnswer(entry, image_id, stone.reason, stone.source, stone.created_at)
    return sorted(withdrawals.values(), key=lambda answer: (answer.withdrawn_at, answer.entry.id))


def restore(
    store: Store,
    *,
    ids: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
) -> list[WithdrawnAnswer]:
    """Undo withdrawals: the answers count again, and no pull withdraws them once more.

    Args:
        store: The store.
        ids: As `withdrawn` takes them.
        since: As `withdrawn` takes it.
        until: As `withdrawn` takes it.
        dry_run: Only say which.

    Returns:
        The answers that were, or would be, restored.

    Raises:
        InputError: An id names no withdrawn answer.
    """
    with store.read() as tx:
        withdrawals = withdrawn(tx, ids=ids, since=since, until=until)
        for key in ids:
            if not withdrawn(tx, ids=[key], since=since, until=until):
                raise InputError(
                    "no withdrawn answer has this id",
                    item=key,
                    hint="`sdg annotate restore --dry-run` lists what can be restored.",
                )
    if dry_run or not withdrawals:
        return withdrawals
    entry_ids = [answer.entry.id for answer in withdrawals]
    with store.write() as tx:
        revive(tx, entry_ids)
        label_trust.keep(tx, entry_ids)
    return withdrawals
