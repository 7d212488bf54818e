"""Browse: filters, a paged grid, and one image with the boxes of every source, back to its seed."""

from typing import Any

import gradio as gr

from schemas.defect import DefectType, ImportanceTier
from schemas.records import Split
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.html import figure, nothing, text
from sdg_data.dashboard.overlay import SCRIPT, picture
from sdg_data.dashboard.queries_browse import CLEAN, COUNTED, PAGE, STATES, Wanted, choices, count, page, story
from sdg_data.store.connection import Tx

PATH = "browse"
TITLE = "Browse"
ALL = "all"

_PICK = """
element.addEventListener('click', event => {
  const card = event.target.closest('[data-image]');
  if (card) trigger('click', {image: card.dataset.image});
});
"""


def build(shell: Shell) -> None:
    """The page's components; to be called inside its Blocks."""
    stamp = shell.header()
    with gr.Row():
        model = _choice("Generator", "model", [])
        split = _choice("Split", "split", list(Split))
        state = _choice("Review state", "state", list(STATES))
        kind = _choice("Type", "type", [*DefectType, CLEAN])
        subtype = _choice("Subtype", "subtype", [])
        tier = _choice("Importance", "tier", list(ImportanceTier))
    with gr.Row(elem_classes="sdg-controls"):
        words = gr.Textbox(
            label="Words in prompts and reasons",
            placeholder="press Enter to search",
            elem_id="words",
            scale=4,
            max_lines=1,
        )
        number = gr.Number(1, label="Page", minimum=1, precision=0, elem_id="page", scale=1, min_width=90)
        back = gr.Button("← Back", elem_id="back", scale=1, min_width=90)
        forth = gr.Button("Next →", elem_id="forth", scale=1, min_width=90)
    cards = gr.HTML(elem_id="cards", elem_classes="sdg", js_on_load=_PICK)
    detail = gr.HTML(elem_id="detail", elem_classes="sdg", js_on_load=SCRIPT)
    filters = [model, split, state, kind, subtype, tier, words]

    def chosen(*values: Any) -> Wanted:
        names = ("model", "split", "state", "type", "subtype", "tier", "text")
        return Wanted(
            **{name: "" if value in (None, ALL) else str(value) for name, value in zip(names, values, strict=True)}
        )

    def opened(request: gr.Request | None = None) -> tuple[Any, ...]:
        with shell.editions.read() as tx:
            there = choices(tx) if tx is not None else {"model": [], "subtype": []}
            shown = grid_of(tx, Wanted(), 1)
            image = str(request.query_params.get("image", "")) if request is not None else ""
            one = detail_of(tx, image) if image else ""
        return (
            gr.Dropdown(choices=[ALL, *there["model"]], value=ALL),
            gr.Dropdown(choices=[ALL, *there["subtype"]], value=ALL),
            shell.stamp(),
            shown,
            one,
        )

    def filtered(*values: Any) -> tuple[int, str]:
        with shell.editions.read() as tx:
            return 1, grid_of(tx, chosen(*values), 1)

    def turned(place: float | None, *values: Any) -> str:
        with shell.editions.read() as tx:
            return grid_of(tx, chosen(*values), max(1, int(place or 1)))

    def stepped(step: int) -> Any:
        def go(place: float | None, *values: Any) -> tuple[int, str]:
            there = max(1, int(place or 1) + step)
            return there, turned(there, *values)

        return go

    def picked(event: gr.EventData) -> str:
        with shell.editions.read() as tx:
            return detail_of(tx, str(event._data.get("image", ""))) if isinstance(event._data, dict) else ""

    shell.on_open(opened, [model, subtype, stamp, cards, detail])
    for control in filters[:-1]:
        control.input(filtered, filters, [number, cards], show_progress="hidden", queue=False)
    words.submit(filtered, filters, [number, cards], show_progress="hidden", queue=False)
    number.submit(turned, [number, *filters], cards, show_progress="hidden", queue=False)
    back.click(stepped(-1), [number, *filters], [number, cards], show_progress="hidden", queue=False)
    forth.click(stepped(1), [number, *filters], [number, cards], show_progress="hidden", queue=False)
    cards.click(picked, None, detail, show_progress="hidden", queue=False).then(
        None, None, None, js="() => document.querySelector('#detail').scrollIntoView({behavior: 'smooth'})"
    )


def _choice(label: str, name: str, values: list[Any]) -> gr.Dropdown:
    return gr.Dropdown(
        [ALL, *(str(value) for value in values)], value=ALL, label=label, elem_id=name, min_width=120, interactive=True
    )


def grid_of(tx: Tx | None, wanted: Wanted, number: int) -> str:
    """A page of the grid (from 1) as HTML."""
    if tx is None:
        return nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")
    found = count(tx, wanted)
    if not found:
        if wanted == Wanted():
            return nothing("There are no images yet. Make some:", "sdg generate run")
        return '<div class="empty"><p>No image matches. Loosen a filter.</p></div>'
    last = -(-found // PAGE)
    rows = page(tx, wanted, number - 1)
    total = f"more than {COUNTED:,}" if found > COUNTED else f"{found:,}"
    cards = "".join(_card(row) for row in rows) or '<p class="none">This page is behind the last one.</p>'
    query = {name: value for name, value in vars(wanted).items() if value}
    note = f"{total} images, page {number:,} of {last:,}" if found <= COUNTED else f"{total} images, page {number:,}"
    return figure("images", note, f'<div class="cards">{cards}</div>', parameters=query)


def _card(row: dict[str, Any]) -> str:
    if row["said"] is None:
        verdict = "nobody looked"
    elif not row["artifacts"] and not row["misalignments"]:
        verdict = "clean"
    else:
        counts = (("artifact", row["artifacts"]), ("misalignment", row["misalignments"]))
        verdict = "".join(_dot(name, number) for name, number in counts if number)
    return (
        f'<button class="card" data-image="{text(row["image_id"])}"><img src="/blob/{text(row["blob"])}" '
        f'loading="lazy" alt=""><span class="line">{text(row["prompt"][:160])}</span>'
        f'<span class="small">{verdict}</span>'
        f'<span class="small">{text(row["model"])}</span><span class="small">{text(row["state"])}</span></button>'
    )


def _dot(name: str, number: int) -> str:
    return f'<span class="dot {name}">{number} {name}{"" if number == 1 else "s"}</span>'


def detail_of(tx: Tx | None, image_id: str) -> str:
    """One image as HTML: boxes, lineage, raw answers."""
    found = story(tx, image_id) if tx is not None else None
    if found is None:
        return f'<p class="none">There is no image {text(image_id[:64])} in this edition of the store.</p>'
    lineage = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in found.lineage)
    raw = "".join(
        f"<details><summary>raw answer of {text(who)}</summary><pre>{text(answer)}</pre></details>"
        for who, answer in found.raw
    )
    return (
        f'<section class="figure"><header><h3>{text(found.image["prompt"][:300])}</h3>'
        f'<nav><a href="/browse?image={text(image_id)}">link</a></nav></header>{picture(found)}'
        f'<h3>From the prompt to what counts</h3><table class="lineage"><tbody>{lineage}</tbody></table>{raw}</section>'
    )
