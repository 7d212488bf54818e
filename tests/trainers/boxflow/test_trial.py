"""Servers are asked before the model is loaded: what counts as an answer, what is said of their speed, who is asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdg_data.cli import run
from sdg_data.errors import ExitCode, ModelError
from tests.annotate.hostile import HostileServer, Reply, answer
from tests.annotate.support import CLEAN
from trainers.boxflow.config import BoxFlowConfig, changed, identity
from trainers.boxflow.recipes import mini
from trainers.boxflow.trial import ServerTrial, describe, pictures, run_trials

PROMPTS = ["a red square", "a blue circle"]


def served(url: str, **changes: Any) -> BoxFlowConfig:
    vlm = {"backend": "openai", "model": "detector", "base_url": url}
    return changed(mini(), {"rewards.detector": {"kind": "vlm", "vlm": vlm}, **changes})


def test_a_server_that_answers_is_measured() -> None:
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        [trial] = run_trials(served(server.url, **{"monitoring.trial_images": 5}), PROMPTS, (64, 96))
    assert (trial.asked, trial.answered, trial.reasons) == (5, 5, ())
    assert trial.seconds > 0
    assert trial.name == "detector:detector"
    assert len(server.requests) == 5


def test_nobody_in_this_process_is_asked_and_none_where_the_setting_says_so() -> None:
    assert run_trials(mini(), PROMPTS, (64, 64)) == []
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        assert run_trials(served(server.url, **{"monitoring.trial_images": 0}), PROMPTS, (64, 64)) == []
        scalar = served(server.url, **{"credit.advantage": "scalar"})
        assert run_trials(scalar, PROMPTS, (64, 64)) == []
    assert not server.requests


def test_a_share_of_answers_that_a_rollout_allows_is_allowed() -> None:
    def reply(caption: str, nth: int) -> Reply:
        return answer("I see nothing" if caption == PROMPTS[1] else CLEAN)

    # 8 samples a prompt: 8 pictures of the first prompt, 2 of the second, which cannot be read
    config = served("", **{"monitoring.trial_images": 10, "rollout.samples": 8, "rollout.batch_size": 8})
    with HostileServer(reply) as server:
        vlm = config.rewards.detector.vlm.model_copy(update={"base_url": server.url})
        asked = changed(config, {"rewards.detector": {"kind": "vlm", "vlm": vlm.model_dump()}})
        [trial] = run_trials(changed(asked, {"rewards.max_failure_rate": 0.2}), PROMPTS, (64, 64))
        assert trial.answered == 8
        assert all("malformed" in reason for reason in trial.reasons)
        with pytest.raises(ModelError, match="no answer for 2 of 10 pictures") as caught:
            run_trials(changed(asked, {"rewards.max_failure_rate": 0.19}), PROMPTS, (64, 64))
    assert "(2×)" in str(caught.value.hint)


def test_a_server_that_answers_nothing_useful_ends_the_run_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("generators.models.loading.load_pipeline", load)
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    command = ["train", "boxflow", "--prompts", str(file), "--out", str(tmp_path / "run"), "--detector", "openai"]
    command += ["--set", "rewards.detector.vlm.model=own"]
    with HostileServer(lambda caption, nth: answer("a fine picture")) as server:
        assert run([*command, "--detector-url", server.url]) == ExitCode.GENERATION
    said = capsys.readouterr().err
    assert "no answer for 16 of 16 pictures, asked before the model is loaded" in said
    assert "trial_images=0" in said


def test_what_is_said_of_a_speed() -> None:
    config = changed(mini(), {"rollout.prompts": 48, "rollout.samples": 16, "rewards.reward_deadline": 300.0})
    assert config.total == 768
    # 16 in 16 s: a rollout of 768 takes 768 s, 468 s more than the deadline leaves
    slow = describe(ServerTrial("detector:d", 16, 16.0, ()), config)
    assert "16 of 16 pictures answered in 16 s, 1 a second; 768 of a rollout take 12 min 48 s" in slow
    assert "only where sampling takes 7 min 48 s or longer" in slow
    # 8 that count in 2 s: 768 / 4 = 192 s
    quick = describe(ServerTrial("judge:j", 16, 2.0, ("malformed",) * 8), config)
    assert "8 of 16 pictures answered in 2 s, 4 a second; 768 of a rollout take 3 min 12 s" in quick
    assert quick.endswith("it keeps up (reward_deadline 300 s)")


def test_pictures_have_the_size_and_are_as_heavy_as_real_ones() -> None:
    first, second, third = pictures(PROMPTS, 3, 2, (50, 70))
    assert [image.prompt for image in (first, second, third)] == [PROMPTS[0], PROMPTS[0], PROMPTS[1]]
    assert first.pixels.shape == (50, 70, 3)
    assert not np.array_equal(first.pixels, second.pixels)
    [large] = pictures(PROMPTS, 1, 1, (512, 512))
    assert len(large.png()) > 512 * 512  # more than a byte a pixel, as photographs have


def test_it_changes_no_name_of_a_training() -> None:
    config = mini()
    assert identity(config) == identity(changed(config, {"monitoring.trial_images": 3}))
