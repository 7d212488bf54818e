"""Health: copies and near copies, the split, bad pictures, quarantine, exports and their verification."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from sdg_data import words
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import figure, grid, nothing, picture_link, progress_bar, table, text, tiles
from sdg_data.dashboard.page import MOST, Page, Rows
from sdg_data.dashboard.pages.health import queries
from sdg_data.dashboard.pages.health.exports import find_exports, list_exports, verify_export
from sdg_data.dashboard.pages.health.pixels import PixelReport, Pixels, pixel_report
from sdg_data.dashboard.tables import blobs_of_images
from sdg_data.ingest.near_duplicates import near_prompts
from sdg_data.store.connection import Tx
from sdg_data.words import counted

_NO_STORE = nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    body = gr.HTML(elem_id="health", elem_classes="sdg")
    pixels = Pixels(context.home, context.blobs)
    with gr.Row():
        look = gr.Button("Look at the pictures: damaged, one colour, near duplicates", elem_id="look", size="md")
        compare = gr.Button("Compare the prompts of train and test", elem_id="prompts", size="md")
    seen = gr.HTML(elem_id="seen", elem_classes="sdg")
    near = gr.HTML(elem_id="near", elem_classes="sdg")
    exports = gr.HTML(elem_id="exports", elem_classes="sdg")
    with gr.Row(elem_classes="sdg-controls", visible=False) as verification:
        export = gr.Dropdown([], label="Export", elem_id="export", interactive=True, scale=3)
        check = gr.Button("Verify it", elem_id="verify", scale=1)
    verdict = gr.HTML(elem_id="verdict", elem_classes="sdg")

    def on_open() -> tuple[Any, ...]:
        names = list(find_exports(context.home))
        with context.snapshots.read() as tx:
            checks = render_checks(tx) if tx is not None else _NO_STORE
            pictures = render_pixels(tx, pixel_report(tx, pixels)) if tx is not None else ""
        options = gr.Dropdown(choices=names, value=names[0] if names else None)
        return context.stamp(), checks, pictures, render_exports(context), options, gr.Row(visible=bool(names))

    def on_look() -> Iterator[str]:
        with context.snapshots.read() as tx:
            if tx is None:
                yield _NO_STORE
                return
            for done, total in pixels.look(tx):
                yield render_progress(done, total)
            yield render_pixels(tx, pixel_report(tx, pixels))

    def on_compare() -> str:
        with context.snapshots.read() as tx:
            return render_near_prompts(tx) if tx is not None else _NO_STORE

    def on_verify(name: str | None) -> str:
        return render_verification(context, name) if name else '<p class="none">There is no export to verify.</p>'

    context.on_open(on_open, [stamp, body, seen, exports, export, verification])
    look.click(on_look, None, seen, show_progress="hidden")
    compare.click(on_compare, None, near, show_progress="minimal")
    check.click(on_verify, export, verdict, show_progress="minimal")


def render_checks(tx: Tx) -> str:
    """The checks that need the database only (leakage between splits, equal pictures), as HTML."""
    leakage, same = queries.split_leakage(tx), queries.same_bytes_total(tx)
    clean = not leakage["shared_prompts"] and not leakage["shared_images"]
    verdict = "No prompt and no picture is in both splits." if clean else "Something is in both splits: see below."
    rows = [{"what": words.value(name), "number": value} for name, value in leakage.items()]
    copies = [
        {
            "picture": picture_link(row["image_id"], row["blob"], row["prompt"]),
            "images": row["images"],
            "generators": row["models"],
            "splits": row["splits"],
            "prompt": row["prompt"],
        }
        for row in queries.same_bytes(tx)
    ]
    return tiles(
        [
            (f"{same['pictures']:,}", "pictures used twice", f"by {counted(same['images'], 'image')}"),
            (f"{leakage['shared_prompts']:,}", "prompts in both splits", "must be 0"),
            (f"{leakage['shared_images']:,}", "pictures in both splits", "must be 0"),
        ]
    ) + grid(
        figure("split", "Split proof", f'<p class="{"good" if clean else "warn"}">{verdict}</p>{table(rows)}'),
        figure("quarantine", "Quarantine", table(queries.quarantine(tx), none="nothing was held back")),
        figure("same-bytes", "The same picture, to the byte", table(copies, raw=frozenset({"picture"}), none="none")),
        figure("quarantined", "Held back last", table(_held_back(tx), raw=frozenset({"image"}), none="nothing")),
        figure(
            "bad-pictures",
            "NaN and one-colour images",
            table(queries.bad_pictures(tx), none="none: whatever was made is a picture"),
            note="made, and not kept: each is a failure of sdg generate run",
        ),
        figure("withdrawn", "Withdrawn", table(queries.withdrawn(tx), none="nothing was withdrawn")),
    )


def _held_back(tx: Tx) -> Rows:
    rows = queries.quarantined(tx)
    blobs = blobs_of_images(tx, [row["image_id"] for row in rows])
    return [
        {
            "image": picture_link(row["image_id"], blobs.get(row["image_id"])),
            **{name: row[name] for name in ("code", "message", "annotator", "source")},
            "when": f"{row['created_at']:%Y-%m-%d %H:%M}",
        }
        for row in rows
    ]


def render_progress(done: int, total: int) -> str:
    """The progress while pictures are looked at, as HTML."""
    return f'<p class="note">{done:,} of {total:,} new pictures</p>{progress_bar(done, total or 1)}'


def render_pixels(tx: Tx, report: PixelReport) -> str:
    """What looking at the pictures has shown, as HTML."""
    note = f"{report.seen:,} of {report.total:,} pictures were looked at"
    if not report.seen:
        return f'<p class="note">{note}.</p>'
    pairs = "".join(
        f'<a class="card" href="/blob/{text(row["first"])}" target="_blank"><img src="/blob/{text(row["first"])}" '
        f'loading="lazy" alt=""><img src="/blob/{text(row["second"])}" loading="lazy" alt=""></a>'
        for row in report.near[:24]
    )
    near = f'<div class="cards">{pairs}</div>' if pairs else '<p class="none">none</p>'
    owners = queries.images_of_blobs(tx, [row["blob"] for row in [*report.damaged, *report.flat]])

    def shown(rows: Rows) -> Rows:
        return [
            {
                "image": picture_link(owners[row["blob"]]["image_id"], row["blob"]),
                **({"trouble": row["trouble"]} if "trouble" in row else {}),
                "generator": owners[row["blob"]]["model"],
                "prompt": owners[row["blob"]]["prompt"],
            }
            for row in rows[: queries.SHOWN]
        ]

    raw = frozenset({"image"})
    return grid(
        figure("damaged", "Damaged pictures", table(shown(report.damaged), raw=raw, none="none"), note=note),
        figure("flat", "Pictures of one colour", table(shown(report.flat), raw=raw, none="none"), note=note),
    ) + figure(
        "near-pictures",
        "Near duplicates",
        near,
        note=f"{counted(len(report.near), 'pair')}: hashes at most 4 bits apart, the same colours in the same places",
    )


def near_prompt_rows(train: list[str], test: list[str]) -> Rows:
    """Pairs of a test prompt and a train prompt that are nearly the same."""
    return [{"test": test_prompt, "train": train_prompt} for test_prompt, train_prompt in near_prompts(test, train)]


def render_near_prompts(tx: Tx) -> str:
    """Prompts of train that nearly are prompts of test, as HTML."""
    train, test = queries.prompts_of_both(tx)
    rows = near_prompt_rows(train, test)
    note = f"{counted(len(rows), 'pair')} of {len(train):,} × {len(test):,} prompts share 90 % of their trigrams"
    body = table(rows[: queries.SHOWN], none="none")
    return figure("near-prompts", "Prompts of test that nearly are in train", body, note=note)


def render_exports(context: PageContext) -> str:
    """A table of the exports in the home's folder, as HTML."""
    rows = list_exports(context.home)
    if not rows:
        return nothing("There are no exports yet. Write one:", "make export")
    return figure("exports", "Exports and their shards", table(rows))


