"""Long computations: one after another, once each, and nobody waits for them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from schemas.defect import Defect
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.dashboard.app import make_app, make_context
from sdg_data.dashboard.jobs import MOST, Jobs
from sdg_data.dashboard.pages import evaluate
from sdg_data.dashboard.pages.refine import chains
from sdg_data.errors import ConfigError, InputError
from tests.sdg_data.dashboard.comparisons import compare as put_comparisons
from tests.sdg_data.dashboard.conftest import Filled, fill
from tests.sdg_data.store.makers import defect

LONG_ENOUGH = 120.0
PARAMETERS = {"gt": "gold", "pred": "prelabel:vlm", "other": "", "model": "", "split": "", "protocol": "paper"}


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds a computation until the test lets it go on."""
    event = threading.Event()
    yield event
    event.set()


def test_a_job_is_computed_once_and_told_once(gate: threading.Event) -> None:
    jobs, calls = Jobs(), list[str]()

    def compute() -> None:
        calls.append(threading.current_thread().name)
        assert gate.wait(LONG_ENOUGH)

    first, second = jobs.waited("a", compute), jobs.waited("a", compute)
    assert first is not None
    assert second is not None
    assert second >= first >= 0
    assert not jobs.wait(0)
    gate.set()
    assert jobs.wait(LONG_ENOUGH)
    assert jobs.waited("a", compute) is None
    assert calls == ["job"]


def test_jobs_wait_for_their_turn_and_no_more_than_so_many_do(gate: threading.Event) -> None:
    jobs, done = Jobs(), list[int]()

    def hold() -> None:
        assert gate.wait(LONG_ENOUGH)
        done.append(-1)

    assert jobs.waited("held", hold) is not None
    for number in range(MOST - 1):
        assert jobs.waited(number, lambda number=number: done.append(number)) is not None
    with pytest.raises(InputError, match="8 others"):
        jobs.waited("one more", hold)
    assert done == []
    gate.set()
    assert jobs.wait(LONG_ENOUGH)
    assert done[0] == -1
    assert sorted(done) == [-1, *range(MOST - 1)]
    jobs.waited("one more", hold)  # those for which nobody came back are forgotten


def test_what_went_wrong_is_told_to_who_asked(gate: threading.Event) -> None:
    jobs = Jobs()

    def fail() -> None:
        assert gate.wait(LONG_ENOUGH)
        raise ConfigError("no such source", item="x")

    assert jobs.waited("a", fail) is not None
    gate.set()
    assert jobs.wait(LONG_ENOUGH)
    with pytest.raises(ConfigError, match="no such source"):
        jobs.waited("a", fail)
    gate.clear()
    assert jobs.waited("a", fail) is not None  # and it can be tried again


