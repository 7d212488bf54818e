"""Detectors behind a backend, in this process and behind the served API: an answer in the strict form, or none."""

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn

from annotate.serve.app import make_app
from annotate.serve.served import Served
from annotate.vlm.contract import Answer, AskError, Question
from annotate.vlm.openai_chat import OpenAIBackend
from annotate.vlm.retrying import RetryPolicy
from generators.images import GeneratedImage
from schemas.answer.parse import render_answer
from sdg_data.errors import ConfigError
from sdg_data.prompt_templates import DETECT_SHORT, load_template
from sdg_data.settings import VlmSettings
from tests.annotate.fake_backend import FakeBackend
from tests.trainers.boxflow.naive import defect
from trainers.rewards.detectors import VlmDetector
from trainers.rewards.settings import DetectorSettings, RewardSettings, make_detector, make_reward

FOUND = (defect(10, 20, 300, 400, "artifact", 62), defect(0, 0, 1000, 1000, "misalignment", 9))
ANSWER = render_answer(FOUND, None)
TEMPLATE = load_template(DETECT_SHORT)


def images(*names: str) -> list[GeneratedImage]:
    return [GeneratedImage(np.full((32, 32, 3), 7, np.uint8), name) for name in names]


def test_answers_in_the_strict_form_count_and_no_others() -> None:
    answers: dict[str, list[Answer | AskError | str]] = {
        "boxes": [ANSWER],
        "clean": ["<answer>[]</answer>"],
        "prose": ["I see nothing wrong."],
        "needs repair": [ANSWER.replace("]</answer>", ",]</answer>")],
        "cut off": [Answer(ANSWER[:-30], finish="length")],
        "empty": [""],
        "refused": [AskError("refused", "no")],
    }
    detector = VlmDetector(FakeBackend(lambda question: answers[question.prompt]), TEMPLATE)
    detections = asyncio.run(detector.detect(images(*answers)))
    assert detections[0].defects == FOUND
    assert detections[1].defects == ()
    assert [detection.defects for detection in detections[2:]] == [None] * 5
    assert all(detection.reason for detection in detections[2:])


def test_a_late_answer_is_none() -> None:
    backend = FakeBackend([ANSWER], gate=asyncio.Event)  # a gate that nobody opens
    detector = VlmDetector(backend, TEMPLATE, deadline=0.05, policy=RetryPolicy(tries=1))
    detections = asyncio.run(detector.detect(images("a", "b")))
    assert [detection.defects for detection in detections] == [None, None]
    assert "timeout" in detections[0].reason


@pytest.fixture
def server() -> Iterator[str]:
    """`sdg serve detector`'s application on a free port of this machine."""

    def script(question: Question) -> list[Answer | AskError | str]:
        return [AskError("model-error", "died")] if "sick" in question.text else [ANSWER]

    app = make_app(Served(FakeBackend(script, model="served"), TEMPLATE, 256, 0.0))
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not running.started:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    running.should_exit = True
    thread.join(30)


def test_the_served_detector(server: str) -> None:
    settings = VlmSettings(backend="openai", model="served", base_url=server, max_tokens=256)
    detector = VlmDetector(OpenAIBackend(settings, environ={}), TEMPLATE, policy=RetryPolicy(tries=1))

    async def ask() -> None:
        detections = await detector.detect(images("a healthy prompt", "a sick one"))
        await detector.close()
        assert detections[0].defects == FOUND
        assert detections[1].defects is None
        assert detections[1].reason

    asyncio.run(ask())


def test_from_settings() -> None:
    assert make_detector(DetectorSettings(kind="oracle")).name == "oracle"
    both = make_reward((RewardSettings(kind="palette", weight=2.0), RewardSettings(kind="oracle", weight=0.5)))
    assert both.name == "2·palette + 0.5·oracle"
    for settings in ((), (RewardSettings(kind="clip"),), (RewardSettings(kind="judge"),)):
        with pytest.raises(ConfigError):
            make_reward(settings)
