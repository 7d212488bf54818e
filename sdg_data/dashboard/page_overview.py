"""Overview: the paper's three figures on one's own data, counts, progress, hours, cost, failures."""

from typing import Any

import gradio as gr

from schemas.defect import DEFECT_TYPES
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.html import figure, grid, nothing, progress_bar, table, tiles
from sdg_data.dashboard.queries_overview import (
    composition,
    costs,
    failures,
    importance,
    people,
    per_image,
    progress,
    speakers,
    totals,
)
from sdg_data.metrics.charts import Series, bars, nice_top
from sdg_data.store.connection import Tx

PATH = ""
TITLE = "Overview"
_WHOSE = {
    "gold": "gold: what reviewers accepted",
    "people": "people's verdicts that nobody has reviewed yet",
    "detector": "the detector's prelabels",
}
_NEXT = {
    "prompts": "sdg prompts import prompts.txt",
    "images": "sdg generate run",
    "prelabelled": "sdg prelabel run",
    "annotated": "sdg annotate push",
    "accepted": "sdg annotate review",
    "enriched": "sdg enrich run",
}


def build(shell: Shell) -> None:
    """The page's components; to be called inside its Blocks."""
    stamp = shell.header()
    whose = gr.Dropdown([], label="Whose defects", visible=False, elem_id="whose", interactive=True)
    body = gr.HTML(elem_id="overview", elem_classes="sdg")

    def opened() -> tuple[Any, str, str]:
        with shell.editions.read() as tx:
            there = speakers(tx) if tx is not None else []
        chosen = there[0] if there else ""
        choices = [(_WHOSE[name], name) for name in there]
        return gr.Dropdown(choices=choices, value=chosen or None, visible=len(there) > 1), shell.stamp(), shown(chosen)

    def shown(said: str | None) -> str:
        with shell.editions.read() as tx:
            return page(tx, said or "")

    shell.on_open(opened, [whose, stamp, body])
    whose.input(shown, whose, body, show_progress="hidden", queue=False)


def page(tx: Tx | None, said: str) -> str:
    """The page as HTML."""
    if tx is None or (not (sums := totals(tx)).prompts and not sums.images):
        return nothing("There is nothing in the store yet. Import prompts first:", _NEXT["prompts"])
    hours = "–" if sums.hours is None else f"{sums.hours:,.1f}"
    cost = "–" if sums.cost is None else f"${sums.cost:,.2f}"
    each = "–" if sums.cost_a_defect is None else f"${sums.cost_a_defect:,.4f}"
    minutes = "" if sums.minutes_an_image is None else f"{sums.minutes_an_image:.1f} min a verdict"
    parts = [
        tiles(
            [
                (f"{sums.prompts:,}", "prompts", ""),
                (f"{sums.images:,}", "images", ""),
                (f"{sums.accepted:,}", "images accepted", "by reviewers"),
                (f"{sums.gold_defects:,}", "defects in gold", ""),
                (hours, "person-hours", minutes),
                (cost, "paid for models", ""),
                (each, "an accepted defect", "models only"),
            ]
        )
    ]
    if said:
        parts.append(grid(*_three(tx, said), small=True))
    else:
        parts.append(nothing("Nobody has looked at the images yet. Ask a detector:", _NEXT["prelabelled"]))
    done = progress(tx)
    stages: list[dict[str, Any]] = [
        {
            "stage": row["stage"],
            "done": row["done"],
            "of": row["total"],
            "failed": row["failed"],
            "share": progress_bar(row["done"], row["total"]),
        }
        for row in done
    ]
    following = next((_NEXT[row["stage"]] for row in done if not row["done"] and row["stage"] in _NEXT), "")
    note = f"Next: {following}" if following else ""
    parts.append(
        grid(
            figure("progress", "Progress of each stage", table(stages, raw=frozenset({"share"})), note=note),
            figure("failures", "Failures by reason", table(failures(tx), none="none so far")),
            figure("people", "People", table(people(tx), none="nobody has annotated yet: sdg annotate push")),
            figure("costs", "Models asked, and what it cost", table(costs(tx), none="no model was asked yet")),
        )
    )
    return "".join(parts)


def _three(tx: Tx, said: str) -> list[str]:
    whose = {"said": said}
    parts = composition(tx, said)
    shares = [row["share"] for row in parts]
    share = bars(
        "",
        [row["composition"] for row in parts],
        [Series("share of images", shares)],
        top=nice_top(max(one or 0.0 for one in shares)),
    )
    looked = sum(row["images"] for row in parts)
    models = per_image(tx, said)
    top = nice_top(max((row[kind] for row in models for kind in DEFECT_TYPES), default=1.0))
    each = bars(
        "",
        [row["model"] for row in models],
        [Series(kind, [row[kind] for row in models]) for kind in DEFECT_TYPES],
        top=top,
    )
    weights = importance(tx, said)
    most = nice_top(max((row[kind] for row in weights for kind in DEFECT_TYPES), default=1))
    weighed = bars(
        "",
        [row["importance"] for row in weights],
        [Series(kind, [float(row[kind]) for row in weights]) for kind in DEFECT_TYPES],
        top=most,
    )
    return [
        figure("composition", "Composition", share, note=f"{looked:,} images, {_WHOSE[said]}", parameters=whose),
        figure("defects-per-image", "Defects on an image, by generator", each, parameters=whose),
        figure("importance", "Importance", weighed, note="number of defects", parameters=whose),
    ]
