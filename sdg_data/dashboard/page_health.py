"""Health: copies and near copies, the split proof, bad pictures, quarantine, exports and their verification."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from sdg_data.dashboard import queries_health, shards
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.html import figure, grid, nothing, progress_bar, table, text, tiles
from sdg_data.dashboard.pixels import Pixels, judge
from sdg_data.ingest.near_duplicates import near_prompts
from sdg_data.store.connection import Tx

PATH = "health"
TITLE = "Health"
_NONE = nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")
_SHOWN = 50


def build(shell: Shell) -> None:
    """The page's components; to be called inside its Blocks."""
    stamp = shell.header()
    body = gr.HTML(elem_id="health", elem_classes="sdg")
    pixels = shell.pixels
    with gr.Row():
        look = gr.Button("Look at the pictures: damaged, one colour, near duplicates", elem_id="look", size="md")
        compare = gr.Button("Compare the prompts of train and test", elem_id="prompts", size="md")
    seen = gr.HTML(elem_id="seen", elem_classes="sdg")
    near = gr.HTML(elem_id="near", elem_classes="sdg")
    exports = gr.HTML(elem_id="exports", elem_classes="sdg")
    with gr.Row(elem_classes="sdg-controls", visible=False) as exported:
        which = gr.Dropdown([], label="Export", elem_id="export", interactive=True, scale=3)
        check = gr.Button("Verify it", elem_id="verify", scale=1)
    verdict = gr.HTML(elem_id="verdict", elem_classes="sdg")

    def opened() -> tuple[Any, ...]:
        names = list(shards.found(shell.home))
        with shell.editions.read() as tx:
            shown = page(tx) if tx is not None else _NONE
            pictures = looked(tx, pixels) if tx is not None else ""
        choice = gr.Dropdown(choices=names, value=names[0] if names else None)
        return shell.stamp(), shown, pictures, of_exports(shell), choice, gr.Row(visible=bool(names))

    def looking() -> Iterator[str]:
        with shell.editions.read() as tx:
            if tx is None:
                yield _NONE
                return
            for done, total in pixels.look(tx):
                yield figure_of_progress(done, total)
            yield looked(tx, pixels)

    def prompts() -> str:
        with shell.editions.read() as tx:
            return of_prompts(tx) if tx is not None else _NONE

    def verified(name: str | None) -> str:
        return of_verification(shell, name) if name else '<p class="none">There is no export to verify.</p>'

    shell.on_open(opened, [stamp, body, seen, exports, which, exported])
    look.click(looking, None, seen, show_progress="hidden")
    compare.click(prompts, None, near, show_progress="minimal")
    check.click(verified, which, verdict, show_progress="minimal")


def page(tx: Tx) -> str:
    """What SQL alone knows, as HTML."""
    proof, same = queries_health.split_proof(tx), queries_health.same_bytes_count(tx)
    sound = not proof["shared_prompts"] and not proof["shared_images"]
    verdict = "No prompt and no picture is in both splits." if sound else "Something is in both splits: see below."
    rows = [{"": name.replace("_", " "), "number": value} for name, value in proof.items()]
    copies = queries_health.same_bytes(tx)
    copies = [{**row, "blob": row["blob"][:12], "image_id": row["image_id"][:12]} for row in copies]
    return tiles(
        [
            (f"{same['pictures']:,}", "pictures used twice", f"by {same['images']:,} images"),
            (f"{proof['shared_prompts']:,}", "prompts in both splits", "must be 0"),
            (f"{proof['shared_images']:,}", "pictures in both splits", "must be 0"),
        ]
    ) + grid(
        figure("split", "Split proof", f'<p class="{"good" if sound else "warn"}">{verdict}</p>{table(rows)}'),
        figure("quarantine", "Quarantine", table(queries_health.quarantine(tx), none="nothing was held back")),
        figure("same-bytes", "The same picture, to the byte", table(copies, none="none")),
        figure("quarantined", "Held back last", table(_held_back(tx), raw=frozenset({"image"}), none="nothing")),
        figure(
            "bad-pictures",
            "NaN and one-colour images",
            table(queries_health.bad_pictures(tx), none="none: whatever was made is a picture"),
            note="made, and not kept: each is a failure of `sdg generate run`",
        ),
        figure("withdrawn", "Withdrawn", table(queries_health.withdrawn(tx), none="nothing was withdrawn")),
    )


def _held_back(tx: Tx) -> list[dict[str, Any]]:
    return [
        {
            "image": f'<a href="/browse?image={text(row["image_id"])}">{text(row["image_id"][:12])}</a>',
            **{name: row[name] for name in ("code", "message", "annotator", "source")},
            "when": f"{row['created_at']:%Y-%m-%d %H:%M}",
        }
        for row in queries_health.quarantined(tx)
    ]


def figure_of_progress(done: int, total: int) -> str:
    """While pictures are being looked at."""
    return f'<p class="note">{done:,} of {total:,} new pictures</p>{progress_bar(done, total or 1)}'


def looked(tx: Tx, pixels: Pixels) -> str:
    """What the looks at pictures found, as HTML."""
    found = judge(tx, pixels)
    note = f"{found.seen:,} of {found.total:,} pictures were looked at"
    if not found.seen:
        return f'<p class="note">{note}.</p>'
    pairs = "".join(
        f'<a class="card" href="/blob/{text(row["first"])}" target="_blank"><img src="/blob/{text(row["first"])}" '
        f'loading="lazy" alt=""><img src="/blob/{text(row["second"])}" loading="lazy" alt=""></a>'
        for row in found.near[:24]
    )
    near = f'<div class="cards">{pairs}</div>' if pairs else '<p class="none">none</p>'
    damaged = [{"blob": row["blob"][:16], "trouble": row["trouble"]} for row in found.damaged]
    flat = [{"blob": row["blob"][:16]} for row in found.flat]
    return grid(
        figure("damaged", "Damaged pictures", table(damaged[:_SHOWN], none="none"), note=note),
        figure("flat", "Pictures of one colour", table(flat[:_SHOWN], none="none"), note=note),
    ) + figure(
        "near-pictures",
        "Near duplicates",
        near,
        note=f"{len(found.near):,} pairs of perceptual hashes, 4 bits apart at most",
    )


def of_prompts(tx: Tx) -> str:
    """Prompts of train that nearly are prompts of test, as HTML."""
    train, test = queries_health.prompts_of_both(tx)
    found = near_prompts(test, train)
    rows = [{"test": one, "train": other} for one, other in found[:_SHOWN]]
    note = f"{len(found):,} pairs of {len(train):,} × {len(test):,} prompts share 90 % of their trigrams"
    return figure("near-prompts", "Prompts of test that nearly are in train", table(rows, none="none"), note=note)


def of_exports(shell: Shell) -> str:
    """The exports in the home, as HTML."""
    rows = shards.listed(shell.home)
    if not rows:
        return nothing("There are no exports yet. Write one:", "make export")
    return figure("exports", "Exports and their shards", table(rows))


def of_verification(shell: Shell, name: str) -> str:
    """What `sdg export verify` says, as HTML."""
    report = shards.verify(shell.home, name)
    word = '<b class="good">sound</b>' if report["sound"] else '<b class="warn">DAMAGED</b>'
    checked = ", ".join(f"{number:,} {what}" for what, number in report["checked"].items())
    problems = "".join(f"<li>{text(problem)}</li>" for problem in report["problems"])
    return f'<p>{text(name)}: {word} <span class="note">{text(checked)}</span></p><ul class="said">{problems}</ul>'
