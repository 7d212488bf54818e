"""An answer's score, by hand."""

from typing import Any

import pytest

from annotate.known_answers.scoring import above_chance, chance, score
from schemas.defect import Defect
from schemas.geometry import Box
from schemas.known_answers import KnownTruth


def at(x: int, y: int = 100, side: int = 100, kind: str = "artifact", importance: int = 50) -> Defect:
    box = Box(x0=x, y0=y, x1=x + side, y1=y + side)
    return Defect(box=box, type=kind, reason="r", importance=importance)


def right(*defects: Defect, **fields: Any) -> KnownTruth:
    return KnownTruth(defects=defects, **fields)


def test_each_defect_and_each_false_box_is_one_decision() -> None:
    truth = right(at(100, importance=70), at(400), at(700))
    # one found (importance off by 20), one found under the other type, one missed, one box on nothing
    figures = score([at(110, importance=50), at(400, kind="misalignment"), at(100, 800)], truth, iou=0.3)
    assert (figures.hits, figures.wrong_type, figures.missed, figures.false_boxes) == (1, 1, 1, 1)
    assert figures.share == pytest.approx(1 / 4)
    assert figures.importance_error == 20
    assert figures.followed is None


def test_a_clean_picture_is_right_or_wrong_as_a_whole() -> None:
    assert score([], right(), iou=0.3).share == 1
    assert score([at(100)], right(), iou=0.3).share == 0
    assert score([], right(at(100)), iou=0.3).share == 0


def test_the_overlap_decides_what_is_found() -> None:
    # 100×100 boxes shifted by 50: overlap 5,000 of 15,000 = 1/3
    assert score([at(150)], right(at(100)), iou=0.3).hits == 1
    assert score([at(150)], right(at(100)), iou=0.34).hits == 0


def test_where_the_truth_is_not_complete_other_boxes_are_not_false() -> None:
    truth = right(at(100), complete=False, weighed=False)
    figures = score([at(100), at(600)], truth, iou=0.3)
    assert (figures.share, figures.false_boxes, figures.importance_error) == (1.0, 0, None)
    assert score([at(600)], truth, iou=0.3).share == 0


def test_whether_the_prelabels_fault_was_left_in() -> None:
    lacking = right(at(100), at(500), missed_by_prelabel=at(500))
    assert score([at(100)], lacking, iou=0.3).followed is True
    assert score([at(100), at(510)], lacking, iou=0.3).followed is False
    invented = right(at(100), invented_by_prelabel=at(700, 700))
    assert score([at(100), at(700, 700)], invented, iou=0.3).followed is True
    assert score([at(100)], invented, iou=0.3).followed is False


def test_saying_clean_of_everything_is_worth_nothing_above_chance() -> None:
    truths = [right(at(100)), right(), right(at(300)), right()]
    said: list[list[Defect]] = [[], [], [], []]
    shares = [score(answer, truth, iou=0.3).share for answer, truth in zip(said, truths, strict=True)]
    by_chance = chance(said, truths, iou=0.3)
    assert by_chance == pytest.approx(0.5)  # of the three others of each: clean 1, 2, 1, 2 times, hence 6 of 12
    assert above_chance(sum(shares) / 4, by_chance) == pytest.approx(0.0)


def test_right_answers_are_worth_everything_above_chance() -> None:
    truths = [right(at(100)), right(at(300)), right(at(500)), right(at(700))]
    said = [list(truth.defects) for truth in truths]
    assert chance(said, truths, iou=0.3) == 0
    assert above_chance(1.0, 0.0) == 1
    assert chance(said[:1], truths[:1], iou=0.3) is None
    assert above_chance(1.0, None) is None
