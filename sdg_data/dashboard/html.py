"""HTML from data. Everything that people, models or prompts wrote goes through `text` and is shown as text."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from sdg_data import words
from sdg_data.words import counted as counted

SHORT = 24
"""Texts of up to so many letters stay on one line."""
LONG = 280
"""Longer texts are folded: their beginning, and the rest at a click."""

_NUMBER = int | float


def text(value: object) -> str:
    """Any value as HTML text, also inside attributes; control characters, which HTML has no place for, as U+FFFD."""
    printable = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in str(value))
    return escape(printable, quote=True)


def folded(value: object, limit: int = LONG) -> str:
    """`text`, of which the end is folded away where it is long."""
    whole = str(value)
    if len(whole) <= limit:
        return f'<span class="said">{text(whole)}</span>'
    return (
        f'<details class="said"><summary>{text(whole[:limit])}… <em>{len(whole):,} characters</em></summary>'
        f"{text(whole[limit:])}</details>"
    )


def number(value: object, digits: int = 3) -> str:
    """A figure for people: whole numbers grouped, others with some decimals, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, _NUMBER):
        return text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    raw: frozenset[str] = frozenset(),
    right: frozenset[str] = frozenset(),
    none: str = "nothing",
) -> str:
    """Rows as a table.

    Args:
        rows: The first one's keys are the columns.
        raw: Columns that hold HTML already.
        right: Those of them that hold numbers.
        none: What is said where there are no rows.
    """
    if not rows:
        return f'<p class="none">{text(none)}</p>'
    names = list(rows[0])
    numeric = {name for name in names if isinstance(rows[0][name], _NUMBER) or rows[0][name] is None} | right
    head = "".join(
        f'<th class="{"number" if name in numeric else ""}">{text(words.heading(name))}</th>' for name in names
    )
    body = "".join("<tr>" + "".join(_cell(name, row[name], raw, right) for name in names) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, value: Any, raw: frozenset[str], right: frozenset[str]) -> str:
    if name in raw:
        return f'<td class="number">{value}</td>' if name in right else f"<td>{value}</td>"
    if isinstance(value, _NUMBER) or value is None:
        return f'<td class="number">{number(value, _digits(name))}</td>'
    short = isinstance(value, str) and len(value) <= SHORT
    return f'<td class="{"nowrap" if short else ""}">{folded(value, 120)}</td>'


def _digits(name: str) -> int:
    """The decimals of a column: thousandths of a second or of an hour mean nothing."""
    return 1 if "seconds" in name else 2 if "hours" in name else 3


def _agreeing(value: str, what: str) -> str:
    """The words under a number: "images accepted", but 1 "image accepted"."""
    noun, space, rest = what.partition(" ")
    return f"{noun.removesuffix('s')}{space}{rest}" if value == "1" else what


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: (value, what it is, beginning with a plural, and a note); values and notes are text."""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{text(value)}</b><span>{text(_agreeing(value, what))}</span>'
            f"<small>{text(note)}</small></div>"
            for value, what, note in values
        )
        + "</div>"
    )


def figure(
    name: str,
    title: str,
    body: str,
    *,
    note: str = "",
    parameters: Mapping[str, str] | None = None,
    forms: Sequence[str] = ("csv", "json"),
) -> str:
    """A figure with the links to its data.

    Args:
        name: Its key in some `Page.figures`.
        title: Its heading.
        body: HTML.
        note: A line below the heading.
        parameters: What the links' addresses hold.
        forms: Which links there are; txt is a list of images (`Page.lists`).
    """
    query = f"?{urlencode(parameters)}" if parameters else ""
    links = " ".join(
        f'<a href="/data/{quote(name)}.{kind}{escape(query)}" download>{kind.upper()}</a>' for kind in forms
    )
    remark = f"<p class='note'>{text(note)}</p>" if note else ""
    return (
        f'<section class="figure" id="figure-{text(name)}"><header><h3>{text(title)}</h3><nav>{links}</nav></header>'
        f"{remark}{body}</section>"
    )


def browse_link(**parameters: object) -> str:
    """The address of Browse with these filters (`browse.filters`), or with a page's selection (`select=NAME`)."""
    return f"/browse?{urlencode({name: value for name, value in parameters.items() if value not in (None, '')})}"


def link(address: str, body: object) -> str:
    """A link within the dashboards."""
    return f'<a href="{text(address)}">{number(body)}</a>'


def picture_link(image_id: str, blob: str | None, prompt: str = "") -> str:
    """A small picture that leads to its image in Browse; the beginning of the id where the picture is not known."""
    body = text(image_id[:12]) if blob is None else small_picture(blob, prompt)
    return f'<a href="/browse?image={quote(image_id)}" title="{text(image_id)}">{body}</a>'


def small_picture(blob: str, alt: str = "") -> str:
    """A picture of the size of a few lines of a table."""
    return (
        f'<img class="small" src="/blob/{quote(blob)}" loading="lazy" alt="{text(alt[:120])}" width="48" height="48">'
    )


def grid(*figures: str, small: bool = False) -> str:
    """Figures side by side where there is room: two in a row of a wide window, `small` ones three."""
    return f'<div class="figures{" three" if small else ""}">{"".join(figures)}</div>'


def nothing(message: str, command: str) -> str:
    """What an empty page says: what is missing, and the command that makes some."""
    return f'<div class="empty"><p>{text(message)}</p><code>{text(command)}</code></div>'


def progress_bar(done: float, total: float | None) -> str:
    """A progress bar with its percentage as HTML; empty where the total is not known."""
    if not total:
        return ""
    share = min(1.0, done / total)
    return f'<div class="bar"><i style="width:{100 * share:.1f}%"></i><span>{100 * share:.1f} %</span></div>'


def matrix(
    labels: Sequence[str],
    counts: Sequence[Sequence[int]],
    address: Callable[[str, str], str] | None = None,
) -> str:
    """A confusion matrix, rows the ground truth; a cell is the darker, the larger its share of its row.

    Args:
        labels: Of the rows, and of the columns.
        counts: By row.
        address: From a row's and a column's label to the page with the images of that cell.
    """
    head = "<td></td>" + "".join(f"<th>{text(label)}</th>" for label in labels)
    body = ""
    for label, row in zip(labels, counts, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td class="number" style="background:rgba(100,116,139,{0.55 * value / total:.2f})" '
            f'title="{100 * value / total:.0f} % of {text(label)}">'
            f"{link(address(label, column), value) if address is not None and value else f'{value:,}'}</td>"
            for column, value in zip(labels, row, strict=True)
        )
        body += f"<tr><th>{text(label)}</th>{cells}</tr>"
    whole = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll" tabindex="0"><table class="matrix">{whole}</table></div>'
