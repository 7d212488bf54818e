"""The dashboards as one web application: the pages, the pictures, the figures' data, and who may see them."""

import os
import re
from pathlib import Path
from types import ModuleType

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from sdg_data.blobs import Blobs
from sdg_data.dashboard import page_agreement, page_browse, page_evaluate, page_health, page_overview
from sdg_data.dashboard.access import Access, Login
from sdg_data.dashboard.context import Shell
from sdg_data.dashboard.data import as_csv
from sdg_data.dashboard.snapshots import Editions
from sdg_data.errors import BlobError, SdgError
from sdg_data.store.connection import Store

PAGES: tuple[ModuleType, ...] = (page_overview, page_browse, page_agreement, page_evaluate, page_health)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
_SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
"""The reader's own typefaces: nothing is fetched from anywhere."""


def make_app(home: Path, blobs: Blobs, *, every: float = 60.0, login: Login | None = None) -> FastAPI:
    """The application over a home. Publishes an edition at once, where there is a store."""
    editions = Editions(Store(home), every=every)
    editions.refresh()
    shell = Shell(editions, blobs, home)
    app = FastAPI(title="sdg-data", docs_url=None, redoc_url=None, openapi_url=None)
    _routes(app, shell)
    gr.mount_gradio_app(
        app,
        make_pages(shell),
        path="/",
        theme=gr.themes.Base(font=_SYSTEM, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("style.css"),
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    app.add_middleware(Access, login=login)
    return app


def make_pages(shell: Shell) -> gr.Blocks:
    """Every page at its own address."""
    first, *others = PAGES
    with gr.Blocks(title="sdg-data", analytics_enabled=False, fill_width=True) as pages:
        first.build(shell)
    pages.pages[0] = (first.PATH, first.TITLE, True)  # gradio calls the first page Home
    for page in others:
        with pages.route(page.TITLE, page.PATH):
            page.build(shell)
    return pages


def _routes(app: FastAPI, shell: Shell) -> None:
    @app.get("/blob/{name}")
    def blob(name: str) -> Response:
        """A picture by its sha256, and nothing else."""
        if not _SHA256.match(name):
            return PlainTextResponse("a blob is named by 64 hexadecimal digits", status_code=404)
        try:
            data = shell.blobs.get(name)
        except BlobError as error:
            return PlainTextResponse(error.message, status_code=404)
        kind = next((kind for start, kind in _IMAGES.items() if data.startswith(start)), None)
        if kind is None:
            return PlainTextResponse("the blob is no picture", status_code=404)
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=31536000, immutable"})

    @app.get("/data/{name}.{form}")
    def data(name: str, form: str, request: Request) -> Response:
        """The rows of a figure."""
        if form not in ("csv", "json"):
            return PlainTextResponse("figures come as .csv and .json", status_code=404)
        with shell.editions.read() as tx:
            if tx is None:
                return PlainTextResponse("there is no store yet", status_code=404)
            try:
                rows = shell.rows(tx, name, request.query_params)
            except SdgError as error:
                return PlainTextResponse(str(error), status_code=400)
            if rows is None:
                return PlainTextResponse("there is no such figure", status_code=404)
        headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
        if form == "csv":
            return Response(as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        return Response(orjson.dumps(rows, option=options), media_type="application/json", headers=headers)
