"""Browse: filters, an order, a paged grid, chosen images, and one image with the boxes of every source.

The page's address holds all of it, so that a reload shows the same and a link can be shared. Figures of other pages
lead here by such addresses.
"""

from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from schemas.defect import DefectType, ImportanceTier
from schemas.records import Split
from sdg_data.dashboard.cache import Cache
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import choice, chosen, remember, set_to
from sdg_data.dashboard.html import text
from sdg_data.dashboard.page import MOST, Page, Parameters, Rows
from sdg_data.dashboard.pages.browse.choose import BAR, LIST, change_list, render_lists, rest_of, with_chosen
from sdg_data.dashboard.pages.browse.choose import SCRIPT as CHOOSE
from sdg_data.dashboard.pages.browse.filters import (
    AGREEMENTS,
    CLEAN,
    COMPOSITIONS,
    MODES,
    SORTS,
    STATES,
    ImageFilter,
)
from sdg_data.dashboard.pages.browse.overlay import SCRIPT
from sdg_data.dashboard.pages.browse.queries import (
    NOTHING,
    Numbers,
    choices,
    image_ids,
    matching,
    matching_key,
    neighbour,
    page,
)
from sdg_data.dashboard.pages.browse.render import existing_page, render_grid, render_image
from sdg_data.dashboard.snapshots import snapshot_id
from sdg_data.dashboard.tables import LABEL_SOURCES
from sdg_data.errors import SdgError
from sdg_data.store import kept_lists
from sdg_data.store.connection import Tx

