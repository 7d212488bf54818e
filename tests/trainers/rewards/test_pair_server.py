"""The judge of pairs behind a real HTTP server that prefers a place, breaks off, fails, and refuses."""

import asyncio
import base64
import io
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aiohttp")

from generators.images import GeneratedImage
from sdg_data.settings import VlmSettings
from trainers.rewards.contract import Score
from trainers.rewards.pair_judge import ServerPairJudge, make_pairwise
from trainers.rewards.pair_protocols import PROTOCOLS
from trainers.rewards.settings import RewardSettings

Answer = tuple[int, str, str]
"""Status, the answer's text, and why it ended."""
FAILED = 200
"""The quality of an image that the server cannot look at."""


def says(verdict: str) -> Answer:
    return 200, verdict, "stop"


class Judge(ThreadingHTTPServer):
    """Answers chat completions by the qualities of the two images; `asked` holds these, in the order shown."""

    daemon_threads = True

    def __init__(self, answer: Callable[[int, int], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[tuple[int, int]] = []
        self.questions: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        *pictures, text = body["messages"][0]["content"]
        first, second = (quality_of(part["image_url"]["url"]) for part in pictures)
        self.server.asked.append((first, second))
        self.server.questions.append(text["text"])
        status, answer, reason = self.server.answer(first, second)
        content = {"choices": [{"message": {"content": answer}, "finish_reason": reason}]}
        data = json.dumps(content).encode() if status == 200 else answer.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        return


def quality_of(address: str) -> int:
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    return int(np.asarray(picture)[0, 0, 0])


@contextmanager
def served(answer: Callable[[int, int], Answer]) -> Iterator[Judge]:
    server = Judge(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def group(qualities: list[int], prompt: str = "a page") -> list[GeneratedImage]:
    return [GeneratedImage(np.full((4, 4, 3), quality, np.uint8), prompt) for quality in qualities]


def score(server: Judge, images: list[GeneratedImage], kind: str = "pairwise") -> list[Score]:
    vlm = VlmSettings(backend="openai", model="judge", base_url=f"http://127.0.0.1:{server.server_port}/v1")

    async def scores() -> list[Score]:
        reward = make_pairwise(RewardSettings(kind=kind, vlm=vlm))
        try:
            return await reward.score(images)
        finally:
            await reward.close()

    return asyncio.run(scores())


def biased(first: int, second: int) -> Answer:
    """Takes the first place unless the second image is better by more than 2."""
    return says("Image 2" if second > first + 2 else "Image 1")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_a_judge_that_always_takes_the_first_place_prefers_nobody() -> None:
    with served(lambda *_: says("Image 1")) as server:
        assert [answer.value for answer in score(server, group([1, 50, 100, 150]))] == pytest.approx([0.5] * 4)
        assert all("a page" in question for question in server.questions)


@pytest.mark.parametrize("n", [4, 7, 12])
def test_a_place_in_the_group_says_nothing_and_questions_stay_within_n_log_n(n: int) -> None:
    qualities = [3 * k for k in range(n)]
    rates = []
    for order in (qualities, qualities[::-1], qualities[1::2] + qualities[::2]):
        with served(biased) as server:
            answers = score(server, group(order))
        rates.append({quality: answer.value for quality, answer in zip(order, answers, strict=True)})
        assert len(server.asked) <= n * math.log2(n)
        pairs = Counter(tuple(sorted(pair)) for pair in server.asked)
        assert set(pairs.values()) == {2}  # both orders, once
        assert {pair[::-1] for pair in server.asked} == set(server.asked)
    assert rates[1] == pytest.approx(rates[0])
    assert rates[2] == pytest.approx(rates[0])
    values = [rates[0][quality] for quality in qualities]
    assert np.mean(values) == pytest.approx(0.5)
    assert max(values) == values[-1]
    assert np.mean(values[-(n // 2) :]) > 0.6  # few questions order halves, not every neighbour


def test_a_difference_below_the_bias_is_a_draw_and_one_above_is_not() -> None:
    with served(biased) as server:
        near = [answer.value for answer in score(server, group([10, 12]))]
        far = [answer.value for answer in score(server, group([10, 13]))]
    assert near == [0.5, 0.5]
    assert far[1] > 0.9
    assert far[0] == pytest.approx(1 - far[1])


def test_a_tie_counts_only_where_it_is_the_answer() -> None:
    for said, kind, values in (
        ("Tie", "pairwise", [0.5, 0.5]),
        ("Both are equal.", "pairwise", [None, None]),
        ("Tie", "pairwise-think", [None, None]),
        ("<think>a</think><answer>Image 1 is better</answer>", "pairwise", [None, None]),
    ):
        with served(lambda *_, said=said: says(said)) as server:
            answers = score(server, group([1, 2]), kind)
        assert [answer.value for answer in answers] == values, (said, kind)
        assert all(answer.reason for answer in answers if answer.value is None)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ((400, "too many pixels", ""), "bad-request: HTTP 400"),
        ((200, "Image 1", "length"), "cut off"),
        ((200, "", "stop"), "no verdict"),
    ],
)
def test_an_image_that_cannot_be_judged_is_masked_and_changes_nobody_else(failure: Answer, reason: str) -> None:
    def answer(first: int, second: int) -> Answer:
        if FAILED in (first, second):
            return failure
        return says("Image 1" if first > second else "Image 2")

    with served(answer) as server:
        answers = score(server, group([10, 20, FAILED, 30]))
    assert answers[2].value is None
    assert reason in answers[2].reason
    values = [answers[place].value for place in (0, 1, 3)]
    assert None not in values
    assert values == sorted(values)  # type: ignore[type-var]
    assert sum(values) == pytest.approx(1.5)  # type: ignore[arg-type]


def test_one_order_without_an_answer_is_no_comparison() -> None:
    """The other order alone would be the place's, not the image's."""

    def answer(first: int, second: int) -> Answer:
        return says("Image 1") if first < second else (400, "no", "")

    with served(answer) as server:
        assert [score_.value for score_ in score(server, group([1, 2]))] == [None, None]


def test_a_server_that_refuses_the_key_is_asked_no_further_round() -> None:
    with served(lambda *_: (401, "wrong key", "")) as server:
        answers = score(server, group(list(range(16))))
    assert {answer.value for answer in answers} == {None}
    assert any(answer.fatal for answer in answers)
    assert len(server.asked) <= 16  # one round: eight pairs in two orders


def test_groups_of_two_prompts_are_not_compared_with_each_other() -> None:
    with served(biased) as server:
        answers = score(server, [*group([0, 40], "one"), *group([100, 140], "two")])
    assert {tuple(sorted(pair)) for pair in server.asked} == {(0, 40), (100, 140)}
    assert [answer.value for answer in answers[:2]] == [answer.value for answer in answers[2:]]


def test_a_judge_gets_the_parameters_of_its_server_and_no_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    vlm = VlmSettings(backend="openai", model="gpt-5.4", base_url="https://api.openai.com/v1", max_tokens=100)
    judge = ServerPairJudge(vlm, PROTOCOLS["pairwise"])
    image = GeneratedImage(np.zeros((4, 4, 3), np.uint8), "a <|image_pad|> sign")
    body = judge._body((image, image))
    assert (body["max_completion_tokens"], "max_tokens" in body, "temperature" in body) == (100 + 16_384, False, False)
    assert "a < |image_pad|> sign" in body["messages"][0]["content"][2]["text"]
