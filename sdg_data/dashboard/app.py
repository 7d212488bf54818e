"""The dashboards as one web application: the pages, the pictures, the figures' data, and who may see them."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from sdg_data.blobs import Blobs
from sdg_data.dashboard.access import Access, Login
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.downloads import as_csv, as_list
from sdg_data.dashboard.gate import Calls, Gate
from sdg_data.dashboard.page import FigureRows, ImageIds, Page, all_figures, all_lists, all_selections, all_tables
from sdg_data.dashboard.pages import best_of_n, evaluate, overview, study
from sdg_data.dashboard.pages.agreement import page as agreement
from sdg_data.dashboard.pages.browse import page as browse
from sdg_data.dashboard.pages.health import page as health
from sdg_data.dashboard.pages.maps import page as maps
from sdg_data.dashboard.pages.refine import page as refine
from sdg_data.dashboard.preparation import Preparation
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.errors import BlobError, SdgError
from sdg_data.people import People
from sdg_data.picture import PictureError, for_browser
from sdg_data.store.connection import Store

PAGES = (
    overview.PAGE,
    browse.PAGE,
    maps.PAGE,
    agreement.PAGE,
    evaluate.PAGE,
    refine.PAGE,
    study.PAGE,
    best_of_n.PAGE,
    health.PAGE,
)
"""Every page, in the order of the tabs; the first is the start page. A new page is one line here."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
"""The reader's own typefaces: nothing is fetched from anywhere."""


def make_context(
    home: Path, blobs: Blobs, *, pages: Sequence[Page] = PAGES, every: float = 60.0, people: People | None = None
) -> PageContext:
    """What the pages share over a home; its snapshots hold the tables of `pages` and call people as `people` does."""
    snapshots = Snapshots(Store(home), all_tables(pages), every=every, people=people)
    return PageContext(snapshots, blobs, home, all_selections(pages))


def make_app(
    home: Path,
    blobs: Blobs,
    *,
    pages: Sequence[Page] = PAGES,
    every: float = 60.0,
    login: Login | None = None,
    hosts: Collection[str] = (),
    people: People | None = None,
    prepare: bool = False,
) -> FastAPI:
    """The application over a home. Publishes a snapshot at once, where there is a store.

    Args:
        home: The folder of the store and its exports.
        blobs: Where the pictures are.
        pages: The pages, the start page first.
        every: Seconds that data may be old before a changed store is copied again.
        login: Required for every address, if it is given.
        hosts: Names that browsers know this server by, beside localhost, this machine's name and addresses in digits.
        people: What people are called.
        prepare: Compute what pages show of a new snapshot in advance, in a thread; it is `state.preparation`.

    Raises:
        ValueError: Two pages have a figure of the same name.
    """
    context = make_context(home, blobs, pages=pages, every=every, people=people)
    context.snapshots.refresh()
    app = FastAPI(title="sdg-data", docs_url=None, redoc_url=None, openapi_url=None)
    if prepare:
        app.state.preparation = Preparation(context, pages)
        app.state.preparation.start()
    _add_routes(app, context, all_figures(pages), all_lists(pages))
    blocks = make_blocks(context, pages)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Base(font=_SYSTEM, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("style.css"),
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    paths = ["/", "/blob/", "/data/", *(f"/{page.path}" for page in pages)]
    events = {number: [block.get_block_name() for block in function.inputs] for number, function in blocks.fns.items()}
    app.add_middleware(Calls, events=events)
    app.add_middleware(Access, login=login)
    app.add_middleware(Gate, paths=paths, hosts=hosts)  # the last one is asked first
    return app


def make_blocks(context: PageContext, pages: Sequence[Page] = PAGES) -> gr.Blocks:
    """Every page's components, each page at its own address."""
    first, *others = pages
    with gr.Blocks(title="sdg-data", analytics_enabled=False, fill_width=True) as blocks:
        first.build(context)
    blocks.pages[0] = (first.path, first.title, True)  # gradio calls the first page Home
    for page in others:
        with blocks.route(page.title, page.path):
            page.build(context)
    return blocks


_NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 120"><rect width="120" height="120" fill="#8a8f98"/>'
    '<path d="M30 34h60v52H30zM34 82l18-22 12 12 8-8 14 18" fill="none" stroke="#fff" stroke-width="3"/>'
    '<path d="M24 28l72 64" stroke="#fff" stroke-width="4"/><text x="60" y="108" fill="#fff" font-size="13" '
    'font-family="sans-serif" text-anchor="middle">cannot be shown</text></svg>'
)


def _no_picture(request: Request, reason: str) -> Response:
    """404 with the reason; where a page wants to show the picture, with a drawing that says so in its frame."""
    if request.headers.get("sec-fetch-dest") == "image":
        return Response(_NO_PICTURE, status_code=404, media_type="image/svg+xml")
    return PlainTextResponse(reason, status_code=404)


def _add_routes(
    app: FastAPI, context: PageContext, figures: Mapping[str, FigureRows], lists: Mapping[str, ImageIds]
) -> None:
    @app.get("/blob/{name}")
    def blob(name: str, request: Request) -> Response:
        """A picture by its sha256, and nothing else."""
        if not _SHA256.match(name):
            return PlainTextResponse("a blob is named by 64 hexadecimal digits", status_code=404)
        try:
            media_type, shown = for_browser(context.blobs.get(name))
        except BlobError as error:
            return _no_picture(request, error.message)
        except PictureError as error:
            return _no_picture(request, f"the blob is no picture: {error}")
        return Response(shown, media_type=media_type, headers={"Cache-Control": "private, max-age=31536000, immutable"})

    @app.get("/data/{name}.{form}")
    def data(name: str, form: str, request: Request) -> Response:
        """The rows of a figure, or the list of its images."""
        if form not in ("csv", "json", "txt"):
            return PlainTextResponse("figures come as .csv and .json, lists of images as .txt", status_code=404)
        headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
        with context.snapshots.read() as tx:
            if tx is None:
                return PlainTextResponse("there is no store yet", status_code=404)
            if name not in (lists if form == "txt" else figures):
                return PlainTextResponse("there is no such figure", status_code=404)
            try:
                if form == "txt":
                    ids = lists[name](context, tx, request.query_params)
                    return Response(
                        as_list(ids, str(request.url)), media_type="text/plain; charset=utf-8", headers=headers
                    )
                rows = figures[name](context, tx, request.query_params)
            except SdgError as error:
                return PlainTextResponse(str(error), status_code=400)
        if form == "csv":
            return Response(as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        return Response(orjson.dumps(rows, option=options), media_type="application/json", headers=headers)
