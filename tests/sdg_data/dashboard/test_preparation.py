"""What pages compute in advance: once for each snapshot, what they would compute anyway, and never in the way."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from schemas.records import Prompt, Split
from sdg_data.blobs import Blobs
from sdg_data.dashboard.app import PAGES, make_context
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.page import Page
from sdg_data.dashboard.pages import comparison, evaluate
from sdg_data.dashboard.pages.agreement import aggregates
from sdg_data.dashboard.pages.agreement import page as agreement
from sdg_data.dashboard.preparation import Preparation
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.dashboard.tables import models
from sdg_data.errors import InputError
from sdg_data.ids import prompt_id
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.report import worst_images
from sdg_data.store import prompts
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import scalar
from tests.sdg_data.dashboard.conftest import Filled

PARAMETERS = {"gt": "gold", "pred": "prelabel:vlm", "model": "", "split": "", "protocol": "paper"}


def add(store: Store, text: str) -> None:
    with store.write() as tx:
        prompts.insert(tx, [Prompt(id=prompt_id(text), text=text, source="s", licence=None, split="train")])


def page(name: str, prepare: Callable[[PageContext, Tx], None]) -> Page:
    return Page(title=name, path=name, build=lambda context: None, prepare=prepare)


def test_every_snapshot_is_prepared_and_one_page_does_not_stop_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add(store, "one")
    seen: list[int] = []

    def broken(context: PageContext, tx: Tx) -> None:
        raise InputError("it cannot be computed")

    def count(context: PageContext, tx: Tx) -> None:
        number = int(scalar(tx, "SELECT count(*) FROM prompts"))
        seen.append(context.cached(tx, "prompts", lambda: number))

    pages = (page("broken", broken), page("count", count), Page(title="x", path="x", build=lambda context: None))
    context = make_context(tmp_path, Blobs(tmp_path / "blobs"), pages=pages)
    assert context.snapshots.refresh() is not None
    preparation = Preparation(context, pages)
    preparation.start()
    assert preparation.wait(60)
    assert context.snapshots.refresh() is not None  # nothing new
    add(store, "two")
    assert context.snapshots.refresh() is not None
    assert preparation.wait(60)
    assert seen == [1, 2]
    with context.snapshots.read() as tx:
        assert tx is not None
        assert context.cached(tx, "prompts", lambda: -1) == 2


def test_prepared_pages_compute_nothing_more(
    filled: Filled, context: PageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = make_context(filled.home, filled.blobs)
    preparation = Preparation(prepared, PAGES)
    first = prepared.snapshots.refresh()
    assert first is not None
    preparation.start()
    assert preparation.wait(60)
    last = prepared.snapshots.current()
    assert last is not None
    assert last.seconds > first.seconds  # it rests longer for what was computed of it
    with context.snapshots.read() as tx:
        expected = agreement.render_ceiling(context, tx), agreement.render_annotators(context, tx)
        compared = evaluate.compare(context, tx, PARAMETERS)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was to be there")

    for module, name in (
        (agreement, "people_agreement"),
        (agreement, "annotators"),
        (agreement, "between_people"),
        (agreement, "person_weeks"),
        (agreement, "queue"),
        (evaluate, "compare_sources"),
    ):
        monkeypatch.setattr(module, name, refuse)
    with prepared.snapshots.read() as tx:
        assert (agreement.render_ceiling(prepared, tx), agreement.render_annotators(prepared, tx)) == expected
        for protocol in Protocol:
            comparison_there = evaluate.compare(prepared, tx, {**PARAMETERS, "protocol": protocol})
            assert comparison_there is not None
            if protocol is Protocol.PAPER:
                assert compared is not None
                assert comparison_there.whole() == compared.whole()
        parts = [{"model": model} for model in models(tx)] + [{"split": split} for split in Split]
        whole, *found = (
            evaluate.compare(prepared, tx, {"gt": "gold", "pred": "prelabel:vlm", **part}) for part in ({}, *parts)
        )
        assert whole is not None
        # Each image has a generator and a split.
        assert sum(part.document["images"] for part in found if part is not None) == 2 * whole.document["images"]


def test_a_comparison_says_what_its_parts_say(snapshots: Snapshots) -> None:
    with snapshots.read() as tx:
        people = aggregates.people_agreement(tx)
        compared = comparison.compare_sources(tx, "gold", "prelabel:vlm")
        assert people is not None
        assert compared is not None
        assert compared.document["ceiling"] == people.ceiling.summary
        rows = compared.whole()["per_image"]
        worst = [row["filepath"] for row in worst_images(rows)][:60]
        assert [row["image"] for row in compared.worst] == worst
        assert compared.result.worst(7) == worst_images(rows)[:7]
        assert set(compared.blobs) == set(worst)
