"""Study: what `sdg study report` says of a comparison by people, while it runs and afterwards."""

import shlex
from typing import Any

import gradio as gr

from annotate.study.report import ReportTable, StudyReport, build, document, read_study, tables
from schemas.study import Study
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import remember
from sdg_data.dashboard.html import figure, grid, nothing, table, text, tiles
from sdg_data.dashboard.page import Page, Parameters, Rows
from sdg_data.errors import SdgError
from sdg_data.metrics.charts import Series, bars, nice_top
from sdg_data.store import studies
from sdg_data.store.connection import Tx
from sdg_data.words import counted

WITHOUT = "flagged"
"""The value of `without` in an address that leaves out the votes of flagged raters."""
_NAMES = ("study", "without")
_MISSING = (
    "Nobody has been asked to compare images yet. Make a study of two arms:",
    "sdg study create NAME --arm before=… --arm after=…",
)


def build_page(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row(elem_classes="sdg-controls"):
        which = gr.Dropdown([], label="Study", elem_id="study", interactive=True, min_width=220)
        without = gr.Dropdown(
            [("all raters", ""), ("without flagged raters", WITHOUT)],
            value="",
            label="Votes of",
            elem_id="without",
            interactive=True,
            min_width=180,
        )
    body = gr.HTML(elem_id="report", elem_classes="sdg")
    controls = [which, without]

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        with context.snapshots.read() as tx:
            names = [study.name for study in _studies(tx)] if tx is not None else []
        name = asked.get("study") or (names[0] if names else None)
        leave_out = WITHOUT if asked.get("without") == WITHOUT else ""
        choices = names if name is None or name in names else [*names, name]
        return gr.Dropdown(choices=choices, value=name), leave_out, context.stamp(), show(name, leave_out)

    def show(name: str | None, leave_out: str | None) -> str:
        parameters = {"study": name or "", "without": leave_out or ""}
        with context.snapshots.read() as tx:
            return render(context, tx, parameters)

    def on_refresh(name: str | None, leave_out: str | None) -> tuple[str, str]:
        return context.stamp(), show(name, leave_out)

    context.on_open(on_open, [*controls, stamp, body], again=(on_refresh, controls, [stamp, body]))
    for control in controls:
        control.input(show, controls, body, show_progress="hidden", queue=False).then(
            None, controls, None, js=remember(_NAMES, {})
        )


def _studies(tx: Tx) -> list[Study]:
    """The studies of a snapshot, the last one first."""
    return studies.all_studies(tx)[::-1]


def study_report(context: PageContext, tx: Tx, parameters: Parameters) -> StudyReport | None:
    """The report of the study that an address names, of the last one where it names none; remembered.

    None where there is no study at all.

    Raises:
        ConfigError: There is no study of that name.
    """
    known = _studies(tx)
    if not known and not parameters.get("study"):
        return None
    name = parameters.get("study") or known[0].name
    leave_out = parameters.get("without") == WITHOUT
    return context.cached(
        tx, ("study", name, leave_out), lambda: build(read_study(tx, name), leave_out_flagged=leave_out)
    )


def render(context: PageContext, tx: Tx | None, parameters: Parameters) -> str:
    """The report as HTML."""
    if tx is None:
        return nothing(*_MISSING)
    try:
        report = study_report(context, tx, parameters)
    except SdgError as error:
        return f'<p class="warn">{text(error)}</p>'
    if report is None:
        return nothing(*_MISSING)
    parts = {part.name: part for part in tables(report)}
    kept = {"study": report.study.name, **({"without": WITHOUT} if parameters.get("without") == WITHOUT else {})}
    head = _head(report)
    if not report.votes:
        return f"{head}{nothing('Nobody has voted yet. Give raters their links:', _serve(report.study.name))}"

    def part_of(name: str, none: str, note: str = "") -> str:
        part = parts[name]
        return figure(f"study-{name}", part.title, table(part.rows, none=none), note=note, parameters=kept)

    return (
        head
        + figure(
            "study-preferences",
            "Who is preferred",
            table(parts["preferences"].rows, none="no pair was judged"),
            note="good: the first arm is better; 95 % intervals from drawing items with all their votes; repeated and "
            "identical pairs are not counted",
            parameters=kept,
        )
        + grid(
            figure("study", "Win rates", _win_rates(report), note="whiskers: 95 % of resamples", parameters=kept),
            figure("study-all-raters", "Sides and agreement", _sides(report, parts["all-raters"]), parameters=kept),
        )
        + part_of(
            "raters",
            "nobody has voted",
            "“look at” names a test that the rater does not pass; nobody is left out for it",
        )
        + (part_of("strengths", "", "more than two arms") if parts["strengths"].rows else "")
        + grid(
            part_of("refused", "every item has an image of every arm"),
            part_of("size", "no pair was decided yet", "if votes go on falling as those that were given"),
        )
    )


def _serve(name: str) -> str:
    return f"sdg study serve {shlex.quote(name)} --raters ann,ben"


def _head(report: StudyReport) -> str:
    flagged = [figures.rater for figures in report.raters if figures.flags]
    refused = sum(count for _, _, count in report.refused)
    return tiles(
        [
            (f"{report.items:,}", "items", ", ".join(report.study.arms)),
            (f"{report.votes:,}", "votes", f"by {counted(len(report.raters), 'rater')}"),
            (f"{len(flagged):,}", "raters to look at", ", ".join(flagged) or "nobody is flagged"),
            (f"{refused:,}", "items without an image", "not in the figures"),
        ]
    )


def _win_rates(report: StudyReport) -> str:
    rows = report.preferences
    groups = [f"{row.arm} against {row.against}" for row in rows]
    series = [
        Series(
            name,
            [estimate.value for estimate in estimates],
            [estimate.interval for estimate in estimates],
        )
        for name, estimates in (
            ("win rate, a tie is half", [row.win_rate for row in rows]),
            ("win rate without ties", [row.win_rate_without_ties for row in rows]),
        )
    ]
    return bars("", groups, series, axes=("arms", "share; half is no preference"))


def _sides(report: StudyReport, part: ReportTable) -> str:
    names = ("left", "same", "right")
    counts = [float(report.sides[name]) for name in names]
    chart = bars(
        "", ["left is better", "the same", "right is better"], [Series("votes", counts)], top=nice_top(max(counts))
    )
    return chart + table(part.rows)


def document_of(context: PageContext, tx: Tx, parameters: Parameters) -> dict[str, Any]:
    """The JSON of `sdg study report`; empty where there is no study."""
    report = study_report(context, tx, parameters)
    return {} if report is None else document(report)


def _rows_of(name: str) -> Any:
    """A part of the report as the rows of a download."""

    def rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
        report = study_report(context, tx, parameters)
        return [] if report is None else next(part.rows for part in tables(report) if part.name == name)

    return rows


_PARTS = ("preferences", "strengths", "all-raters", "raters", "refused", "size")

PAGE = Page(
    title="Study",
    path="study",
    build=build_page,
    figures={"study": document_of, **{f"study-{name}": _rows_of(name) for name in _PARTS}},
)
