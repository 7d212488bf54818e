"""The composite reward against values worked out by hand, a slow reading of the paper's formulas, and properties."""

import json
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.metrics.matching import match_defects
from sdg_data.metrics.similarity import LexicalSimilarity
from tests.sdg_data.metrics import naive
from trainers.detector.reward import Reward, composite_reward, composite_rewards

TRACE = "### Step 1: a prompt.\n### Step 2: seen.\n### Step 3: placed."


def defect(
    x0: int, y0: int, x1: int, y1: int, kind: str = "artifact", reason: str = "a bent leg", importance: int = 60
) -> Defect:
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type=kind, reason=reason, importance=importance)


def said(*defects: Defect) -> str:
    return render_answer(defects, TRACE)


def same(first: str, second: str) -> float:
    return 1.0 if first == second else 0.0


def always(value: float) -> Callable[[str, str], float]:
    return lambda first, second: value


A = defect(0, 0, 100, 100)
MIS = defect(0, 0, 100, 100, "misalignment")


@pytest.mark.parametrize(
    ("truth", "answer", "box", "total"),
    [
        ([], [], 0.3, 0.18),
        ([A], [], -0.8, -0.48),
        ([], [A], -0.3, -0.18),
        ([], [A, MIS, defect(500, 500, 600, 600)], -0.3, -0.18),
        ([A], [A], 1.0, 1.0),
        # Another type never pairs: (0 − 0.5·2) / 1 = −1.
        ([A], [MIS], -1.0, -0.6),
        # (0 − 0.5·3) / 2 = −0.75.
        ([A], [MIS, defect(5, 5, 9, 9, "misalignment")], -0.75, -0.45),
        # One of two found: (1 − 0.5) / 2; reason and importance 1/2 each.
        ([A, defect(500, 500, 600, 600)], [A], 0.25, 0.6 * 0.25 + 0.25 * 0.5 + 0.15 * 0.5),
        # Found, and two boxes too many: (1 − 0.5·2) / 3 = 0; reason and importance 1/3 each.
        ([A], [A, defect(500, 0, 600, 9), defect(0, 500, 9, 600)], 0.0, 0.4 / 3),
        # n counts both types: |G| = 2, |P| = 2, one pair, two unmatched: (1 − 1) / 2.
        ([A, MIS], [A, defect(9, 9, 99, 99)], 0.0, 0.2),
    ],
)
def test_values_by_hand(truth: list[Defect], answer: list[Defect], box: float, total: float) -> None:
    reward = composite_reward(said(*answer), truth, same)
    assert reward.format_ok
    assert reward.reason is None
    assert reward.box == pytest.approx(box, abs=1e-12)
    assert reward.total == pytest.approx(total, abs=1e-12)


def test_every_term_by_hand() -> None:
    """IoU 1/2; centres (50, 50) and (50, 25), diagonal² 20,000: DIoU = 0.5 − 625/20000 = 0.46875."""
    reward = composite_reward(said(defect(0, 0, 100, 50, importance=85)), [A], always(0.7))
    assert reward.box == pytest.approx(0.46875)
    assert reward.description == pytest.approx(0.5)  # (0.7 − 0.5) / 0.4
    assert reward.importance == pytest.approx(0.5)  # 1 − 25/50
    assert reward.total == pytest.approx(0.6 * 0.46875 + 0.25 * 0.5 + 0.15 * 0.5)


@pytest.mark.parametrize(
    ("cosine", "credit"), [(-1.0, 0), (0.5, 0), (0.5001, 0.00025), (0.6, 0.25), (0.9, 1), (0.95, 1)]
)
def test_description_credit(cosine: float, credit: float) -> None:
    assert composite_reward(said(A), [A], always(cosine)).description == pytest.approx(credit)


@pytest.mark.parametrize(("importance", "credit"), [(50, 1), (75, 0.5), (99, 0.02), (100, 0), (1, 0.02)])
def test_importance_credit(importance: int, credit: float) -> None:
    truth = [defect(0, 0, 9, 9, importance=50)]
    answer = said(defect(0, 0, 9, 9, importance=importance))
    assert composite_reward(answer, truth, same).importance == pytest.approx(credit)
    beyond = composite_reward(said(defect(0, 0, 9, 9, importance=100)), [defect(0, 0, 9, 9, importance=1)], same)
    assert beyond.importance == 0


