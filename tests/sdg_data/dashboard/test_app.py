"""The application over HTTP: who may see what, what can be requested, and that every text is shown as text."""

import csv
import io
import os
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.dashboard.access import Login, login_from
from sdg_data.dashboard.app import PAGES, make_app, make_context
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.downloads import as_csv
from sdg_data.dashboard.html import folded, table, text
from sdg_data.dashboard.page import all_figures
from sdg_data.dashboard.pages import evaluate, overview
from sdg_data.dashboard.pages.agreement import page as agreement
from sdg_data.dashboard.pages.browse import page as browse
from sdg_data.dashboard.pages.browse.choose import ADD, TAKE_OUT, change_list, with_chosen
from sdg_data.dashboard.pages.browse.filters import ImageFilter
from sdg_data.dashboard.pages.browse.queries import NOTHING, image_ids, matching
from sdg_data.dashboard.pages.detectors import render_detectors
from sdg_data.dashboard.pages.health import page as health
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.errors import ConfigError, ExitCode, InputError
from sdg_data.locks import note_path, stage_lock
from sdg_data.progress import Progress, noted_in
from sdg_data.store import image_list
from sdg_data.store.connection import Store, Tx
from tests.sdg_data.dashboard.conftest import HOSTILE, LONG, Filled, fill

ALLOWED = {
    "a", "b", "br", "button", "circle", "code", "dd", "details", "div", "dl", "dt", "em", "g", "h3", "h4", "header",
    "i", "img", "input", "label", "li", "nav", "ol", "p", "path", "pre", "rect", "section", "small", "span", "summary",
    "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "tspan", "ul",
}  # fmt: skip


