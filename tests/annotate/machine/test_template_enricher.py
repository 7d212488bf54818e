"""Sentences without a model: a person's words once, in a sentence that somebody could have written."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.machine.rules import broken_rules
from annotate.machine.template_enricher import expanded, trace_of
from schemas.codecs import Qwen3VL
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from schemas.records import AnnotatedDefect, Origin
from sdg_data.mini.inject import sample_corrupted

CENTRE = Box(x0=400, y0=400, x1=600, y1=600)
BEFORE = (
    "In the centre of the picture {} (edge), which stands out against its surroundings without knowing what the "
    "picture should show, covering a small part of it."
)


def drawn(reason: str, subtype: Subtype | None = Subtype.EDGE, box: Box = CENTRE) -> AnnotatedDefect:
    kind = DefectType.ARTIFACT if subtype is None else subtype.type
    defect = Defect(box=box, type=kind, subtype=subtype, reason=reason, importance=50)
    return AnnotatedDefect(defect=defect, region_id="1", origin=Origin.MANUAL)


def sentence(reason: str, subtype: Subtype | None = Subtype.EDGE) -> str:
    return expanded(drawn(reason, subtype)).reason


def again(annotated: AnnotatedDefect) -> str:
    """The sentence of a defect whose reason is already such a sentence, as a trained detector writes them."""
    return expanded(annotated.model_copy(update={"defect": expanded(annotated)})).reason


def test_the_sentence() -> None:
    assert sentence("six fingers", Subtype.ANATOMY) == (
        "Six fingers, in the centre of the picture: a flaw of anatomy that stands out to anybody who does not know the "
        "prompt, over a small part of it."
    )
    assert sentence("the hat is blue, not green", Subtype.ATTRIBUTE) == (
        "The hat is blue, not green, in the centre of the picture: a wrong attribute that is plain to anybody who "
        "compares it with the prompt, over a small part of it."
    )


@pytest.mark.parametrize(
    "reason",
    [
        "the outline of the red circle is broken",
        BEFORE.format("the outline of the red circle is broken"),
        "In the centre of the picture In the centre of the picture the outline of the red circle is broken",
        "In the lower left of the picture in the upper centre of the picture, the outline of the red circle is broken",
        "the outline the outline of the red circle is broken is broken",
        BEFORE.format(BEFORE.format("the outline of the red circle is broken")),
    ],
)
def test_what_a_template_added_is_not_said_again(reason: str) -> None:
    assert sentence(reason) == sentence("the outline of the red circle is broken")


@pytest.mark.parametrize(
    ("reason", "beginning"),
    [
        ("6 fingers", "6 fingers, in the centre of the picture:"),
        ("extra finger in the upper left corner", "Extra finger in the upper left corner: a flaw"),
        ("six fingers on the left hand", "Six fingers on the left hand, in the centre of the picture:"),
        ("the picture is upside down", "The picture is upside down, in the centre of the image:"),
        ("blurred edge", "Blurred edge, in the centre of the picture: a flaw of an edge"),
        ("a flaw of an edge", "A flaw of an edge, in the centre of the picture: a visible flaw"),
        ("bent at 120, 40 and x0=3", "Bent at and, in the centre"),
        ("café sign", "Café sign, in the centre"),
        ("手指六根", "Something is not as it should be, in the centre"),
        ("that stands out to anybody who does not know", "Something is not as it should be, in the centre"),
    ],
)
def test_a_persons_words(reason: str, beginning: str) -> None:
    assert sentence(reason).startswith(beginning)


def test_the_mini_worlds_reasons_say_nothing_twice() -> None:
    rng = random.Random(4)
    scenes = [[drawn(d.reason, d.subtype, d.box) for d in sample_corrupted(rng).defects] for _ in range(150)]
    assert sum(map(len, scenes)) > 100
    for known in scenes:
        made = [expanded(annotated) for annotated in known]
        assert broken_rules(known, made, trace_of(known), "a prompt", Qwen3VL()) == []
        for annotated, defect in zip(known, made, strict=True):
            words = re.findall(r"\w+", defect.reason.lower())
            triples = list(zip(words, words[1:], words[2:], strict=False))
            assert len(set(triples)) == len(triples), defect.reason
            assert again(annotated) == defect.reason


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "six",
                "fingers",
                "In the centre of the picture",
                "the hand",
                "a wrong action",
                "prompt",
                "7",
                ",",
                "of it",
            ]
        ),
        min_size=1,
        max_size=40,
    ).map(" ".join),
    st.sampled_from([None, *Subtype]),
)
def test_any_words_keep_the_rules_and_nothing_is_added_twice(reason: str, subtype: Subtype | None) -> None:
    annotated = drawn(reason, subtype)
    made = expanded(annotated)
    assert broken_rules([annotated], [made], trace_of([annotated]), "a prompt", Qwen3VL()) == []
    for phrase in ("in the centre of the picture", "over a small part of it"):
        assert made.reason.lower().count(phrase) <= 1
    assert made.reason.count(":") == 1
