"""Rewards by wire: what counts as a number, and what becomes of everything else."""

import asyncio
import base64
import io
import json
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotate.vlm.retrying import RetryPolicy
from generators.images import GeneratedImage
from sdg_data.errors import ConfigError, ModelError
from tests.trainers.rewards.answering import Answer, AnsweringServer
from trainers.rewards.contract import Score
from trainers.rewards.facts import facts_of, odd_scale
from trainers.rewards.scoring import Scoring, check_failures
from trainers.rewards.settings import RewardServer, RewardSettings, described, make_reward
from trainers.rewards.wire import read_scores
from trainers.rewards.wire_reward import WireReward

PATIENT = RetryPolicy(tries=3, first_pause=0.0, longest_pause=0.0)


def images(count: int) -> list[GeneratedImage]:
    rng = np.random.default_rng(1)
    return [GeneratedImage(rng.integers(0, 255, (6, 5, 3), np.uint8), f"prompt {number}") for number in range(count)]


def results(*values: Any, errors: list[Any] | None = None) -> bytes:
    return json.dumps({"results": [{"q": {"q": value}} for value in values], "errors": errors or []}).encode()


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (results(0.5, -2, 0), [0.5, -2.0, 0.0]),
        (results(0.5, float("nan"), 1), [0.5, None, 1.0]),
        (results(0.5, None, float("-inf")), [0.5, None, None]),
        (results("0.5", "good", True), [None, None, None]),
        (results(10**400, [1], {"a": 1}), [None, None, None]),
        (results(1, 2), [None, None, None]),
        (results(1, 2, 3, 4), [None, None, None]),
        (
            b'{"results": [{"q": {"q": 1}}, {}, {"q": {}}], "errors": [{}, {"q": "ValueError(\'x\')"}, {}]}',
            [1, None, None],
        ),
        (
            b'{"results": [{"q": {"q": 1}}, {"q": {"q": 2}}, {"q": 3}], "errors": [{}, {"q": "late"}, {}]}',
            [1, None, None],
        ),
        (b'{"results": [{"q": {"only": 1}}, {"q": {"a": 1, "b": 2}}, {"q": {"q": 3, "b": null}}]}', [1, None, 3]),
        (b'{"results": [null, [], "x"], "errors": null}', [None, None, None]),
        (b'{"results": {"q": 1}}', [None, None, None]),
        (b"[1, 2, 3]", [None, None, None]),
        (b"<html>busy</html>", [None, None, None]),
        (b"", [None, None, None]),
        (b"[" * 100_000, [None, None, None]),
    ],
)
def test_only_a_finite_number_is_a_score(body: bytes, values: list[float | None]) -> None:
    scores = read_scores(body.decode(), 3, "q")
    assert [score.value for score in scores] == values
    assert all(score.reason for score in scores if score.value is None)


@pytest.mark.parametrize(
    ("more", "values"),
    [
        ({"errors": ["CUDA out of memory", ""]}, [None, 2.0]),
        ({"errors": [{"*": "CUDA out of memory"}, {}]}, [None, 2.0]),
        ({"errors": [{}, ["CUDA out of memory"]]}, [0.0, None]),
        ({"errors": [{"q": None}, None]}, [None, 2.0]),
        ({"errors": [{"q": "CUDA out of memory"}]}, [None, None]),
        ({"errors": {"0": "CUDA out of memory"}}, [None, None]),
        ({"errors": "CUDA out of memory"}, [None, None]),
        ({"error": "CUDA out of memory"}, [None, None]),
        ({"detail": [{"msg": "CUDA out of memory"}]}, [None, None]),
        ({"errors": [], "error": None, "detail": ""}, [0.0, 2.0]),
        ({"errors": None}, [0.0, 2.0]),
        ({}, [0.0, 2.0]),
    ],
    ids=str,
)
def test_a_number_beside_an_error_is_missing_whatever_the_errors_form(more: dict[str, Any], values: list[Any]) -> None:
    scores = read_scores(json.dumps({"results": [{"q": {"q": 0.0}}, {"q": {"q": 2.0}}], **more}), 2, "q")
    assert [score.value for score in scores] == values
    assert all(score.reason for score in scores if score.value is None)


def test_the_metric_that_is_named_counts_and_the_others_are_parts() -> None:
    body = '{"results": [{"u": {"alignment": 4.0, "style": 2, "bad": null}}]}'
    assert read_scores(body, 1, "u", "style") == [Score(2.0, parts={"alignment": 4.0, "style": 2.0})]
    missing = read_scores(body, 1, "u", "coherence")[0]
    assert missing.value is None
    assert "alignment, style" in missing.reason


