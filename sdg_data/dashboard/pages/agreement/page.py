"""Agreement: the human ceiling, each annotator's quality and speed, blind against prelabelled, where people differ."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import gradio as gr

from schemas.defect import DEFECT_TYPES
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import browse_link, figure, grid, link, nothing, picture_link, table, text
from sdg_data.dashboard.page import Page, Parameters, Rows, Selected
from sdg_data.dashboard.pages.agreement.aggregates import (
    PeopleAgreement,
    agreement_rows,
    annotators,
    between_people,
    blind_or_not,
    blind_rows,
    known_answer_rows,
    people_agreement,
    titled_rows,
)
from sdg_data.dashboard.pages.agreement.over_time import PEOPLE, WEEKS, charts, person_weeks
from sdg_data.dashboard.tables import MOST_SHARED, label_studio_links
from sdg_data.errors import InputError
from sdg_data.metrics.charts import Series, bars
from sdg_data.metrics.definitions import headline
from sdg_data.metrics.paper_numbers import published
from sdg_data.metrics.report import summary_rows
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select
from sdg_data.words import counted, decimal

QUEUE = 60
"""Rows of the queue of images where people differ most."""
_WORKING = '<p class="note">measuring …</p>'


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks. What takes longer comes after what does not."""
    stamp = context.header()
    ceiling = gr.HTML(_WORKING, elem_id="ceiling", elem_classes="sdg")
    each = gr.HTML(elem_id="annotators", elem_classes="sdg")
    blind = gr.HTML(_WORKING, elem_id="blind", elem_classes="sdg")

    def shown(render: Callable[[PageContext, Tx | None], str]) -> str:
        with context.snapshots.read() as tx:
            return render(context, tx)

    context.on_open(lambda: (context.stamp(), shown(render_ceiling)), [stamp, ceiling])
    context.on_open(lambda: shown(render_annotators), [each])
    context.on_open(lambda: shown(render_blind), [blind])


def render_ceiling(context: PageContext, tx: Tx | None) -> str:
    """The human ceiling, and the queue of images where people differ most, as HTML."""
    people = _people(context, tx) if tx is not None else None
    if tx is None or people is None:
        return nothing(
            "No image was judged by two people independently, so there is no human ceiling yet. "
            "Give some images to a second annotator (overlap 2):",
            "sdg annotate push --help",
        )
    summary = people.ceiling.summary
    ours, paper = headline(summary), published()["human"]
    cells = [(threshold, kind) for threshold in ("0.1", "0.5") for kind in DEFECT_TYPES]
    chart = bars(
        "",
        [f"BoxF1@{threshold} {kind}" for threshold, kind in cells],
        [
            Series(
                "your people",
                [ours[f"box_f1@{threshold}"][kind] for threshold, kind in cells],
                [summary["intervals"]["boxes"][threshold][kind]["f1"] for threshold, kind in cells],
                [browse_link(select="people-differ", of=kind, at=threshold) for threshold, kind in cells],
            ),
            Series("the paper's people", [paper[f"box_f1@{threshold}"][kind] for threshold, kind in cells]),
        ],
        axes=("figure and type", f"F1 on {counted(people.agreed.images, 'image')}"),
    )
    images = f"the first {MOST_SHARED:,} images" if people.capped else counted(people.agreed.images, "image")
    note = f"{images} judged by several people on their own; whiskers: 95 % of resamples"
    return (
        grid(
            figure("ceiling", "Human ceiling", chart, note=note),
            figure("agreement", "Agreement", table(agreement_rows(people))),
        )
        + figure(
            "queue",
            "Where people differ most",
            table(
                [_queue_cells(row) for row in _queue(context, tx, people)],
                raw=frozenset({"image", "label_studio"}),
                none="They differ nowhere: on every image that two people judged, all boxes match at IoU 0.5.",
            ),
            note="Lowest F1 at IoU 0.5 first: worth a reviewer's look.",
        )
        + figure(
            "between-people",
            "Each two people",
            _pair_matrix(_between(context, tx, people)),
            note="F1 of their boxes at IoU 0.5, whatever the type, on n images. A cell leads to them.",
        )
    )