def render_verification(context: PageContext, name: str) -> str:
    """Verify an export of the home, and say as HTML what was checked and what is wrong."""
    report = verify_export(context.home, name)
    word = '<b class="good">sound</b>' if report.sound else '<b class="warn">DAMAGED</b>'
    checked = ", ".join(f"{number:,} {what}" for what, number in report.checked.items())
    problems = "".join(f"<li>{text(problem)}</li>" for problem in report.problems)
    return f'<p>{text(name)}: {word} <span class="note">{text(checked)}</span></p><ul class="said">{problems}</ul>'


def _pixel_report(context: PageContext, tx: Tx) -> PixelReport:
    return pixel_report(tx, Pixels(context.home, context.blobs))


PAGE = Page(
    title="Health",
    path="health",
    build=build,
    figures={
        "split": lambda context, tx, parameters: [queries.split_leakage(tx)],
        "same-bytes": lambda context, tx, parameters: queries.same_bytes(tx, limit=MOST),
        "quarantine": lambda context, tx, parameters: queries.quarantine(tx),
        "quarantined": lambda context, tx, parameters: queries.quarantined(tx, limit=MOST),
        "bad-pictures": lambda context, tx, parameters: queries.bad_pictures(tx),
        "withdrawn": lambda context, tx, parameters: queries.withdrawn(tx),
        "damaged": lambda context, tx, parameters: _pixel_report(context, tx).damaged,
        "flat": lambda context, tx, parameters: _pixel_report(context, tx).flat,
        "near-pictures": lambda context, tx, parameters: _pixel_report(context, tx).near,
        "near-prompts": lambda context, tx, parameters: near_prompt_rows(*queries.prompts_of_both(tx)),
        "exports": lambda context, tx, parameters: list_exports(context.home),
    },
    tables=queries.TABLES,
)
