"""Overview: the paper's three figures on one's own data, counts, progress, hours, cost, failures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from schemas.defect import DEFECT_TYPES
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import browse_link, figure, grid, link, nothing, number, progress_bar, table, tiles
from sdg_data.dashboard.page import Page, Parameters, Rows, Selected
from sdg_data.dashboard.tables import LABEL_SOURCES, LIVE_ENRICHMENTS, LIVE_PRELABELS
from sdg_data.errors import InputError
from sdg_data.locks import note_path, running
from sdg_data.metrics.charts import Series, bars, nice_top
from sdg_data.progress import duration, read_note
from sdg_data.store.connection import Tx
from sdg_data.store.rows import scalar, select
from sdg_data.words import counted

COMPOSITIONS = ("clean", "artifact only", "misalignment only", "both")
_DECILES = tuple(f"{low}–{low + 9}" for low in range(1, 101, 10))
LOOK_EVERY_SECONDS = 5.0
_NEXT = {
    "prompts": "sdg prompts import prompts.txt",
    "images": "sdg generate run",
    "prelabelled": "sdg prelabel run",
    "annotated": "sdg annotate push",
    "accepted": "sdg annotate review",
    "enriched": "sdg enrich run",
}
"""By stage, the command that begins it."""


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    sources = gr.Dropdown([], label="Whose defects", visible=False, elem_id="whose", interactive=True)
    now = gr.HTML(elem_id="running", elem_classes="sdg")
    body = gr.HTML(elem_id="overview", elem_classes="sdg")
    clock = gr.Timer(LOOK_EVERY_SECONDS)

    def on_open() -> tuple[Any, str, str]:
        with context.snapshots.read() as tx:
            names = label_sources(tx) if tx is not None else []
        best = names[0] if names else ""
        choices = [(LABEL_SOURCES[name], name) for name in names]
        return gr.Dropdown(choices=choices, value=best or None, visible=len(names) > 1), context.stamp(), show(best)

    def show(label_source: str | None) -> str:
        with context.snapshots.read() as tx:
            return render(tx, label_source or "")

    def look() -> str:
        return render_running(context.home)

    context.on_open(on_open, [sources, stamp, body])
    context.on_open(look, [now])
    clock.tick(look, None, now, show_progress="hidden", queue=False)
    sources.input(show, sources, body, show_progress="hidden", queue=False)


def render_running(home: Path) -> str:
    """The stages that are being run at this moment, and how far they are, as HTML; empty where none is."""
    rows: Rows = []
    for stage, who in running(home).items():
        note = read_note(note_path(home, stage))
        left = ""
        if note is not None and note.total and note.done and note.seconds:
            left = f"{duration((note.total - note.done) * note.seconds / note.done)} left"
        rows.append(
            {
                "stage": stage,
                "done": "" if note is None else f"{note.done:,} {note.unit}",
                "share": "" if note is None else progress_bar(note.done, note.total),
                "time": left,
                "since": who.since,
                "by": f"process {who.pid} on {who.host}",
            }
        )
    if not rows:
        return ""
    body = table(rows, raw=frozenset({"share"}))
    return f'<section class="figure" id="figure-running"><header><h3>Running now</h3></header>{body}</section>'


def render(tx: Tx | None, label_source: str) -> str:
    """The page as HTML. `label_source` is "" where nobody has looked at an image yet."""
    if tx is None or (not (sums := totals(tx)).prompts and not sums.images):
        return nothing("There is nothing in the store yet. Import prompts first:", _NEXT["prompts"])
    hours = "–" if sums.hours is None else f"{sums.hours:,.1f}"
    cost = "–" if sums.cost is None else f"${sums.cost:,.2f}"
    cost_a_defect = "–" if sums.cost_a_defect is None else f"${sums.cost_a_defect:,.4f}"
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
                (cost_a_defect, "cost of a defect", "accepted ones; models only"),
            ]
        )
    ]
    if label_source:
        parts.append(grid(*_paper_figures(tx, label_source), small=True))
    else:
        parts.append(nothing("Nobody has looked at the images yet. Ask a detector:", _NEXT["prelabelled"]))
    rows = progress(tx)
    stages: Rows = [
        {
            "stage": row["stage"],
            "done": _stage_link(row),
            "of": row["total"],
            "failed": row["failed"],
            "share": progress_bar(row["done"], row["total"]),
        }
        for row in rows
    ]
    command = next((_NEXT[row["stage"]] for row in rows if not row["done"] and row["stage"] in _NEXT), "")
    note = f"Next: {command}" if command else ""
    parts.append(
        grid(
            figure(
                "progress",
                "Progress of each stage",
                table(stages, raw=frozenset({"done", "share"}), right=frozenset({"done"})),
                note=note,
            ),
            figure(
                "failures", "Failures by reason", table(_failure_cells(tx), raw=frozenset({"code"}), none="none so far")
            ),
            figure(
                "people",
                "People",
                table(_people_cells(tx), raw=frozenset({"who"}), none="nobody has annotated yet: sdg annotate push"),
            ),
            figure("costs", "Models asked, and what it cost", table(costs(tx), none="no model was asked yet")),
        )
    )
    return "".join(parts)


def _stage_link(row: Mapping[str, Any]) -> str:
    if row["stage"] not in _STAGE_IMAGES or not row["done"]:
        return number(row["done"])
    return link(browse_link(select="stage", stage=row["stage"]), row["done"])


def _failure_cells(tx: Tx) -> Rows:
    return [
        {**row, "code": link(browse_link(failure=f"{row['stage']}: {row['code']}"), row["code"])}
        for row in failures(tx)
    ]


def _people_cells(tx: Tx) -> Rows:
    return [{**row, "who": link(browse_link(annotator=row["who"], mode=row["mode"]), row["who"])} for row in people(tx)]


def _paper_figures(tx: Tx, label_source: str) -> list[str]:
    parameters = {"said": label_source}
    compositions = composition(tx, label_source)
    shares = [row["share"] for row in compositions]
    share_chart = bars(
        "",
        [row["composition"] for row in compositions],
        [
            Series(
                "share of images",
                shares,
                links=[browse_link(label=label_source, composition=row["composition"]) for row in compositions],
            )
        ],
        top=nice_top(max(share or 0.0 for share in shares)),
        axes=("what is on the image", f"share of {counted(sum(row['images'] for row in compositions), 'image')}"),
    )
    images = sum(row["images"] for row in compositions)
    models = per_image(tx, label_source)
    model_chart = bars(
        "",
        [f"{row['model']} n={row['images']:,}" for row in models],
        [
            Series(
                kind,
                [row[kind] for row in models],
                links=[browse_link(label=label_source, model=row["model"], type=kind) for row in models],
            )
            for kind in DEFECT_TYPES
        ],
        top=nice_top(max((row[kind] for row in models for kind in DEFECT_TYPES), default=1.0)),
        axes=("generator, n images", "defects an image"),
    )
    deciles = importance(tx, label_source)
    importance_chart = bars(
        "",
        [row["importance"] for row in deciles],
        [
            Series(
                kind,
                [float(row[kind]) for row in deciles],
                links=[
                    browse_link(label=label_source, type=kind, least=10 * tenth + 1, most=10 * tenth + 10)
                    for tenth in range(len(deciles))
                ],
            )
            for kind in DEFECT_TYPES
        ],
        top=nice_top(max((row[kind] for row in deciles for kind in DEFECT_TYPES), default=1)),
        axes=("importance from", "defects"),
        labels=[name.partition("–")[0] for name in _DECILES],
        bar=10,  # so that ten groups are as wide as the other two figures, and drawn as large
    )
    defects = sum(row[kind] for row in deciles for kind in DEFECT_TYPES)
    note = f"{counted(images, 'image')}, {LABEL_SOURCES[label_source]}"
    return [
        figure("composition", "Composition", share_chart, note=note, parameters=parameters),
        figure("defects-per-image", "Defects on an image, by generator", model_chart, parameters=parameters),
        figure("importance", "Importance", importance_chart, note=f"n = {defects:,} defects", parameters=parameters),
    ]


def label_sources(tx: Tx) -> list[str]:
    """The sources of labels ("gold", "people", "detector") that count for at least one image, the best first."""
    present = {
        row["label_source"]
        for row in select(tx, "SELECT DISTINCT label_source FROM dash_models WHERE label_source IS NOT NULL")
    }
    return [name for name in LABEL_SOURCES if name in present]


def composition(tx: Tx, label_source: str) -> Rows:
    """Images that are clean, have artifacts only, misalignments only, both: number and share."""
    counts = {
        row["composition"]: row["images"]
        for row in select(tx, "SELECT composition, images FROM dash_composition WHERE label_source = ?", [label_source])
    }
    total = sum(counts.values())
    return [
        {"composition": name, "images": counts.get(name, 0), "share": counts.get(name, 0) / total if total else None}
        for name in COMPOSITIONS
    ]


def per_image(tx: Tx, label_source: str) -> Rows:
    """Mean defects on an image of each generator, by type."""
    return select(
        tx,
        """
        SELECT model, images, artifacts / images AS artifact, misalignments / images AS misalignment
        FROM dash_models WHERE label_source = ? ORDER BY model
        """,
        [label_source],
    )


def importance(tx: Tx, label_source: str) -> Rows:
    """The number of defects of each type in each tenth of the importance, of one label source."""
    rows = select(
        tx,
        """
        SELECT decile, sum(defects) FILTER (type = 'artifact')::BIGINT AS artifact,
               sum(defects) FILTER (type = 'misalignment')::BIGINT AS misalignment
        FROM dash_importance WHERE label_source = ? GROUP BY decile
        """,
        [label_source],
    )
    by_decile = {row["decile"]: row for row in rows}
    return [
        {"importance": name, **{kind: (by_decile.get(decile, {}).get(kind) or 0) for kind in DEFECT_TYPES}}
        for decile, name in enumerate(_DECILES)
    ]


def progress(tx: Tx) -> Rows:
    """One row a stage, in the flow's order: how much is done, of how much, and what failed and is not done since."""
    return select(tx, "SELECT stage, done, total, failed FROM dash_progress")