def _pair_matrix(rows: Rows) -> str:
    """A person a row and a column; empty where two have no image in common."""
    cells = {(row["first"], row["second"]): row for row in rows}
    names = sorted({name for pair in cells for name in pair})
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    body = ""
    for first in names:
        body += f"<tr><th>{text(first)}</th>"
        for second in names:
            row = cells.get((min(first, second), max(first, second)))
            if row is None or first == second:
                body += "<td></td>"
                continue
            address = browse_link(select="judged-by", first=first, second=second)
            f1 = decimal(row["f1@0.5"], 2)
            body += f'<td class="number"><a href="{text(address)}">{f1}</a> <small>n={row["images"]}</small></td>'
        body += "</tr>"
    head = f"<thead><tr><td></td>{head}</tr></thead>"
    return f'<div class="scroll" tabindex="0"><table class="matrix">{head}<tbody>{body}</tbody></table></div>'


def _queue_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the queue with a picture and a link for people."""
    address = row["label_studio"]
    web = address.startswith(("http://", "https://"))
    task = f'<a href="{text(address)}" target="_blank" rel="noreferrer">open task</a>' if web else "–"
    plain = {name: value for name, value in row.items() if name not in ("image", "blob", "label_studio")}
    return {"image": picture_link(row["image"], row["blob"], row["prompt"]), **plain, "label_studio": task}


def render_annotators(context: PageContext, tx: Tx | None) -> str:
    """A table with a row for each annotator, as HTML; empty where nobody has annotated."""
    rows = _annotators(context, tx) if tx is not None else []
    if not rows:
        return _known_answers(context, tx)
    return (
        figure(
            "annotators",
            "Annotators",
            table(rows),
            note="BoxF1@0.5 against gold on reviewed images (flatters whoever made the gold), and against other people "
            "on images judged by several; seconds are medians of a verdict.",
        )
        + _known_answers(context, tx)
        + _over_time(context, tx)
    )


def _known_answers(context: PageContext, tx: Tx | None) -> str:
    """Each person against tasks whose answer is known, as HTML; empty where there are none."""
    rows = _standings(context, tx) if tx is not None else []
    note = (
        "who is nearest to an alarm comes first; whoever is under the bar gets no more tasks until a lead admits them"
    )
    return figure("known-answers", "Known answers", table(rows), note=note) if rows else ""


def _standings(context: PageContext, tx: Tx) -> Rows:
    return context.cached(tx, "known-answers", lambda: known_answer_rows(tx))


def _over_time(context: PageContext, tx: Tx | None) -> str:
    """Each person's weeks: charts of time and quality, and the table that they are drawn from."""
    rows = _person_weeks(context, tx) if tx is not None else []
    if not rows:
        return ""
    cells = [{**row, "who": link(_week_address(row), row["who"])} for row in rows]
    seconds, quality = charts(rows)
    drawn = f'<div class="side-by-side">{seconds}{quality}</div>'
    body = f"{drawn}<details><summary>the table</summary>{table(cells, raw=frozenset({'who'}))}</details>"
    note = f"by the week of the answer; the {PEOPLE} with most verdicts and the last {WEEKS} weeks are drawn"
    return figure("person-weeks", "Time and quality by person", body, note=note)


def _week_address(row: dict[str, Any]) -> str:
    monday = date.fromisoformat(row["week"])
    return browse_link(annotator=row["who"], since=monday, until=monday + timedelta(days=6))


def _person_weeks(context: PageContext, tx: Tx) -> Rows:
    return context.cached(tx, "person-weeks", lambda: person_weeks(tx))


def render_blind(context: PageContext, tx: Tx | None) -> str:
    """A comparison of verdicts given blind with those given on prelabels, as HTML."""
    bias = _blind(context, tx) if tx is not None else None
    if bias is None:
        body = '<p class="none">needs verdicts of both kinds: some blind, some from prelabels</p>'
        return figure("blind", "Blind or prelabelled", body) if tx is not None else ""
    note = (
        f"{bias.blind.annotations:,} blind and {bias.prelabelled.annotations:,} prelabelled first verdicts; "
        "low and high bound the difference (95 %)"
    )
    return figure("blind", "Blind or prelabelled", table(titled_rows(bias)), note=note)