def ask(answer: Answer, count: int, **server: Any) -> tuple[list[Score], AnsweringServer]:
    async def go(url: str) -> list[Score]:
        settings = RewardServer(url=url, reward="q", **server)
        reward = WireReward(settings, batch_size=2, policy=PATIENT)
        try:
            return await reward.score(images(count))
        finally:
            await reward.close()

    with AnsweringServer(answer) as there:
        return asyncio.run(go(there.url)), there


def test_what_is_sent_is_the_wires_form() -> None:
    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        return 200, results(*[len(request["history"][0]["text"]) for request in json.loads(body)["requests"]])

    scores, server = ask(answer, 3)
    assert [score.value for score in scores] == [8.0, 8.0, 8.0]
    sent = [request for body in server.bodies for request in json.loads(body)["requests"]]
    assert sorted(request["history"][0]["text"] for request in sent) == ["prompt 0", "prompt 1", "prompt 2"]
    first = next(request for request in sent if request["history"][0]["text"] == "prompt 1")
    with Image.open(io.BytesIO(base64.b64decode(first["history"][0]["image_b64"]))) as picture:
        assert (np.asarray(picture) == images(3)[1].pixels).all()
    assert first["required_rewards"] == ["q"]


def test_errors_are_tried_again_and_then_missing() -> None:
    asked = []

    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        texts = [request["history"][0]["text"] for request in json.loads(body)["requests"]]
        asked.append(texts[0])
        if texts[0] == "prompt 0":
            return (500, b"out of memory") if asked.count("prompt 0") < 3 else (200, results(1, 2))
        if texts[0] == "prompt 2":
            return 500, b"out of memory"
        return 400, b"unknown reward: q"

    scores, _ = ask(answer, 5)
    assert [score.value for score in scores] == [1.0, 2.0, None, None, None]
    assert "out of memory" in scores[2].reason
    assert "unknown reward" in scores[4].reason
    assert asked.count("prompt 2") == 3
    assert asked.count("prompt 4") == 1


def test_pictures_do_not_follow_a_redirect() -> None:
    with AnsweringServer(lambda path, body: (200, results(1, 1))) as elsewhere:
        scores, _ = ask(lambda path, body: (307, elsewhere.url.encode()), 2)
        assert elsewhere.bodies == []
    assert [score.value for score in scores] == [None, None]


def test_a_server_that_hangs_is_missing_at_the_deadline_and_another_one_takes_over() -> None:
    held = threading.Event()

    def hang(path: str, body: bytes) -> tuple[int, bytes]:
        held.wait(20)
        return 200, results(5, 5)

    try:
        scores, _ = ask(hang, 2, deadline=0.2)
        assert [score.value for score in scores] == [None, None]
        assert "timeout" in scores[0].reason
        with AnsweringServer(lambda path, body: (200, results(7, 7))) as good, AnsweringServer(hang) as bad:

            async def go() -> list[Score]:
                settings = RewardServer(url=f"{bad.url} {good.url}", reward="q", deadline=5.0)
                reward = WireReward(settings, batch_size=2, policy=PATIENT)
                try:
                    return await reward.score(images(2))
                finally:
                    await reward.close()

            assert [score.value for score in asyncio.run(go())] == [7.0, 7.0]
            held.set()
    finally:
        held.set()


def test_too_many_missing_rewards_stop_the_run() -> None:
    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        return 200, results(1.0, float("nan"))

    with AnsweringServer(answer) as server:
        reward = make_reward(
            (RewardSettings(kind="wire", batch_size=2, server=RewardServer(url=server.url, reward="q")),)
        )
        scoring = Scoring(reward, None, deadline=10)
        scoring.submit(images(4))
        scored = scoring.collect()
        scoring.close()
    assert [image.reward for image in scored] == [1.0, None, 1.0, None]
    assert check_failures(scored, 0.5) == {"base reward": 0.5, "detector": 0.0}
    with pytest.raises(ModelError, match="no answer for 2 of 4 images"):
        check_failures(scored, 0.25)


def flow_grpo(url: str, **more: Any) -> RewardSettings:
    return RewardSettings(kind="flow-grpo", server=RewardServer(url=url, **more))


def ask_bridge(data: bytes, count: int = 2) -> tuple[list[Score], AnsweringServer]:
    async def go(url: str) -> list[Score]:
        reward = make_reward((flow_grpo(url, accept_pickle=True),))
        try:
            return await reward.score(images(count))
        finally:
            await reward.close()

    with AnsweringServer(lambda path, body: (200, data)) as server:
        return asyncio.run(go(server.url)), server