class Reader(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def all_text(self) -> str:
        return "".join(self.words)


def safe(page: str) -> Reader:
    read = Reader(page)
    assert {tag for tag, _ in read.tags} <= ALLOWED
    for _, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src"):
            value = attributes.get(name)
            assert value is None or value.startswith(("/blob/", "/browse?", "/data/", "/refine?", "http://127.0.0.1"))
    return read


@pytest.fixture(scope="module")
def client(filled: Filled) -> TestClient:
    return TestClient(make_app(filled.home, filled.blobs), base_url="http://127.0.0.1")


def test_every_page_is_there(client: TestClient) -> None:
    for path in ("/", "/browse", "/map", "/agreement", "/evaluate", "/refine", "/study", "/select", "/health"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "googleapis" not in answer.text
    config = client.get("/config").json()
    titles = ["Overview", "Browse", "Map", "Agreement", "Evaluate", "Refine", "Study", "Select", "Health"]
    assert [name for _, name, _ in config["pages"]] == titles
    assert config["analytics_enabled"] is False


def test_pictures_by_their_sha256_and_nothing_else(client: TestClient, filled: Filled) -> None:
    name = filled.images[0].blob
    answer = client.get(f"/blob/{name}")
    assert answer.content == filled.blobs.get(name)
    assert answer.headers["content-type"] == "image/png"
    page_of_text = filled.blobs.put(b"<script>alert(1)</script>")
    refused = [
        "0" * 64, name.upper(), name[:63], name + "0", page_of_text, f"{name}/", f"{name}%0a", "..%2f..%2fstore.duckdb",
        "%2e%2e/store.duckdb", "..%5cstore.duckdb", "%2fetc%2fpasswd", "....//store.duckdb", f"{name[:2]}%2f{name}",
    ]  # fmt: skip
    for attempt in refused:
        answer = client.get(f"/blob/{attempt}", follow_redirects=False)
        assert answer.status_code in (307, 404), attempt
        assert b"DUCK" not in answer.content
        assert b"root:" not in answer.content
        assert b"alert" not in answer.content


def test_gradios_own_file_routes_serve_no_file_of_the_home(client: TestClient, filled: Filled) -> None:
    for path in (filled.home / "store.duckdb", filled.home / "blobs", Path("/etc/passwd"), Path(__file__)):
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
            for spelt in (str(path), f"../../../..{path}", f"..%2f..%2f..%2f..{str(path).replace('/', '%2f')}"):
                answer = client.get(f"{route}{spelt}")
                assert answer.status_code >= 400 or answer.headers["content-type"].startswith("text/html")
                assert b"DUCK" not in answer.content[:64]
                assert b"root:" not in answer.content


def test_a_login_covers_every_address(filled: Filled) -> None:
    client = TestClient(
        make_app(filled.home, filled.blobs, login=Login("ann", "päss:word")), base_url="http://127.0.0.1"
    )
    addresses = ["/", "/browse", "/config", f"/blob/{filled.images[0].blob}", "/data/progress.csv", "/gradio_api/info"]
    for address in addresses:
        assert client.get(address).status_code == 401
        assert client.get(address, auth=("ann", "wrong")).status_code == 401
        assert client.get(address, headers={"Authorization": "Basic %%%"}).status_code == 401
        assert client.get(address, headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get(address, headers={b"Authorization": "Basic é".encode("latin-1")}).status_code == 401
    assert "password" in client.get("/").text
    assert client.post("/gradio_api/queue/join", json={}).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic YW5uOnDDpHNzOndvcmQ="}).status_code == 200
    assert login_from({}) is None
    assert login_from({"SDG_DASHBOARD_USER": "a", "SDG_DASHBOARD_PASSWORD": "b"}) == Login("a", "b")
    with pytest.raises(ConfigError):
        login_from({"SDG_DASHBOARD_USER": "a"})


def test_beyond_this_machine_only_with_a_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDG_DASHBOARD_USER", raising=False)
    monkeypatch.delenv("SDG_DASHBOARD_PASSWORD", raising=False)
    assert run(["--home", str(home), "dashboard", "--host", "0.0.0.0"]) == ExitCode.CONFIG


def test_every_figure_is_data(client: TestClient) -> None:
    names = list(all_figures(PAGES))
    assert len(names) == 52
    parameters = {"gt": "gold", "pred": "prelabel:vlm"}
    for name in names:
        rows = client.get(f"/data/{name}.json", params=parameters)
        assert rows.status_code == 200, (name, rows.text)
        table_of = client.get(f"/data/{name}.csv", params=parameters)
        assert table_of.status_code == 200
        assert f'filename="{name}.csv"' in table_of.headers["content-disposition"]
        if isinstance(rows.json(), list):
            assert len(list(csv.DictReader(io.StringIO(table_of.text)))) == len(rows.json())
    assert len(client.get("/data/images.json", params={"model": "sana", "bogus": "1"}).json()) == 30 - 1
    assert client.get("/data/nothing.csv").status_code == 404
    assert client.get("/data/progress.exe").status_code == 404
    assert client.get("/data/metrics.csv", params={"gt": "/etc/passwd", "pred": "gold"}).status_code == 400
    assert client.get("/data/metrics.csv", params={"gt": "oracle", "pred": "gold"}).status_code == 400


def test_what_stands_behind_a_figure_is_as_many_images(client: TestClient, context: PageContext) -> None:
    """Every link of a figure to Browse, followed: the images that it leads to, counted another way."""
    parameters = {"gt": "gold", "pred": "prelabel:vlm"}
    with context.snapshots.read() as tx:
        assert tx is not None
        comparison = evaluate.compare(context, tx, parameters)
        assert comparison is not None
        pages = [
            overview.render(tx, "gold"),
            evaluate.render(comparison, parameters),
            agreement.render_ceiling(context, tx),
        ]
        stages = {row["stage"]: row["done"] for row in overview.progress(tx)}
        shares = {row["composition"]: row["images"] for row in overview.composition(tx, "gold")}
        failed = {f"{row['stage']}: {row['code']}": row["items"] for row in overview.failures(tx)}
    addresses = {
        attributes["href"] or ""
        for page in pages
        for tag, attributes in safe(page).tags
        if tag == "a"
        and (attributes["href"] or "").startswith("/browse?")
        and "image=" not in (attributes["href"] or "")
    }
    assert len(addresses) > 40
    for address in sorted(addresses):
        answer = client.get(f"/data/images.txt?{address.partition('?')[2]}")
        assert answer.status_code == 200, address
        ids = [line for line in answer.text.splitlines() if not line.startswith("#")]
        query = dict(parse_qsl(address.partition("?")[2]))
        if query.get("select") == "stage":
            assert len(ids) == stages[query["stage"]], address
        if "composition" in query:
            assert len(ids) == shares[query["composition"]], address
        if "failure" in query:
            assert len(ids) == failed[query["failure"]], address
        if query.get("select") == "confused":
            part = comparison.document["confusion"][query["by"]]
            boxes = part["counts"][part["labels"].index(query["truth"])][part["labels"].index(query["taken"])]
            assert 0 < len(ids) <= boxes, address
    for wrong in ("select=nothing", "select=stage", "select=confused&gt=x&pred=gold", "list=..%2fstore", "sort=x"):
        assert client.get(f"/data/images.txt?{wrong}").status_code == 400, wrong


def test_two_detectors_side_by_side(client: TestClient, context: PageContext) -> None:
    parameters = {"gt": "gold", "pred": "prelabel:vlm", "other": "annotator:ann0"}
    rows = client.get("/data/detectors-differ.json", params=parameters).json()
    ids = client.get("/data/images.txt", params={**parameters, "select": "differ"}).text.splitlines()[1:]
    assert sorted(row["image"] for row in rows) == sorted(ids)
    alone = {}
    for name, source in (("first", "prelabel:vlm"), ("second", "annotator:ann0")):
        document = client.get("/data/evaluation.json", params={"gt": "gold", "pred": source}).json()
        alone[name] = {row["filepath"]: row["f1@0.5"] for row in document["per_image"]}
    assert rows
    for row in rows:
        for name in ("first", "second"):
            f1 = alone[name][row["image"]]
            assert row[f"F1, {name}"] == pytest.approx(1.0 if f1 is None else f1)
        assert row["difference"] == pytest.approx(row["F1, second"] - row["F1, first"])
    with context.snapshots.read() as tx:
        assert tx is not None
        shown = safe(render_detectors(tx, evaluate.two_detectors(context, tx, parameters), parameters))
    assert f"all {len(rows)} images in Browse" in shown.all_text
    assert client.get("/data/detectors.json", params={**parameters, "other": "x"}).status_code == 400
    assert client.get("/data/detectors.json", params={"gt": "gold", "pred": "prelabel:vlm"}).json() == []


def test_what_is_running_is_told(tmp_path: Path) -> None:
    assert overview.render_running(tmp_path) == ""
    with stage_lock(tmp_path, "generate"), noted_in(note_path(tmp_path, "generate")):
        progress = Progress("generate", unit="images", stream=io.StringIO())
        with progress.running(200):
            progress.advance(200)
            shown = safe(overview.render_running(tmp_path))
    assert "200 images" in shown.all_text
    assert "100.0 %" in shown.all_text
    assert f"process {os.getpid()}" in shown.all_text
    assert overview.render_running(tmp_path) == ""


def test_lists_of_images(client: TestClient, filled: Filled, context: PageContext) -> None:
    """The list that a page gives is what commands read, and a list in the home's folder can be opened."""
    text = client.get("/data/images.txt?model=sana&sort=importance").text
    folder = filled.home / "lists"
    folder.mkdir(exist_ok=True)
    try:
        (folder / "mine.txt").write_text(text + f"{'0' * 32}  # not there\n{filled.images[0].id}\n")
        ids = list(image_list.read(folder / "mine.txt"))
        assert len(ids) == 29 + 2
        shown = client.get("/data/images.json?list=mine").json()
        assert {row["image_id"] for row in shown} == {*ids} - {"0" * 32}
        with context.snapshots.read() as tx:
            assert tx is not None
            wanted, title = with_chosen(context, tx, {"list": "mine", "model": "flux2"})
            assert image_ids(tx, matching(tx, wanted)) == [filled.images[0].id]
        assert title == "the list mine: 31 ids, 1 of which are not in this snapshot"
        (folder / "empty.txt").write_text("# nothing\n")
        assert client.get("/data/images.json?list=empty").status_code == 400
    finally:
        shutil.rmtree(folder)
    assert client.get("/data/progress.txt").status_code == 404


def test_a_choice_gets_a_name_and_is_found_by_it(tmp_path: Path) -> None:
    made = fill(tmp_path / "a home", 6)
    context = make_context(made.home, made.blobs)
    chosen = [image.id for image in made.images[:3]]
    with context.snapshots.read() as tx:
        assert tx is not None
        with pytest.raises(InputError, match="no name for a list"):
            change_list(context, tx, ADD, "hands <b>", chosen, {})
        first = change_list(context, tx, ADD, "hands", [*chosen, made.gone, "f" * 32], {})
        present = [image for image in chosen if image != made.gone]  # a withdrawn image is not in the snapshot
        assert f"{len(present)} images added to hands; 2 images not in this snapshot left out" in first
        path = made.home / "lists" / "hands.txt"
        assert list(image_list.read(path)) == present
        command = f"sdg --home '{made.home}' annotate push --images '{path}'"
        assert command in safe(first).all_text
        change_list(context, tx, ADD, "by sana", None, {"model": "sana"})
        of_sana = [image.id for image in made.images if image.model == "sana" and image.id != made.gone]
        assert sorted(image_list.read(made.home / "lists" / "by sana.txt")) == sorted(of_sana)
        wanted, title = with_chosen(context, tx, {"list": "by sana", "split": "test"})
        assert title == f"the list by sana: {len(of_sana)} ids"
        both = image_ids(tx, matching(tx, wanted))
        assert both == image_ids(tx, matching(tx, ImageFilter(model="sana", split="test"))) != []
        assert "in the list" in browse.render_image(tx, of_sana[0], ["by sana"])
        gone = change_list(context, tx, TAKE_OUT, "hands", present, {})
        assert "which is empty now and gone" in gone
        for action, ids in ((ADD, ["f" * 32]), (TAKE_OUT, chosen), ("rename", chosen)):
            with pytest.raises(InputError):
                change_list(context, tx, action, "hands", ids, {})
    assert not path.exists()


def test_a_figure_that_cannot_be_made_says_why(client: TestClient) -> None:
    good = {"gt": "gold", "pred": "prelabel:vlm"}
    for wrong in (
        {"split": "x"},
        {"split": "a\x00b"},
        {"protocol": "x"},
        {"gt": "x"},
        {"pred": "prelabel:"},
        {"gt": ""},
    ):
        for name in ("evaluation", "metrics", "worst", "confusion-type", "confusion-subtype", "importance-pairs"):
            answer = client.get(f"/data/{name}.json", params={**good, **wrong})
            assert answer.status_code == 400, (name, wrong)
            assert next(iter(wrong.values())) in answer.text
    for name in all_figures(PAGES):
        odd = dict.fromkeys(
            ("said", "model", "state", "type", "subtype", "tier", "text", "annotator", "failure"), "' OR 1=1 -- \x00é"
        )
        assert client.get(f"/data/{name}.csv", params={**good, **odd}).status_code == 200, name


def test_every_figure_of_an_empty_store(tmp_path: Path) -> None:
    with Store(tmp_path).write():
        pass
    client = TestClient(make_app(tmp_path, Blobs(tmp_path / "blobs")), base_url="http://127.0.0.1")
    for name in all_figures(PAGES):
        for form in ("csv", "json"):
            answer = client.get(f"/data/{name}.{form}", params={"gt": "gold", "pred": "gold"})
            assert answer.status_code == 200, name


def test_csv_starts_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([{"a": "=1+1", "b": [1], "c": -5}, {"d": "@x"}]))))
    assert rows == [{"a": "'=1+1", "b": "[1]", "c": "-5", "d": ""}, {"a": "", "b": "", "c": "", "d": "'@x"}]
    assert as_csv([]) == ""