def differing_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images where the first two people differ about the boxes of a type.

    Raises:
        InputError: There is no such type or threshold.
    """
    kind, threshold = parameters.get("of", ""), parameters.get("at", "")
    if kind not in DEFECT_TYPES or threshold not in ("0.1", "0.5"):
        raise InputError("of is a type, at is 0.1 or 0.5", item=f"of={kind[:40]}, at={threshold[:40]}")
    people = _people(context, tx)
    rows = people.ceiling.per_image() if people is not None else []
    images = [
        row["filepath"] for row in rows if row[f"tp_{kind}@{threshold}"] < max(row[f"gt_{kind}"], row[f"pred_{kind}"])
    ]
    return Selected(f"two people differ about {kind} boxes (IoU ≥ {threshold})", images)


def judged_by(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images that two people both judged on their own."""
    first, second = parameters.get("first", ""), parameters.get("second", "")
    people = _people(context, tx)
    annotations = people.annotations if people is not None else {}
    return Selected(
        f"judged by {first} and {second}",
        [image for image, verdicts in annotations.items() if first in verdicts and second in verdicts],
    )


def queue(tx: Tx, people: PeopleAgreement) -> Rows:
    """The images where people differ most, the lowest F1 at IoU 0.5 first, with their tasks in Label Studio.

    An F1 of 1 is no difference, so such an image is not among them.
    """
    rows = people.ceiling.worst(QUEUE)
    image_ids = [row["filepath"] for row in rows]
    images, links = images_by_id(tx, image_ids), label_studio_links(tx, image_ids)
    return [
        {
            "image": row["filepath"],
            "annotators": ", ".join(list(people.annotations[row["filepath"]])[:2]),
            "boxes": f"{row['gt_all']} and {row['pred_all']}",
            "f1@0.5": row["f1@0.5"],
            "f1@0.1": row["f1@0.1"],
            "state": images[row["filepath"]]["state"],
            "prompt": images[row["filepath"]]["prompt"],
            "blob": images[row["filepath"]]["blob"],
            "label_studio": links.get(row["filepath"], ""),
        }
        for row in rows
        if row["filepath"] in images
    ]


def images_by_id(tx: Tx, image_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Prompt, generator, picture and review state of these images."""
    rows = select(
        tx,
        """
        SELECT image_id, n, blob, model, prompt, state FROM dash_images
        WHERE image_id IN (SELECT unnest(?::VARCHAR[]))
        """,
        [image_ids],
    )
    return {row["image_id"]: row for row in rows}


def _people(context: PageContext, tx: Tx) -> PeopleAgreement | None:
    return context.cached(tx, "people", lambda: people_agreement(tx))


def _annotators(context: PageContext, tx: Tx) -> Rows:
    return context.cached(tx, "annotators", lambda: annotators(tx))


def _blind(context: PageContext, tx: Tx) -> Any:
    return context.cached(tx, "blind", lambda: blind_or_not(tx))


def _queue(context: PageContext, tx: Tx, people: PeopleAgreement) -> Rows:
    return context.cached(tx, "queue", lambda: queue(tx, people))


def _between(context: PageContext, tx: Tx, people: PeopleAgreement) -> Rows:
    return context.cached(tx, "between-people", lambda: between_people(people))


def prepare(context: PageContext, tx: Tx) -> None:
    """Compute all that the page shows."""
    for render in (render_ceiling, render_annotators, render_blind):
        render(context, tx)


def _of_people(rows: Callable[[PageContext, Tx, PeopleAgreement], Rows]) -> Callable[[PageContext, Tx, object], Rows]:
    """A figure that is drawn from `PeopleAgreement`; no rows where no image was judged by two people."""

    def figure_rows(context: PageContext, tx: Tx, parameters: object) -> Rows:
        people = _people(context, tx)
        return rows(context, tx, people) if people is not None else []

    return figure_rows


PAGE = Page(
    title="Agreement",
    path="agreement",
    build=build,
    figures={
        "agreement": _of_people(lambda context, tx, people: agreement_rows(people)),
        "ceiling": _of_people(lambda context, tx, people: summary_rows(people.ceiling.without_images())),
        "queue": _of_people(_queue),
        "annotators": lambda context, tx, parameters: _annotators(context, tx),
        "known-answers": lambda context, tx, parameters: _standings(context, tx),
        "blind": lambda context, tx, parameters: blind_rows(_blind(context, tx)),
        "person-weeks": lambda context, tx, parameters: _person_weeks(context, tx),
        "between-people": _of_people(_between),
    },
    selections={"people-differ": differing_images, "judged-by": judged_by},
    prepare=prepare,
)
