"""A doctor behind the house's contracts. Its text is put into its mouth; its maps are its own."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generators.images import GeneratedImage
from schemas.defect import DefectType
from schemas.geometry import Box
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError, ModelError
from sdg_data.image_scores import NAMES
from sdg_data.metrics.heatmaps import rasterise
from sdg_data.selection.sources import table_scores
from sdg_data.settings import VlmSettings
from sdg_data.store.connection import Store
from trainers.boxflow.reward_map import penalty_maps
from trainers.doctor import use
from trainers.doctor.asking import ask, until_end
from trainers.doctor.form import ProposedRegion
from trainers.doctor.loading import load_to_ask
from trainers.doctor.model import KINDS
from trainers.doctor.use import Doctor, DoctorDetector, DoctorReward, cells_as_defects, mean_score, score_images
from trainers.rewards.contract import Detection
from trainers.rewards.settings import DETECTORS, REWARDS, DetectorSettings, make_detector

ART, MIS = DefectType.ARTIFACT, DefectType.MISALIGNMENT
SCORES = dict(zip(NAMES, (0.75, 0.5, 1.0, 0.25), strict=True))
PICTURE = Image.effect_noise((64, 96), 80).convert("RGB")


@pytest.fixture
def loaded(tiny_doctor: Path) -> tuple[Any, Any]:
    return load_to_ask(str(tiny_doctor), device="cpu")


def told(model: Any, chat: Any, texts: list[str]) -> None:
    """Let the model write these texts, whatever it is asked."""
    tokenizer = chat.processor.tokenizer
    answers = [tokenizer(text + chat.end, add_special_tokens=False)["input_ids"] for text in texts]
    length = max(len(ids) for ids in answers)
    rows = torch.full((len(texts), length), tokenizer.pad_token_id)
    for row, ids in enumerate(answers):
        rows[row, : len(ids)] = torch.tensor(ids)

    def generate(input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        return torch.cat([input_ids, rows[: len(input_ids)]], dim=1)

    model.generate = generate


def test_text_and_maps_of_a_batch(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    whole = chat.form.render(SCORES, [ProposedRegion(Box(x0=1, y0=2, x1=3, y1=4), ART)], None)
    told(model, chat, [whole, "nothing", whole.replace("<|artifact|>", "")])
    pictures = [("a", chat.picture(use.png(PICTURE)), "judge: p"), ("b", PICTURE.resize((64, 64)), "q")]
    pictures.append(("c", PICTURE, "judge: p"))
    first, second, third = ask(model, chat, pictures, max_tokens=500)
    assert first.answer.scores == SCORES
    assert first.answer.well_formed
    assert {kind: heat is None for kind, heat in first.maps.items()} == {ART: False, MIS: False}
    assert first.maps[ART].shape == (24, 16)
    assert second.maps == {ART: None, MIS: None}
    assert third.maps[ART] is None
    assert np.allclose(third.maps[MIS], first.maps[MIS], atol=1e-5)
    assert first.tokens == len(chat.processor.tokenizer(whole, add_special_tokens=False)["input_ids"])


def test_what_ends_an_answer_is_none_of_it() -> None:
    answers = torch.tensor([[5, 6, 9, 7], [9, 1, 1, 1], [1, 2, 3, 4]])
    assert until_end(answers, frozenset({9, 8})).sum(1).tolist() == [2, 0, 4]


def test_a_reading_says_what_is_missing(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    told(model, chat, [chat.form.render(SCORES, [], None).replace("<|artifact|>", "").replace("0.50", "x")])
    (reading,) = Doctor(model, chat, name="d").read([(PICTURE, "p")])
    assert reading.heatmaps[ART] is None
    assert reading.heatmaps[MIS] is not None
    assert reading.reason == "it gave no aesthetics, artifact heatmap"
    assert reading.defects is not None
    (refused,) = Doctor(model, chat, name="d").read([(Image.new("RGB", (1, 900)), "p")])
    assert refused.defects is None
    assert refused.reason


def test_a_map_that_is_no_number_is_none(loaded: tuple[Any, Any]) -> None:
    """A decoder that overflows in half precision gives NaN, in which no region is hot: no image is clean by that."""
    model, chat = loaded
    told(model, chat, [chat.form.render(SCORES, [], None)])
    draw = model.read_maps

    def broken(**inputs: Any) -> Any:
        return [(row, kind, heat * torch.nan if kind == 0 else heat) for row, kind, heat in draw(**inputs)]

    model.read_maps = broken
    doctor = Doctor(model, chat, name="d", threshold=0.0)
    (reading,) = doctor.read([(PICTURE, "p")])
    assert [reading.heatmaps[kind] is None for kind in KINDS] == [True, False]
    assert reading.reason == f"it gave no {KINDS[0]} heatmap"
    (detections,) = asyncio.run(DoctorDetector(doctor).detect([GeneratedImage(np.asarray(PICTURE), "p")]))
    assert detections.defects is None


def test_a_detector_is_asked_as_its_settings_say(tiny_doctor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[dict[str, Any]] = []
    load = Doctor.load.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Doctor], /, source: str, **given: Any) -> Doctor:
        options.append(given)
        doctor: Doctor = load(cls, source, **given)
        return doctor

    monkeypatch.setattr(Doctor, "load", classmethod(noted))
    vlm = VlmSettings(model=str(tiny_doctor), device="cpu", max_tokens=33, batch_size=5)
    for kind in ("doctor", "doctor-heat", "doctor-heat-40"):
        make_detector(DetectorSettings(kind=kind, vlm=vlm))
    assert options == [{"device": "cpu", "max_tokens": 33, "batch_size": 5}] * 3


def test_batches_that_are_asked_at_the_same_time_keep_their_own_maps(loaded: tuple[Any, Any]) -> None:
    """A training hands in the next images while the doctor still reads the last ones."""
    model, chat = loaded
    told(model, chat, [chat.form.render(SCORES, [], None)] * 2)
    doctor = Doctor(model, chat, name="d", threshold=0.0)
    sizes = [(64, 64), (96, 64), (64, 128), (128, 96)] * 3
    pictures = [[GeneratedImage(np.asarray(Image.effect_noise(size, 80).convert("RGB")), "p")] for size in sizes]
    detector = DoctorDetector(doctor, cells=8)
    alone = [asyncio.run(detector.detect(batch)) for batch in pictures]

    async def at_once() -> list[list[Detection]]:
        return list(await asyncio.gather(*(detector.detect(batch) for batch in pictures)))

    assert asyncio.run(at_once()) == alone


def test_as_reward_and_detector(loaded: tuple[Any, Any]) -> None:
    model, chat = loaded
    image = GeneratedImage(np.asarray(PICTURE), "p")
    doctor = Doctor(model, chat, name="d", threshold=0.0)
    told(model, chat, [chat.form.render(SCORES, [], None)])
    (score,) = asyncio.run(DoctorReward(doctor).score([image]))
    assert score.value == pytest.approx(sum(SCORES.values()) / 4)
    assert score.parts == SCORES
    (detections,) = asyncio.run(DoctorDetector(doctor).detect([image]))
    assert {(defect.type, defect.box) for defect in detections.defects or ()} == {
        (kind, Box(x0=0, y0=0, x1=1000, y1=1000)) for kind in DefectType
    }
    told(model, chat, ["silence"])
    (score,) = asyncio.run(DoctorReward(doctor).score([image]))
    assert score.value is None
    assert "semantic_alignment" in score.reason
    (detections,) = asyncio.run(DoctorDetector(doctor).detect([image]))
    assert detections.defects is None, "a doctor that draws nothing has not called the image clean"


def test_a_map_as_boxes_is_that_map_for_denseflow() -> None:
    """On the map's own grid, and on a finer one: 16 locations see 8 cells twice as large."""
    rng = np.random.default_rng(0)
    maps = {ART: rng.random((8, 8)).round(2), MIS: np.zeros((8, 8))}
    maps[ART][0, 0] = 0.0
    defects = cells_as_defects(maps, 8)
    assert rasterise(defects, 8, 8, type=ART) == pytest.approx(maps[ART], abs=1e-9)
    assert len(defects) == np.count_nonzero(maps[ART])
    heat = penalty_maps([defects], (16, 16)).amax(dim=1)[0]
    assert heat.numpy() == pytest.approx(maps[ART].repeat(2, axis=0).repeat(2, axis=1), abs=1e-6)
    assert cells_as_defects({ART: np.zeros((4, 4)), MIS: np.zeros((4, 4))}, 4) == ()


