"""The ablation's table from figures that are known."""

import json
from pathlib import Path

import pytest

from sdg_data.errors import ExitCode
from trainers.doctor.train_config import RECIPES, RFT_RECIPES
from trainers.paper.doctor.__main__ import main
from trainers.paper.doctor.arms import ARMS, BOXES
from trainers.paper.doctor.report import interval, summarise


def test_an_interval_by_hand() -> None:
    """1, 2, 3: mean 2, s = 1, t(.975, 2) = 4.3027: ± 4.3027/√3."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-4)
    assert interval([5.0]) == (5.0, None)


def test_contrasts_are_paired_by_seed() -> None:
    """Differences .1, .1, .1 hold although the arms' own figures spread; two seeds that disagree do not."""
    better = {seed: {"plcc/average": 0.1 * seed + 0.1} for seed in range(3)}
    worse = {seed: {"plcc/average": 0.1 * seed} for seed in range(3)}
    (row,) = summarise({"stage2": better, "no-think": worse})["contrasts"]
    assert (row["difference"], row["seeds"], row["holds"]) == (pytest.approx(0.1), 3, True)
    mixed = {0: {"plcc/average": 0.3}, 1: {"plcc/average": 0.0}}
    (row,) = summarise({"stage2": mixed, "no-think": worse})["contrasts"]
    assert row["holds"] is False
    (row,) = summarise({"stage2": {0: better[0]}, "no-think": worse})["contrasts"]
    assert row["holds"] is None


def test_a_finished_experiment_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arm, value in (("stage2", 0.6), ("no-look", 0.5)):
        for seed in range(2):
            (tmp_path / f"{arm}-{seed}" / "model").mkdir(parents=True)
            folder = tmp_path / f"eval-{arm}-{seed}"
            folder.mkdir()
            figures = {"cc/misalignment": value + 0.001 * seed, "plcc/average": 0.7}
            (folder / "evaluation.json").write_text(json.dumps({"figures": figures, "data": {"fingerprint": "f"}}))
    assert main(["--out", str(tmp_path), "--arms", "stage2,no-look", "--seeds", "2"]) == 0
    table = capsys.readouterr().out
    assert "| stage 2 over stage 2 without look | cc/misalignment | +0.100 ± 0.000 | 2 | yes |" in table
    assert (tmp_path / "paper" / "table.md").read_text() == table


def test_every_arms_recipe_is_there() -> None:
    for arm in ARMS.values():
        if arm.name != BOXES:
            assert arm.recipe in (RECIPES if arm.command == "sft" else RFT_RECIPES)
        assert arm.start == "base" or arm.start in ARMS


def test_an_experiment_that_was_cut_off_reports_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An arm whose start is missing waits for it; the table is of the others, and names what is missing."""
    folder = tmp_path / "eval-stage1-0"
    folder.mkdir()
    (tmp_path / "stage1-0" / "model").mkdir(parents=True)
    (folder / "evaluation.json").write_text(
        json.dumps({"figures": {"plcc/average": 0.7}, "data": {"fingerprint": "f"}})
    )
    asked = ["--out", str(tmp_path), "--seeds", "1", "--arms"]
    assert main([*asked, "rft,stage1"]) == ExitCode.PARTIAL
    table = capsys.readouterr().out
    assert "- no figures yet of: rft-0" in table
    assert "| stage 1: scores | 0.700 |" in table
    assert main([*asked, "rft"]) == ExitCode.ERROR
