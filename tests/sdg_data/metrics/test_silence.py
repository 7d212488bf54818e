"""Silence never pays: what a detector did not answer is a failure, whatever stands beside it in the row."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from tests.sdg_data.metrics.support import defects, some_defects

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


def figures(
    folder: Path,
    truths: list[list[Defect]],
    answers: Sequence[dict[str, Any] | None],
    protocol: Protocol,
    *,
    whole_row: bool = False,
) -> Any:
    """Every figure, of rows that carry the truth beside the answer, as the release's inference scripts write them.

    An answer None is a row that is not there; `whole_row` counts its image as a failure.
    """
    copied = [
        {
            "filepath": f"{n}.png",
            "ann_response": render_answer(truth, None),
            "ann_translated_bboxes": json.loads(render_answer(truth, None)[len("<answer>") : -len("</answer>")]),
        }
        for n, truth in enumerate(truths)
    ]
    predicted = [{**row, **answer} for row, answer in zip(copied, answers, strict=True) if answer is not None]
    for name, rows in (("gt", copied), ("pred", predicted)):
        (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    gt, pred = (ReleaseFile(folder / name, name, protocol).read() for name in ("gt", "pred"))  # type: ignore[arg-type]
    pairs = pair_up(gt, pred, protocol, fill_missing=whole_row)
    return evaluate(pairs, protocol=protocol, resamples=0).summary


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


NUMBERS = {"images", "unanswered", "charged", "pairs", "gt", "pred", "parse_failures"}
ERRORS = {"mae", "fp", "fn", "share", "error"}
SMALL = defects().map(lambda defect: defect.model_copy(update={"reason": "a hand"}))
FLOODS = st.lists(SMALL, min_size=8, max_size=14).map(lambda things: things * 2)


Leaves = dict[tuple[str, ...], float | None]
"""Figures by their paths in the JSON."""


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Leaves:
    """Every figure of a tree by its path; what only counts things is none."""
    if not isinstance(tree, dict):
        return {} if path[-1] in NUMBERS else {path: tree}
    return {key: value for name, branch in tree.items() for key, value in leaves(branch, (*path, name)).items()}


def is_error(path: tuple[str, ...]) -> bool:
    """Whether a figure is one that should be low."""
    return path[-1] in ERRORS or (path[-1] == "boxes" and "false_alarms" in path)


def check_none_is_better(
    before: dict[tuple[str, ...], float | None], after: dict[tuple[str, ...], float | None]
) -> None:
    assert before.keys() <= after.keys()
    for path, value in after.items():
        first, second = before.get(path) or 0, value or 0
        assert second >= first - 1e-9 if is_error(path) else second <= first + 1e-9, (path, first, second)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.lists(defects(), max_size=3), st.one_of(st.lists(defects(), max_size=4), FLOODS)),
        min_size=2,
        max_size=4,
    ),
    st.data(),
    st.sampled_from(Protocol),
)
def test_taking_any_answer_away_raises_no_figure_at_worst(
    folder: Path, images: list[tuple[list[Defect], list[Defect]]], data: st.DataObject, protocol: Protocol
) -> None:
    """Any file, any answers, any way of leaving one out, and again: no figure of `at_worst` gets better."""
    truths = [truth for truth, _ in images]
    said: list[dict[str, Any] | None] = [
        answered(truth if data.draw(st.booleans()) else guess) for truth, guess in images
    ]
    gone = data.draw(st.permutations(range(1, len(images))))  # one response stays, or the file is one of annotations
    before = leaves(figures(folder, truths, said, protocol, whole_row=True)["at_worst"])
    for place in gone:
        said[place] = data.draw(st.sampled_from([None, *SILENCES, {"response": UNREADABLE}]))
        after = leaves(figures(folder, truths, said, protocol, whole_row=True)["at_worst"])
        check_none_is_better(before, after)
        before = after


ODD = st.sampled_from(
    ["9" * 300, "\ufffd" * 120, "", "[]", "{}", "```json\n[]\n```", '<answer>[{"box_2d": [0, 0, 1, 1]}]</answer>']
)
ODD_IMPORTANCES = st.sampled_from([-5, 0, 0.5, 101, 1e300, -1e300, None, "80", True])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.lists(defects(), min_size=1, max_size=3), ODD, ODD_IMPORTANCES), min_size=2, max_size=5),
    st.data(),
)
def test_nor_an_odd_answer_of_the_release(
    folder: Path, images: list[tuple[list[Defect], str, Any]], data: st.DataObject
) -> None:
    """Degenerate answers that hold boxes, importances beyond 1..100, and texts around the list."""
    truths = [truth for truth, _, _ in images]

    def odd(truth: list[Defect], text: str, importance: Any) -> dict[str, Any]:
        items = json.loads(render_answer(truth, None)[len("<answer>") : -len("</answer>")])
        block = json.dumps([{**item, "importance": importance} for item in items])
        return {"response": data.draw(st.sampled_from([text, f"{text}<answer>{block}</answer>"]))}

    said: list[dict[str, Any] | None] = [odd(*image) for image in images]
    before = leaves(figures(folder, truths, said, Protocol.RELEASE, whole_row=True)["at_worst"])
    for place in data.draw(st.permutations(range(1, len(images)))):
        said[place] = data.draw(st.sampled_from([None, *SILENCES, {"response": UNREADABLE}]))
        after = leaves(figures(folder, truths, said, Protocol.RELEASE, whole_row=True)["at_worst"])
        check_none_is_better(before, after)
        before = after


def test_with_every_answer_the_worst_is_the_plain_figure(folder: Path) -> None:
    rng = random.Random(3)
    truths, guesses = ([some_defects(rng) for _ in range(30)] for _ in range(2))
    for protocol in Protocol:
        measured = figures(folder, truths, [answered(guess) for guess in guesses], protocol)
        assert measured["at_worst"]["unanswered"] == 0
        for path, value in leaves(measured["at_worst"]).items():
            plain: Any = measured
            for key in path:
                plain = plain[key]
            assert value == pytest.approx(plain, abs=1e-12), path


def test_the_worst_answer_by_hand(folder: Path) -> None:
    """One right answer of one artifact; a clean image and one with an artifact unanswered: 1/(1+20), 1/2, 0 of 1."""
    box = Box(x0=0, y0=0, x1=500, y1=500)
    artifact = Defect(box=box, type="artifact", reason="a hand", importance=40)
    silent: dict[str, Any] = {"response": None}
    measured = figures(folder, [[artifact], [], [artifact]], [answered([artifact]), silent, silent], Protocol.PAPER)
    worst = measured["at_worst"]
    assert (worst["images"], worst["unanswered"], worst["charged"]) == (3, 2, 10)
    assert measured["boxes"]["0.5"]["artifact"]["precision"] == 1.0
    assert measured["image_level"]["artifact"]["clean_accuracy"] == 1.0
    assert worst["boxes"]["0.5"]["artifact"] == {
        "tp": 1,
        "fp": 20,
        "fn": 1,
        "precision": 1 / 21,
        "recall": 0.5,
        "f1": 2 / 23,
    }
    assert worst["boxes"]["0.5"]["all"]["fp"] == 40
    assert worst["image_level"]["artifact"]["clean_accuracy"] == 0.0
    assert worst["image_level"]["artifact"]["precision"] == 0.5
    assert worst["description"]["artifact"]["mean"] == worst["importance"]["artifact"] == 0.5
    assert worst["count"] == {"mae": 40 / 3, "exact_match": 1 / 3}


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
