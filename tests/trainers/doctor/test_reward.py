"""The doctor's answers and rewards: by hand, and against a plain restatement of the public code's formulas."""

import random
import re

import numpy as np
import pytest

from schemas.codecs import Qwen3VL
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.metrics.grounding import Grounding, grounding
from trainers.doctor.form import AnswerForm, ProposedRegion, doctor_template, public_boxes, regions_of
from trainers.doctor.reward import RewardProtocol, cut_grounding, doctor_reward, heat_reward, score_reward

ART, MIS = DefectType.ARTIFACT, DefectType.MISALIGNMENT
PAPER, CODE = RewardProtocol.PAPER, RewardProtocol.CODE
SCORES = {"semantic_alignment": 0.75, "aesthetics": 0.5, "plausibility": 1.0, "overall": 0.25}
BOX = Box(x0=100, y0=200, x1=500, y1=600)
OTHER = Box(x0=0, y0=0, x1=1000, y1=250)
REGIONS = (ProposedRegion(BOX, ART), ProposedRegion(OTHER, MIS))


def test_an_answer_reads_as_it_was_written() -> None:
    form = AnswerForm()
    text = form.render(SCORES, REGIONS, "The hand has six fingers.")
    assert text == (
        "<think>I need to focus on the bounding box area. Proposed regions (xyxy): 1.artifact[100,200,500,600]; "
        "2.misalignment[0,0,1000,250]; The hand has six fingers.</think><answer>Semantic Alignment score: 0.75;\n"
        "Misalignment Locations: <|misalignment|>\nAesthetic score: 0.50;\nPlausibility score: 1.00;\n"
        "Artifact Locations: <|artifact|>\nOverall Impression score: 0.25</answer>"
    )
    answer = form.read(text)
    assert answer.scores == SCORES
    assert answer.regions == REGIONS
    assert answer.well_formed
    assert form.read(text.replace("<|artifact|>", "").replace("<|misalignment|>", "")) == answer


def test_the_public_form_counts_pixels_and_knows_no_types() -> None:
    """1000 thousandths are 512 pixels: 100 is 51.2, so 51."""
    form = AnswerForm(typed=False)
    text = form.render(SCORES, REGIONS, None)
    assert ": 1.[51,102,256,307]; 2.[0,0,512,128];</think>" in text
    assert [region.kind for region in form.read(text).regions or ()] == [None, None]
    assert form.read(text).regions == (
        ProposedRegion(Box(x0=100, y0=199, x1=500, y1=600)), ProposedRegion(Box(x0=0, y0=0, x1=1000, y1=250)),
    )  # fmt: skip
    assert public_boxes(text) == [(51, 102, 256, 307), (0, 0, 512, 128)]
    assert AnswerForm().read(text).regions == (), "boxes of the other form are none of this one's"


@pytest.mark.parametrize(
    ("form", "part"),
    [(AnswerForm(look=False), "Proposed"), (AnswerForm(think=False), "fingers"), (AnswerForm(maps=False), "Locations")],
)
def test_a_part_that_the_form_does_not_have_is_not_written(form: AnswerForm, part: str) -> None:
    text = form.render(SCORES, REGIONS, "six fingers")
    assert part not in text
    assert form.read(text).well_formed
    assert form.read(text).scores == SCORES


def test_neither_look_nor_think_has_no_block() -> None:
    form = AnswerForm(look=False, think=False)
    assert form.render(SCORES, (), "t").startswith("<answer>")
    assert form.read(form.render(SCORES, (), "t")).regions == ()


def test_what_is_missing_is_missing() -> None:
    form = AnswerForm()
    text = form.render(SCORES, (), None)
    assert form.read(text).regions == ()
    assert form.read(text).well_formed
    cut = text[: text.index("Plausibility")]
    assert not form.read(cut).well_formed
    assert form.read(cut).scores == {}, "there is no answer block yet"
    assert form.read("no think").regions is None
    assert form.read(text.replace("0.75", "7.5")).scores.keys() == SCORES.keys() - {"semantic_alignment"}
    noise = AnswerForm().read("<think>1.artifact[900,1,20,30] 2.artifact[0,0,2000,2000]</think>")
    assert noise.regions == (ProposedRegion(Box(x0=0, y0=0, x1=1000, y1=1000), ART),)


