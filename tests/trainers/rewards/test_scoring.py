"""Asking beside the sampling: order, deadlines, deaths, and the share of failures that stops a run."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from generators.images import GeneratedImage
from sdg_data.errors import ModelError
from tests.trainers.boxflow.naive import defect
from trainers.rewards.contract import Detection, Score
from trainers.rewards.scoring import ScoredImage, Scoring, check_failures

BOX = (defect(0, 0, 10, 10),)


def images(*names: str) -> list[GeneratedImage]:
    return [GeneratedImage(np.zeros((4, 4, 3), np.uint8), name) for name in names]


class Reward:
    name = "by-name"

    def __init__(self, act: str = "") -> None:
        self._act = act
        self.asked = threading.Event()

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        self.asked.set()
        if self._act == "bug":
            raise KeyError("a bug of ours")
        if self._act == "short":
            return [Score(1.0)]
        return [Score(float(image.prompt)) for image in images]

    async def close(self) -> None:
        return


class Detector:
    name = "detector"

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        if any(image.prompt == "3" for image in images):
            raise RuntimeError("out of memory")
        if any(image.prompt == "4" for image in images):
            await asyncio.Event().wait()
        return [Detection(BOX if image.prompt == "1" else ()) for image in images]

    async def close(self) -> None:
        return


def test_answers_come_in_the_order_of_the_images_and_failures_stay_with_their_own() -> None:
    scoring = Scoring(Reward(), Detector(), deadline=0.3)
    for names in (("1", "2"), ("3", "5"), ("4",), ("6",)):
        scoring.submit(images(*names))
    scores = scoring.collect()
    assert [image.reward for image in scores] == [1, 2, 3, 5, 4, 6]
    assert [image.defects for image in scores] == [BOX, (), None, None, None, ()]
    assert "out of memory" in scores[2].detector_reason
    assert "deadline" in scores[4].detector_reason
    assert scoring.collect() == []
    scoring.close()


def test_asking_starts_before_it_is_waited_for() -> None:
    reward = Reward()
    scoring = Scoring(reward, None, deadline=5)
    scoring.submit(images("1"))
    assert reward.asked.wait(30)
    assert [image.defects for image in scoring.collect()] == [()]
    scoring.close()


def test_the_guard_scores_what_it_is_given() -> None:
    scoring = Scoring(Reward("short"), None, deadline=5, held_out_reward=Reward())
    scoring.submit(images("7"), held_out=True)
    assert scoring.collect()[0].reward == 7
    scoring.close()


def test_an_answer_too_few_is_no_answer() -> None:
    scoring = Scoring(Reward("short"), None, deadline=5)
    scoring.submit(images("1", "2"))
    assert [image.reward for image in scoring.collect()] == [None, None]
    scoring.close()


def test_a_bug_is_not_taken_for_a_missing_answer() -> None:
    scoring = Scoring(Reward("bug"), None, deadline=5)
    scoring.submit(images("1"))
    with pytest.raises(KeyError):
        scoring.collect()
    scoring.close()


def test_the_share_that_stops_a_run() -> None:
    good, bad = ScoredImage(1.0, ()), ScoredImage(1.0, None, detector_reason="timeout: 5 s")
    assert check_failures([good] * 7 + [bad] * 3, limit=0.3) == {"base reward": 0.0, "detector": 0.3}
    with pytest.raises(ModelError, match=r"the detector gave no answer for 4 of 10 images \(40 %, more than 30 %\)"):
        check_failures([good] * 6 + [bad] * 4, limit=0.3)
    with pytest.raises(ModelError, match="base reward") as caught:
        check_failures([good, ScoredImage(None, (), "no score for style")], limit=0.3)
    assert "no score for style (1×)" in str(caught.value)
    assert check_failures([], limit=0.0) == {"base reward": 0.0, "detector": 0.0}
