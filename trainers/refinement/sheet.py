"""A sheet of images before and after refinement, with what the detector said of each."""

from __future__ import annotations

from PIL import Image

from schemas.records import ImageRecord
from schemas.refinement import Edit, EditVerdict, RefinementState
from sdg_data.blobs import Blobs
from sdg_data.metrics.refinement import RunRecords
from sdg_data.sheets.cells import image_of_url
from sdg_data.sheets.draw import SheetCell, render_sheet
from sdg_data.store import prompts
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped


def before_after_sheet(
    tx: Tx, blobs: Blobs, records: RunRecords, *, limit: int = 12, tile: int = 224
) -> Image.Image | None:
    """Draw sources and results side by side: first those that were refined, then those that were not, and why.

    Args:
        tx: A transaction.
        blobs: The store's blobs.
        records: The run's.
        limit: At most so many images.
        tile: Side of a picture in pixels.

    Returns:
        The sheet, two columns of an image; None where the run edited nothing.
    """
    shown = [refinement for refinement in records.refinements if refinement.rounds]
    shown.sort(key=lambda refinement: (refinement.state is not RefinementState.REFINED, refinement.image_id))
    if not shown:
        return None
    texts = prompts.by_ids(tx, [records.images[refinement.image_id].prompt_id for refinement in shown[:limit]])
    edits = grouped((edit.refinement_id, edit) for edit in records.edits)
    cells: list[SheetCell] = []
    for refinement in shown[:limit]:
        source = records.images[refinement.image_id]
        prompt = texts[source.prompt_id].text
        cells.append(SheetCell(image_of_url(blobs, source), prompt, source.model, source.seed, refinement.before))
        tried = edits.get(refinement.id, [])
        taken = refinement.state is RefinementState.REFINED
        result = records.images[refinement.result_id] if taken else _last(records, tried)
        if result is None:
            result = source
        defects = (
            refinement.after if taken else next((e.found for e in reversed(tried) if e.image_id == result.id), None)
        )
        note = "accepted" if taken else "not accepted: " + ", ".join(_reasons(tried))
        cells.append(SheetCell(image_of_url(blobs, result), prompt, result.model, result.seed, defects, note=note))
    return render_sheet(
        cells, title=f"Before and after: {records.run.arm}", columns=4 if len(cells) > 2 else 2, tile=tile
    )


def _last(records: RunRecords, tried: list[Edit]) -> ImageRecord | None:
    return next((records.images[edit.image_id] for edit in reversed(tried) if edit.image_id is not None), None)


def _reasons(tried: list[Edit]) -> list[str]:
    reasons = [reason for edit in tried if edit.verdict is not EditVerdict.ACCEPTED for reason in edit.reasons]
    return list(dict.fromkeys(reasons))
