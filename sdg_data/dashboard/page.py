"""What a page of the dashboards is: one value that names its address, components, figures and tables.

A page is one module (or one folder) with a `PAGE`, listed in `app.PAGES`. Nothing else has to know it: the app builds
its components, serves its figures under `/data/NAME.csv` and `/data/NAME.json`, and the snapshots hold its tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sdg_data.dashboard.context import PageContext
from sdg_data.store.connection import Tx

MOST = 100_000
"""Rows of a download at the most."""
_Part = TypeVar("_Part")
Rows = list[dict[str, Any]]
Parameters = Mapping[str, str]
"""A request's query string. Names that a figure does not know are ignored."""
FigureRows = Callable[[PageContext, Tx, Parameters], Any]
"""The rows that a figure is drawn from (or one document, a dict), out of a snapshot."""

ImageIds = Callable[[PageContext, Tx, Parameters], Sequence[str]]


@dataclass(frozen=True)
class Selected:
    """The images behind a bar or a cell of a figure, and what they are in words."""

    title: str
    image_ids: Sequence[str]


Selection = Callable[[PageContext, Tx, Parameters], Selected]
"""The images that the query string of `/browse?select=NAME&…` means, out of a snapshot."""


@dataclass(frozen=True)
class Page:
    """A page of the dashboards.

    Attributes:
        title: The tab's title.
        path: The address without its slash; "" is the start page.
        build: Makes the page's gradio components; called once, inside the page's Blocks.
        figures: By the name in the figure's download address, the rows behind it. Names are unique over all pages.
        lists: By a figure's name, the ids of its images, which are served as `/data/NAME.txt`.
        selections: By the name in `/browse?select=NAME`, the images behind a part of a figure (`html.browse_link`); for
            those that Browse's own filters cannot say. Names are unique over all pages.
        prepare: Computes what would keep the first reader of a snapshot waiting, and leaves it in `PageContext.cached`.
            It is called in a thread of its own whenever there is a new snapshot.
        tables: SQL statements that make the page's own tables (`dash_*`) in a snapshot, in this order. They may read
            the store's tables and those of `dashboard.tables`.
    """

    title: str
    path: str
    build: Callable[[PageContext], None]
    figures: Mapping[str, FigureRows] = field(default_factory=dict)
    lists: Mapping[str, ImageIds] = field(default_factory=dict)
    selections: Mapping[str, Selection] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    prepare: Callable[[PageContext, Tx], None] | None = None


def all_figures(pages: Iterable[Page]) -> dict[str, FigureRows]:
    """The figures of all pages by name.

    Raises:
        ValueError: Two pages have a figure of the same name.
    """
    return _by_name(((page, page.figures) for page in pages), "figure")


def all_lists(pages: Iterable[Page]) -> dict[str, ImageIds]:
    """The lists of images of all pages by name.

    Raises:
        ValueError: Two pages have a list of the same name.
    """
    return _by_name(((page, page.lists) for page in pages), "list")


def all_selections(pages: Iterable[Page]) -> dict[str, Selection]:
    """The selections of all pages by name.

    Raises:
        ValueError: Two pages have a selection of the same name.
    """
    return _by_name(((page, page.selections) for page in pages), "selection")


def _by_name(parts: Iterable[tuple[Page, Mapping[str, _Part]]], what: str) -> dict[str, _Part]:
    named: dict[str, _Part] = {}
    for page, of_page in parts:
        for name, part in of_page.items():
            if name in named:
                raise ValueError(f"the page {page.title} names a {what} {name!r}, which another page has already")
            named[name] = part
    return named


def all_tables(pages: Iterable[Page]) -> tuple[str, ...]:
    """The statements that make all pages' tables, in order."""
    return tuple(statement for page in pages for statement in page.tables)