def states(tx: Tx) -> Rows:
    """The number of images by generator, split and state of review."""
    return select(tx, "SELECT model, split, state, images FROM dash_states ORDER BY ALL")


def people(tx: Tx) -> Rows:
    """One row a person and way of working: verdicts, hours, seconds a verdict, and the share that are "clean"."""
    return select(
        tx,
        """
        SELECT work, who, mode, items, seconds / 3600 AS hours, median_seconds, clean / items AS clean_share, undecided
        FROM dash_people ORDER BY work, who, mode
        """,
    )


def failures(tx: Tx) -> Rows:
    """Failures by stage and reason code, the most frequent first."""
    return select(tx, "SELECT stage, code, failures, items FROM dash_failures ORDER BY failures DESC, stage, code")


def costs(tx: Tx) -> Rows:
    """What models were asked and what it cost, answered or in vain."""
    return select(tx, "SELECT * FROM dash_costs ORDER BY stage, model, answered")


@dataclass(frozen=True)
class Totals:
    """The page's tiles. Hours and costs (US dollars) are None where nothing was timed or priced."""

    prompts: int
    images: int
    accepted: int
    gold_defects: int
    hours: float | None
    minutes_an_image: float | None
    cost: float | None
    cost_a_defect: float | None


def totals(tx: Tx) -> Totals:
    """Counts, person-hours, and what models cost for each defect that reviewers accepted."""
    done = {row["stage"]: row["done"] for row in progress(tx)}
    defects = int(
        scalar(tx, "SELECT coalesce(sum(artifacts + misalignments), 0) FROM dash_models WHERE label_source = 'gold'")
    )
    seconds = scalar(tx, "SELECT sum(seconds) FROM dash_people")
    timed = scalar(tx, "SELECT sum(timed) FROM dash_people WHERE work = 'annotation'")
    annotation_seconds = scalar(tx, "SELECT sum(seconds) FROM dash_people WHERE work = 'annotation'")
    cost = scalar(tx, "SELECT sum(cost) FROM dash_costs")
    return Totals(
        prompts=done["prompts"],
        images=done["images"],
        accepted=done["accepted"],
        gold_defects=defects,
        hours=None if seconds is None else seconds / 3600,
        minutes_an_image=annotation_seconds / timed / 60 if timed else None,
        cost=cost,
        cost_a_defect=cost / defects if cost is not None and defects else None,
    )


