"""Browse: filters, a paged grid, and one image with the boxes of every source, back to its seed."""

from typing import Any

import gradio as gr

from schemas.defect import DefectType, ImportanceTier
from schemas.records import Split
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import ALL, choice, chosen
from sdg_data.dashboard.html import figure, nothing, text
from sdg_data.dashboard.page import MOST, Page, Rows
from sdg_data.dashboard.pages.browse.overlay import SCRIPT, picture
from sdg_data.dashboard.pages.browse.queries import (
    CLEAN,
    COUNTED,
    PAGE_SIZE,
    STATES,
    ImageFilter,
    choices,
    count,
    count_all,
    image_detail,
    page,
)
from sdg_data.store.connection import Tx
from sdg_data.words import counted

_PICK = """
element.addEventListener('click', event => {
  const card = event.target.closest('[data-image]');
  if (card) trigger('click', {image: card.dataset.image});
});
"""
_SCROLL = "() => document.querySelector('#detail').scrollIntoView({behavior: 'smooth'})"
_SCROLL_TO_LINKED = f"() => {{ if (new URLSearchParams(location.search).has('image')) ({_SCROLL})(); }}"


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row():
        model = choice("Generator", "model", [])
        split = choice("Split", "split", Split)
        state = choice("Review state", "state", STATES)
        kind = choice("Type", "type", [*DefectType, CLEAN])
        subtype = choice("Subtype", "subtype", [])
        tier = choice("Importance", "tier", ImportanceTier)
    with gr.Row(elem_classes="sdg-controls"):
        words = gr.Textbox(
            label="Words in prompts and reasons",
            placeholder="press Enter to search",
            elem_id="words",
            scale=4,
            max_lines=1,
        )
        number = gr.Number(1, label="Page", precision=0, elem_id="page", scale=1, min_width=90)
        back = gr.Button("← Back", elem_id="back", scale=1, min_width=90)
        forth = gr.Button("Next →", elem_id="forth", scale=1, min_width=90)
    cards = gr.HTML(elem_id="cards", elem_classes="sdg", js_on_load=_PICK)
    detail = gr.HTML(elem_id="detail", elem_classes="sdg", js_on_load=SCRIPT)
    filters = [model, split, state, kind, subtype, tier, words]

    def filter_of(*values: Any) -> ImageFilter:
        return ImageFilter(**chosen(("model", "split", "state", "type", "subtype", "tier", "text"), values))

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        with context.snapshots.read() as tx:
            options = choices(tx) if tx is not None else {"model": [], "subtype": []}
            grid = render_grid(tx, ImageFilter(), 1)
            image_id = str(request.query_params.get("image", "")) if request is not None else ""
            image = render_image(tx, image_id) if image_id else ""
        return (
            gr.Dropdown(choices=[ALL, *options["model"]], value=ALL),
            gr.Dropdown(choices=[ALL, *options["subtype"]], value=ALL),
            context.stamp(),
            grid,
            image,
        )

    def on_filter(*values: Any) -> tuple[int, str]:
        return on_page(1, *values)

    def on_page(page_number: float | None, *values: Any) -> tuple[int, str]:
        with context.snapshots.read() as tx:
            wanted = filter_of(*values)
            target = existing_page(tx, wanted, page_number) if tx is not None else 1
            return target, render_grid(tx, wanted, target)

    def on_step(step: int) -> Any:
        return lambda page_number, *values: on_page((page_number or 1) + step, *values)

    def on_pick(event: gr.EventData) -> str:
        with context.snapshots.read() as tx:
            return render_image(tx, str(event._data.get("image", ""))) if isinstance(event._data, dict) else ""

    context.on_open(on_open, [model, subtype, stamp, cards, detail]).then(None, None, None, js=_SCROLL_TO_LINKED)
    for control in filters[:-1]:
        control.input(on_filter, filters, [number, cards], show_progress="hidden", queue=False)
    words.submit(on_filter, filters, [number, cards], show_progress="hidden", queue=False)
    number.submit(on_page, [number, *filters], [number, cards], show_progress="hidden", queue=False)
    back.click(on_step(-1), [number, *filters], [number, cards], show_progress="hidden", queue=False)
    forth.click(on_step(1), [number, *filters], [number, cards], show_progress="hidden", queue=False)
    cards.click(on_pick, None, detail, show_progress="hidden", queue=False).then(None, None, None, js=_SCROLL)


