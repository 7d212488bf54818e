"""Select: the curves of best-of-n that `sdg select curve --keep NAME` kept, with regret and over-optimisation."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import remember
from sdg_data.dashboard.html import figure, nothing, table, text
from sdg_data.dashboard.page import Page, Parameters, Rows
from sdg_data.errors import SdgError
from sdg_data.selection import kept
from sdg_data.selection.figure import curve_rows, draw, pair_rows
from sdg_data.store.connection import Tx
from sdg_data.words import counted

_MISSING = (
    "No curve is kept yet. Ask what choosing the best of several images is worth:",
    "sdg select curve --gold oracle --verifier detector=prelabel:MODEL --keep NAME",
)


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row(elem_classes="sdg-controls"):
        which = gr.Dropdown([], label="Curve", elem_id="curve", interactive=True, min_width=220)
    body = gr.HTML(elem_id="curves", elem_classes="sdg")

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        names = kept.names(context.home)
        name = asked.get("curve") or (names[0] if names else None)
        choices = names if name is None or name in names else [*names, name]
        return gr.Dropdown(choices=choices, value=name), context.stamp(), show(name)

    def show(name: str | None) -> str:
        return render(context, {"curve": name or ""})

    def on_refresh(name: str | None) -> tuple[str, str]:
        return context.stamp(), show(name)

    context.on_open(on_open, [which, stamp, body], again=(on_refresh, [which], [stamp, body]))
    which.input(show, which, body, show_progress="hidden", queue=False).then(
        None, which, None, js=remember(("curve",), {})
    )


def asked_curve(context: PageContext, parameters: Parameters) -> dict[str, Any] | None:
    """The curve that an address names, the last one where it names none; None where none is kept.

    Raises:
        InputError: There is none of that name, or its file is damaged.
    """
    names = kept.names(context.home)
    name = parameters.get("curve") or (names[0] if names else "")
    return {**kept.load(context.home, name), "name": name} if name else None


def render(context: PageContext, parameters: Parameters) -> str:
    """The curve and its tables as HTML."""
    try:
        document = asked_curve(context, parameters)
    except SdgError as error:
        return f'<p class="warn">{text(error)}</p>'
    if document is None:
        return nothing(*_MISSING)
    verifiers, address = document["verifiers"], {"curve": document["name"]}
    fallen = [name for name, facts in verifiers.items() if any(row.get("over_optimised") for row in facts["rows"])]
    optimised = (
        f"over-optimised, so that more images make the choice worse: {', '.join(fallen)}"
        if fallen
        else "no verifier is surely over-optimised"
    )
    return (
        figure(
            "select-curve",
            f"What the best of n is worth by {document['gold']}",
            draw(verifiers, document["gold"]),
            note=f"{_left_out(document)}; whiskers: 95 % over prompts; {optimised}",
            parameters=address,
        )
        + figure(
            "select-rows",
            "Each verifier and n",
            table(curve_rows(verifiers)),
            note="regret: what gold's own choice would be better by; own score: what the verifier says of its choice",
            parameters=address,
        )
        + figure(
            "select-pairs",
            "Pairs of a prompt's images",
            table(pair_rows(verifiers)) if all("pairs" in facts for facts in verifiers.values()) else table([]),
            note=_sources(document),
            parameters=address,
        )
    )


def _left_out(document: Mapping[str, Any]) -> str:
    parts = [
        counted(int(document.get("prompts") or 0), "prompt"),
        f"computed {document.get('at', 'at no stated time')}",
    ]
    if document.get("left_out"):
        parts.append(f"left out: {counted(int(document['left_out']), 'prompt')} of too few images")
    return "; ".join(parts)


def _sources(document: Mapping[str, Any]) -> str:
    sources = document.get("sources")
    if not isinstance(sources, Mapping):
        return ""
    return "verifiers: " + "; ".join(f"{name} = {source}" for name, source in sources.items())


def document_of(context: PageContext, tx: Tx, parameters: Parameters) -> dict[str, Any]:
    """The whole document; empty where no curve is kept."""
    return asked_curve(context, parameters) or {}


def value_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """A row of numbers for each verifier and n."""
    document = asked_curve(context, parameters) or {"verifiers": {}}
    return [{"verifier": name, **row} for name, facts in document["verifiers"].items() for row in facts["rows"]]


def pair_values(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """How far each verifier orders pairs as gold does, in numbers."""
    document = asked_curve(context, parameters) or {"verifiers": {}}
    return [{"verifier": name, **facts.get("pairs", {})} for name, facts in document["verifiers"].items()]


PAGE = Page(
    title="Select",
    path="select",
    build=build,
    figures={"select-curve": document_of, "select-rows": value_rows, "select-pairs": pair_values},
)
