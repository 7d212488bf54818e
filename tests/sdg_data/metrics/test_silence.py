"""Silence never pays: what a detector did not answer is a failure, whatever stands beside it in the row."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from tests.sdg_data.metrics.support import defects

UNREADABLE = "I am afraid that I cannot say."
SILENCES: list[dict[str, Any]] = [{"response": None}, {"response": ""}, {}, {"response": 7}]
IMAGES = st.lists(
    st.tuples(st.lists(defects(), max_size=3), st.lists(defects(), max_size=3), st.sampled_from([None, *SILENCES])),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("silence")


def figures(folder: Path, truths: list[list[Defect]], answers: list[dict[str, Any]], protocol: Protocol) -> Any:
    """Every figure, of rows that carry the truth beside the answer, as the release's inference scripts write them."""
    copied = [
        {
            "filepath": f"{n}.png",
            "ann_response": render_answer(truth, None),
            "ann_translated_bboxes": json.loads(render_answer(truth, None)[len("<answer>") : -len("</answer>")]),
        }
        for n, truth in enumerate(truths)
    ]
    predicted = [{**row, **answer} for row, answer in zip(copied, answers, strict=True)]
    for name, rows in (("gt", copied), ("pred", predicted)):
        (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    gt, pred = (ReleaseFile(folder / name, name, protocol).read() for name in ("gt", "pred"))  # type: ignore[arg-type]
    return evaluate(pair_up(gt, pred, protocol), protocol=protocol, resamples=0).summary


def answered(things: list[Defect]) -> dict[str, Any]:
    return {"response": render_answer(things, "t")}


@settings(deadline=None, max_examples=60)
@given(IMAGES, st.sampled_from(Protocol))
def test_an_answer_that_is_not_there_counts_as_one_that_cannot_be_read(
    folder: Path, images: list[tuple[list[Defect], list[Defect], dict[str, Any] | None]], protocol: Protocol
) -> None:
    truths = [truth for truth, _, _ in images]
    said = [answered(guess) if silence is None else silence for _, guess, silence in images]
    if not any("response" in answer for answer in said):
        said[0] = {"response": None}
    unread = [answered(guess) if silence is None else {"response": UNREADABLE} for _, guess, silence in images]
    if all(silence is not None for _, _, silence in images):
        unread[0] = {"response": UNREADABLE}
    assert figures(folder, truths, said, protocol) == figures(folder, truths, unread, protocol)


@settings(deadline=None, max_examples=60)
@given(IMAGES, st.data(), st.sampled_from(Protocol))
def test_taking_a_right_answer_away_raises_no_figure(
    folder: Path,
    images: list[tuple[list[Defect], list[Defect], dict[str, Any] | None]],
    data: st.DataObject,
    protocol: Protocol,
) -> None:
    truths = [truth for truth, _, _ in images]
    before = [answered(truths[0]), *(answered(guess) for _, guess, _ in images[1:])]
    after = [{"response": None}, *before[1:]]
    first, second = (figures(folder, truths, answers, protocol) for answers in (before, after))
    for threshold, scopes in first["boxes"].items():
        for scope, values in scopes.items():
            for name in ("tp", "precision", "recall", "f1"):
                assert (second["boxes"][threshold][scope][name] or 0) <= (values[name] or 0)
    for scope, values in first["image_level"].items():
        for name in ("accuracy", "precision", "recall", "f1", "clean_accuracy"):
            assert (second["image_level"][scope][name] or 0) <= (values[name] or 0) + 1e-12
    for measure in (lambda tree: tree["description"], lambda tree: tree["description"]["token_f1"]):
        assert measure(second)["detection_aware"] <= measure(first)["detection_aware"] + 1e-12
    assert second["count"]["exact_match"] <= first["count"]["exact_match"]
    assert second["count"]["mae"] >= first["count"]["mae"]
    assert second["parsing"]["parsed"] == first["parsing"]["parsed"] - 1


@settings(deadline=None, max_examples=60)
@given(IMAGES, st.sampled_from(Protocol))
def test_taking_any_answer_away_finds_no_more(
    folder: Path, images: list[tuple[list[Defect], list[Defect], dict[str, Any] | None]], protocol: Protocol
) -> None:
    truths = [truth for truth, _, _ in images]
    before = [answered(guess) for _, guess, _ in images]
    first = figures(folder, truths, before, protocol)
    second = figures(folder, truths, [{"response": None}, *before[1:]], protocol)
    for threshold, scopes in first["boxes"].items():
        for scope, values in scopes.items():
            assert second["boxes"][threshold][scope]["tp"] <= values["tp"]
            assert (second["boxes"][threshold][scope]["recall"] or 0) <= (values["recall"] or 0)
    for scope, values in first["image_level"].items():
        assert (second["image_level"][scope]["recall"] or 0) <= (values["recall"] or 0)
    assert second["parsing"]["rate"] > first["parsing"]["rate"]
