"""Sides are balanced for every rater, the other way round for the next one, and repeats come later, turned."""

from collections import Counter

import pytest

from annotate.study.order import arrangements, sequence
from schemas.study import StudyTrial, TrialKind
from sdg_data.ids import content_id


def trials(count: int, arms: tuple[str, ...] = ("a", "b"), repeats: int = 0) -> list[StudyTrial]:
    made = [
        StudyTrial(
            id=content_id("trial", "x", *arms, k),
            study_id=content_id("study", "x"),
            number=k,
            kind=TrialKind.JUDGED,
            item=str(k),
            prompt="p",
            reference=None,
            arms=arms,
            images=tuple(content_id("image", arm, k) for arm in arms),
            repeats=None,
        )
        for k in range(count)
    ]
    return made + [
        trial.model_copy(update={"id": content_id("again", trial.id), "kind": TrialKind.REPEATED, "repeats": trial.id})
        for trial in made[:repeats]
    ]


def test_two_arms_stand_on_each_side_equally_often() -> None:
    mixed = [*trials(30), *trials(20, ("a", "c"))]
    for number in (0, 1, 5):
        shown = arrangements(mixed, number)
        for arms in (("a", "b"), ("a", "c")):
            sides = Counter(shown[trial.id] for trial in mixed if trial.arms == arms)
            assert sides[0, 1] == sides[1, 0] > 0


def test_the_next_rater_sees_the_pair_the_other_way_round() -> None:
    asked = trials(9)
    for trial in asked:
        assert arrangements(asked, 3)[trial.id] == arrangements(asked, 4)[trial.id][::-1]


@pytest.mark.parametrize("arms", [3, 4, 5])
def test_more_arms_stand_at_each_place_equally_often_and_before_each_other_too(arms: int) -> None:
    asked = trials(2 * arms * 4, tuple("abcde"[:arms]))
    shown = arrangements(asked, 2).values()
    places = Counter((arm, place) for order in shown for place, arm in enumerate(order))
    assert len(places) == arms * arms
    assert len(set(places.values())) == 1
    before = Counter((x, y) for order in shown for i, x in enumerate(order) for y in order[i + 1 :])
    assert all(before[x, y] == before[y, x] for x, y in before)


def test_a_repeat_is_turned_and_comes_later() -> None:
    asked = trials(40, repeats=10)
    shown = arrangements(asked, 0)
    for rater in ("ann", "ben"):
        order = sequence(asked, 7, rater)
        at = {trial.id: k for k, trial in enumerate(order)}
        assert sorted(at) == sorted(trial.id for trial in asked)
        for trial in asked:
            if trial.repeats is not None:
                assert shown[trial.id] == shown[trial.repeats][::-1]
                assert at[trial.id] > at[trial.repeats] + 5
    assert sequence(asked, 7, "ann") != sequence(asked, 7, "ben")
    assert sequence(asked, 7, "ann") == sequence(asked[::-1], 7, "ann")