def test_a_large_comparison_is_computed_beside_the_page(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    plain, held = evaluate.compare_sources, threading.Event()

    def compare_when_let(*values: Any, **more: Any) -> Any:
        held.set()
        assert gate.wait(LONG_ENOUGH)
        return plain(*values, **more)

    monkeypatch.setattr(evaluate, "compare_sources", compare_when_let)
    context = make_context(filled.home, filled.blobs)
    with context.snapshots.read() as tx:
        assert tx is not None
        assert evaluate.waited(context, tx, {**PARAMETERS, "gt": "annotator:zed"}) is None  # of few images: at once
        monkeypatch.setattr(evaluate, "LARGE", 0)
        assert evaluate.waited(context, tx, PARAMETERS) is not None
    assert held.wait(LONG_ENOUGH)
    gate.set()
    assert context.jobs.wait(LONG_ENOUGH)
    with context.snapshots.read() as tx:
        assert tx is not None
        assert evaluate.waited(context, tx, PARAMETERS) is None
        there = evaluate.compare(context, tx, PARAMETERS)
        expected = plain(tx, "gold", "prelabel:vlm")
        assert there is not None
        assert expected is not None
        assert there.document == expected.document
        both = {**PARAMETERS, "other": "annotator:zed"}
        evaluate.waited(context, tx, both)
    assert context.jobs.wait(LONG_ENOUGH)
    with context.snapshots.read() as tx:
        assert tx is not None
        assert evaluate.waited(context, tx, both) is None


def test_the_oracle_looks_at_many_pictures_beside_the_page_and_at_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    made, looked = fill(tmp_path / "home", 12), list[str]()
    put_comparisons(made)

    def look_when_let(blobs: Blobs, records: list[ImageRecord], texts: dict[str, str]) -> dict[str, tuple[Defect, ...]]:
        assert gate.wait(LONG_ENOUGH)
        looked.extend(record.id for record in records)
        return {record.id: (defect(10, importance=40),) for record in records}

    monkeypatch.setattr(chains, "oracle_defects", look_when_let)
    context = make_context(made.home, made.blobs)
    with context.snapshots.read() as tx:
        assert tx is not None
        assert chains.waited(context, tx, "prelabel:vlm") is None
        assert chains.waited(context, tx, chains.ORACLE) is None  # of few pictures: at once
        monkeypatch.setattr(chains, "LOOKED_AT_ONCE", 0)
        assert chains.waited(context, tx, chains.ORACLE) is not None
    gate.set()
    assert context.jobs.wait(LONG_ENOUGH)
    with context.snapshots.read() as tx:
        assert tx is not None
        assert chains.waited(context, tx, chains.ORACLE) is None
        rows = chains.run_rows(context, tx, {"judge": chains.ORACLE})
    assert len(rows) == 2
    assert {(row["judged burden before"], row["judged fall"]) for row in rows} == {(0.4, 0.0)}
    assert len(looked) == len(set(looked))  # both runs are of the same images


def test_the_page_asks_again_until_the_figures_are_there(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    plain = evaluate.compare_sources

    def compare_when_let(*values: Any, **more: Any) -> Any:
        assert gate.wait(LONG_ENOUGH)
        return plain(*values, **more)

    monkeypatch.setattr(evaluate, "compare_sources", compare_when_let)
    monkeypatch.setattr(evaluate, "LARGE", 0)
    context = make_context(filled.home, filled.blobs)
    monkeypatch.setattr("sdg_data.dashboard.app.make_context", lambda *_, **__: context)
    client = TestClient(make_app(filled.home, filled.blobs), base_url="http://127.0.0.1")
    config = client.get("/config").json()
    names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    functions = [function for function in config["dependencies"] if function["backend_fn"]]
    compare = next(one for one in functions if [names.get(part) for part, _ in one["targets"]] == ["compare"])
    tick = next(one for one in functions if [names.get(part) for part in one["inputs"]] == ["asked"])

    opened = next(
        one
        for one in functions
        if [event for _, event in one["targets"]] == ["load"] and "evaluation" in [names.get(p) for p in one["outputs"]]
    )

    def call(function: dict[str, Any], values: list[Any]) -> list[Any]:
        body = {"fn_index": function["id"], "data": values, "session_hash": "abc"}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == 200
        data: list[Any] = answer.json()["data"]
        return data

    call(opened, [])  # which gives the drop-downs their choices
    body, asked, timer = call(compare, ["gold", "prelabel:vlm", "none", "all", "all", "paper"])
    assert "Comparing" in body
    assert timer["active"] is True
    body, again, timer = call(tick, [asked])
    assert "Comparing" in body
    assert (again, timer["active"]) == (asked, True)
    gate.set()
    assert context.jobs.wait(LONG_ENOUGH)
    body, _, timer = call(tick, [asked])
    assert "Types taken for types" in body
    assert timer["active"] is False
    for odd in ("", "gt=gold", "gt=%ff&pred=x", "pred=%00&gt=%5B", "gt=prelabel:&pred=x", None):
        body, _, timer = call(tick, [odd])
        assert "Comparing" not in body
        assert timer["active"] is False
