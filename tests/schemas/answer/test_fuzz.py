"""Mutated answers: nothing escapes, nothing is made up. 20,000 in the normal run, 200,000 with the marker `slow`."""

import json
import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answer.parse import Outcome, ParsedAnswer, parse_answer, render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from schemas.release import ReleaseOutcome, parse_release_answer

CORPUS = [
    json.loads(line)["text"]
    for line in (Path(__file__).parents[1] / "corpus" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
]
TOKENS = [
    "<think>", "</think>", "<answer>", "</answer>", "```json", "```", "[", "]", "{", "}", "(", ")", ",", ":", '"', "'",
    "\\", "\n", " ", "\0", "\ud83d", "\udc00", "NaN", "Infinity", "-", ".", "e9", "1e2", "null", "true", "None",
    "9" * 30, "0", "1000", "1001", "-3", '"box_2d":', '"bbox_2d":', '"label":', "artifact", "[10,20,30,40]",
    "[40,30,20,10]", "[]", "[ ]", "//", "/*", "#", "sorry",
    '"importance":', "\u2028", "“", "＂", "\\u0022", "\\ud800", "<", "...", "},{", "}, {", "]}", "[{",
]  # fmt: skip
NUMBER = r"[\"']?(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)[\"']?"
QUADRUPLE = re.compile(r"(?<![\d.])(?=" + r"\s*,\s*".join([NUMBER] * 4) + ")", re.ASCII)


def written(text: str) -> set[tuple[int, ...]]:
    """Every box that four numbers in a row of the text can say: rounded, at most 1 % clamped, corners sorted."""
    boxes = set()
    for match in QUADRUPLE.finditer(text):
        values = [float(number) for number in match.groups()]
        if all(abs(value) < 2000 for value in values):
            a, b, c, d = (min(max(math.floor(value + 0.5), 0), 1000) for value in values)
            boxes.add((min(a, c), min(b, d), max(a, c), max(b, d)))
    return boxes


def check(text: str, answer: ParsedAnswer) -> None:
    if answer.defects is None:
        assert answer.outcome is Outcome.REJECTED
        assert answer.reason is not None
        return
    assert answer.outcome is (Outcome.REPAIRED if answer.repairs else Outcome.PARSED)
    if not answer.defects:
        assert re.search(r"\[\s*\]", text), "a clean image has to be claimed"
    boxes = written(text)
    for defect in answer.defects:
        box = (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1)
        assert box in boxes, f"{box} does not stand in {text!r}"
    assert len(answer.defects) <= text.count("box_2d")
    assert parse_answer(render_answer(answer.defects, answer.trace)).defects == answer.defects


def some_defects(rng: random.Random) -> list[Defect]:
    defects = []
    for _ in range(rng.randint(0, 3)):
        x, y = rng.randint(0, 900), rng.randint(0, 900)
        box = Box(x0=x, y0=y, x1=rng.randint(x + 1, 1000), y1=rng.randint(y + 1, 1000))
        fields = {"box": box, "type": rng.choice(["artifact", "misalignment"]), "importance": rng.randint(1, 100)}
        words = rng.choice(
            ["a sixth finger", 'the sign says "OPNE"', "it's [red], not {blue}", "une main à six doigts"]
        )
        defects.append(Defect.model_validate(fields | {"reason": words}))
    return defects


def mutated(rng: random.Random) -> str:
    text = rng.choice(CORPUS) if rng.random() < 0.5 else render_answer(some_defects(rng), rng.choice([None, "a trace"]))
    text = text[:4000]
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        near = min(len(text), at + rng.randint(1, 6))
        match rng.randrange(9):
            case 0:
                text = text[:at]
            case 1:
                text = text[:at] + text[near:]
            case 2:
                text = text[:at] + rng.choice(TOKENS) + text[at:]
            case 3:
                text = text[:at] + rng.choice(TOKENS) + text[near:]
            case 4:
                text = text[:end] + text[at:end] + text[end:]
            case 5:
                text = text[:at] + text[end:]
            case 6:
                old, new = rng.choice(["\"'", "'\"", "[(", "])", "}]", "{[", ",;", ":=", "01", "<[", ", "])
                text = text.replace(old, new, rng.choice([1, -1]))
            case 7:
                other = rng.choice(CORPUS)[:2000]
                text = text[:at] + other[rng.randint(0, len(other)) :]
            case _:
                text = text[:at] + "".join(chr(rng.randrange(1, 0x3000)) for _ in range(3)) + text[at:]
    return text


def fuzz(count: int, seed: int) -> dict[Outcome, int]:
    rng = random.Random(seed)
    seen = dict.fromkeys(Outcome, 0)
    for _ in range(count):
        text = mutated(rng)
        answer = parse_answer(text)
        check(text, answer)
        seen[answer.outcome] += 1
        release = parse_release_answer(text)
        assert release.outcome is not ReleaseOutcome.FAILED or not release.items
    return seen


def test_five_thousand_mutated_answers() -> None:
    seen = fuzz(5_000, seed=1)
    assert min(seen.values()) > 125, f"the mutations must reach every outcome: {seen}"


@pytest.mark.slow
def test_two_hundred_thousand_mutated_answers() -> None:
    seen = fuzz(200_000, seed=2)
    assert min(seen.values()) > 5000, f"the mutations must reach every outcome: {seen}"


@given(st.text(st.characters(), max_size=400))
def test_any_text(text: str) -> None:
    check(text, parse_answer(text))
    parse_release_answer(text)


@given(st.lists(st.sampled_from(TOKENS), max_size=40).map("".join))
def test_any_sequence_of_the_forms_own_pieces(text: str) -> None:
    for whole in (text, f"<answer>{text}</answer>", f"<answer>[{{{text}}}]</answer>"):
        check(whole, parse_answer(whole))
        parse_release_answer(whole)
