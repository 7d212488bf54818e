"""The quick look never disagrees with the parser: on rendered answers, on the corpus, on mutations aimed at the gap."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answer.fast import release_items, strict_items
from schemas.answer.parse import Outcome, parse_answer, render_answer
from schemas.base import is_blank
from schemas.defect import Defect
from schemas.release import ReleaseOutcome, parse_release_answer

CORPUS = [
    json.loads(line)["text"]
    for line in (Path(__file__).parents[1] / "corpus" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
]
SAID = st.from_type(Defect).filter(lambda defect: not is_blank(defect.reason))
ITEM = '{"box_2d":[1,2,3,4],"label":"artifact","description":"d: e","importance":62}'
FULL = (
    '{"box_2d":[1,2,3,4],"label":"misalignment","description":"d","importance":62,"subtype":"attribute",'
    '"attribute":"colour"}'
)


def agree_strictly(text: str) -> bool:
    """Did the quick look answer? If so it must have said what the parser says."""
    items = strict_items(text)
    if items is None:
        return False
    parsed = parse_answer(text)
    assert parsed.defects is not None, text
    # A lone surrogate in the trace is a repair of the trace, and none of the list's business.
    assert parsed.outcome is Outcome.PARSED or "\ufffd" in (parsed.trace or ""), text
    assert items == [plain(defect) for defect in parsed.defects], text
    return True


def plain(defect: Defect) -> dict[str, Any]:
    box = defect.box
    item = {
        "box_2d": [box.x0, box.y0, box.x1, box.y1],
        "label": defect.type.value,
        "description": defect.reason,
        "importance": defect.importance,
    }
    if defect.subtype is not None:
        item["subtype"] = defect.subtype.value
    if defect.attribute is not None:
        item["attribute"] = defect.attribute.value
    return item


def agree_on_release(text: str) -> bool:
    items = release_items(text)
    if items is None:
        return False
    parsed = parse_release_answer(text)
    assert (parsed.outcome, parsed.dropped) == (ReleaseOutcome.PARSED, 0), text
    assert [(item["box_2d"], item["label"], item["description"], float(item["importance"])) for item in items] == [
        ([item.box.x0, item.box.y0, item.box.x1, item.box.y1], item.label, item.description, item.importance)
        for item in parsed.items
    ], text
    return True


@settings(deadline=None)
@given(st.lists(SAID, max_size=3), st.none() | st.text(max_size=60))
def test_rendered_answers_are_read_at_once(defects: list[Defect], trace: str | None) -> None:
    text = render_answer(defects, trace)
    assert agree_strictly(text)
    agree_on_release(text)


def test_plain_answers_take_the_quick_way_in_both_protocols() -> None:
    trace = "### Step 1: Caption Understanding\n" + "a hand with six fingers " * 90
    for text in (f"<think>{trace}</think><answer>[{ITEM}, {ITEM}]</answer>", "<answer>[]</answer>"):
        assert agree_strictly(text)
        assert agree_on_release(text)
    assert strict_items(f"<think>x</think>\n<answer>[{FULL}]</answer>\n") == [json.loads(FULL)]


@pytest.mark.parametrize("text", CORPUS)
def test_the_corpus_agrees(text: str) -> None:
    agree_strictly(text)
    agree_on_release(text)


@pytest.mark.parametrize(
    "body",
    [
        ITEM.replace('"importance":62', '"importance":62,"importance":63'),
        ITEM.replace('"importance":62', '"importance":62,"importance":"\\u003a"'),
        ITEM.replace('"d: e"', '"d","description":"e\\u003a"'),
        ITEM.replace('"d: e"', '"a\\u003ab","label":"artifact"'),
        ITEM.replace('"label"', '"l\\u0061bel":"artifact","label"'),
        ITEM.replace('"d: e"', '" \\n "'),
        ITEM.replace('"d: e"', '"\\ud83d"'),
        ITEM.replace("62", "62.0"),
        ITEM.replace("62", "true"),
        ITEM.replace("62", "0"),
        ITEM.replace("62", "1e2"),
        ITEM.replace("[1,2,3,4]", "[1,2,3,4.0]"),
        ITEM.replace("[1,2,3,4]", "[true,2,3,4]"),
        ITEM.replace("[1,2,3,4]", "[3,2,1,4]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3,1001]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3,-0]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3,4,5]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3," + "9" * 40 + "]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3," + "9" * 5000 + "]"),
        ITEM.replace("[1,2,3,4]", "[1,2,3,NaN]"),
        ITEM.replace("artifact", "Artifact"),
        ITEM.replace('"artifact"', "null"),
        ITEM.replace("}", ',"subtype":"style"}'),
        ITEM.replace("}", ',"subtype":"edge","attribute":"colour"}'),
        ITEM.replace("}", ',"subtype":null}'),
        ITEM.replace("}", ',"note":"x"}'),
        "7",
        "null",
        '"text"',
        "",
        f"{ITEM}",
    ],
)
def test_near_misses_agree(body: str) -> None:
    for text in (f"<answer>[{body}]</answer>", f"<answer>{body}</answer>", f"<answer>[{ITEM},{body}]</answer>"):
        agree_strictly(text)
        agree_on_release(text)


@pytest.mark.parametrize(
    "text",
    [
        f"<answer>[{ITEM}]</answer>" + "0" * 200,
        f"<answer>[{ITEM}]</answer>" + "\ufffd" * 100,
        f"<answer>[{ITEM}]</answer>" + chr(0xD800) * 100,
        f"<think>\ud800</think><answer>[{ITEM}]</answer>",
        f"<answer>[{ITEM}]</answer><answer>[]</answer>",
        f"<answer>```[{ITEM}]```</answer>",
        f"<think>a <answer>[]</answer></think><answer>[{ITEM}]</answer>",
        f"<think>a</think>b<answer>[{ITEM}]</answer>",
        f"<think>a<answer>[{ITEM}]</answer>",
        f"<answer>\ufeff[{ITEM}]</answer>",
        f"<answer>\u3000[{ITEM}]\u3000</answer>",
        f"[{ITEM}]",
    ],
)  # fmt: skip
def test_unusual_blocks_agree(text: str) -> None:
    agree_strictly(text)
    agree_on_release(text)


PIECES = [
    '"label":"artifact",', '"label":"both",', '"label":', ":", "\\u003a", "\\u003A", '"', "\\", ",", "[", "]", "{", "}",
    "1", "-0", "1e2", "62.0", "true", "null", "1000", "1001", " ", "\n", "</answer>", "<answer>", "</think>", "```",
    "\ud800", "\ufffd", "9" * 25, '"subtype":"edge",', "d",
]  # fmt: skip


def test_mutated_answers_agree() -> None:
    rng, quick = random.Random(7), 0
    for _ in range(6_000):
        text = rng.choice([f"<think>a trace</think><answer>[{ITEM}, {FULL}]</answer>", f"<answer>[{ITEM}]</answer>"])
        for _ in range(rng.choice([1, 1, 2, 3])):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 3]) :]
        quick += agree_strictly(text)
        agree_on_release(text)
    assert quick > 100, "the mutations hardly ever reach the quick way"
