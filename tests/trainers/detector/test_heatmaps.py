"""Maps of boxes, boxes of maps, and ImageDoctor's documented output through a tiny stand-in of its interface."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.errors import ModelError
from sdg_data.metrics.heatmaps import boxes_of
from trainers.detector.heatmaps import BoxMaps, MapDetector
from trainers.detector.image_doctor import ImageDoctor, reading, regions_of, resized, scores_of

ART, MIS = DefectType.ARTIFACT, DefectType.MISALIGNMENT
PICTURE = Image.new("RGB", (64, 64), "red")


def defect(x0: int, y0: int, x1: int, y1: int, kind: str = "artifact", importance: int = 80) -> Defect:
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type=kind, reason="r", importance=importance)


def test_boxes_as_maps() -> None:
    """On 4 × 4 cells of 250: a box over the top left cell and half of its right neighbour; one of the other type."""
    boxes = (defect(0, 0, 375, 250), defect(500, 500, 1000, 1000, "misalignment", 40))
    detector: MapDetector = BoxMaps(lambda asked: [boxes for _ in asked], name="ours", side=4)
    (answer,) = detector.read([(PICTURE, "p")])
    assert answer.defects == boxes
    artifact, misalignment = answer.heatmaps[ART], answer.heatmaps[MIS]
    assert artifact is not None
    assert misalignment is not None
    assert artifact[0].tolist() == pytest.approx([0.8, 0.4, 0, 0])
    assert artifact[1:].sum() == 0
    assert misalignment[2:, 2:].tolist() == [[0.4, 0.4], [0.4, 0.4]]
    assert misalignment.sum() == pytest.approx(1.6)


def test_an_unreadable_answer_draws_nothing() -> None:
    (answer,) = BoxMaps(lambda asked: [None], name="ours").read([(PICTURE, "p")])
    assert answer.defects is None
    assert set(answer.heatmaps.values()) == {None}
    assert answer.reason


def test_maps_as_boxes_and_back() -> None:
    boxes = (defect(0, 250, 500, 500, importance=90), defect(750, 750, 1000, 1000, importance=60))
    heat = BoxMaps(lambda asked: [boxes], name="ours", side=8).read([(PICTURE, "p")])[0].heatmaps[ART]
    back = boxes_of(heat, ART, threshold=0.5)
    assert {(defect.box, defect.importance) for defect in back} == {(defect.box, defect.importance) for defect in boxes}
    assert [defect.importance for defect in boxes_of(heat, ART, threshold=0.7)] == [90]
    assert boxes_of(np.zeros((8, 8)), ART, threshold=0.5) == ()
    assert boxes_of(None, ART, threshold=0.5) == ()


def test_regions_that_touch_at_a_corner_are_two() -> None:
    assert len(boxes_of(np.eye(4), ART, threshold=0.5)) == 4


ANSWER = (
    "<think>I need to focus on the bounding box area. Proposed regions (xyxy): 1.[10,20,110,220];\n2.[0,0,512,512];\n"
    "3.[9,9,9,30]. The hand has six fingers.</think><answer>Semantic Alignment score: 0.75\nMisalignment Locations: \n"
    "Aesthetic score: 0.5\nPlausibility score: 1\nArtifact Locations: \nOverall Impression score: 0.25</answer>"
)


def test_its_text() -> None:
    assert scores_of(ANSWER) == {"semantic_alignment": 0.75, "aesthetics": 0.5, "plausibility": 1.0, "overall": 0.25}
    assert scores_of(ANSWER.replace("0.75", "7.5")) == {"aesthetics": 0.5, "plausibility": 1.0, "overall": 0.25}
    assert scores_of("Plausibility score: 0.5") == {}, "outside the answer block nothing counts"
    assert regions_of(ANSWER, (512, 512)) == [
        Box(x0=20, y0=39, x1=215, y1=430),
        Box(x0=0, y0=0, x1=1000, y1=1000),
    ]


def test_no_map_is_no_claim() -> None:
    silent = reading(ANSWER, {}, threshold=0.5)
    assert silent.defects is None
    assert "artifact heatmap" in silent.reason
    small = ANSWER.replace("Semantic Alignment score: 0.75", "Semantic Alignment score: 1e-1")
    assert reading(small, {}, threshold=0.5).scores["semantic_alignment"] == 0.1
    half = reading(ANSWER, {ART: np.zeros((4, 4)), MIS: None}, threshold=0.5)
    assert half.defects == ()
    assert half.reason == "it gave no misalignment heatmap"
    assert "semantic_alignment" in reading("cut off", {}, threshold=0.5).reason


@pytest.mark.parametrize(
    ("written", "score"),
    [
        ("0.85", 0.85), (".5", 0.5), ("0.5/1", 0.5), (".5 / 1.0", 0.5), ("0.85.", 0.85), ("1.", 1.0), ("0.7, as", 0.7),
        ("10e-2;", 0.1), ("1,5", None), ("0,85", None), ("1%", None), ("0.9 %", None), ("1/10", None), ("1 / 5", None),
        ("1 out of 10", None), ("85%", None), ("8/10", None), ("-0.5", None), ("0x1", None), ("1.0.3", None),
    ],
)  # fmt: skip
def test_a_score_is_not_the_beginning_of_another_number(written: str, score: float | None) -> None:
    answer = f"<answer>Semantic Alignment score: {written}\nAesthetic score: 0.5</answer>"
    assert scores_of(answer).get("semantic_alignment") == score


def test_pictures_have_its_area() -> None:
    assert resized(Image.new("RGB", (1024, 1024))).size == (512, 512)
    width, height = resized(Image.new("L", (2000, 500))).size
    assert (width, height) == (1024, 256)


MISALIGNMENT_TOKEN, ARTIFACT_TOKEN = 900, 901


class StandIn:
    """The checkpoint's interface. It writes `tokens`; the state of step t is t everywhere; a map is made of that.

    The image has 4 × 6 patches, 2 × 2 merged: 2 × 3 tokens, whose features are 0.1 · their place.
    """

    device = torch.device("cpu")

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self.config = SimpleNamespace(
            misalignment_token_id=MISALIGNMENT_TOKEN, artifact_token_id=ARTIFACT_TOKEN, image_token_id=7
        )
        self.text_hidden_fcs = [lambda states: 2 * states]
        self.image_hidden_fcs = [lambda features: features]
        self.prompt_encoder = PromptEncoder()
        self.sigmoid = lambda low: low / 100

    def generate(self, input_ids: torch.Tensor, **options: Any) -> Any:
        assert options["output_hidden_states"]
        steps = [(torch.full((1, input_ids.shape[1] if step == 0 else 1, 5), float(step)),) for step in
                 range(len(self._tokens))]  # fmt: skip
        sequences = torch.cat([input_ids, torch.tensor([self._tokens])], dim=1)
        return SimpleNamespace(sequences=sequences, hidden_states=[("embedding", *step) for step in steps])

    def visual(self, pixels: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        assert grid_thw.tolist() == [[1, 4, 6]]
        return 0.1 * torch.arange(6.0)[:, None].expand(6, 5)

    def heatmap(self, *, image_embeddings: torch.Tensor, sparse_prompt_embeddings: torch.Tensor, **more: Any) -> Any:
        assert image_embeddings.shape == (1, 5, 2, 3)
        assert more["multimask_output"] is False
        return sparse_prompt_embeddings.mean() + image_embeddings[:, :1]


class PromptEncoder:
    def __call__(self, *, text_embeds: torch.Tensor, **none: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert set(none.values()) == {None}
        assert text_embeds.shape == (1, 1, 5)
        return text_embeds, torch.zeros(1)

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1)


class Inputs(dict[str, torch.Tensor]):
    def to(self, device: Any) -> "Inputs":
        return self


class StandInProcessor:
    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return "<image>" + str(conversation[0]["content"][1]["text"])

    def __call__(self, *, text: list[str], images: list[Image.Image], return_tensors: str) -> Inputs:
        self.asked += text
        assert images[0].size == (512, 512)
        return Inputs(
            input_ids=torch.tensor([[1, 2, 3]]),
            pixel_values=torch.zeros(24, 8),
            image_grid_thw=torch.tensor([[1, 4, 6]]),
        )

    def batch_decode(self, rows: list[torch.Tensor], **options: Any) -> list[str]:
        return [self._answer for _ in rows]


def test_maps_are_those_of_the_steps_that_wrote_the_tokens() -> None:
    """Token 5 is written by step 5: 2 · 5 = 10, plus 0.1 · place, over 100."""
    processor = StandInProcessor(ANSWER)
    tokens = [11, 12, 13, 14, 15, MISALIGNMENT_TOKEN, 16, 17, ARTIFACT_TOKEN, 18]
    doctor: MapDetector = ImageDoctor(StandIn(tokens), processor, threshold=0.162)
    (answer,) = doctor.read([(PICTURE, "a red {caption}")])
    misalignment, artifact = answer.heatmaps[MIS], answer.heatmaps[ART]
    assert misalignment is not None
    assert artifact is not None
    places = 0.001 * np.arange(6).reshape(2, 3)
    assert misalignment == pytest.approx(0.10 + places, abs=1e-6)
    assert artifact == pytest.approx(0.16 + places, abs=1e-6)
    assert answer.scores["overall"] == 0.25
    assert answer.reason == ""
    assert answer.defects is not None
    assert {finding.type for finding in answer.defects} == {ART}, "no misalignment heat reaches the threshold"
    assert processor.asked[0].endswith("Text Caption: [a red {caption}]")


def test_a_token_that_was_not_written_has_no_map() -> None:
    (answer,) = ImageDoctor(StandIn([11, ARTIFACT_TOKEN, 12]), StandInProcessor(ANSWER)).read([(PICTURE, "p")])
    assert answer.heatmaps[MIS] is None
    assert answer.heatmaps[ART] is not None
    (answer,) = ImageDoctor(StandIn([11, 12]), StandInProcessor("nothing")).read([(PICTURE, "p")])
    assert set(answer.heatmaps.values()) == {None}
    assert answer.defects is None


def test_another_model_is_refused() -> None:
    model = SimpleNamespace(config=SimpleNamespace(artifact_token_id=1), heatmap=None)
    with pytest.raises(ModelError, match=r"text_hidden_fcs.*misalignment_token_id"):
        ImageDoctor(model, None)
