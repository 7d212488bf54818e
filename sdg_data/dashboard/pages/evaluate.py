"""Evaluate: two sources side by side, metrics with intervals, worst cases first, confusion, importance."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import numpy as np

from schemas.defect import DEFECT_TYPES, DefectType
from schemas.records import Split
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import NONE, choice, chosen, remember, set_to
from sdg_data.dashboard.html import browse_link, figure, grid, matrix, nothing, picture_link, table, text
from sdg_data.dashboard.page import Page, Parameters, Rows, Selected
from sdg_data.dashboard.pages.comparison import (
    SourceComparison,
    chosen_images,
    compare_sources,
    human_ceiling,
    member,
    source_name,
)
from sdg_data.dashboard.pages.detectors import compare_detectors, difference_rows, differing_rows, render_detectors
from sdg_data.dashboard.tables import models
from sdg_data.errors import ConfigError, SdgError
from sdg_data.metrics.charts import Series, bars, scatter
from sdg_data.metrics.confusion import IOU, images_of_cell
from sdg_data.metrics.definitions import METRICS
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.report import summary_rows
from sdg_data.metrics.sdg_eval import Evaluation
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select
from sdg_data.words import counted

DOTS = 4_000
"""Points of the scatter at the most, evenly out of all; the download has every one."""
DETECTORS, GENERATORS, MOST_PREPARED = 3, 6, 100_000
"""So many detectors, those with most answers, are compared with gold in advance, the first of them also for so many
generators; where gold is of more images than that, only the first one, once."""
_CHARTED = ("box_f1@0.1", "box_f1@0.5", "det_type_f1")
_CHOICES = ("gt", "pred", "other", "model", "split", "protocol")
_MISSING = ("Two sources are needed: gold, a detector's prelabels, or people's annotations.", "sdg eval sources")
_HINT = '<p class="note">Choose two sources and press Compare. 30,000 images take a few seconds.</p>'
LARGE = 3_000
"""Comparisons of sources that speak about more images together are computed while the page waits."""
_ASK_AGAIN_SECONDS = 1.0


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row(elem_classes="sdg-controls"):
        truth = gr.Dropdown([], label="Ground truth", elem_id="gt", interactive=True, min_width=220, scale=2)
        prediction = gr.Dropdown([], label="Prediction", elem_id="pred", interactive=True, min_width=220, scale=2)
        other = choice("Second detector", "other", [], min_width=160, unset=NONE)
        model = choice("Generator", "model", [])
        split = choice("Split", "split", Split, min_width=90)
        protocol = gr.Dropdown(
            [str(name) for name in Protocol], value="paper", label="Protocol", elem_id="rules", min_width=90
        )
        start = gr.Button("Compare", variant="primary", elem_id="compare", min_width=110)
    body = gr.HTML(elem_id="evaluation", elem_classes="sdg")
    asked_for = gr.Textbox(visible=False, elem_id="asked")
    clock = gr.Timer(_ASK_AGAIN_SECONDS, active=False)
    controls = [truth, prediction, other, model, split, protocol]
    shown = [body, asked_for, clock]

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        with context.snapshots.read() as tx:
            names = sources(tx) if tx is not None else []
            generators = models(tx) if tx is not None else []
        first = names[0] if names else ""
        second = next((name for name in names if name.startswith("prelabel:")), names[-1] if names else "")
        values = {**dict.fromkeys(_CHOICES, ""), "gt": first, "pred": second, "protocol": str(Protocol.PAPER)}
        values |= {name: asked[name] for name in _CHOICES if asked.get(name)}
        linked = asked.get("gt") and asked.get("pred")
        return (
            gr.Dropdown(choices=_with(names, values["gt"]), value=values["gt"] or None),
            gr.Dropdown(choices=_with(names, values["pred"]), value=values["pred"] or None),
            set_to(names, values["other"], unset=NONE),
            set_to(generators, values["model"]),
            set_to(Split, values["split"]),
            gr.Dropdown(choices=_with([str(name) for name in Protocol], values["protocol"]), value=values["protocol"]),
            context.stamp(),
            *(on_compare(*values.values()) if linked else still(nothing(*_MISSING) if len(names) < 2 else _HINT)),
        )

    def still(page: str) -> tuple[str, str, gr.Timer]:
        return page, "", gr.Timer(active=False)

    def on_compare(*values: Any) -> tuple[str, str, gr.Timer]:
        return show(chosen(_CHOICES, values))

    def on_tick(asked: str | None) -> tuple[str, str, gr.Timer]:
        return show({**dict.fromkeys(_CHOICES, ""), **dict(parse_qsl(str(asked or "")))})

    def show(parameters: Mapping[str, str]) -> tuple[str, str, gr.Timer]:
        with context.snapshots.read() as tx:
            if tx is None or not parameters["gt"] or not parameters["pred"]:
                return still(nothing(*_MISSING))
            try:
                seconds = waited(context, tx, parameters)
                if seconds is not None:
                    return render_waiting(seconds), urlencode(parameters), gr.Timer(active=True)
                comparison = compare(context, tx, parameters)
                detectors = two_detectors(context, tx, parameters) if parameters["other"] else None
            except SdgError as error:
                return still(f'<p class="warn">{text(error)}</p>')
            beside = render_detectors(tx, detectors, parameters) if detectors is not None else ""
        alone = render(comparison, parameters) if comparison else '<p class="none">They have no image in common.</p>'
        return still(beside + alone)

    def on_refresh(*values: Any) -> tuple[Any, ...]:
        return (context.stamp(), *on_compare(*values))

    context.on_open(on_open, [*controls, stamp, *shown], again=(on_refresh, controls, [stamp, *shown]))
    start.click(on_compare, controls, shown, show_progress="minimal").then(
        None, controls, None, js=remember(_CHOICES, {"protocol": str(Protocol.PAPER)})
    )
    clock.tick(on_tick, asked_for, shown, show_progress="hidden", queue=False)


def render_waiting(seconds: float) -> str:
    """What stands in the place of a comparison that is being computed, as HTML."""
    return (
        f'<div class="empty waiting" role="status"><p>Comparing, for {seconds:.0f} s now. The figures appear here as '
        "soon as they are there; they are remembered until the store changes, so you may go elsewhere.</p></div>"
    )


def _with(names: list[str], value: str) -> list[str]:
    return names if not value or value in names else [*names, value]


def sources(tx: Tx) -> list[str]:
    """What can be compared; the oracle is left out, as it reads pictures."""
    return [row["source"] for row in select(tx, "SELECT source FROM dash_sources")]


def compare(context: PageContext, tx: Tx, parameters: Parameters) -> SourceComparison | None:
    """`compare_sources` of what the page's controls, or a download's address, choose; remembered."""
    _, gt, pred, model, split, protocol = key = _key(parameters)

    def ceiling() -> Evaluation | None:
        images, rules = chosen_images(model, split), member(Protocol, protocol)
        return context.cached(tx, ("ceiling", model, split, rules), lambda: human_ceiling(tx, images, rules))

    return context.cached(
        tx,
        key,
        lambda: compare_sources(tx, gt, pred, model=model, split=split, protocol=protocol, ceiling=ceiling),
    )


def _key(parameters: Parameters) -> tuple[str, ...]:
    """What a comparison is remembered under; for two detectors, with the second one and "detectors"."""
    protocol = parameters.get("protocol") or Protocol.PAPER.value
    return "compare", *(parameters.get(name, "") for name in ("gt", "pred", "model", "split")), protocol


def _detectors_key(parameters: Parameters) -> tuple[str, ...]:
    return "detectors", *_key(parameters), parameters.get("other", "")


def waited(context: PageContext, tx: Tx, parameters: Parameters) -> float | None:
    """For how many seconds a comparison is being computed in another thread, which this begins.

    Returns:
        None where it is remembered, or so small that it is computed at once.

    Raises:
        SdgError: It cannot be computed, or too many others are being computed.
    """
    keys = [_key(parameters)] + ([_detectors_key(parameters)] if parameters.get("other") else [])
    if all(context.remembers(tx, key) for key in keys):
        return None
    named = [parameters.get(name, "") for name in ("gt", "pred", "other")]
    images = select(
        tx, "SELECT sum(images)::BIGINT AS n FROM dash_sources WHERE source IN (SELECT unnest(?::VARCHAR[]))", [named]
    )[0]["n"]
    if (images or 0) <= LARGE:
        return None

    def compute(cursor: Tx) -> None:
        compare(context, cursor, parameters)
        if parameters.get("other"):
            two_detectors(context, cursor, parameters)

    return context.waited(tx, tuple(keys), compute)


def prepare(context: PageContext, tx: Tx) -> None:
    """Compare gold with detectors before somebody asks: all images by both protocols, then parts of them."""
    images = {row["source"]: row["images"] for row in select(tx, "SELECT source, images FROM dash_sources")}
    detectors = sorted((name for name in images if name.startswith("prelabel:")), key=lambda name: -images[name])
    detectors = detectors[:DETECTORS]
    if not images.get("gold", 0):
        return
    if images["gold"] > MOST_PREPARED:
        for name in detectors[:1]:
            compare(context, tx, {"gt": "gold", "pred": name})
        return
    for name in detectors:
        for protocol in Protocol:
            compare(context, tx, {"gt": "gold", "pred": name, "protocol": protocol})
    parts = [("model", model) for model in models(tx)[:GENERATORS]] + [("split", split.value) for split in Split]
    for control, value in parts if detectors else ():
        compare(context, tx, {"gt": "gold", "pred": detectors[0], control: value})


def two_detectors(context: PageContext, tx: Tx, parameters: Parameters) -> dict[str, Any]:
    """The document of `sdg eval compare` of `pred` and `other` against `gt`; remembered.

    Raises:
        ConfigError: One of them is no source of the store, or there is no such split or protocol.
    """
    gt, pred, other, model, split, protocol = (parameters.get(name, "") for name in _CHOICES)
    images, rules = chosen_images(model, split), member(Protocol, protocol or "paper")
    names = (source_name(gt), source_name(pred), source_name(other))
    return context.cached(
        tx,
        _detectors_key(parameters),
        lambda: compare_detectors(tx, *names, images, rules),
    )


def differing_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images on which two detectors do not score the same.

    Raises:
        ConfigError: The address names no two detectors and ground truth.
    """
    document = two_detectors(context, tx, parameters)
    title = f"{parameters['pred']} and {parameters['other']} differ, against {parameters['gt']}"
    return Selected(title, [row["image"] for row in document["differ"]])


