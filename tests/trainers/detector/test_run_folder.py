"""A run's folder: whose it is, where to go on, what the log says."""

import json
from pathlib import Path
from typing import Any

import pytest

from sdg_data.errors import ConfigError
from trainers.detector.run_folder import DetectorRunFolder, source_fingerprint
from trainers.detector.sft_config import SftConfig, mini, sdg30k
from trainers.detector.train_config import changed


def note(**changes: Any) -> dict[str, Any]:
    config = changed(mini(), changes).model_dump(mode="json")
    return {"config": config, "data": {"fingerprint": "f"}, "base": {"fingerprint": "b"}}


def test_a_folder_is_that_of_one_run(tmp_path: Path) -> None:
    folder = DetectorRunFolder(tmp_path / "run")
    folder.claim(note(), SftConfig)
    folder.claim(note(**{"data.workers": 7, "saving.report": "none"}), SftConfig)
    with pytest.raises(ConfigError, match=r"another run; different: config.data.jitter \(10.0, now 0.0\)"):
        folder.claim(note(**{"data.jitter": 0.0}), SftConfig)
    with pytest.raises(ConfigError, match=r"data\.fingerprint"):
        folder.claim({**note(), "data": {"fingerprint": "g"}}, SftConfig)


def test_the_last_whole_checkpoint_counts(tmp_path: Path) -> None:
    folder = DetectorRunFolder(tmp_path)
    folder.claim(note(), SftConfig)
    assert folder.last_checkpoint() is None
    for step, state in ((9, "{}"), (10, "{}"), (100, '{"cut off'), (200, None)):
        path = folder.checkpoints / f"checkpoint-{step}"
        path.mkdir()
        if state is not None:
            (path / "trainer_state.json").write_text(state)
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-10"
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_the_log_forgets_what_will_come_again(tmp_path: Path) -> None:
    folder = DetectorRunFolder(tmp_path)
    for step in (1, 2, 2, 3):
        folder.append_log({"step": step, "loss": 0.5})
    with folder.log.open("a") as file:
        file.write('{"step": 3, "lo')
    folder.trim_log(2)
    assert [json.loads(line)["step"] for line in folder.log.read_text().splitlines()] == [1, 2, 2]


def test_a_model_is_known_by_its_files(tmp_path: Path) -> None:
    assert source_fingerprint("Qwen/Qwen3-VL-4B-Instruct") == "Qwen/Qwen3-VL-4B-Instruct"
    (tmp_path / "model.safetensors").write_bytes(b"12")
    first = source_fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"123")
    assert source_fingerprint(str(tmp_path)) != first


def test_settings_are_checked() -> None:
    assert changed(mini(), {"model.lora": {"rank": 4}}).model.lora is not None
    assert changed(mini(), {"model.lora.rank": 8, "model.lora.alpha": 2}).model.lora.alpha == 2  # type: ignore[union-attr]
    for changes, message in (
        ({"optimizer.learning_rat": 1}, "learning_rat"),
        ({"optimizer.micro_batch": 5}, "batch_size 16 is no multiple of micro_batch 5"),
        ({"evaluation.eval_every": 30, "saving.save_every": 20}, "eval_every 30 is no multiple of save_every 20"),
        ({"data.jitter": -1}, "jitter"),
    ):
        with pytest.raises(ConfigError, match=message):
            changed(mini(), changes)
    assert changed(sdg30k(), {}).accumulation(8) == 2
    with pytest.raises(ConfigError, match="no multiple"):
        sdg30k().accumulation(3)


def test_sdg30k_has_the_papers_settings() -> None:
    """arXiv 2606.06113, the detector's SFT."""
    recipe = sdg30k()
    assert recipe.data.template == "detect-1"
    assert (recipe.optimizer.learning_rate, recipe.optimizer.warmup, recipe.optimizer.batch_size) == (3e-5, 0.05, 16)
    assert (recipe.data.max_tokens, recipe.data.max_side, recipe.data.jitter, recipe.model.precision) == (
        5100,
        1024,
        10,
        "bf16",
    )
    assert recipe.model.freeze_vision
    assert recipe.data.trace
    arguments = recipe.common_arguments("out", 1)
    assert (arguments["lr_scheduler_type"], arguments["warmup_steps"]) == ("cosine", 0.05)
