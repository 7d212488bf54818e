"""The detector's miniature: its table from answers by hand, and the whole of it on a model of toy size."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.metrics.tables import DefectTable
from trainers.paper.detector.__main__ import main
from trainers.paper.detector.arms import ARMS, BASE, CONTRASTS
from trainers.paper.detector.report import ArmScores, figure, markdown, of_groups, score, summarise


def defect(x0: int, kind: DefectType = DefectType.ARTIFACT) -> Defect:
    return Defect(box=Box(x0=x0, y0=0, x1=x0 + 100, y1=100), type=kind, reason="a crack", importance=50)


def table(claims: dict[str, list[Defect] | None], model: str = "m") -> DefectTable:
    return DefectTable.from_defects(claims.items(), groups=dict.fromkeys(claims, model))


def test_scores_are_those_counted_by_hand() -> None:
    truth = table(
        {
            "a": [defect(0), defect(500)],
            "b": [defect(0, DefectType.MISALIGNMENT)],
            "c": [],
            "d": [defect(0)],
        }
    )
    said = table(
        {
            "a": [defect(10), defect(800)],  # IoU 90/110, and one beside
            "b": [defect(60, DefectType.MISALIGNMENT)],  # IoU 40/160
            "c": None,
            "d": [defect(0)],
        }
    )
    figures = score(truth, said, resamples=50)
    assert figures.images == 4
    assert figures.box_f1["artifact"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert figures.box_f1["misalignment"] == 0
    assert figures.unreadable == 0.25
    assert figures.importance["artifact"] == 1
    assert figures.draws["artifact"].shape == (50,)


def test_an_image_without_an_answer_is_unreadable_and_its_defects_are_missed() -> None:
    truth = table({"a": [defect(0)], "b": [defect(0)]})
    figures = score(truth, table({"a": [defect(0)]}), resamples=10)
    assert figures.images == 2
    assert figures.unreadable == 0.5
    assert figures.box_f1["artifact"] == pytest.approx(2 / 3)


def test_only_the_wanted_generators_stay() -> None:
    both = DefectTable.from_defects(
        [("a", [defect(0)]), ("b", []), ("c", [defect(5)])], groups={"a": "x", "b": "y", "c": "x"}
    )
    kept = of_groups(both, ["x"])
    assert kept.keys == ("a", "c")
    assert kept.boxes[:, 0].tolist() == [0, 5]


def made(f1: float, draws: list[float]) -> ArmScores:
    kinds = ("artifact", "misalignment")
    return ArmScores(
        images=10,
        box_f1=dict.fromkeys(kinds, f1),
        draws={kind: np.array(draws) for kind in kinds},
        unreadable=0.125,
        importance=dict.fromkeys(kinds, 0.9),
    )


def test_the_comparison_is_of_the_same_draws() -> None:
    """Two arms with wide, overlapping intervals of which one is better by the same amount in every draw."""
    wide = [0.3, 0.5, 0.7, 0.9]
    scores = {
        BASE: made(0.6, wide),
        "sft": made(0.65, [digest + 0.05 for digest in wide]),
        "grpo": made(0.66, [0.95, 0.75, 0.55, 0.35]),
    }
    summary = summarise(
        {name: {"all": score, "generated": score} for name, score in scores.items()}, None, {"sft": 12.0}
    )
    gaps = {
        (contrast["of"], contrast["to"]): contrast
        for contrast in summary["contrasts"]
        if contrast["type"] == "artifact"
    }
    assert set(gaps) == {("sft", BASE), ("grpo", "sft")}
    assert gaps["sft", BASE]["interval"] == pytest.approx([0.05, 0.05])
    low, high = gaps["grpo", "sft"]["interval"]
    assert low < 0 < high
    page = markdown(summary, {"recipe": "mini"})
    assert "SFT − base, artifact, all images: +0.050 (+0.050 to +0.050): better." in page
    assert re.search(r"SFT \+ GRPO − SFT, artifact, all images: .*: not established\.", page)
    assert "| SFT | 0.650 (0.365–0.935)" in page
    assert "12.5 %" in page
    assert "human ceiling" not in page
    with_ceiling = summarise({BASE: {"all": scores[BASE], "generated": scores[BASE]}}, made(0.8, wide), {})
    assert "| human ceiling | | | 0.800" in markdown(with_ceiling, {})
    assert figure(with_ceiling).count("<rect") > figure(summary).count("<rect") - 6


def test_every_comparison_is_of_arms_that_there_are() -> None:
    assert {name for pair in CONTRASTS for name in pair} <= ARMS.keys()
    assert all(arm.start in ARMS for arm in ARMS.values())


@pytest.mark.slow
def test_the_whole_of_it_goes_on_where_it_stopped(tiny: Path, detector_shards: Path, tmp_path: Path) -> None:
    asked = ["--out", str(tmp_path), "--data", str(detector_shards), "--base", str(tiny), "--limit", "12"]
    asked += [
        "--set",
        "optimizer.max_steps=2",
        "--set",
        "saving.save_every=2",
        "--set",
        "evaluation.eval_every=2",
        "--set",
        "optimizer.batch_size=4",
    ]
    asked += [
        "--set",
        "optimizer.micro_batch=4",
        "--set",
        "data.held_out=0.3",
        "--set",
        "saving.report=none",
        "--set",
        "evaluation.eval_max_tokens=8",
    ]
    assert main([*asked, "--arms", "base,sft"]) == 0
    first = json.loads((tmp_path / "paper" / "summary.json").read_text())
    assert first["arms"].keys() == {"base", "sft"}
    stamp = (tmp_path / "sft" / "run.json").stat().st_mtime_ns
    assert main([*asked, "--arms", "base,sft,sft-no-jitter", "--docs", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "sft" / "run.json").stat().st_mtime_ns == stamp
    jitter = [
        json.loads((tmp_path / name / "run.json").read_text())["config"]["data"]["jitter"]
        for name in ("sft", "sft-no-jitter")
    ]
    assert jitter == [10.0, 0.0]
    page = (tmp_path / "docs" / "paper-mini-detector-table.md").read_text()
    assert "SFT, jitter off" in page
    assert (tmp_path / "docs" / "images" / "paper-mini-detector.svg").read_text().startswith("<svg")