def _of_detectors(rows: Callable[[Mapping[str, Any]], Rows]) -> Callable[..., Rows]:
    """A figure that is drawn from two detectors; no rows where the address names no second one."""

    def figure_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
        return rows(two_detectors(context, tx, parameters)) if parameters.get("other") else []

    return figure_rows


def render(comparison: SourceComparison, parameters: Parameters) -> str:
    """The charts and tables of a comparison of two sources, as HTML."""
    document = comparison.document
    ceiling, published = document["ceiling"], document["published"]["models"]["SDG SFT"]
    cells = [(name, METRICS[name], kind) for name in _CHARTED for kind in DEFECT_TYPES]
    of_this = {name: value for name, value in parameters.items() if value}
    series = [
        Series(
            "this comparison",
            [metric.value(document, kind) for _, metric, kind in cells],
            [metric.interval(document, kind) for _, metric, kind in cells],
            [browse_link(**of_this, select="mistakes", of=kind) for _, _, kind in cells],
        )
    ]
    if ceiling:
        series.append(Series("human ceiling", [metric.value(ceiling, kind) for _, metric, kind in cells]))
    series.append(Series("SDG SFT (published)", [published[name][kind] for name, _, kind in cells]))
    axes = ("figure and type", f"value on {counted(document['images'], 'image')}")
    chart = bars("", [f"{metric.title} {kind}" for _, metric, kind in cells], series, axes=axes)
    parsing, confused = document["parsing"], document["confusion"]
    unread = parsing["failed"] + parsing["degenerate"]
    ceiling_note = (
        f"; ceiling: second against first verdict on {counted(ceiling['images'], 'image')}"
        if ceiling
        else "; no human ceiling: no image was judged by two people"
    )
    note = (
        f"{counted(document['images'], 'image')}, protocol {document['protocol']}; "
        f"{counted(unread, 'answer')} could not be read; "
        f"{counted(len(document['rows']['missing']), 'image')} without a prediction{ceiling_note}"
    )
    dots = {name: pairs[:: max(1, len(pairs) // DOTS + 1)].tolist() for name, pairs in comparison.importance.items()}
    matched, drawn = (sum(map(len, points.values())) for points in (comparison.importance, dots))
    how = f"boxes matched whatever their type, IoU ≥ {confused['threshold']}; rows: ground truth"
    return (
        grid(
            figure("metrics", "Metrics", table(summary_rows(document)), note=note, parameters=parameters),
            figure(
                "evaluation", "Against the ceiling", chart, note="whiskers: 95 % of resamples", parameters=parameters
            ),
            figure(
                "confusion-type",
                "Types taken for types",
                _matrix(confused["type"], "type", of_this),
                note=how,
                parameters=parameters,
            ),
            figure(
                "importance-pairs",
                "Importance of matched boxes",
                scatter(("ground truth", "prediction"), dots),
                note=counted(matched, "pair") + (" (a part is drawn)" if matched > drawn else ""),
                parameters=parameters,
            ),
        )
        + figure(
            "confusion-subtype",
            "Subtypes taken for subtypes",
            _matrix(confused["subtype"], "subtype", of_this),
            parameters=parameters,
        )
        + figure(
            "worst",
            "Worst images first",
            table(
                [_worst_cells(row, comparison.blobs) for row in comparison.worst],
                raw=frozenset({"image"}),
                none="None: on every image with boxes, all of them match at IoU 0.5.",
            ),
            parameters=parameters,
        )
    )


def _matrix(part: dict[str, Any], by: str, of_this: Mapping[str, str]) -> str:
    def address(truth: str, taken_for: str) -> str:
        return browse_link(**of_this, select="confused", by=by, truth=truth, taken=taken_for)

    return matrix(part["labels"], part["counts"], address)


def confused_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images behind a cell of a confusion matrix: boxes of one label, taken for another.

    Raises:
        ConfigError: The address names no comparison, or no labels.
    """
    comparison = _asked_for(context, tx, parameters)
    by, truth, taken_for = (parameters.get(name, "") for name in ("by", "truth", "taken"))
    title = f"{truth} in {parameters['gt']}, {taken_for} in {parameters['pred']} (IoU ≥ {IOU})"
    return Selected(title, images_of_cell(comparison.result.pairs, by, truth, taken_for))


def mistaken_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images where a source misses or invents defects of a type, measured against another one.

    Raises:
        ConfigError: The address names no comparison, or no type.
    """
    comparison = _asked_for(context, tx, parameters)
    kind = member(DefectType, parameters.get("of", ""))
    result = comparison.result
    boxes = np.maximum(result.counts.columns[f"gt/{kind}"], result.predicted(kind))
    mistaken = np.nonzero(result.counts.columns[f"box/0.5/{kind}/tp"] < boxes)[0]
    return Selected(
        f"{kind} missed or invented by {parameters['pred']}, against {parameters['gt']} (IoU ≥ 0.5)",
        [result.pairs.gt.keys[place] for place in mistaken.tolist()],
    )


def _asked_for(context: PageContext, tx: Tx, parameters: Parameters) -> SourceComparison:
    comparison = compare(context, tx, parameters)
    if comparison is None:
        raise ConfigError("they have no image in common", item=f"{parameters.get('gt')}, {parameters.get('pred')}")
    return comparison


def _worst_cells(row: dict[str, Any], blobs: Mapping[str, str]) -> dict[str, Any]:
    """A row of the worst images with its picture, which leads to the image."""
    return {**row, "image": picture_link(row["image"], blobs.get(row["image"]))}


def _confusion_rows(comparison: SourceComparison, name: str) -> Rows:
    part = comparison.document["confusion"][name]
    return [
        {"ground_truth": label, **dict(zip(part["labels"], counts, strict=True))}
        for label, counts in zip(part["labels"], part["counts"], strict=True)
    ]


def _importance_rows(comparison: SourceComparison) -> Rows:
    return [
        {"type": kind, "ground_truth": truth, "predicted": prediction}
        for kind, pairs in comparison.importance.items()
        for truth, prediction in pairs.tolist()
    ]


def _of_comparison(rows: Callable[[SourceComparison], Any], empty: Any) -> Callable[..., Any]:
    """A figure that is drawn from a comparison; `empty` where the sources have no image in common."""

    def figure_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Any:
        comparison = compare(context, tx, parameters)
        return rows(comparison) if comparison is not None else empty

    return figure_rows


PAGE = Page(
    title="Evaluate",
    path="evaluate",
    build=build,
    figures={
        "evaluation": _of_comparison(SourceComparison.whole, {}),
        "metrics": _of_comparison(lambda comparison: summary_rows(comparison.document), []),
        "worst": _of_comparison(lambda comparison: comparison.worst, []),
        "confusion-type": _of_comparison(lambda comparison: _confusion_rows(comparison, "type"), []),
        "confusion-subtype": _of_comparison(lambda comparison: _confusion_rows(comparison, "subtype"), []),
        "importance-pairs": _of_comparison(_importance_rows, []),
        "detectors": _of_detectors(difference_rows),
        "detectors-differ": _of_detectors(differing_rows),
    },
    selections={"confused": confused_images, "mistakes": mistaken_images, "differ": differing_images},
    prepare=prepare,
)
