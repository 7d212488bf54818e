"""Agreement: the human ceiling, each annotator's quality and speed, blind against prelabelled, where people differ."""

from typing import Any

import gradio as gr

from schemas.defect import DEFECT_TYPES
from sdg_data.dashboard import aggregates as measures
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.data import Figures, agreement_rows, blind_rows
from sdg_data.dashboard.html import figure, grid, nothing, table, text
from sdg_data.metrics.charts import Series, bars
from sdg_data.metrics.definitions import headline
from sdg_data.metrics.paper_numbers import published
from sdg_data.store.connection import Tx

PATH = "agreement"
TITLE = "Agreement"
KINDS = DEFECT_TYPES
_WORKING = '<p class="note">measuring …</p>'


def build(shell: Shell) -> None:
    """The page's components; to be called inside its Blocks. What takes longer comes after what does not."""
    stamp = shell.header()
    ceiling = gr.HTML(_WORKING, elem_id="ceiling", elem_classes="sdg")
    each = gr.HTML(elem_id="annotators", elem_classes="sdg")
    apart = gr.HTML(_WORKING, elem_id="blind", elem_classes="sdg")

    def with_tx(show: Any) -> Any:
        def shown() -> Any:
            with shell.editions.read() as tx:
                return show(tx, shell.figures)

        return shown

    shell.on_open(lambda: (shell.stamp(), with_tx(page)()), [stamp, ceiling])
    shell.on_open(with_tx(people), [each])
    shell.on_open(with_tx(bias), [apart])


def page(tx: Tx | None, figures: Figures) -> str:
    """The ceiling and the queue as HTML."""
    found = figures.people(tx) if tx is not None else None
    if found is None:
        return nothing(
            "No image was judged by two people independently, so there is no human ceiling yet. "
            "Give some images to a second annotator (overlap 2):",
            "sdg annotate push --help",
        )
    mine = headline(found.ceiling.summary)
    human = published()["human"]
    groups = [f"BoxF1@{threshold} {kind}" for threshold in ("0.1", "0.5") for kind in KINDS]
    cells = [(f"box_f1@{threshold}", kind) for threshold in ("0.1", "0.5") for kind in KINDS]
    intervals = [
        found.ceiling.summary["intervals"]["boxes"][name.partition("@")[2]][kind]["f1"] for name, kind in cells
    ]
    chart = bars(
        "",
        groups,
        [
            Series("your people", [mine[name][kind] for name, kind in cells], intervals),
            Series("the paper's people", [human[name][kind] for name, kind in cells]),
        ],
    )
    of = f"the first {measures.MOST_SHARED:,} images" if found.capped else f"{found.agreed.images:,} images"
    note = f"{of} judged by several people on their own; whiskers: 95 % of resamples"
    return grid(
        figure("ceiling", "Human ceiling", chart, note=note),
        figure("agreement", "Agreement", table(agreement_rows(found))),
    ) + figure(
        "queue",
        "Where people differ most",
        table(_queue(found), raw=frozenset({"image", "label_studio"})),
        note="Lowest F1 at IoU 0.5 first: worth a reviewer's look.",
    )


def _queue(found: measures.People) -> list[dict[str, Any]]:
    rows = []
    for row in found.queue:
        address = row["label_studio"]
        safe = address.startswith(("http://", "https://"))
        link = f'<a href="{text(address)}" target="_blank" rel="noreferrer">open task</a>' if safe else "–"
        picture = (
            f'<a href="/browse?image={text(row["image"])}"><img src="/blob/{text(row["blob"])}" loading="lazy" '
            f'alt="" width="48" height="48" style="object-fit:cover;border-radius:4px"></a>'
        )
        shown = {name: value for name, value in row.items() if name not in ("image", "blob", "label_studio")}
        rows.append({"image": picture, **shown, "label_studio": link})
    return rows


def people(tx: Tx | None, figures: Figures) -> str:
    """Each annotator as HTML."""
    rows = figures.annotators(tx) if tx is not None else []
    if not rows:
        return ""
    return figure(
        "annotators",
        "Annotators",
        table(rows),
        note="BoxF1@0.5 against gold on reviewed images (flatters whoever made the gold), and against other people on "
        "images judged by several; seconds are medians of a verdict.",
    )


def bias(tx: Tx | None, figures: Figures) -> str:
    """Blind against prelabelled as HTML."""
    found = figures.blind(tx) if tx is not None else None
    if found is None:
        body = '<p class="none">needs verdicts of both kinds: some blind, some from prelabels</p>'
        return figure("blind", "Blind or prelabelled", body) if tx is not None else ""
    note = (
        f"{found.blind.annotations:,} blind and {found.prelabelled.annotations:,} prelabelled first verdicts; "
        "low and high bound the difference (95 %)"
    )
    return figure("blind", "Blind or prelabelled", table(blind_rows(found)), note=note)