def existing_page(tx: Tx, wanted: ImageFilter, number: float | None) -> int:
    """The page that is shown for page `number`: the nearest one that exists.

    Where more than `COUNTED` images match, how many pages there are is not known; the last possible one is that of all
    images.
    """
    matches = count(tx, wanted)
    if matches > COUNTED:
        matches = count_all(tx)
    return int(min(max(1, number or 1), max(1, _pages(matches))))


def _pages(images: int) -> int:
    return -(-images // PAGE_SIZE)


def render_grid(tx: Tx | None, wanted: ImageFilter, number: int) -> str:
    """Page `number` (from 1) of the grid of images that match the filter, as HTML."""
    if tx is None:
        return nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")
    matches = count(tx, wanted)
    if not matches:
        if wanted == ImageFilter():
            return nothing("There are no images yet. Make some:", "sdg generate run")
        return '<div class="empty"><p>No image matches. Loosen a filter.</p></div>'
    last = _pages(matches)
    rows = page(tx, wanted, number - 1)
    total = f"more than {COUNTED:,} images" if matches > COUNTED else counted(matches, "image")
    cards = "".join(_card(row) for row in rows) or '<p class="none">This page is behind the last one.</p>'
    parameters = {name: value for name, value in vars(wanted).items() if value}
    of_last = f" of {last:,}" if matches <= COUNTED else ""
    title = f"{total}, page {number:,}{of_last}"
    return figure("images", title, f'<div class="cards">{cards}</div>', parameters=parameters)


def _card(row: dict[str, Any]) -> str:
    if row["label_source"] is None:
        label = "nobody looked"
    elif not row["artifacts"] and not row["misalignments"]:
        label = "clean"
    else:
        counts = (("artifact", row["artifacts"]), ("misalignment", row["misalignments"]))
        label = "".join(_dot(name, number) for name, number in counts if number)
    return (
        f'<button class="card" data-image="{text(row["image_id"])}"><img src="/blob/{text(row["blob"])}" '
        f'loading="lazy" alt=""><span class="line">{text(row["prompt"][:160])}</span>'
        f'<span class="small">{label}</span>'
        f'<span class="small">{text(row["model"])}</span><span class="small">{text(row["state"])}</span></button>'
    )


def _dot(name: str, number: int) -> str:
    return f'<span class="dot {name}">{counted(number, name)}</span>'


def render_image(tx: Tx | None, image_id: str) -> str:
    """One image as HTML: boxes, lineage, raw answers."""
    detail = image_detail(tx, image_id) if tx is not None else None
    if detail is None:
        return f'<p class="none">There is no image {text(image_id[:64])} in this snapshot of the store.</p>'
    lineage = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in detail.lineage)
    raw = "".join(
        f"<details><summary>raw answer of {text(who)}</summary><pre>{text(answer)}</pre></details>"
        for who, answer in detail.raw
    )
    return (
        f'<section class="figure"><header><h3>{text(detail.image["prompt"][:300])}</h3>'
        f'<nav><a href="/browse?image={text(image_id)}">link</a></nav></header>{picture(detail)}'
        f'<h3>From the prompt to what counts</h3><table class="lineage"><tbody>{lineage}</tbody></table>{raw}</section>'
    )


def download_rows(tx: Tx, wanted: ImageFilter) -> Rows:
    """The rows of every image that matches, at most `MOST`; the column of `label_source` is called `said` there."""
    return [
        {"said" if name == "label_source" else name: value for name, value in row.items()}
        for row in page(tx, wanted, 0, MOST)
    ]


PAGE = Page(
    title="Browse",
    path="browse",
    build=build,
    figures={
        "images": lambda context, tx, parameters: download_rows(tx, ImageFilter.from_parameters(parameters)),
    },
)