def test_a_trace_cannot_ask_for_a_map() -> None:
    text = AnswerForm().render(SCORES, (), "an <|artifact|> token")
    assert text.count("<|artifact|>") == 1


def test_regions_are_in_reading_order() -> None:
    defects = [Defect(box=box, type=kind, reason="r", importance=5) for box, kind in ((BOX, ART), (OTHER, MIS))]
    assert regions_of(defects) == (ProposedRegion(OTHER, MIS), ProposedRegion(BOX, ART))


def test_a_question_asks_for_the_parts_of_the_form() -> None:
    assert "in thousandths" in doctor_template(AnswerForm(), short=False).text
    assert "pixels of 512" in doctor_template(AnswerForm(typed=False), short=False).text
    plain = doctor_template(AnswerForm(maps=False, look=False, think=False), short=False)
    assert "Locations" not in plain.text
    assert "think" not in plain.text
    assert plain.question("a {caption}", Qwen3VL()).endswith("Text Caption: [a {caption}]")
    ids = {doctor_template(form, short=False).id for form in (AnswerForm(), AnswerForm(typed=False))}
    assert len(ids) == 2


def test_scores_by_hand() -> None:
    """Said .5 of .75: paper 1 − .25; code 1 − 3 · .25. Unreadable: paper 0; code takes 0 for it: 1 − 3 · .75."""
    text = AnswerForm().render(SCORES | {"semantic_alignment": 0.5}, (), None)
    read = AnswerForm().read
    assert score_reward(text, read(text), "semantic_alignment", 0.75, PAPER) == pytest.approx(0.75)
    assert score_reward(text, read(text), "semantic_alignment", 0.75, CODE) == pytest.approx(0.25)
    assert score_reward(text, read(text), "overall", 0.25, CODE) == pytest.approx(1.0)
    bad = text.replace("0.50;\nMis", "half;\nMis")
    assert score_reward(bad, read(bad), "semantic_alignment", 0.75, PAPER) == 0.0
    assert score_reward(bad, read(bad), "semantic_alignment", 0.75, CODE) == pytest.approx(-1.25)
    dots = text.replace("0.50;\nMis", "0.5.0;\nMis")
    assert score_reward(dots, read(dots), "semantic_alignment", 0.75, CODE) == pytest.approx(-1.25)
    for protocol in RewardProtocol:
        assert score_reward("nothing", read("nothing"), "overall", 0.25, protocol) == 0.0


def test_heatmaps_by_hand() -> None:
    """Half of the cells are wrong by .1: MSE .005; 40 times that .2, 80 times .4. Wrong by 1: beyond the code's 0."""
    truth = np.zeros((4, 4))
    heat = truth.copy()
    heat[:2] = 0.1
    assert heat_reward(heat, truth, ART, PAPER) == pytest.approx(0.995)
    assert heat_reward(heat, truth, ART, CODE) == pytest.approx(0.8)
    assert heat_reward(heat, truth, MIS, CODE) == pytest.approx(0.6)
    assert heat_reward(truth + 1, truth, MIS, CODE) == 0.0
    assert heat_reward(truth + 1, truth, MIS, PAPER) == 0.0
    assert heat_reward(None, truth, ART, CODE) == 1.0, "the code draws zeros"
    assert heat_reward(None, truth, ART, PAPER) == 0.0, "silence is no map"


def test_empty_cases() -> None:
    """Nothing and nothing is 1; boxes without heat and heat without boxes are 0: all three values, in both."""
    heat, none = np.ones((8, 8)), np.zeros((8, 8))
    pixels = (0.0, 0.0, 256.0, 256.0)
    for boxes, truth, value in (([], none, 1.0), ([BOX], none, 0.0), ([], heat, 0.0)):
        assert grounding(boxes, truth) == Grounding(value, value, value)
        assert cut_grounding([pixels] * len(boxes), truth) == (value, value, value)