def test_the_pairs_are_those_of_largest_total_diou() -> None:
    """Greedy would pair the best first (1.0) and leave −0.9 for the rest; so would order. The total decides."""
    truth = [defect(0, 0, 100, 100, reason="left"), defect(100, 0, 200, 100, reason="right")]
    answer = [defect(90, 0, 190, 100, reason="right"), defect(10, 0, 110, 100, reason="left")]
    reward = composite_reward(said(*answer), truth, same)
    # Each 10 to the side of 100: IoU 90/110, centres 10 apart, diagonal² 110² + 100².
    assert reward.box == pytest.approx(90 / 110 - 100 / (110**2 + 100**2))
    assert reward.description == 1


def test_there_is_no_threshold_and_touching_boxes_earn_credit_unless_overlap_is_required() -> None:
    """Side by side: IoU 0, centres 100 apart, diagonal² 50,000: DIoU −0.2."""
    touching = said(defect(100, 0, 200, 100))
    reward = composite_reward(touching, [A], same)
    assert (reward.box, reward.description, reward.importance) == (pytest.approx(-0.2), 1, 1)
    assert reward.total == pytest.approx(0.6 * -0.2 + 0.25 + 0.15)
    strict = composite_reward(touching, [A], same, require_overlap=True)
    assert (strict.box, strict.description, strict.importance) == (pytest.approx(-0.2), 0, 0)
    assert strict.total == pytest.approx(-0.12)
    overlapping = said(defect(99, 0, 199, 100))
    kept = composite_reward(overlapping, [A], same, require_overlap=True)
    assert (kept.description, kept.importance) == (1, 1)


GOOD = '{"box_2d":[1,2,3,4],"label":"artifact","description":"a leg","importance":50}'


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no idea",
        "<answer>[]</answer>",  # no trace
        "<think> </think><answer>[]</answer>",
        "<think>a<answer>[]</answer>",
        "<think>a</think>[]",
        "<think>a</think><answer>[]",
        "<think>a</think><answer>{}</answer>",
        "<think>a</think><answer>[1]</answer>",
        "<think>a</think><answer>[]</answer> I hope this helps",
        "<think>a</think><answer>[]</answer><answer>[]</answer>",
        f"<think>a</think><answer>[{GOOD},]</answer>",
        f"<think>a</think><answer>```json\n[{GOOD}]\n```</answer>",
        f"<think>a</think><answer>[{GOOD}".replace("50}", "50"),
        *(
            f"<think>a</think><answer>[{GOOD.replace(*change)}]</answer>"
            for change in (
                ("[1,2,3,4]", "[3,2,1,4]"),
                ("[1,2,3,4]", "[1,4,3,2]"),
                ("[1,2,3,4]", "[1,2,1,4]"),
                ("[1,2,3,4]", "[1,2,3]"),
                ("[1,2,3,4]", "[1,2,3,4,5]"),
                ("[1,2,3,4]", '["1",2,3,4]'),
                ("[1,2,3,4]", "[1.5,2,3,4]"),
                ("[1,2,3,4]", "[1,2,3,1001]"),
                ("[1,2,3,4]", "[-1,2,3,4]"),
                ("[1,2,3,4]", "[1,2,3,NaN]"),
                ("artifact", "Artifact"),
                ("artifact", "defect"),
                ("a leg", " "),
                ('"label":"artifact",', ""),
                ('"description":"a leg",', ""),
                ("50", "101"),
                ("50", "0"),
                ("box_2d", "bbox_2d"),
            )
        ),
    ],
)
def test_an_invalid_or_repaired_answer_is_minus_one(answer: str) -> None:
    for truth in ([], [defect(1, 2, 3, 4, reason="a leg")]):
        reward = composite_reward(answer, truth, same)
        assert (reward.total, reward.box, reward.description, reward.importance) == (-1, 0, 0, 0)
        assert not reward.format_ok
        assert reward.reason
        assert reward.defects is None


def test_without_a_trace_only_where_none_is_required() -> None:
    answer = render_answer([A], None)
    assert composite_reward(answer, [A], same).reason == "missing-trace: no <think>, or a blank one"
    assert composite_reward(answer, [A], same, require_trace=False).total == 1


def test_a_similarity_that_is_no_number_stops_the_training() -> None:
    with pytest.raises(ValueError, match="is nan"):
        composite_reward(said(A), [A], always(float("nan")))


