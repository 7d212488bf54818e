"""What a doctor learns from: judged scenes in shards, as batches."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotate.simulation.annotators import annotators
from annotate.vlm.qwen.load import load_processor
from exports.dataset.image_extras import decoded, maps_of, scores_of
from exports.read.shard_table import ShardTable
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.errors import InputError
from sdg_data.image_scores import NAMES
from trainers.detector.data import read_training_data
from trainers.doctor.data import NO_SCORES, DoctorCollator, DoctorItems, keep_scored
from trainers.doctor.mini.corpus import entered_scores, judged, mean_map
from trainers.doctor.model import KINDS, TOKENS
from trainers.doctor.sft_trainer import doctor_chat, maps_loss
from trainers.doctor.train_config import FormSettings

ART, MIS = DefectType.ARTIFACT, DefectType.MISALIGNMENT
FORM = FormSettings(think=False, short=True)


def defect(x0: int, y0: int, x1: int, y1: int, kind: str, importance: int = 80) -> Defect:
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type=kind, reason="r", importance=importance)  # type: ignore[arg-type]


def test_a_map_is_the_mean_of_what_people_marked() -> None:
    """Three people, one of whom marks nothing: a cell that two mark has ⅔, one that a person marks twice has ⅓."""
    people = [
        [defect(0, 0, 500, 500, "artifact"), defect(0, 0, 250, 250, "artifact")],
        [defect(0, 0, 250, 1000, "artifact"), defect(500, 500, 1000, 1000, "misalignment")],
        [],
    ]
    heat = mean_map(people, ART, side=4)
    expected = np.zeros((4, 4))
    expected[:2, :2] = 1 / 3
    expected[:, 0] += 1 / 3
    assert heat == pytest.approx(expected)
    assert mean_map(people, MIS, side=4)[2:, 2:] == pytest.approx(np.full((2, 2), 1 / 3))


def test_scores_follow_the_defects() -> None:
    """Over many people: without defects nearly all is best, a grave artifact costs plausibility and no alignment."""
    team = annotators(60, 1, kind="judge")
    grave = [defect(0, 0, 500, 500, "artifact", 90)]
    clean, spoiled = (
        {name: np.mean([entered_scores(person, "i", truth)[name] for person in team]) for name in NAMES}
        for truth in ([], grave)
    )
    assert clean["plausibility"] > 4.5
    assert spoiled["plausibility"] < 2.2
    assert spoiled["semantic_alignment"] > 4.5
    assert 2.5 < spoiled["overall"] < 3.8
    assert entered_scores(team[0], "i", grave) == entered_scores(team[0], "i", grave)


def test_people_judge_what_is_there() -> None:
    team = annotators(3, 5, kind="judge")
    answer = judged(team, "image", [defect(200, 200, 800, 800, "artifact", 95)])
    assert answer is not None
    _, extras = answer
    assert set(extras["scores"]) == set(NAMES)
    assert decoded(extras["heatmaps"]["artifact"]).max() > 0.6


def test_shards_hold_scores_and_maps(judged_shards: Path) -> None:
    table = ShardTable(judged_shards)
    levels: Counter[int] = Counter()
    for number in range(len(table)):
        sample = table.sample(number)
        assert scores_of(sample).keys() == set(NAMES)
        for heat in maps_of(sample, 64, 64).values():
            levels.update(np.rint(3 * heat).astype(int).ravel().tolist())
    assert {0, 1, 2, 3} <= levels.keys()


@pytest.fixture(scope="module")
def prepared(judged_shards: Path, tiny_doctor: Path) -> tuple[Any, Any]:
    chat = doctor_chat(load_processor(str(tiny_doctor), "qwen3_vl"), "qwen3-vl", FORM, 256)
    data = read_training_data(judged_shards, chat, max_tokens=2000)
    keep_scored(data)
    return chat, data


def test_a_batch_asks_and_answers(prepared: tuple[Any, Any]) -> None:
    """The labels are the answer's tokens; each row has one task token of each type, and maps of the decoder's shape."""
    chat, data = prepared
    items = DoctorItems(data.table, data.train, chat, scale=8)
    batch = DoctorCollator(chat, jitter=0, seed=0)([items[number] for number in range(3)])
    tokenizer = chat.processor.tokenizer
    for row, item in enumerate(items[number] for number in range(3)):
        labels = batch["labels"][row]
        text = tokenizer.decode(labels[labels >= 0])
        answer = chat.form.read(text)
        assert answer.scores == pytest.approx(item.scores, abs=0.0051)
        assert [region.kind for region in answer.regions] == [
            defect.type
            for defect in sorted(item.item.row.defects, key=lambda d: (d.box.x0, d.box.y0, d.box.x1, d.box.y1))
        ]
        for token in TOKENS.values():
            assert (labels == tokenizer.convert_tokens_to_ids(token)).sum() == 1
        sample = data.table.sample(item.item.row.place)
        assert batch["true_maps"][row].shape == (2, 16, 16)
        for kind, heat in zip(KINDS, batch["true_maps"][row], strict=True):
            assert heat.numpy() == pytest.approx(maps_of(sample, 16, 16)[kind], abs=1e-6)
    planned = chat.lengths([(row.prompt, row.size, row.defects, row.trace) for row in data.train[:3]])
    assert planned == batch["attention_mask"].sum(1).tolist()


def test_samples_without_scores_are_counted(detector_shards: Path, tiny_doctor: Path) -> None:
    chat = doctor_chat(load_processor(str(tiny_doctor), "qwen3_vl"), "qwen3-vl", FORM, 256)
    data = read_training_data(detector_shards, chat, max_tokens=5000)
    before = len(data.train)
    with pytest.raises(InputError, match="four scores"):
        keep_scored(data)
    assert len(data.dropped[NO_SCORES]) == before


def test_the_maps_loss_by_hand() -> None:
    """Row 0: half of the cells off by .2 (.02) and nothing off; row 1: everything off by .1 (.01)."""
    truth = [torch.zeros(2, 4, 4), torch.zeros(2, 2, 2)]
    first = torch.zeros(4, 4)
    first[:2] = 0.2
    drawn = [(0, 0, first), (0, 1, torch.zeros(4, 4)), (1, 1, torch.full((2, 2), 0.1))]
    assert maps_loss(drawn, truth).item() == pytest.approx(0.02 + 0 + 0.01)