def naive(boxes: list[tuple[float, ...]], heat: np.ndarray) -> tuple[float, float, float]:
    """The public functions, cell by cell."""
    if heat.sum() == 0 or not boxes:
        value = float(heat.sum() == 0 and not boxes)
        return value, value, value
    rows, columns = heat.shape
    inside, means = set(), []
    for box in boxes:
        x0, x1 = (int(value * columns / 512) for value in (box[0], box[2]))
        y0, y1 = (int(value * rows / 512) for value in (box[1], box[3]))
        cells = {(r, c) for r in range(rows) for c in range(columns) if y0 <= r < y1 and x0 <= c < x1}
        if cells:
            means.append(sum(heat[cell] for cell in cells) / len(cells))
            inside |= cells
    overlaps = []
    for first in range(len(boxes)):
        for second in range(first + 1, len(boxes)):
            a, b = boxes[first], boxes[second]
            w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
            h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
            area = [max(0, answer[2] - answer[0]) * max(0, answer[3] - answer[1]) for answer in (a, b)]
            union = sum(area) - w * h
            overlaps.append(w * h / union if union > 0 else 0.0)
    complete = sum(heat[cell] for cell in inside) / heat.sum()
    return complete, sum(means) / len(means) if means else 0.0, 1 - (sum(overlaps) / len(overlaps) if overlaps else 0)


def test_the_codes_grounding_against_cells() -> None:
    rng = random.Random(7)
    for _ in range(60):
        heat = np.array([[max(0.0, rng.uniform(-1, 1)) for _ in range(18)] for _ in range(12)])
        boxes = [tuple(float(rng.randint(-60, 600)) for _ in range(4)) for _ in range(rng.randint(0, 4))]
        assert cut_grounding(boxes, heat) == pytest.approx(naive(boxes, heat), abs=1e-6)


def test_a_whole_reward() -> None:
    """The typed box is exactly the artifact's heat, the misalignment has none: every part is at its best."""
    art = np.zeros((10, 10))
    art[2:6, 1:5] = 1.0
    truth = {ART: art, MIS: np.zeros((10, 10))}
    text = AnswerForm().render(SCORES, [ProposedRegion(BOX, ART)], "t")
    best = doctor_reward(text, truth, SCORES, truth, form=AnswerForm(), protocol=PAPER)
    assert len(best.parts) == 12
    assert best.total == pytest.approx(12.0)
    scores_only = AnswerForm(maps=False, look=False)
    assert len(doctor_reward(text, truth, SCORES, truth, form=scores_only, protocol=CODE).parts) == 4


def test_a_box_of_one_type_costs_the_other_only_without_types() -> None:
    """The flaw of the public form: a right box of a misalignment lowers what is said of artifacts."""
    art, mis = np.zeros((10, 10)), np.zeros((10, 10))
    art[2:6, 1:5], mis[:, 6:] = 1.0, 1.0
    truth = {ART: art, MIS: mis}
    regions = [ProposedRegion(BOX, ART), ProposedRegion(Box(x0=600, y0=0, x1=1000, y1=1000), MIS)]
    for protocol in RewardProtocol:
        typed, plain = (
            doctor_reward(form.render(SCORES, regions, "t"), truth, SCORES, truth, form=form, protocol=protocol).parts
            for form in (AnswerForm(), AnswerForm(typed=False))
        )
        assert typed["compactness/artifact"] == pytest.approx(1.0, abs=0.01)
        assert plain["compactness/artifact"] < 0.6


def test_public_regexes_are_ours_on_our_answers() -> None:
    text = AnswerForm().render(SCORES, REGIONS, "t")
    block = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    assert block
    patterns = [
        r"Semantic Alignment score: ([0-9.]+);", r"Aesthetic score: ([0-9.]+);", r"Plausibility score: ([0-9.]+);",
        r"Overall Impression score: ([0-9.]+)",
    ]  # fmt: skip
    assert [float(re.search(pattern, block[1])[1]) for pattern in patterns] == list(SCORES.values())  # type: ignore[index]
