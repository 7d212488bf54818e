"""Which images are refined: those of a source of the store that have defects, and how many of the others there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from schemas.defect import Defect
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError
from sdg_data.metrics.refinement import defects_of
from sdg_data.metrics.store_sources import KINDS, Filter, SourceName, StoreSource, parse_source
from sdg_data.metrics.tables import PARSED
from sdg_data.store import images, refinements
from sdg_data.store.connection import Store


@dataclass
class Work:
    """The images of a source by what is to be done with them.

    Attributes:
        defects: Image -> its defects, of those that are to be refined now; by ascending id.
        attempts: Image -> the number of the attempt that is due.
        done: Refined before by the same run.
        incomplete: Of these, how many had a failure (`--retry-failures` does them again).
        clean: The source says that they have no defect.
        unreadable: The source's answer could not be read.
        not_judged: The source says nothing of them.
        edits: Candidates of refinements, which are not refined themselves.
    """

    defects: dict[str, tuple[Defect, ...]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    done: int = 0
    incomplete: int = 0
    clean: int = 0
    unreadable: int = 0
    not_judged: int = 0
    edits: int = 0


def work_of(
    store: Store,
    blobs: Blobs,
    source: str,
    run_id: str,
    *,
    chosen: Filter,
    listed: Collection[str] | None = None,
    retry: Collection[str] = (),
) -> Work:
    """What there is to do.

    Args:
        store: The store.
        blobs: Its blobs, which the oracle reads.
        source: A source of defects.
        run_id: The run that is asked about.
        chosen: Which images.
        listed: Only these ids; None: all.
        retry: Codes of failures; images whose last attempt had one of these are due again. `all`: any failure.

    Returns:
        The images to refine, and the counts of the others.
    """
    table = StoreSource(store, source_name(source), chosen, blobs).read()
    with store.read() as tx:
        every = [record.id for record in images.page(tx, models=chosen.models, split=chosen.split)]
        tried = refinements.attempts(tx, run_id)
        incomplete = refinements.incomplete(tx, run_id)
        candidates = refinements.candidate_ids(tx)
    said = {key: place for place, key in enumerate(table.keys)}
    work = Work()
    for identity in every:
        if listed is not None and identity not in listed:
            continue
        place = said.get(identity)
        if identity in candidates:
            work.edits += 1
        elif place is None:
            work.not_judged += 1
        elif table.outcomes[place] != PARSED:
            work.unreadable += 1
        elif table.offsets[place] == table.offsets[place + 1]:
            work.clean += 1
        elif identity in tried and not (identity in incomplete and _again(incomplete[identity], retry)):
            work.done += 1
            work.incomplete += identity in incomplete
        else:
            work.defects[identity] = defects_of(table, place)
            work.attempts[identity] = tried.get(identity, 0) + 1
    return work


def _again(codes: Collection[str], retry: Collection[str]) -> bool:
    """Whether an image that failed with these codes is done again."""
    return "all" in retry or not set(codes).isdisjoint(retry)


def source_name(source: str, option: str = "--source") -> SourceName:
    """Read the name of a source of the store.

    Args:
        source: As it is written on a command line.
        option: Where it is written.

    Returns:
        The source.

    Raises:
        ConfigError: It names none.
    """
    parsed = parse_source(source)
    if parsed is None:
        raise ConfigError(f"{source!r} is no source of defects", item=option, hint=f"It is {KINDS}.")
    return parsed