def test_where_a_wrong_box_helps() -> None:
    """What the paper's formulas allow, in numbers (see the module's text)."""
    corner = defect(990, 990, 1000, 1000, reason="other", importance=1)
    truth = [defect(0, 0, 10, 10, importance=100)]
    nothing = composite_reward(said(), truth, same)
    # Opposite corners: centres (5, 5) and (995, 995), diagonal² 2,000,000: DIoU = −2·990²/2,000,000 = −0.9801.
    assert composite_reward(said(corner), truth, same).box == pytest.approx(-0.9801)
    assert composite_reward(said(corner), truth, same).total < nothing.total
    # Close by but beside it, and wrong in all else, it is better than silence: DIoU −144/584.
    near = composite_reward(said(defect(12, 0, 22, 10, reason="other", importance=1)), truth, same)
    assert near.box == pytest.approx(-(12**2) / (22**2 + 10**2))
    assert near.total > nothing.total
    # Below −0.5 more of the same pulls towards −0.5: −1, −0.75, (0 − 0.5·4)/3.
    wrong = [defect(0, 0, 9 + n, 9, "misalignment") for n in range(3)]
    boxes = [composite_reward(said(*wrong[: n + 1]), truth, same).box for n in range(3)]
    assert boxes == [pytest.approx(-1), pytest.approx(-0.75), pytest.approx(-2 / 3)]


coordinates = st.integers(0, 40).map(lambda value: 25 * value)


