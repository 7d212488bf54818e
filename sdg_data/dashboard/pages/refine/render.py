"""HTML of the page Refine: the table of runs, cards, the slider between two pictures, and the chain of candidates."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.defect import Defect
from schemas.records import ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementState
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import (
    browse_link,
    figure,
    folded,
    link,
    picture_link,
    small_picture,
    table,
    text,
)
from sdg_data.dashboard.page import Parameters
from sdg_data.dashboard.pages.browse.overlay import defect_line
from sdg_data.dashboard.pages.refine.chains import (
    SHORT_ID,
    WORDS,
    RefinedImage,
    count_rows,
    prompt_texts,
    refined_images,
    run_rows,
)
from sdg_data.dashboard.tables import blobs_of_images
from sdg_data.metrics.refinement import RunRecords, burden_of
from sdg_data.store.connection import Tx
from sdg_data.words import counted, decimal

PER_PAGE = 12
TINY = 200
"""Pictures of fewer pixels are enlarged without smoothing."""
SCRIPT = """
const move = (stage, at) => {
  const value = Math.round(Math.min(100, Math.max(0, at)));
  stage.style.setProperty('--At', value + '%');
  const slider = stage.parentElement.querySelector('.swipe-at');
  slider.value = value;
  slider.setAttribute('aria-valuetext', value + ' % before, ' + (100 - value) + ' % after');
};
element.addEventListener('input', event => {
  if (event.target.classList.contains('swipe-at'))
    move(event.target.closest('.swipe-frame').querySelector('.swipe'), Number(event.target.value));
  if (event.target.classList.contains('swipe-boxes'))
    event.target.closest('.swipe-frame').classList.toggle('no-boxes', !event.target.checked);
});
const drag = event => {
  const stage = event.target.closest('.swipe');
  if (!stage || !(event.buttons & 1)) return;
  const frame = stage.getBoundingClientRect();
  move(stage, 100 * (event.clientX - frame.left) / frame.width);
  event.preventDefault();
};
element.addEventListener('pointerdown', drag);
element.addEventListener('pointermove', drag);
element.addEventListener('click', event => {
  const button = event.target.closest('[data-edit]');
  if (button) trigger('click', {image: button.dataset.source, edit: button.dataset.edit});
});
"""
"""The slider follows the pointer and the arrow keys; a candidate's button puts it into the slider."""
_COUNTED = {"state": "images", "verdict": "candidates", "reason": "not accepted because"}
_GOOD = {EditVerdict.ACCEPTED, RefinementState.REFINED}
_BAD = {EditVerdict.FAILED, EditVerdict.UNANSWERED, RefinementState.UNANSWERED}


def render_runs(context: PageContext, tx: Tx, parameters: Parameters) -> str:
    """The table of all runs, and what became of the images and candidates of the one that is looked at."""
    judge = parameters.get("judge", "")
    rows = [_run_cells(row, judge) for row in run_rows(context, tx, parameters)]
    note = (
        f"burdens by {judge} of accepted edits and their parents; a judge should be somebody whom no step asked"
        if judge
        else "burdens by the run's own detector, which decided what was accepted: they fall by construction, so choose "
        "a judge"
    )
    falls = frozenset(name for row in rows[:1] for name in row if name.startswith("fall"))
    counts = count_rows(context, tx, parameters)
    return figure(
        "refine-runs",
        "Runs",
        table(rows, raw=falls | {"run"}, right=falls),
        note=f"{note}; 95 % intervals over prompts",
        parameters={"judge": judge} if judge else None,
    ) + figure(
        "refine-counts",
        "What became of it",
        f'<dl class="commands">{"".join(_count_line(counts, group, parameters) for group in _COUNTED)}</dl>',
        note="a candidate may fail several parts of the test",
        parameters=_kept(parameters, "run"),
    )


def render_waiting(seconds: float) -> str:
    """What stands in the place of the runs while the oracle looks at their pictures, as HTML."""
    return (
        '<div class="empty waiting" role="status"><p>The oracle looks at the pictures of the runs, '
        f"for {seconds:.0f} s now. "
        "Its burdens appear here as soon as they are there; they are remembered, so you may go elsewhere.</p></div>"
    )


def _count_line(counts: Sequence[Mapping[str, Any]], group: str, parameters: Parameters) -> str:
    links = [
        f"{link(_address(parameters, group, row['name']), row['in words'] or row['name'])} {row['number']:,}"
        for row in counts
        if row["of"] == group
    ]
    return f"<dt>{_COUNTED[group]}</dt><dd>{' · '.join(links) or 'none'}</dd>"


