"""What a page of the dashboards is: one value that names its address, components, figures and tables.

A page is one module (or one folder) with a `PAGE`, listed in `app.PAGES`. Nothing else has to know it: the app builds
its components, serves its figures under `/data/NAME.csv` and `/data/NAME.json`, and the snapshots hold its tables.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdg_data.dashboard.context import PageContext
from sdg_data.store.connection import Tx

MOST = 100_000
"""Rows of a download at the most."""
Rows = list[dict[str, Any]]
Parameters = Mapping[str, str]
"""A request's query string. Names that a figure does not know are ignored."""
FigureRows = Callable[[PageContext, Tx, Parameters], Any]
"""The rows that a figure is drawn from (or one document, a dict), out of a snapshot."""


@dataclass(frozen=True)
class Page:
    """A page of the dashboards.

    Attributes:
        title: The tab's title.
        path: The address without its slash; "" is the start page.
        build: Makes the page's gradio components; called once, inside the page's Blocks.
        figures: By the name in the figure's download address, the rows behind it. Names are unique over all pages.
        tables: SQL statements that make the page's own tables (`dash_*`) in a snapshot, in this order. They may read
            the store's tables and those of `dashboard.tables`.
    """

    title: str
    path: str
    build: Callable[[PageContext], None]
    figures: Mapping[str, FigureRows] = field(default_factory=dict)
    tables: tuple[str, ...] = ()


def all_figures(pages: Iterable[Page]) -> dict[str, FigureRows]:
    """The figures of all pages by name.

    Raises:
        ValueError: Two pages have a figure of the same name.
    """
    figures: dict[str, FigureRows] = {}
    for page in pages:
        for name, rows in page.figures.items():
            if name in figures:
                raise ValueError(f"the page {page.title} names a figure {name!r}, which another page has already")
            figures[name] = rows
    return figures


def all_tables(pages: Iterable[Page]) -> tuple[str, ...]:
    """The statements that make all pages' tables, in order."""
    return tuple(statement for page in pages for statement in page.tables)
