"""Evaluate: two sources side by side, metrics with intervals, worst cases first, confusion, importance."""

from typing import Any

import gradio as gr

from schemas.defect import DEFECT_TYPES
from schemas.records import Split
from sdg_data.dashboard import aggregates as measures
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.data import worst
from sdg_data.dashboard.html import figure, grid, matrix, nothing, table, text
from sdg_data.dashboard.queries_browse import choices
from sdg_data.errors import SdgError
from sdg_data.metrics.charts import Series, bars, scatter
from sdg_data.metrics.definitions import METRICS
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.report import summary_rows
from sdg_data.store.connection import Tx

PATH = "evaluate"
TITLE = "Evaluate"
ALL = "all"
DOTS = 4_000
"""Points of the scatter at the most, evenly out of all; the download has every one."""
_CHARTED = ("box_f1@0.1", "box_f1@0.5", "det_type_f1")


def build(shell: Shell) -> None:
    """The page's components; to be called inside its Blocks."""
    stamp = shell.header()
    with gr.Row(elem_classes="sdg-controls"):
        truth = gr.Dropdown([], label="Ground truth", elem_id="gt", interactive=True, min_width=220, scale=2)
        guess = gr.Dropdown([], label="Prediction", elem_id="pred", interactive=True, min_width=220, scale=2)
        model = gr.Dropdown([ALL], value=ALL, label="Generator", elem_id="model", interactive=True, min_width=120)
        split = gr.Dropdown(
            [ALL, *(str(one) for one in Split)], value=ALL, label="Split", elem_id="split", min_width=90
        )
        rules = gr.Dropdown(
            [str(one) for one in Protocol], value="paper", label="Protocol", elem_id="rules", min_width=90
        )
        start = gr.Button("Compare", variant="primary", elem_id="compare", min_width=110)
    body = gr.HTML(elem_id="evaluation", elem_classes="sdg")
    controls = [truth, guess, model, split, rules]

    def opened() -> tuple[Any, ...]:
        with shell.editions.read() as tx:
            there = measures.sources(tx) if tx is not None else []
            models = choices(tx)["model"] if tx is not None else []
        first = there[0] if there else None
        second = next((name for name in there if name.startswith("prelabel:")), there[-1] if there else None)
        message = nothing(_MISSING[0], _MISSING[1]) if len(there) < 2 else _HINT
        return (
            gr.Dropdown(choices=there, value=first),
            gr.Dropdown(choices=there, value=second),
            gr.Dropdown(choices=[ALL, *models], value=ALL),
            shell.stamp(),
            message,
        )

    def compared(*values: Any) -> str:
        names = ("gt", "pred", "model", "split", "protocol")
        of = {name: "" if value in (None, ALL) else str(value) for name, value in zip(names, values, strict=True)}
        with shell.editions.read() as tx:
            if tx is None or not of["gt"] or not of["pred"]:
                return nothing(*_MISSING)
            try:
                found = shell.figures.compare(tx, of)
            except SdgError as error:
                return f'<p class="warn">{text(error)}</p>'
            return page(tx, found, of) if found is not None else '<p class="none">They have no image in common.</p>'

    shell.on_open(opened, [truth, guess, model, stamp, body])
    start.click(compared, controls, body, show_progress="minimal")


_MISSING = ("Two sources are needed: gold, a detector's prelabels, or people's annotations.", "sdg eval sources")
_HINT = '<p class="note">Choose two sources and press Compare. 30,000 images take a few seconds.</p>'


def page(tx: Tx, found: measures.Compared, of: dict[str, str]) -> str:
    """A comparison as HTML."""
    document = found.document
    ceiling_values, published = document["ceiling"], document["published"]["models"]["SDG SFT"]
    cells = [(name, METRICS[name], kind) for name in _CHARTED for kind in DEFECT_TYPES]
    series = [
        Series(
            "this comparison",
            [metric.value(document, kind) for _, metric, kind in cells],
            [metric.interval(document, kind) for _, metric, kind in cells],
        )
    ]
    if ceiling_values:
        series.append(Series("human ceiling", [metric.value(ceiling_values, kind) for _, metric, kind in cells]))
    series.append(Series("SDG SFT (published)", [published[name][kind] for name, _, kind in cells]))
    chart = bars("", [f"{metric.title} {kind}" for _, metric, kind in cells], series)
    parsing, confused = document["parsing"], document["confusion"]
    unread = parsing["failed"] + parsing["degenerate"]
    ceiling = (
        f"; ceiling: second against first verdict on {document['ceiling']['images']:,} images"
        if document["ceiling"]
        else "; no human ceiling: no image was judged by two people"
    )
    note = (
        f"{document['images']:,} images, protocol {document['protocol']}; {unread:,} "
        f"answers could not be read; {len(document['rows']['missing']):,} images without a prediction{ceiling}"
    )
    dots = {name: pairs[:: max(1, len(pairs) // DOTS + 1)] for name, pairs in found.importance.items()}
    matched = sum(map(len, found.importance.values()))
    how = f"boxes matched whatever their type, IoU ≥ {confused['threshold']}; rows: ground truth"
    return (
        grid(
            figure("metrics", "Metrics", table(summary_rows(document)), note=note, parameters=of),
            figure("evaluation", "Against the ceiling", chart, note="whiskers: 95 % of resamples", parameters=of),
            figure("confusion-type", "Types taken for types", _matrix(confused["type"]), note=how, parameters=of),
            figure(
                "importance-pairs",
                "Importance of matched boxes",
                scatter(("ground truth", "prediction"), dots),
                note=f"{matched:,} pairs{' (a part is drawn)' if matched > sum(map(len, dots.values())) else ''}",
                parameters=of,
            ),
        )
        + figure("confusion-subtype", "Subtypes taken for subtypes", _matrix(confused["subtype"]), parameters=of)
        + figure("worst", "Worst images first", table(_worst(document), raw=frozenset({"image"})), parameters=of)
    )


def _matrix(part: dict[str, Any]) -> str:
    return matrix(part["labels"], part["counts"])


def _worst(document: dict[str, Any]) -> list[dict[str, Any]]:
    names = {"gt_all": "true", "pred_all": "predicted", "tp_all@0.5": "matched"}
    return [
        {
            names.get(name, name): f'<a href="/browse?image={text(value)}">{text(value[:12])}</a>'
            if name == "image"
            else value
            for name, value in row.items()
        }
        for row in worst(document)
    ]