def _run_cells(row: Mapping[str, Any], judge: str) -> dict[str, Any]:
    def fell(prefix: str) -> str:
        if row[f"{prefix}fall"] is None:
            return "–"
        ends = "" if row[f"{prefix}low"] is None else f" [{row[prefix + 'low']:.0%} to {row[prefix + 'high']:.0%}]"
        return f"{row[prefix + 'fall']:.0%}{ends}"

    address = _address({"judge": judge}, "run", row["run"][:SHORT_ID])
    cells = {
        "run": link(address, row["run"][:SHORT_ID]),
        **{name: row[name] for name in ("arm", "editor", "images", "refined", "edits", "accepted")},
    }
    prefix = "judged " if judge else ""
    if judge:
        cells["judged edits"] = row["judged edits"]
    cells |= {
        "burden before": row[f"{prefix}burden before"],
        "burden after": row[f"{prefix}burden after"],
        "fall": fell(prefix),
    }
    if judge:
        cells["worse by the judge"] = row["worse by the judge"]
    return cells


def _kept(parameters: Parameters, *names: str) -> dict[str, str]:
    return {name: parameters[name] for name in names if parameters.get(name)}


def _address(parameters: Parameters, name: str, value: str) -> str:
    return browse_link(**_kept(parameters, "run", "judge"), **{name: value}).replace("/browse", "/refine", 1)