_STAGE_IMAGES = {
    "images": "SELECT image_id FROM dash_images",
    "prelabelled": f"SELECT image_id FROM prelabels WHERE {LIVE_PRELABELS}",
    "annotated": "SELECT image_id FROM annotation_states WHERE status <> 'skipped'",
    "accepted": "SELECT image_id FROM dash_images WHERE state = 'accepted'",
    "enriched": "SELECT image_id FROM dash_images WHERE annotation_id IN (SELECT annotation_id FROM enrichments "
    f"WHERE {LIVE_ENRICHMENTS}) AND label_source = 'gold'",
}
"""By stage, the images for which it is done."""


def stage_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images for which a stage is done.

    Raises:
        InputError: There is no such stage, or it is not about images.
    """
    stage = parameters.get("stage", "")
    if stage not in _STAGE_IMAGES:
        raise InputError(f"the stages of images are {', '.join(_STAGE_IMAGES)}", item=f"stage={stage[:40]}")
    rows = tx.execute(f"SELECT DISTINCT image_id FROM ({_STAGE_IMAGES[stage]})").fetchall()
    return Selected(f"images that are {stage}" if stage != "images" else "all images", [key for (key,) in rows])


def _requested_source(tx: Tx, parameters: Parameters) -> str:
    """The label source that a download asks for, the best one where it names none that is there."""
    names = label_sources(tx)
    requested = parameters.get("said", "")
    return requested if requested in names else (names[0] if names else "gold")


_COMPOSITION = """CASE WHEN artifacts > 0 AND misalignments > 0 THEN 'both' WHEN artifacts > 0 THEN 'artifact only'
     WHEN misalignments > 0 THEN 'misalignment only' ELSE 'clean' END"""

_TABLES = (
    f"""
    CREATE TABLE dash_composition AS
    SELECT label_source, {_COMPOSITION} AS composition, count(*) AS images
    FROM dash_images WHERE label_source IS NOT NULL GROUP BY ALL
    """,
    "CREATE TABLE dash_states AS SELECT model, split, state, count(*) AS images FROM dash_images GROUP BY ALL",
    f"""
    CREATE TABLE dash_progress AS
    SELECT * FROM (VALUES
        ('prompts', (SELECT count(*) FROM prompts), NULL, 0),
        ('images', (SELECT count(*) FROM dash_images), (SELECT count(*) + (SELECT count(*) FROM failed_images)
            FROM dash_images), (SELECT count(*) FROM failed_images)),
        ('prelabelled', (SELECT count(DISTINCT image_id) FROM prelabels WHERE {LIVE_PRELABELS}),
            (SELECT count(*) FROM dash_images), (SELECT count(DISTINCT item_id) FROM failures
                WHERE stage = 'prelabel' AND item_id NOT IN (SELECT id FROM prelabels))),
        ('annotated', (SELECT count(DISTINCT image_id) FROM annotation_states WHERE status <> 'skipped'),
            (SELECT count(*) FROM dash_images), 0),
        ('accepted', (SELECT count(*) FROM dash_images WHERE state = 'accepted'),
            (SELECT count(DISTINCT image_id) FROM annotation_states WHERE status <> 'skipped'), 0),
        ('enriched', (SELECT count(*) FROM dash_images JOIN latest_enrichments USING (annotation_id)
                WHERE label_source = 'gold'),
            (SELECT count(*) FROM dash_images WHERE label_source = 'gold'),
            (SELECT count(DISTINCT item_id) FROM failures
                WHERE stage = 'enrich' AND item_id NOT IN (SELECT id FROM enrichments)))
    ) AS rows(stage, done, total, failed)
    """,
    """
    CREATE TABLE dash_costs AS
    SELECT stage, model, outcome = 'answered' AS answered, count(*) AS calls, sum(tokens_in)::BIGINT AS tokens_in,
           sum(tokens_out)::BIGINT AS tokens_out, sum(cost) AS cost, sum(seconds) AS seconds
    FROM calls GROUP BY ALL
    """,
    """
    CREATE TABLE dash_failures AS
    SELECT stage, code, count(*) AS failures, count(DISTINCT item_id) AS items FROM failures GROUP BY ALL
    """,
)

PAGE = Page(
    title="Overview",
    path="",
    build=build,
    figures={
        "composition": lambda context, tx, parameters: composition(tx, _requested_source(tx, parameters)),
        "defects-per-image": lambda context, tx, parameters: per_image(tx, _requested_source(tx, parameters)),
        "importance": lambda context, tx, parameters: importance(tx, _requested_source(tx, parameters)),
        "progress": lambda context, tx, parameters: progress(tx),
        "states": lambda context, tx, parameters: states(tx),
        "people": lambda context, tx, parameters: people(tx),
        "costs": lambda context, tx, parameters: costs(tx),
        "failures": lambda context, tx, parameters: failures(tx),
    },
    selections={"stage": stage_images},
    tables=_TABLES,
)