def test_a_mean_needs_all_four() -> None:
    assert mean_score(SCORES).value == pytest.approx(0.625)
    assert mean_score(dict.fromkeys(NAMES[:3], 0.5)).value is None
    assert {"doctor"} <= REWARDS.keys()
    assert {"doctor", "doctor-heat"} <= DETECTORS.keys()


def test_stored_images_are_scored_once(loaded: tuple[Any, Any], judged_home: Path, tmp_path: Path) -> None:
    model, chat = loaded
    text = chat.form.render(SCORES, [], None)
    told(model, chat, [text, text, "no", text, text, text])
    doctor, out = Doctor(model, chat, name="d"), tmp_path / "scores.jsonl"
    store, blobs = Store(judged_home), Blobs(judged_home / "blobs")
    assert score_images(doctor, store, blobs, out, limit=3, batch=3) == {"images": 3, "without a score": 1}
    scores = table_scores(out, "score")
    assert sorted(scores.values(), key=str) == pytest.approx([0.625, 0.625, float("nan")], nan_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert next(row["reason"] for row in rows if row["score"] is None).startswith("it gave no semantic_alignment")
    out.write_text(out.read_text() + '{"image_id": "cut')
    model.generate = None
    assert score_images(doctor, store, blobs, out, limit=3) == {"images": 3, "without a score": 1}
    with pytest.raises(InputError, match="scores of d"):
        score_images(Doctor(model, chat, name="other"), store, blobs, out, limit=3)


def test_what_is_no_doctor_is_refused(tiny: Path, tiny_doctor: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no doctor"):
        load_to_ask(str(tiny))
    with pytest.raises(ModelError, match="cannot read its config"):
        load_to_ask(str(tmp_path))