def test_the_bridge_speaks_flow_grpos_form() -> None:
    scores, server = ask_bridge(pickle.dumps({"outputs": np.array([0.25, 3], np.float32)}))
    assert [score.value for score in scores] == [0.25, 3.0]
    sent = pickle.loads(server.bodies[0])
    assert sent["prompts"] == ["prompt 0", "prompt 1"]
    assert all(picture[:3] == b"\xff\xd8\xff" for picture in sent["images"])


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_hostile_answer_runs_nothing_and_is_missing(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    for data in (pickle.dumps(Runs(f"touch {flag}")), pickle.dumps({"outputs": [1.0, Runs(f"touch {flag}")]})):
        scores, _ = ask_bridge(data)
        assert [score.value for score in scores] == [None, None]
        assert "refused" in scores[0].reason
        assert "system" in scores[0].reason
    assert not flag.exists()


@pytest.mark.parametrize(
    "answer",
    [{"outputs": [1.0]}, {"outputs": [1, 2], "scores": [1, 2]}, {}, [1, 2], {"outputs": 3}, {"outputs": {"a": 1}},
     {"outputs": [0.0, 0.0], "error": "out of memory"},
     {"outputs": ["1", None]}, {"outputs": [float("nan"), True]}, {"scores": [[1], (2,)]}],
    ids=str,
)  # fmt: skip
def test_what_is_no_list_of_as_many_numbers_is_missing(answer: Any) -> None:
    scores, _ = ask_bridge(pickle.dumps(answer))
    assert [score.value for score in scores] == [None, None]


def test_pickles_need_consent_and_this_machine() -> None:
    with pytest.raises(ConfigError, match="speaks pickles"):
        make_reward((flow_grpo("http://127.0.0.1:18086"),))
    for away in ("http://10.0.0.7:18086", "http://127.0.0.1.example.net:1", "http://127.0.0.1:1 http://gpu7:1"):
        with pytest.raises(ConfigError, match="on this machine only"):
            make_reward((flow_grpo(away, accept_pickle=True),))
    for here in (
        "http://127.0.0.1:18086",
        "http://localhost:1",
        "http://[::1]:5",
        "http://127.0.0.1:1 http://127.0.0.2:1",
    ):
        make_reward((flow_grpo(here, accept_pickle=True),))


def test_a_wire_reward_says_what_it_lacks() -> None:
    for settings in (
        RewardSettings(kind="wire"),
        RewardSettings(kind="wire", server=RewardServer(url="", reward="q")),
        RewardSettings(kind="wire", server=RewardServer(url="127.0.0.1:9191", reward="q")),
        RewardSettings(kind="wire", server=RewardServer(url="http://127.0.0.1:9191")),
    ):
        with pytest.raises(ConfigError):
            make_reward((settings,))


def test_settings_without_a_server_are_written_as_before() -> None:
    assert "server" not in RewardSettings(kind="palette").model_dump()
    assert "server" not in RewardSettings(kind="palette").model_dump(mode="json")
    whole = RewardSettings(kind="wire", server=RewardServer(url=["http://a:1", "http://b:2"], reward="q"))  # type: ignore[arg-type]
    assert RewardSettings.model_validate(whole.model_dump(mode="json")) == whole
    assert whole.server is not None
    assert whole.server.urls() == ["http://a:1", "http://b:2"]


def test_a_figure_of_another_scale_is_noticed() -> None:
    pick = facts_of("pick")
    assert pick is not None
    assert odd_scale(pick, 21.5) == ""
    assert "divided" in odd_scale(pick, 21.5 / 26)
    clip = facts_of("clip")
    assert clip is not None
    assert odd_scale(clip, 28.0) == ""


def test_logs_say_what_a_figure_means() -> None:
    wire = RewardSettings(kind="wire", server=RewardServer(url="http://ann:secret@h:1", reward="pickscore"), weight=0.5)
    assert described(wire) == {
        "reward": "pickscore", "weight": 0.5, "by": "http://***@h:1", "scale": "exp(logit scale) · cos",
        "usually": [18, 24], "version": "PickScore_v1, CLIP-H, 77 tokens", "source": "yuvalkirstain/PickScore_v1",
    }  # fmt: skip
    assert described(RewardSettings(kind="scorer", model="m"))["scale"] == "its own, not known here"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hpsv2", "hpsv2"),
        ("HPSv2.1", "hpsv2"),
        ("HPS-v3", "hpsv3"),
        ("image_reward", "imagereward"),
        ("PickScore", "pickscore"),
    ],
)
def test_a_reward_that_is_served_is_said_to_be(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"sdg serve rewards --reward {name}"):
        RewardSettings(kind=kind)
    with pytest.raises(ValueError, match="there is no 'Judge'; there are clip, pick"):
        RewardSettings(kind="Judge")
