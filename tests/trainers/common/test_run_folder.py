"""A run's folder: held by one training, without passwords, and still its own when settings are added later."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sdg_data.errors import ConfigError, ExitCode, StoreLocked
from sdg_data.web_addresses import without_secrets
from trainers.boxflow.config import BoxFlowConfig, changed
from trainers.boxflow.recipes import flux1_dev, mini
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.rewards.settings import check_address, make_reward, servers


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trainers.detector.run_folder import DetectorRunFolder\n"
        "with DetectorRunFolder(Path(sys.argv[1])).held():\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    folder = BoxFlowRunFolder(tmp_path)
    with pytest.raises(StoreLocked, match=str(other.pid)) as caught, folder.held():
        raise AssertionError
    assert caught.value.exit_code == ExitCode.LOCKED == 6
    other.kill()
    other.wait()
    with folder.held():
        pass


def test_the_other_processes_of_a_training_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BoxFlowRunFolder(tmp_path)
    with folder.held():
        monkeypatch.setenv("RANK", "1")
        with folder.held():
            pass


def test_passwords_stay_out_of_the_note(tmp_path: Path) -> None:
    folder = BoxFlowRunFolder(tmp_path)

    def note(url: str) -> dict[str, object]:
        config = changed(flux1_dev(), {"rewards.detector.vlm.base_url": url})
        return {"config": config.model_dump(mode="json"), "model": {}, "prompts": {}}

    folder.claim(note("https://me:s3cret@gpu7:9090/v1"), BoxFlowConfig)
    assert "s3cret" not in folder.run.read_text()
    assert "https://***@gpu7:9090/v1" in folder.run.read_text()
    folder.claim(note("https://me:changed@gpu7:9090/v1"), BoxFlowConfig)
    with pytest.raises(ConfigError, match=r"rewards\.detector"):
        folder.claim(note("https://me:s3cret@gpu8:9090/v1"), BoxFlowConfig)
    plain = ["see http://x/y?to=a@b", "mail a@b", "postgresql://h/db", 5, None]
    assert without_secrets(plain) == plain


def test_a_setting_that_is_newer_than_a_run_does_not_make_it_another(tmp_path: Path) -> None:
    folder = BoxFlowRunFolder(tmp_path)
    note = {"config": mini().model_dump(mode="json"), "model": {}, "prompts": {}}
    older = json.loads(json.dumps(note))
    for name in ("server", "reasoning", "thinking_tokens", "extra"):
        del older["config"]["rewards"]["detector"]["vlm"][name]
    folder.claim(older, BoxFlowConfig)
    folder.claim(note, BoxFlowConfig)


def test_a_judge_without_an_address_is_refused_before_anything_loads() -> None:
    config = flux1_dev()
    assert servers(config.rewards.base, config.monitoring.guard, config.rewards.detector) == {
        "judge CodeGoat24/UnifiedReward-2.0-qwen3vl-2b": "http://127.0.0.1:8000/v1",
        "detector sdg-detector": "http://127.0.0.1:9090/v1",
    }
    [judge] = config.rewards.base
    assert judge.vlm is not None
    nowhere = judge.model_copy(update={"vlm": judge.vlm.model_copy(update={"base_url": ""})})
    for call in (lambda: make_reward((nowhere,)), lambda: servers((nowhere,), None, config.rewards.detector)):
        with pytest.raises(ConfigError, match=r"the judge has no address: its images would go to api\.openai\.com"):
            call()
    check_address(judge.vlm.model_copy(update={"base_url": "", "model": "gpt-5.4"}), "judge")
