"""The rules of an enrichment: one good answer, and each rule broken by one change to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.machine.rules import STEPS, VAGUE, broken_rules
from annotate.machine.template_enricher import MODEL, expanded, trace_of
from schemas.codecs import Gemini, Qwen3VL, Qwen25VL
from schemas.defect import Defect, DefectType
from schemas.geometry import Box, ImageSize
from schemas.records import UNRATED_IMPORTANCE, AnnotatedDefect

CAPTION = "a red bicycle in front of a shop named 1984"
REASON = (
    "The front wheel of the bicycle is bent inwards, its rim shows a sharp kink near the ground and two spokes end "
    "in mid-air."
)
SECOND = (
    "The shop sign reads 1986 instead of the number that the prompt names, the last digit is drawn as a clear round "
    "six in white paint."
)
TRACE = "\n".join(
    [
        STEPS[0], "The prompt asks for one red bicycle, a shop behind it, and its name.",
        STEPS[1], "The bicycle is there and red. One wheel is broken, and the sign is wrong.",
        STEPS[2],
        "- Wheel: lower left, touching the ground, about a third of the bicycle's height, round.",
        "- Sign: upper middle, above the door, wide and flat.",
    ]
)  # fmt: skip


def drawn(box: tuple[int, int, int, int], kind: str, reason: str, importance: int = 60) -> AnnotatedDefect:
    corners = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
    defect = Defect(box=Box(**corners), type=kind, reason=reason, importance=importance)
    return AnnotatedDefect(defect=defect, region_id="r", origin="manual")


KNOWN = (
    drawn((100, 500, 300, 800), "artifact", "bent wheel"),
    drawn((400, 50, 700, 120), "misalignment", "wrong sign", 40),
)


@dataclass(frozen=True)
class Reply:
    defects: tuple[Defect, ...]
    trace: str = TRACE

    def change(self, index: int, **changes: object) -> "Reply":
        parts = list(self.defects)
        parts[index] = parts[index].model_copy(update=changes)
        return replace(self, defects=tuple(parts))


GOOD = Reply(
    tuple(
        known_defect.defect.model_copy(update={"reason": text, "importance": 55})
        for known_defect, text in zip(KNOWN, (REASON, SECOND), strict=True)
    )
)


def rules(reply: Reply, known: tuple[AnnotatedDefect, ...] = KNOWN, prompt: str = CAPTION) -> list[str]:
    return [violation.rule for violation in broken_rules(known, reply.defects, reply.trace, prompt, Qwen3VL())]


def test_a_good_answer_breaks_none() -> None:
    assert rules(GOOD) == []


BREAKS: list[tuple[str, Callable[[Reply], Reply]]] = [
    ("boxes-changed", lambda r: r.change(0, box=Box(x0=101, y0=500, x1=300, y1=800))),
    ("labels-changed", lambda r: r.change(1, type=DefectType.ARTIFACT)),
    ("count-changed", lambda r: replace(r, defects=r.defects[:1])),
    ("trace-steps", lambda r: replace(r, trace=r.trace.replace("Step 2", "Step II"))),
    ("trace-steps", lambda r: replace(r, trace=r.trace + f"\n{STEPS[0]}\nonce more")),
    ("trace-steps", lambda r: replace(r, trace=f"Well.\n{r.trace}")),
    ("trace-steps", lambda r: replace(r, trace=r.trace + "\n- And a third one.")),
    ("trace-steps", lambda r: replace(r, trace=r.trace.rpartition("\n")[0])),
    ("trace-steps", lambda r: replace(r, trace="\n".join([STEPS[1], "a", STEPS[0], "b", STEPS[2], "c", "d"]))),
    ("trace-steps", lambda r: replace(r, trace="\n".join([STEPS[0], "", STEPS[1], "b", STEPS[2], "c", "d"]))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "at [100, 500, 300, 800]"))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "at (0.1, 0.5)"))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "x0=100"))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "100 px from the left"))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "starting at 512"))),
    ("trace-coordinates", lambda r: replace(r, trace=r.trace.replace("lower left", "by its box_2d"))),
    ("reason-coordinates", lambda r: r.change(0, reason=REASON.replace("near the ground", "near 300, 800"))),
    ("reason-length", lambda r: r.change(0, reason=" ".join(["word"] * 17))),
    ("reason-length", lambda r: r.change(0, reason=" ".join(["word"] * 46))),
    ("vague-words", lambda r: r.change(0, reason=REASON.replace("sharp", "Weird"))),
    ("vague-words", lambda r: r.change(0, reason=REASON.replace("sharp", "strange"))),
    ("not-english", lambda r: r.change(0, reason=REASON.replace("kink", "缺陷"))),
    ("mentions-annotation", lambda r: r.change(0, reason=REASON.replace("kink", "kink the annotator marked"))),
    ("mentions-annotation", lambda r: replace(r, trace=r.trace.replace("One wheel", "The given boxes say one wheel"))),
    ("mentions-annotation", lambda r: replace(r, trace=r.trace.replace("One wheel", "Per ground truth one wheel"))),
]


@pytest.mark.parametrize(("rule", "change"), BREAKS)
def test_one_change_breaks_the_one_rule(rule: str, change: Callable[[Reply], Reply]) -> None:
    assert rules(change(GOOD)) == [rule]


def test_the_bounds_of_the_length_are_within() -> None:
    for number in (18, 45):
        assert rules(GOOD.change(0, reason=" ".join(["word"] * number))) == []


def test_a_number_that_the_prompt_names_or_the_image_shows_is_no_coordinate() -> None:
    bare = GOOD.change(1, reason=SECOND.replace("1986", "512"))
    assert rules(bare) == ["reason-coordinates"]
    assert rules(bare, prompt="a shop named 512") == []
    assert rules(GOOD.change(1, reason=SECOND.replace("1986", '"512, 40"'))) == []
    assert rules(GOOD.change(1, reason=SECOND.replace("1986", "2026"))) == []


def test_words_that_only_resemble_a_mention_are_free() -> None:
    bottle = REASON.replace("two spokes", "the label of a bottle and a box of fruit")
    assert rules(GOOD.change(0, reason=bottle)) == []


def test_a_clean_image_has_one_line_and_no_defects() -> None:
    trace = "\n".join([STEPS[0], "A bicycle.", STEPS[1], "All is there.", STEPS[2], "There is nothing to locate."])
    assert rules(Reply((), trace), ()) == []
    assert rules(GOOD, ()) [0] == "count-changed"  # fmt: skip


def test_boxes_are_compared_as_the_model_can_write_them() -> None:
    codec = Qwen25VL(ImageSize(width=56, height=56))
    rounded = [defect.model_copy(update={"box": codec.read(codec.write(defect.box))}) for defect in GOOD.defects]
    assert rounded[0].box != GOOD.defects[0].box
    assert broken_rules(KNOWN, rounded, TRACE, CAPTION, codec) == []
    assert broken_rules(KNOWN, GOOD.defects, TRACE, CAPTION, Gemini()) == []


boxes = st.tuples(
    st.integers(0, 998), st.integers(0, 998), st.integers(1, 1000), st.integers(1, 1000)
).filter(lambda b: b[0] < b[2] and b[1] < b[3])  # fmt: skip
people = st.lists(
    st.builds(
        lambda box, kind, text, rated: drawn(box, kind, text, 70 if rated else UNRATED_IMPORTANCE).model_copy(
            update={"rated": rated}
        ),
        boxes,
        st.sampled_from(list(DefectType)),
        st.one_of(
            st.text(min_size=1).filter(str.strip),
            st.lists(st.sampled_from([*VAGUE, "the", "hand", "12, 40", "annotators", "x0=3", "手"]), min_size=1).map(
                " ".join
            ),
        ),
        st.booleans(),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(people)
def test_sentences_without_a_model_keep_every_rule_but_peoples_own_words(known: list[AnnotatedDefect]) -> None:
    """Whatever a person wrote. Only a person's mention of annotation stays theirs: it is reported, not hidden."""
    made = [expanded(defect) for defect in known]
    violations = {violation.rule for violation in broken_rules(known, made, trace_of(known), "a prompt", Qwen3VL())}
    assert violations <= {"mentions-annotation"}
    for before, after in zip(known, made, strict=True):
        assert 1 <= after.importance <= 100
        assert not before.rated or after.importance == before.defect.importance
    assert "template" in MODEL