_PICK = """
element.addEventListener('click', event => {
  const card = event.target.closest('[data-image]');
  if (card && !event.target.closest('label')) trigger('click', {image: card.dataset.image});
});
"""
_STEP = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-step]');
  const shown = element.querySelector('[data-shown]');
  if (button && shown) trigger('click', {image: shown.dataset.shown, step: Number(button.dataset.step)});
});
"""
_SCROLL = "() => document.querySelector('#detail').scrollIntoView({behavior: 'smooth'})"
_SCROLL_TO_LINKED = f"() => {{ if (new URLSearchParams(location.search).has('image')) ({_SCROLL})(); }}"
_FIXED: dict[str, tuple[str, ...]] = {
    "split": tuple(Split),
    "state": STATES,
    "type": (*DefectType, CLEAN),
    "tier": tuple(ImportanceTier),
    "label": tuple(LABEL_SOURCES),
    "composition": tuple(COMPOSITIONS),
    "mode": MODES,
    "agreement": tuple(AGREEMENTS),
}
"""Of drop-downs whose choices do not hang on the data."""
_DROPDOWNS = (
    ("model", "Generator"), ("split", "Split"), ("state", "Review state"), ("type", "Type"), ("subtype", "Subtype"),
    ("tier", "Importance"),
)  # fmt: skip
_MORE = (
    ("label", "Whose label"), ("composition", "Composition"), ("annotator", "Person"), ("mode", "Way of working"),
    ("failure", "Failure"), ("agreement", "Agreement"), (LIST, "List"),
)  # fmt: skip
_TEXTS = (
    ("since", "Answered since", "YYYY-MM-DD"), ("until", "Answered until", "YYYY-MM-DD"),
    ("least", "Importance from", "1"), ("most", "Importance to", "100"),
)  # fmt: skip
_NAMES = (*(name for name, _ in (*_DROPDOWNS, *_MORE)), *(name for name, _, _ in _TEXTS), "text")
"""The filters, in the order of their components."""
_REST = "+"
_WORDS = ("text",)
REMEMBERED = 24
"""So many filters with their order are remembered: four bytes an image that matches."""
_REMEMBER = remember((*_NAMES, _REST, "sort", "page"), {"sort": "prompt", "page": "1"}, words=_WORDS)


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    controls: dict[str, Any] = {}
    with gr.Row():
        for name, label in _DROPDOWNS:
            controls[name] = choice(label, name, _FIXED.get(name, ()))
    with gr.Accordion("More filters: people, dates, failures, agreement, lists", open=False, elem_id="more") as more:
        with gr.Row():
            for name, label in _MORE:
                controls[name] = choice(label, name, _FIXED.get(name, ()))
        with gr.Row():
            for name, label, form in _TEXTS:
                controls[name] = gr.Textbox(label=label, placeholder=form, elem_id=name, max_lines=1, min_width=110)
    with gr.Row(elem_classes="sdg-controls"):
        controls["text"] = gr.Textbox(
            label="Words in prompts and reasons",
            placeholder="press Enter to search",
            elem_id="words",
            scale=4,
            max_lines=1,
        )
        orders = [(words, name) for name, (words, _) in SORTS.items()]
        sort = gr.Dropdown(orders, value="prompt", label="Order", elem_id="sort", scale=2, min_width=150)
        number = gr.Number(1, label="Page", precision=0, elem_id="page", scale=1, min_width=90)
        back = gr.Button("← Back", elem_id="back", scale=1, min_width=90)
        forth = gr.Button("Next →", elem_id="forth", scale=1, min_width=90)
    rest = gr.Textbox(visible=False, elem_id="rest")
    cards = gr.HTML(elem_id="cards", elem_classes="sdg", js_on_load=_PICK)
    bar = gr.HTML(BAR, elem_id="choice", elem_classes="sdg", js_on_load=CHOOSE)
    kept = gr.HTML(elem_id="kept", elem_classes="sdg")
    detail = gr.HTML(elem_id="detail", elem_classes="sdg", js_on_load=SCRIPT + _STEP)
    filters = [*(controls[name] for name in _NAMES), rest]
    everything = [*filters, sort, number]
    matches = Cache(REMEMBERED)

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        order = asked["sort"] if asked.get("sort") in SORTS else "prompt"
        own = {name: asked.get(name, "") for name in _NAMES}
        beyond = urlencode(rest_of(asked, {*_NAMES, "sort", "page", "image"}))
        with context.snapshots.read() as tx:
            target, grid = show(tx, own, beyond, order, _page_number(asked.get("page", "")))
            image = one(tx, asked["image"]) if asked.get("image") else ""
            offered = {**_FIXED, **(choices(tx) if tx is not None else {}), LIST: list_names()}
        return (
            *(set_to(offered.get(name, ()), own[name]) for name, _ in (*_DROPDOWNS, *_MORE)),
            *(own[name] for name, _, _ in _TEXTS),
            own["text"],
            beyond,
            order,
            target,
            gr.Accordion(open=any(own[name] for name in (*(name for name, _ in _MORE), *(t[0] for t in _TEXTS)))),
            context.stamp(),
            grid,
            image,
            render_lists(context.home),
        )

    def remembered(tx: Tx, wanted: ImageFilter, order: str) -> Numbers:
        key = (snapshot_id(tx), matching_key(wanted, order))
        return matches.get(key, lambda: matching(tx, wanted, sort=order))

    def list_names() -> tuple[str, ...]:
        return tuple(kept_lists.by_name(context.home))

    def one(tx: Tx | None, image_id: str) -> str:
        return render_image(tx, image_id, kept_lists.containing(context.home, image_id))

    def show(tx: Tx | None, own: Parameters, beyond: str, order: str, page_number: float | None) -> tuple[int, str]:
        parameters = {**dict(parse_qsl(beyond)), **{name: value for name, value in own.items() if value}}
        if tx is None:
            return 1, render_grid(None, ImageFilter(), NOTHING, 1)
        try:
            wanted, title = with_chosen(context, tx, parameters)
            numbers = remembered(tx, wanted, order)
            target = existing_page(len(numbers), page_number)
            grid = render_grid(tx, wanted, numbers, target, title=title, parameters={**parameters, "sort": order})
        except SdgError as error:
            return 1, f'<p class="warn">{text(error)}</p>'
        return target, grid

    def on_page(*values: Any, step: int = 0, first: bool = False) -> tuple[int, str]:
        *own, beyond, order, page_number = values
        target = 1 if first else (page_number or 1) + step
        with context.snapshots.read() as tx:
            return show(tx, chosen(_NAMES, own, words=_WORDS), str(beyond or ""), order or "prompt", target)

    def on_refresh(*values: Any) -> tuple[Any, ...]:
        return (context.stamp(), *on_page(*values))

    def on_filter(*values: Any) -> tuple[int, str]:
        return on_page(*values, first=True)

    def on_back(*values: Any) -> tuple[int, str]:
        return on_page(*values, step=-1)

    def on_forth(*values: Any) -> tuple[int, str]:
        return on_page(*values, step=1)

    def on_pick(event: gr.EventData) -> str:
        with context.snapshots.read() as tx:
            return one(tx, str(_said(event, "image")))

    def on_step(event: gr.EventData, *values: Any) -> str:
        *own, beyond, order, _ = values
        image_id, step = str(_said(event, "image")), _said(event, "step")
        parameters = {**dict(parse_qsl(str(beyond or ""))), **chosen(_NAMES, own, words=_WORDS)}
        with context.snapshots.read() as tx:
            if tx is None:
                return ""
            try:
                wanted, _ = with_chosen(context, tx, parameters)
                numbers, everything = (remembered(tx, one, order or "prompt") for one in (wanted, ImageFilter()))
                other = neighbour(tx, numbers, everything, image_id, -1 if step == -1 else 1)
            except SdgError as error:
                return f'<p class="warn">{text(error)}</p>'
            return one(tx, other or image_id)

    def on_keep(event: gr.EventData, *values: Any) -> tuple[str, Any]:
        *own, beyond, order, _ = values
        parameters = {
            **dict(parse_qsl(str(beyond or ""))),
            **chosen(_NAMES, own, words=_WORDS),
            "sort": order or "prompt",
        }
        ids = _said(event, "ids")
        ticked = [str(image_id) for image_id in ids] if isinstance(ids, list) else []
        with context.snapshots.read() as tx:
            try:
                said = change_list(
                    context, tx, str(_said(event, "do")), str(_said(event, "name")),
                    None if _said(event, "all") is True else ticked, parameters,
                ) if tx is not None else ""  # fmt: skip
            except SdgError as error:
                said = f'<p class="warn">{text(error)}</p>'
        return render_lists(context.home, said), set_to(list_names(), parameters[LIST])

    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False}

    def keep(event: Any) -> Any:
        """The address is written anew after an event that changed what is seen."""
        return event.then(None, everything, None, js=_REMEMBER)

    opened = [*filters, sort, number, more, stamp, cards, detail, kept]
    context.on_open(on_open, opened, again=(on_refresh, everything, [stamp, number, cards])).then(
        None, None, None, js=_SCROLL_TO_LINKED
    )
    for name in (*(name for name, _ in (*_DROPDOWNS, *_MORE)),):
        keep(controls[name].input(on_filter, everything, [number, cards], **quick))
    for name in (*(name for name, _, _ in _TEXTS), "text"):
        keep(controls[name].submit(on_filter, everything, [number, cards], **quick))
    keep(sort.input(on_filter, everything, [number, cards], **quick))
    keep(number.submit(on_page, everything, [number, cards], **quick))
    keep(back.click(on_back, everything, [number, cards], **quick))
    keep(forth.click(on_forth, everything, [number, cards], **quick))
    keep(cards.click(on_pick, None, detail, **quick)).then(None, None, None, js=_SCROLL)
    keep(detail.click(on_step, everything, detail, **quick))
    tagged = bar.click(on_keep, everything, [kept, controls[LIST]], **quick)
    tagged.then(on_page, everything, [number, cards], **quick)  # the images of a tag that is shown may be others now


def _said(event: gr.EventData, name: str) -> Any:
    """What the page's script sent along with an event."""
    return event._data.get(name, "") if isinstance(event._data, dict) else ""


def _page_number(asked: str) -> int:
    return int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 12 else 1


def download_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """The rows of every image that matches, at most `MOST`; the column of `label_source` is called `said` there."""
    wanted, _ = with_chosen(context, tx, parameters)
    return [
        {"said" if name == "label_source" else name: value for name, value in row.items()}
        for row in page(tx, matching(tx, wanted, sort=parameters.get("sort") or "prompt"), 0, MOST)
    ]


def list_ids(context: PageContext, tx: Tx, parameters: Parameters) -> list[str]:
    """The ids of every image that matches, in the page's order."""
    wanted, _ = with_chosen(context, tx, parameters)
    return image_ids(tx, matching(tx, wanted, sort=parameters.get("sort") or "prompt"))


PAGE = Page(
    title="Browse",
    path="browse",
    build=build,
    figures={"images": download_rows},
    lists={"images": list_ids},
)