@st.composite
def defects(draw: st.DrawFn) -> Defect:
    x0, x1 = sorted(draw(st.lists(coordinates, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(coordinates, min_size=2, max_size=2, unique=True)))
    kind = draw(st.sampled_from(["artifact", "misalignment"]))
    reason = draw(st.sampled_from(["a bent leg", "no leg", "one leg too many", 'a <blue> "eye"', "腿"]))
    return defect(x0, y0, x1, y1, kind, reason, draw(st.integers(1, 100)))


sets = st.lists(defects(), max_size=4)


def slowly(prediction: list[Defect], truth: list[Defect], cosine: Fraction) -> Fraction:
    """The paper's formulas in fractions, trying out every assignment; all pairs are equally alike."""

    def things(of: list[Defect], kind: str) -> list[naive.Thing]:
        chosen = [defect for defect in of if defect.type == kind]
        return [naive.Thing((b.x0, b.y0, b.x1, b.y1), kind) for b in (defect.box for defect in chosen)]

    if not prediction or not truth:
        value = "0.3" if not prediction and not truth else "-0.8" if truth else "-0.3"
        return Fraction("0.6") * Fraction(value)
    total, pairs = Fraction(0), 0
    for kind in naive.TYPES:
        a, b = things(prediction, kind), things(truth, kind)
        for i, j in naive.best_assignment(a, b, naive.diou):
            total += naive.diou(a[i], b[j])
            pairs += 1
    n = max(len(prediction), len(truth))
    box = (total - Fraction(1, 2) * (len(prediction) + len(truth) - 2 * pairs)) / n
    alike = min(max((cosine - Fraction(1, 2)) / Fraction("0.4"), Fraction(0)), Fraction(1)) * pairs / n
    return (
        Fraction("0.6") * min(max(box, Fraction(-1)), Fraction(1))
        + Fraction("0.25") * alike
        + Fraction("0.15") * Fraction(pairs, n)
    )


@given(sets, sets, st.sampled_from(["0.3", "0.55", "0.7", "1"]))
@settings(max_examples=80, deadline=None)
def test_agrees_with_a_slow_reading_of_the_formulas(prediction: list[Defect], truth: list[Defect], cosine: str) -> None:
    def plain(of: list[Defect]) -> list[Defect]:
        return [defect.model_copy(update={"importance": 50}) for defect in of]

    prediction, truth = plain(prediction), plain(truth)
    reward = composite_reward(said(*prediction), truth, always(float(cosine)))
    assert reward.total == pytest.approx(float(slowly(prediction, truth, Fraction(cosine))), abs=1e-9)


@given(sets, sets, st.booleans())
@settings(max_examples=80, deadline=None)
def test_bounds(prediction: list[Defect], truth: list[Defect], overlap: bool) -> None:
    reward = composite_reward(said(*prediction), truth, same, require_overlap=overlap)
    assert -0.6 <= reward.total <= 1
    assert -1 <= reward.box <= 1
    assert 0 <= reward.description <= 1
    assert 0 <= reward.importance <= 1
    assert reward.total == pytest.approx(0.6 * reward.box + 0.25 * reward.description + 0.15 * reward.importance)


@given(sets, sets, st.randoms(use_true_random=False))
@example([A, A.model_copy(update={"reason": "other"})], [A], random.Random(0))
@settings(max_examples=80, deadline=None)
def test_no_order_matters(prediction: list[Defect], truth: list[Defect], rng: random.Random) -> None:
    first = composite_reward(said(*prediction), truth, same)
    rng.shuffle(prediction)
    rng.shuffle(truth)
    assert composite_reward(said(*prediction), truth, same) == first


def test_no_order_matters_beyond_enumeration() -> None:
    """Nine against eight boxes of one type, some of them equal: more assignments than are tried one by one."""
    rng = random.Random(4)
    boxes = [defect(20 * n, 0, 20 * n + 100, 50, reason=f"r{n % 3}", importance=1 + n) for n in range(6)]
    prediction = [*boxes, *(box.model_copy(update={"reason": "again"}) for box in boxes[:3])]
    truth = [defect(25 * n, 5, 25 * n + 90, 60, reason=f"r{n % 3}") for n in range(8)]
    first = composite_reward(said(*prediction), truth, same)
    for _ in range(20):
        rng.shuffle(prediction)
        rng.shuffle(truth)
        assert composite_reward(said(*prediction), truth, same) == first


@given(sets, sets)
@settings(max_examples=80, deadline=None)
def test_an_exact_answer_is_the_maximum(truth: list[Defect], other: list[Defect]) -> None:
    exact = composite_reward(said(*truth), truth, same).total
    assert exact == pytest.approx(1 if truth else 0.18)
    assert composite_reward(said(*other), truth, same).total <= exact + 1e-12


@given(sets, sets, defects(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_box_without_a_partner_never_helps_from_half_upwards(
    prediction: list[Defect], truth: list[Defect], wrong: Defect, overlap: bool
) -> None:
    before = composite_reward(said(*prediction), truth, always(0.8), require_overlap=overlap)
    assume(before.box >= -0.5)
    more = [*prediction, wrong]
    assume(len(prediction) not in match_defects(more, truth, score="diou").first)
    after = composite_reward(said(*more), truth, always(0.8), require_overlap=overlap)
    assert after.box <= before.box + 1e-12
    assert after.description <= before.description + 1e-12


@given(sets, defects())
@settings(max_examples=80, deadline=None)
def test_a_box_more_than_the_truth_always_costs(truth: list[Defect], wrong: Defect) -> None:
    exact = composite_reward(said(*truth), truth, same).total
    assert composite_reward(said(*truth, wrong), truth, same).total < exact


class Counting:
    """A similarity that counts its calls."""

    name = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        self.calls += 1
        return LexicalSimilarity().pairs(first, second)


@given(st.lists(st.tuples(sets, sets), max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_its_answers_one_by_one(rows: list[tuple[list[Defect], list[Defect]]]) -> None:
    texts = [said(*prediction) for prediction, _ in rows]
    texts = [text if index % 3 else text[:-5] for index, text in enumerate(texts)]
    truths = [truth for _, truth in rows]
    counting = Counting()
    together = composite_rewards(texts, truths, counting)
    assert counting.calls <= 1
    lexical = LexicalSimilarity()
    for text, truth, reward in zip(texts, truths, together, strict=True):
        alone = composite_reward(text, truth, lexical)
        assert alone == Reward(
            pytest.approx(reward.total),
            reward.box,
            pytest.approx(reward.description),
            reward.importance,
            reward.format_ok,
            reward.reason,
            reward.defects,
        )


def test_a_batch_needs_as_many_truths() -> None:
    with pytest.raises(ValueError, match="1 answers against 0"):
        composite_rewards([""], [], LexicalSimilarity())


def test_ten_thousand_mutated_answers() -> None:
    """Whatever a model writes has a reward within the bounds; an accepted one is what its JSON says."""
    rng = random.Random(2026)
    truth = [A, MIS, defect(300, 300, 700, 900, reason="腿 — é")]
    sources = [said(), said(A), said(*truth), said(*truth, *truth)]
    pieces = [
        "<",
        "</think>",
        "<answer>",
        "]",
        "[",
        '"',
        "\\",
        ",",
        "{",
        "}",
        "0",
        "-",
        "1e9",
        "\ud800",
        "\x00",
        "null",
        "é",
    ]
    accepted = 0
    texts = []
    for _ in range(10_000):
        letters = list(rng.choice(sources))
        for _ in range(rng.choice([0, 1, 1, 2, 5])):
            place = rng.randrange(len(letters)) if letters else 0
            action = rng.randrange(4)
            if action == 0:
                del letters[place : place + rng.choice([1, 1, 4, 40])]
            elif action == 1:
                letters.insert(place, rng.choice(pieces))
            elif action == 2:
                letters[place : place + 1] = [chr(rng.randrange(32, 1000))]
            else:
                letters = letters[:place]
        texts.append("".join(letters))
    for text, reward in zip(texts, composite_rewards(texts, [truth] * len(texts), LexicalSimilarity()), strict=True):
        assert -1 <= reward.total <= 1
        assert (reward.total == -1) == (not reward.format_ok)
        if reward.format_ok:
            accepted += 1
            body = text.partition("</think>")[2].strip().removeprefix("<answer>").removesuffix("</answer>")
            assert len(json.loads(body)) == len(reward.defects or ())
    assert 1500 < accepted < 8000
