"""Browse as HTML: the grid of images, and one image with its boxes, its history and the way back to its seed."""

from collections.abc import Mapping, Sequence
from typing import Any

from sdg_data.dashboard.html import browse_link, counted, figure, link, nothing, table, text
from sdg_data.dashboard.pages.browse.filters import ImageFilter
from sdg_data.dashboard.pages.browse.overlay import picture
from sdg_data.dashboard.pages.browse.queries import PAGE_SIZE, Numbers, image_detail, page
from sdg_data.store.connection import Tx


def existing_page(images: int, number: float | None) -> int:
    """The page that is shown of so many images for page `number`: the nearest one that exists."""
    return int(min(max(1, number or 1), max(1, _pages(images))))


def _pages(images: int) -> int:
    return -(-images // PAGE_SIZE)


def render_grid(
    tx: Tx | None,
    wanted: ImageFilter,
    numbers: Numbers,
    number: int,
    *,
    title: str = "",
    parameters: Mapping[str, str] | None = None,
) -> str:
    """A page of the grid of images that match the filter, as HTML.

    Args:
        tx: A connection to a snapshot; None where there is no store yet.
        wanted: The filter.
        numbers: The images that match it, in their order.
        number: The page, from 1.
        title: What the images are, where a selection or a list chose them.
        parameters: What the downloads' addresses hold; None: the filter.
    """
    if tx is None:
        return nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")
    chosen = f'<p class="chosen">{text(title)} <a href="/browse">show all images</a></p>' if title else ""
    if not len(numbers):
        if wanted == ImageFilter():
            return nothing("There are no images yet. Make some:", "sdg generate run")
        return f'{chosen}<div class="empty"><p>No image matches. Loosen a filter.</p></div>'
    rows = page(tx, numbers, number - 1)
    cards = "".join(_card(row) for row in rows) or '<p class="none">This page is behind the last one.</p>'
    heading = f"{counted(len(numbers), 'image')}, page {number:,} of {_pages(len(numbers)):,}"
    address = wanted.as_parameters() if parameters is None else parameters
    body = f'<div class="cards">{cards}</div>'
    return chosen + figure("images", heading, body, parameters=address, forms=("csv", "json", "txt"))


def _card(row: Mapping[str, Any]) -> str:
    if row["label_source"] is None:
        label = "nobody looked"
    elif not row["artifacts"] and not row["misalignments"]:
        label = "clean"
    else:
        counts = (("artifact", row["artifacts"]), ("misalignment", row["misalignments"]))
        label = "".join(_dot(name, number) for name, number in counts if number)
    image_id, prompt = text(row["image_id"]), text(row["prompt"][:160])
    return (
        f'<div class="card" data-image="{image_id}"><button class="open" aria-label="Open: {prompt}">'
        f'<img src="/blob/{text(row["blob"])}" loading="lazy" alt="">'
        f'<span class="line">{prompt}</span></button>'
        f'<span class="small">{label}</span><span class="small">{text(row["model"])}</span>'
        f'<span class="small">{text(row["state"])}</span>'
        f'<label class="small"><input type="checkbox" data-choose="{image_id}"> choose</label></div>'
    )


def _dot(name: str, number: int) -> str:
    return f'<span class="dot {name}">{counted(number, name)}</span>'


def render_image(tx: Tx | None, image_id: str, tags: Sequence[str] = ()) -> str:
    """One image as HTML: boxes, the lists that it is in, what was said about it, lineage, raw answers."""
    detail = image_detail(tx, image_id) if tx is not None else None
    if detail is None:
        return f'<p class="none">There is no image {text(image_id[:64])} in this snapshot of the store.</p>'
    lineage = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in detail.lineage)
    raw = "".join(
        f"<details><summary>raw answer of {text(who)}</summary><pre>{text(answer)}</pre></details>"
        for who, answer in detail.raw
    )
    web = detail.task.startswith(("http://", "https://"))
    task = f'<a href="{text(detail.task)}" target="_blank" rel="noreferrer">task in Label Studio</a>' if web else ""
    lists = ", ".join(link(browse_link(list=name), name) for name in tags)
    tagged = f'<p class="note">in the {"lists" if len(tags) > 1 else "list"} {lists}</p>' if tags else ""
    history = [{**row, "created_at": f"{row['created_at']:%Y-%m-%d %H:%M}"} for row in detail.history]
    return (
        f'<section class="figure" data-shown="{text(image_id)}"><header><h3>{text(detail.image["prompt"][:300])}</h3>'
        '<nav><button class="step" data-step="-1">← previous</button><button class="step" data-step="1">next →</button>'
        f'{task}<a href="/browse?image={text(image_id)}">link</a></nav></header>{tagged}{picture(detail)}'
        f"<h3>What was said about it</h3>{table(history, none='nothing yet')}"
        f'<h3>From the prompt to what counts</h3><table class="lineage"><tbody>{lineage}</tbody></table>{raw}</section>'
    )