def test_what_people_and_models_wrote_is_shown_as_text(snapshots: Snapshots, filled: Filled) -> None:
    hostile = next(image for image in filled.images if image.prompt_id == filled.prompts[0].id)
    script = ImageFilter(text="<script>")
    with snapshots.read() as tx:
        assert tx is not None
        detail = safe(browse.render_image(tx, hostile.id))
        cards = safe(browse.render_grid(tx, script, matching(tx, script), 1))
        unknown = safe(browse.render_image(tx, '"><script>alert(1)</script>'))
    assert detail.all_text.count(HOSTILE) >= 3
    assert LONG.strip() in detail.all_text
    assert HOSTILE[:60] in cards.all_text
    assert "<script>alert(1)" in unknown.all_text


def test_every_page_is_safe_and_says_something(context: PageContext) -> None:
    parameters = {"gt": "gold", "pred": "prelabel:vlm", "model": "", "split": "", "protocol": "paper"}
    with context.snapshots.read() as tx:
        assert tx is not None
        comparison = evaluate.compare(context, tx, parameters)
        assert comparison is not None
        pages = {
            "Composition": overview.render(tx, "gold"),
            "Human ceiling": agreement.render_ceiling(context, tx),
            "Annotators": agreement.render_annotators(context, tx),
            "Blind or prelabelled": agreement.render_blind(context, tx),
            "Worst images first": evaluate.render(comparison, parameters),
            "Split proof": health.render_checks(tx),
        }
    for title, page in pages.items():
        read = safe(page)
        assert title in read.all_text
        for _, attributes in read.tags:
            assert "NaN" not in str(attributes.get("style", ""))


