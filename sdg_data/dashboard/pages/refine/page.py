"""Refine: images before and after their edits, every candidate with its verdict, and the runs side by side.

The page's address holds the run, the filters, the judge, the page, and the image that is looked at.
"""

from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from schemas.refinement import EditVerdict, RefinementState
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import NONE, choice, chosen, remember, set_to
from sdg_data.dashboard.html import nothing, text
from sdg_data.dashboard.page import Page, Parameters
from sdg_data.dashboard.pages.refine.chains import (
    SHORT_ID,
    all_runs,
    asked_run,
    count_rows,
    edit_rows,
    judges,
    prepare,
    result_ids,
    run_name,
    run_rows,
    waited,
)
from sdg_data.dashboard.pages.refine.render import SCRIPT, render_image, render_images, render_runs, render_waiting
from sdg_data.errors import SdgError
from sdg_data.store.connection import Tx

_NO_RUN = ("Nothing was refined yet. Edit defects away, and keep what passes a test:", "sdg refine run")
_NAMES = ("run", "state", "verdict", "reason", "judge")
_REMEMBER = remember((*_NAMES, "+", "page"), {"page": "1"})
_ASK_AGAIN_SECONDS = 1.0
_SCROLL = "() => document.querySelector('#refinement').scrollIntoView({behavior: 'smooth'})"
_LINKED = f"() => {{ if (new URLSearchParams(location.search).has('image')) ({_SCROLL})(); }}"


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row(elem_classes="sdg-controls"):
        run = gr.Dropdown([], label="Run", elem_id="run", interactive=True, min_width=220, scale=2)
        state = choice("Image", "state", RefinementState)
        verdict = choice("Candidate", "verdict", EditVerdict)
        reason = choice("Why not", "reason", ())
        judge = choice("Judge", "judge", (), min_width=160, unset=NONE)
        number = gr.Number(1, label="Page", precision=0, elem_id="page", min_width=80)
        back = gr.Button("← Back", elem_id="back", min_width=90)
        forth = gr.Button("Next →", elem_id="forth", min_width=90)
    rest = gr.Textbox(visible=False, elem_id="rest")
    clock = gr.Timer(_ASK_AGAIN_SECONDS, active=False)
    runs = gr.HTML(elem_id="runs", elem_classes="sdg")
    cards = gr.HTML(elem_id="refined", elem_classes="sdg", js_on_load=SCRIPT)
    detail = gr.HTML(elem_id="refinement", elem_classes="sdg", js_on_load=SCRIPT)
    filters = [run, state, verdict, reason, judge]
    everything = [*filters, rest, number]

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        own = {name: asked.get(name, "") for name in _NAMES}
        image = {name: asked[name] for name in ("image", "edit") if asked.get(name)}
        with context.snapshots.read() as tx:
            names = [(run_name(run), run.id[:SHORT_ID]) for run in all_runs(tx)] if tx is not None else []
            if own["run"] and own["run"] not in dict(names).values():
                names.append((own["run"], own["run"]))
            known, reasons = _choices(context, tx, own)
            shown = show(tx, own, _whole(asked.get("page", "")))
            looked_at = one(tx, own, image) if image else ""
        first = own["run"] or (names[0][1] if names else None)
        return (
            gr.Dropdown(choices=names, value=first),
            set_to(RefinementState, own["state"]),
            set_to(EditVerdict, own["verdict"]),
            set_to(reasons, own["reason"]),
            set_to(known, own["judge"], unset=NONE),
            urlencode(image),
            context.stamp(),
            *shown,
            looked_at,
        )

    def show(tx: Tx | None, own: Parameters, page: int) -> tuple[int, str, str, gr.Timer]:
        still = gr.Timer(active=False)
        if tx is None:
            return 1, nothing(*_NO_RUN), "", still
        try:
            records = asked_run(context, tx, own)
            if records is None:
                return 1, nothing(*_NO_RUN), "", still
            page, images = render_images(tx, records, own, page)
        except SdgError as error:
            return 1, f'<p class="warn">{text(error)}</p>', "", still
        runs, again = judged(tx, own)
        return page, runs, images, again

    def judged(tx: Tx, own: Parameters) -> tuple[str, gr.Timer]:
        """The table of runs, or what stands in its place while the judge looks at pictures and a clock asks again."""
        try:
            seconds = waited(context, tx, own.get("judge", ""))
            if seconds is None:
                return render_runs(context, tx, own), gr.Timer(active=False)
        except SdgError as error:
            return f'<p class="warn">{text(error)}</p>', gr.Timer(active=False)
        return render_waiting(seconds), gr.Timer(active=True)

    def on_tick(*values: Any) -> tuple[str, gr.Timer]:
        with context.snapshots.read() as tx:
            if tx is None:
                return nothing(*_NO_RUN), gr.Timer(active=False)
            return judged(tx, chosen(_NAMES, values[:-2]))

    def one(tx: Tx | None, own: Parameters, image: Parameters) -> str:
        try:
            records = asked_run(context, tx, own) if tx is not None else None
        except SdgError:  # what is wrong with the run stands above
            return ""
        if tx is None or records is None:
            return ""
        return render_image(tx, records, image.get("image", ""), image.get("edit", ""))

    def on_page(*values: Any, step: int = 0, first: bool = False) -> tuple[Any, ...]:
        *own, _, page = values
        with context.snapshots.read() as tx:
            return show(tx, chosen(_NAMES, own), 1 if first else _whole(page) + step)

    def on_filter(*values: Any) -> tuple[Any, ...]:
        return on_page(*values, first=True)

    def on_run(*values: Any) -> tuple[Any, ...]:
        own = chosen(_NAMES, values[:-2])
        with context.snapshots.read() as tx:
            _, reasons = _choices(context, tx, own)
        return set_to(reasons, own["reason"]), "", "", *on_filter(*values)

    def on_back(*values: Any) -> tuple[Any, ...]:
        return on_page(*values, step=-1)

    def on_forth(*values: Any) -> tuple[Any, ...]:
        return on_page(*values, step=1)

    def on_pick(event: gr.EventData, *values: Any) -> tuple[str, str]:
        said = event._data if isinstance(event._data, dict) else {}
        image = {name: str(said[name])[:100] for name in ("image", "edit") if said.get(name) not in (None, "")}
        with context.snapshots.read() as tx:
            return urlencode(image), one(tx, chosen(_NAMES, values[:-2]), image)

    def on_refresh(*values: Any) -> tuple[Any, ...]:
        own, image = chosen(_NAMES, values[:-2]), dict(parse_qsl(str(values[-2] or "")))
        with context.snapshots.read() as tx:
            return context.stamp(), *show(tx, own, _whole(values[-1])), one(tx, own, image) if image else ""

    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False}
    seen = [number, runs, cards, clock]

    def keep(event: Any) -> Any:
        """The address is written anew after an event that changed what is seen."""
        return event.then(None, everything, None, js=_REMEMBER)

    opened = [*filters, rest, stamp, *seen, detail]
    context.on_open(on_open, opened, again=(on_refresh, everything, [stamp, *seen, detail])).then(
        None, None, None, js=_LINKED
    )
    keep(run.input(on_run, everything, [reason, rest, detail, *seen], **quick))
    for control in (state, verdict, reason, judge):
        keep(control.input(on_filter, everything, seen, **quick))
    keep(number.submit(on_page, everything, seen, **quick))
    keep(back.click(on_back, everything, seen, **quick))
    keep(forth.click(on_forth, everything, seen, **quick))
    keep(cards.click(on_pick, everything, [rest, detail], **quick)).then(None, None, None, js=_SCROLL)
    keep(detail.click(on_pick, everything, [rest, detail], **quick))
    clock.tick(on_tick, everything, [runs, clock], **quick)


def _choices(context: PageContext, tx: Tx | None, own: Parameters) -> tuple[list[str], list[str]]:
    """Who may judge a run, and the reasons why its candidates were not accepted."""
    if tx is None:
        return [], []
    try:
        reasons = [row["name"] for row in count_rows(context, tx, own) if row["of"] == "reason"]
        return judges(tx, asked_run(context, tx, own)), reasons
    except SdgError:  # the page says what is wrong with the address
        return [], []


def _whole(page: object) -> int:
    """A page's number; the first for what is none."""
    asked = str(page)
    return int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 12 else 1


PAGE = Page(
    title="Refine",
    path="refine",
    build=build,
    figures={"refine-runs": run_rows, "refine-counts": count_rows, "refine-edits": edit_rows},
    lists={"refine-edits": result_ids},
    prepare=prepare,
)
