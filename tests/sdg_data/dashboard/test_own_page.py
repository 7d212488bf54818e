"""A page added from outside, as a user would: a `Page` value, one more entry in the list, nothing else."""

import csv
import io
from collections import Counter

import pytest

pytest.importorskip("gradio")

import gradio as gr
from starlette.testclient import TestClient

from sdg_data.dashboard.app import PAGES, make_app
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import figure, table
from sdg_data.dashboard.page import Page, Parameters, Rows
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select
from tests.sdg_data.dashboard.conftest import Filled


def prompts_by_split(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    def read() -> Rows:
        return select(tx, "SELECT split, prompts FROM dash_prompts_by_split ORDER BY split")

    return [row for row in context.cached(tx, "prompts by split", read) if row["split"] != parameters.get("without")]


def build(context: PageContext) -> None:
    stamp = context.header()
    body = gr.HTML(elem_id="prompts", elem_classes="sdg")

    def on_open() -> tuple[str, str]:
        with context.snapshots.read() as tx:
            rows = prompts_by_split(context, tx, {}) if tx is not None else []
        return context.stamp(), figure("prompts-by-split", "Prompts", table(rows))

    context.on_open(on_open, [stamp, body])


PAGE = Page(
    title="Prompts",
    path="prompts",
    build=build,
    figures={"prompts-by-split": prompts_by_split},
    tables=("CREATE TABLE dash_prompts_by_split AS SELECT split, count(*) AS prompts FROM prompts GROUP BY split",),
)


def test_a_page_of_ones_own(filled: Filled) -> None:
    client = TestClient(make_app(filled.home, filled.blobs, pages=(*PAGES, PAGE)), base_url="http://127.0.0.1")
    config = client.get("/config").json()
    assert [name for _, name, _ in config["pages"]][-1] == "Prompts"
    assert client.get("/prompts").status_code == 200
    expected = Counter(prompt.split for prompt in filled.prompts)
    rows = client.get("/data/prompts-by-split.json").json()
    assert {row["split"]: row["prompts"] for row in rows} == expected
    text = client.get("/data/prompts-by-split.csv", params={"without": "test"}).text
    assert list(csv.DictReader(io.StringIO(text))) == [{"split": "train", "prompts": str(expected["train"])}]
    assert client.get("/data/progress.json").status_code == 200
    alone = TestClient(
        make_app(filled.home, filled.blobs), base_url="http://127.0.0.1"
    )  # the tables of another list of pages: a new snapshot
    assert alone.get("/prompts").status_code == 404 or "Prompts" not in str(alone.get("/config").json()["pages"])
    assert alone.get("/data/prompts-by-split.json").status_code == 404


def test_a_figures_name_is_taken_once(filled: Filled) -> None:
    twice = Page(title="Twice", path="twice", build=build, figures={"progress": prompts_by_split})
    with pytest.raises(ValueError, match="'progress'"):
        make_app(filled.home, filled.blobs, pages=(*PAGES, twice))