def empty_pages(context: PageContext, tx: Tx | None) -> list[str]:
    return [
        overview.render(tx, ""),
        browse.render_grid(tx, ImageFilter(), NOTHING, 1),
        agreement.render_ceiling(context, tx),
    ]


def test_empty_stores_say_what_to_run(tmp_path: Path) -> None:
    context = make_context(tmp_path, Blobs(tmp_path / "blobs"))
    with context.snapshots.read() as tx:
        assert tx is None
        pages = empty_pages(context, tx)
    assert all("sdg " in safe(page).all_text for page in pages)
    client = TestClient(make_app(tmp_path, Blobs(tmp_path / "blobs")), base_url="http://127.0.0.1")
    assert client.get("/browse").status_code == 200
    assert client.get("/data/progress.csv").status_code == 404
    with Store(tmp_path).write():
        pass
    context.snapshots.refresh()
    with context.snapshots.read() as tx:
        assert tx is not None
        pages = [*empty_pages(context, tx), health.render_checks(tx), agreement.render_blind(context, tx)]
    assert all(safe(page).all_text for page in pages)
    assert "sdg prompts import" in pages[0]
    assert "sdg generate run" in pages[1]
    assert client.get("/data/progress.csv").status_code in (200, 404)


def test_pages_that_do_not_exist(snapshots: Snapshots, filled: Filled) -> None:
    last = -(-(len(filled.images) - 1) // 24)
    with snapshots.read() as tx:
        assert tx is not None
        numbers = matching(tx, ImageFilter())
        for number, expected in ((0, 1), (-3, 1), (None, 1), (2, 2), (last + 2, last), (1e300, last)):
            assert browse.existing_page(len(numbers), number) == expected
        assert browse.existing_page(0, 9) == 1
        one_image = ImageFilter(text="thing 1 with", model="sana")
        assert "1 image, page 1 of 1" in browse.render_grid(tx, one_image, matching(tx, one_image), 1)


@pytest.mark.parametrize("make", [text, folded, lambda value: table([{value: value}])])
def test_text_is_escaped(make: Callable[[str], str]) -> None:
    ours = {tag for tag, _ in Reader(table([{"a": "b"}])).tags} | {"span", "details", "summary", "em"}
    for nasty in (HOSTILE, "\x00\x1b[31m", "a\u202eb", '" onmouseover="x', "</td></table>", LONG + "<b>"):
        assert {tag for tag, _ in Reader(make(nasty)).tags} <= ours
        assert not {"\x00", "\x1b", "\u202e"} & set(make(nasty))
