"""What `sdg refine report` has beside a run's figures (`sdg_data.metrics.refinement`): judges, and arms of a study."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from schemas.defect import Defect
from schemas.refinement import RefinementState
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.metrics.refinement import RunRecords, burdens_of, oracle_defects, table_defects
from sdg_data.metrics.store_sources import Filter, StoreSource
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from trainers.refinement.source import source_name


def judged_burdens(
    store: Store, blobs: Blobs, source: str, ids: Collection[str], option: str = "--judge"
) -> dict[str, float]:
    """The burden of images by a source of defects, as `judged_defects` takes it."""
    return burdens_of(judged_defects(store, blobs, source, ids, option))


def judged_defects(
    store: Store, blobs: Blobs, source: str, ids: Collection[str], option: str = "--judge"
) -> dict[str, tuple[Defect, ...]]:
    """What a source says of images; an image that it says nothing readable of is left out.

    A source that does not exist, and the oracle of another world, are refused.

    Args:
        store: The store.
        blobs: Its blobs, which the oracle reads.
        source: The judge; the oracle is asked about these images alone.
        ids: The images.
        option: Where the source is written on the command line.

    Returns:
        Image -> defects.
    """
    name = source_name(source, option)
    if name.kind != "oracle":
        table = StoreSource(store, name, Filter(), blobs).read()
        return table_defects(table, ids)
    with store.read() as tx:
        records = images.by_ids(tx, sorted(ids))
        prompt_ids = sorted({record.prompt_id for record in records.values()})
        texts = {identity: prompt.text for identity, prompt in prompts.by_ids(tx, prompt_ids).items()}
    return oracle_defects(blobs, records.values(), texts)


def write_study(records: RunRecords, folder: Path) -> tuple[int, int]:
    """Write `before.csv` and `after.csv`, the arms of a study (`sdg study create`), joined by the source image.

    Args:
        records: The run's.
        folder: Where to; it is made.

    Returns:
        (images with a result, images that were refused one).

    Raises:
        InputError: The files cannot be written.
    """
    before: list[dict[str, str]] = []
    after: list[dict[str, str]] = []
    refused = 0
    for refinement in records.refinements:
        taken = refinement.state is RefinementState.REFINED
        before.append({"image_id": refinement.image_id, "item": refinement.image_id, "refused": "", "reference": ""})
        reason = "" if taken else refinement.reason or "no edit was accepted"
        after.append(
            {
                "image_id": refinement.result_id if taken else "",
                "item": refinement.image_id,
                "refused": reason,
                "reference": refinement.image_id if taken else "",
            }
        )
        refused += not taken
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("before.csv", before), ("after.csv", after)):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ["image_id", "item", "refused", "reference"])
                writer.writeheader()
                writer.writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write the arms ({error.strerror or error})", item=str(folder)) from error
    return len(records.refinements) - refused, refused