def render_images(tx: Tx, records: RunRecords, parameters: Parameters, page: int) -> tuple[int, str]:
    """A page of the images that an address asks for, as cards; the number of the page that there is, and HTML."""
    images = refined_images(records, parameters)
    pages = max(1, -(-len(images) // PER_PAGE))
    page = min(max(1, page), pages)
    if not images:
        return 1, '<div class="empty"><p>No image of this run is like that. Choose other filters.</p></div>'
    shown = images[(page - 1) * PER_PAGE : page * PER_PAGE]
    named = {key for image in shown for key in (image.refinement.image_id, image.refinement.result_id, _last(image))}
    blobs = blobs_of_images(tx, [key for key in named if key])
    prompts = prompt_texts(tx, [records.images[image.refinement.image_id] for image in shown])
    cards = "".join(_card(image, records, blobs, prompts) for image in shown)
    title = f"{counted(len(images), 'image')}, page {page} of {pages}"
    return page, figure(
        "refine-edits",
        title,
        f'<div class="cards pairs">{cards}</div>',
        note="left: before; right: after, or the last candidate where none was accepted",
        parameters=_kept(parameters, "run", "state", "verdict", "reason"),
        forms=("csv", "json", "txt"),
    )


def _last(image: RefinedImage) -> str | None:
    edit = image.chosen_edit("")
    return None if edit is None else edit.image_id


def _card(image: RefinedImage, records: RunRecords, blobs: Mapping[str, str], prompts: Mapping[str, str]) -> str:
    refinement = image.refinement
    prompt = text(prompts.get(records.images[refinement.image_id].prompt_id, "")[:160])
    pictures = "".join(_thumbnail(name, blobs) for name in (refinement.image_id, _last(image)) if name)
    return (
        f'<div class="card"><button class="open" data-source="{text(refinement.image_id)}" data-edit="" '
        f'aria-label="Open: {prompt}"><span class="pair">{pictures}</span><span class="line">{prompt}</span></button>'
        f'<span class="small">{_badge(refinement.state)} {text(_course(refinement))}</span>'
        f'<span class="small">{counted(len(image.edits), "candidate")}'
        f"{text(_why_not(image))}</span></div>"
    )


def _thumbnail(image_id: str, blobs: Mapping[str, str]) -> str:
    if image_id not in blobs:
        return '<span class="gone">withdrawn</span>'
    return f'<img src="/blob/{text(blobs[image_id])}" loading="lazy" alt="">'


def _badge(state: EditVerdict | RefinementState) -> str:
    tone = "good" if state in _GOOD else "warn" if state in _BAD else ""
    return f'<b class="{tone}">{text(state.value)}</b>'


def _course(refinement: Refinement) -> str:
    if refinement.before is None:
        return refinement.reason or "the detector gave no answer"
    if refinement.after is None:
        return f"burden {burden_of(refinement.before):.2f}"
    return f"burden {burden_of(refinement.before):.2f} → {burden_of(refinement.after):.2f}"


def _why_not(image: RefinedImage) -> str:
    if image.refinement.state is RefinementState.REFINED:
        return ""
    reasons = dict.fromkeys(reason for edit in image.edits for reason in edit.reasons)
    return f": {', '.join(WORDS.get(reason, reason) for reason in reasons)}" if reasons else ""


def render_image(tx: Tx, records: RunRecords, image_id: str, edit_number: str = "") -> str:
    """One image: the slider between it and a candidate's parent, and the chain of all its candidates."""
    image = next((refined for refined in refined_images(records, {}) if refined.refinement.image_id == image_id), None)
    if image is None:
        return f'<p class="none">The run has no image {text(image_id[:64])}.</p>'
    refinement = image.refinement
    named = [refinement.image_id, *(edit.image_id for edit in image.edits if edit.image_id is not None)]
    blobs = blobs_of_images(tx, named)
    (prompt,) = [*prompt_texts(tx, [records.images[image_id]]).values(), ""][:1]
    edit = image.chosen_edit(edit_number)
    shown = _slider(image, records, blobs, edit, whole=not edit_number) if edit is not None else _alone(image, blobs)
    reason = f" ({text(refinement.reason)})" if refinement.reason else ""
    return (
        f'<section class="figure"><header><h3>{text(prompt[:300])}</h3><nav>'
        f"{link('/browse?image=' + image_id, 'in Browse')}</nav></header>"
        f"<p class='note'>{_badge(refinement.state)}{reason}: {text(_course(refinement))}; attempt "
        f"{refinement.attempt}, {counted(refinement.rounds, 'round')}, {counted(len(image.edits), 'candidate')}</p>"
        f"{shown}{_chain(image, blobs, edit)}</section>"
    )


def _alone(image: RefinedImage, blobs: Mapping[str, str]) -> str:
    picture = picture_link(image.refinement.image_id, blobs.get(image.refinement.image_id))
    return f'<p class="none">No candidate has a picture. {picture}</p>'


def _slider(image: RefinedImage, records: RunRecords, blobs: Mapping[str, str], edit: Edit, *, whole: bool) -> str:
    """Two pictures over each other and a slider between them: the whole way, or one candidate beside its parent."""
    assert edit.image_id is not None
    refinement = image.refinement
    whole = whole and edit.image_id == refinement.result_id
    first = refinement.image_id if whole else edit.parent_id
    if first not in blobs or edit.image_id not in blobs:
        return '<p class="none">One of the two pictures was withdrawn.</p>'
    record = records.images[first]
    aspect = record.height / record.width
    names = ("before", "after") if whole else ("parent", f"candidate {edit.number}")
    sides = [(names[0], first, image.seen_in(first)), (names[1], edit.image_id, edit.found)]
    tiny = " tiny" if max(record.width, record.height) < TINY else ""
    mask = "" if whole else _mask(edit.mask, record)
    pictures = "".join(
        f'<div class="side {side}"><img src="/blob/{text(blobs[image_id])}" width="{record.width}" '
        f'height="{record.height}" alt="{text(name)}" draggable="false">{_boxes(name, defects or (), aspect, mask)}'
        f'<span class="tag" aria-hidden="true">{text(name)}</span></div>'
        for side, (name, image_id, defects) in zip(("first", "second"), sides, strict=True)
    )
    lists = "".join(f"<div><h4>{text(name)}</h4>{_defects(defects)}</div>" for name, _, defects in sides)
    return (
        f'<div class="detail"><div class="swipe-frame"><div class="stage swipe{tiny}">{pictures}'
        '<i class="divider" aria-hidden="true"></i></div>'
        f'<label class="swipe-label"><span>{text(names[0])}</span><input type="range" class="swipe-at" min="0" '
        f'max="100" step="1" value="50" aria-label="How much of {text(names[0])} is seen: arrow keys move it" '
        f'aria-valuetext="50 % before, 50 % after"><span>{text(names[1])}</span></label>'
        '<label class="swipe-show"><input type="checkbox" class="swipe-boxes" checked> boxes of the run\'s detector'
        f"</label></div><div>{lists}</div></div>"
    )


def _mask(described: str, record: ImageRecord) -> str:
    """The regions of a mask as dashed outlines; nothing where the whole picture could change."""
    mask = json.loads(described)
    regions = mask.get("regions", []) if mask.get("kind") == "boxes" else []
    scale = 1000 / record.width
    return "".join(
        f'<rect class="mask" x="{left * scale:g}" y="{top * scale:g}" width="{(right - left) * scale:g}" '
        f'height="{(bottom - top) * scale:g}"><title>what could change</title></rect>'
        for left, top, right, bottom in regions
    )


def _boxes(name: str, defects: Sequence[Defect], aspect: float, below: str = "") -> str:
    boxes = "".join(
        f'<rect class="{defect.type}" x="{defect.box.x0}" y="{defect.box.y0 * aspect:g}" width="{defect.box.width}" '
        f'height="{defect.box.height * aspect:g}"><title>{text(defect_line(defect))}</title></rect>'
        for defect in defects
    )
    label = f"{counted(len(defects), 'box')} of {name}" if len(defects) == 1 else f"{len(defects)} boxes of {name}"
    return f'<svg viewBox="0 0 1000 {1000 * aspect:g}" role="img" aria-label="{text(label)}">{below}{boxes}</svg>'


def _defects(defects: Sequence[Defect] | None) -> str:
    if defects is None:
        return '<p class="none">the detector gave no answer</p>'
    if not defects:
        return '<p class="none">the detector sees no defect</p>'
    return "<ul class='defects'>" + "".join(map(_defect_line, defects)) + "</ul>"


def _defect_line(defect: Defect) -> str:
    return (
        f'<li><b class="{defect.type}">{defect.type}</b> {text(defect.subtype or "")} · importance '
        f"<b>{defect.importance}</b> ({defect.tier})<br>{folded(defect.reason)}</li>"
    )


def _chain(image: RefinedImage, blobs: Mapping[str, str], shown: Edit | None) -> str:
    """Every round with what was asked, and every candidate with its verdict and what was measured."""
    if not image.edits:
        return ""
    rounds = sorted({edit.round for edit in image.edits})
    parts = [_round(image, blobs, number, shown) for number in rounds]
    whole = (
        f'<p><button class="step" data-source="{text(image.refinement.image_id)}" data-edit="">the whole way: before '
        "and after</button></p>"
        if image.refinement.state is RefinementState.REFINED
        else ""
    )
    return f"<h3>From the image to its result</h3>{whole}<ol class='chain'>{''.join(parts)}</ol>"


def _round(image: RefinedImage, blobs: Mapping[str, str], number_of_round: int, shown: Edit | None) -> str:
    edits = [edit for edit in image.edits if edit.round == number_of_round]
    first = edits[0]
    parent = next((edit.number for edit in image.edits if edit.image_id == first.parent_id), None)
    origin = "the image itself" if parent is None else f"candidate {parent}"
    targets = "; ".join(defect_line(defect) for defect in first.targets)
    rows = [_candidate(image, edit, blobs, edit is shown) for edit in edits]
    seeds = ", ".join(str(edit.seed) for edit in edits)
    made_by = f"mask: {first.mask}\neditor: {first.editor}, revision {first.revision}\nseeds: {seeds}"
    return (
        f"<li><h4>Round {number_of_round + 1}, from {text(origin)}</h4>"
        f"<div class='note'>to mend: {folded(targets)}</div>"
        f"{table(rows, raw=frozenset({'candidate', 'verdict'}))}"
        f"<details><summary>instruction ({text(first.template)}), mask, editor, seeds</summary>"
        f"<pre>{text(first.instruction)}\n\n{text(made_by)}</pre></details></li>"
    )


def _candidate(image: RefinedImage, edit: Edit, blobs: Mapping[str, str], shown: bool) -> dict[str, Any]:
    blob = blobs.get(edit.image_id or "")
    name = f"{edit.number}"
    if blob is not None:
        pressed = "true" if shown else "false"
        name = (
            f'<button class="open" data-source="{text(image.refinement.image_id)}" data-edit="{edit.number}" '
            f'aria-pressed="{pressed}" aria-label="Candidate {edit.number} into the slider">{small_picture(blob)}'
            f"{edit.number}</button>"
        )
    measured = edit.measured
    return {
        "candidate": name,
        "verdict": _badge(edit.verdict),
        "why": "; ".join(WORDS.get(reason, reason) for reason in edit.reasons) or "–",
        "burden inside": _change(measured, "inside"),
        "outside": _change(measured, "outside"),
        "seam": decimal(measured.get("seam"), 2),
        "rim": decimal(measured.get("rim"), 2),
        "reward": _change(measured, "reward"),
    }


def _change(measured: Mapping[str, float | None], name: str) -> str:
    before, after = measured.get(f"{name}_before"), measured.get(f"{name}_after")
    if before is None and after is None:
        return "–"
    return f"{decimal(before, 2)} → {decimal(after, 2)}"
