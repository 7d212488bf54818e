"""The composite reward as TRL calls it, and the figures that show how a training goes wrong.

A policy can earn by saying nothing (`silent_rate`), by covering the image with boxes (`boxes_per_answer`,
`repeated_boxes`), or by saying one thing of every image (`copied_rate`, `distinct_in_group`); each of these is logged
beside the reward's components.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from annotate.vlm.families import codec_of
from schemas.defect import Defect
from schemas.geometry import ImageSize
from sdg_data.metrics.similarity import Similarity
from trainers.detector.reward import Reward, composite_rewards


class AnswersReward(Protocol):
    """Interface of what a GRPO trainer here rewards answers with: one of TRL's `reward_funcs`, with two numbers.

    `seconds` counts the time spent in it; `valid` holds whether each of the last call's answers had a valid form.
    """

    seconds: float
    valid: list[bool]

    def __call__(self, *args: Any, **kwargs: Any) -> list[float]:
        """Reward answers, one reward for each; the arguments are TRL's."""


class CompositeReward:
    """`reward_funcs` of TRL's `GRPOTrainer`. Rows bring `key`, `ground_truth` (defects) and `size` (of the picture).

    `seconds` counts the time spent here without the embedding, `embedding_seconds` that of the similarity. `valid`
    holds whether each of the last call's answers had a valid form.
    """

    __name__ = "composite"

    def __init__(
        self, similarity: Similarity, *, family: str, require_trace: bool, require_overlap: bool = False
    ) -> None:
        self._similarity = _Timed(similarity)
        self._family = family
        self._require_trace, self._require_overlap = require_trace, require_overlap
        self.seconds = 0.0
        self.valid: list[bool] = []

    @property
    def embedding_seconds(self) -> float:
        """Seconds that comparing reasons has taken so far."""
        return self._similarity.seconds

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        key: Sequence[str],
        ground_truth: Sequence[Sequence[Defect]],
        size: Sequence[ImageSize],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float]:
        """Reward answers, and log their figures.

        Args:
            completions: conversations of one message, or plain texts.
            key: which image each answer is about.
            ground_truth: that image's defects.
            size: that image's size as the model was shown it.
            log_metric: TRL's.
            columns: what else TRL hands over; it is not used.

        Returns:
            One reward for each answer.
        """
        start, embedded = time.perf_counter(), self.embedding_seconds
        texts = [
            completion if isinstance(completion, str) else str(completion[0]["content"]) for completion in completions
        ]
        rewards = composite_rewards(
            texts,
            ground_truth,
            self._similarity,
            require_trace=self._require_trace,
            require_overlap=self._require_overlap,
            codecs=[codec_of(self._family, image_size) for image_size in size],
        )
        self.valid = [reward.format_ok for reward in rewards]
        for name, value in health(rewards, key, ground_truth).items():
            log_metric(name, value)
        self.seconds += time.perf_counter() - start - (self.embedding_seconds - embedded)
        return [reward.total for reward in rewards]


class _Timed:
    """A similarity, timed."""

    def __init__(self, similarity: Similarity) -> None:
        self._similarity = similarity
        self.name = similarity.name
        self.seconds = 0.0

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> Any:
        """Give the cosines of the timed similarity, and add the time that they took to `seconds`."""
        start = time.perf_counter()
        cosines = self._similarity.pairs(first, second)
        self.seconds += time.perf_counter() - start
        return cosines


def health(rewards: Sequence[Reward], keys: Sequence[str], truths: Sequence[Sequence[Defect]]) -> dict[str, float]:
    """The components' means over valid answers, and the figures that show a collapse.

    format_rate        share of answers in a valid form
    empty_rate         share of valid answers that say "no defects"
    silent_rate        the same among images that have some
    boxes_per_answer   of valid answers; `boxes_over_truth` less the ground truth's number
    repeated_boxes     share of boxes that stand twice in their answer
    copied_rate        share of valid answers with boxes that another image got too, word for word
    distinct_in_group  different answers to one question, as a share of its valid answers

    Args:
        rewards: those of the answers.
        keys: which image each answer is about.
        truths: that image's defects.

    Returns:
        Figure -> value, without those that are undefined.
    """
    figures = {"format_rate": sum(reward.format_ok for reward in rewards) / max(len(rewards), 1)}
    answers = list(zip(keys, rewards, truths, strict=True))
    valid = [(key, reward, truth) for key, reward, truth in answers if reward.defects is not None]
    if not valid:
        return figures
    boxes = [len(reward.defects or ()) for _, reward, _ in valid]
    figures |= {
        "reward_box": _mean([reward.box for _, reward, _ in valid]),
        "reward_description": _mean([reward.description for _, reward, _ in valid]),
        "reward_importance": _mean([reward.importance for _, reward, _ in valid]),
        "empty_rate": _mean([count == 0 for count in boxes]),
        "boxes_per_answer": _mean(boxes),
        "boxes_over_truth": _mean([count - len(truth) for count, (_, _, truth) in zip(boxes, valid, strict=True)]),
    }
    with_defects = [not reward.defects for _, reward, truth in valid if truth]
    if with_defects:
        figures["silent_rate"] = _mean(with_defects)
    if sum(boxes):
        repeated = sum(
            len(reward.defects or ()) - len({defect.box for defect in reward.defects or ()}) for _, reward, _ in valid
        )
        figures["repeated_boxes"] = repeated / sum(boxes)
    return figures | _copying([(key, reward.defects or ()) for key, reward, _ in valid])


def _copying(valid: Sequence[tuple[str, tuple[Defect, ...]]]) -> dict[str, float]:
    askers: dict[tuple[Defect, ...], set[str]] = defaultdict(set)
    by_key: dict[str, list[tuple[Defect, ...]]] = defaultdict(list)
    for key, defects in valid:
        askers[defects].add(key)
        by_key[key].append(defects)
    figures = {"distinct_in_group": _mean([len(set(answers)) / len(answers) for answers in by_key.values()])}
    with_boxes = [(key, defects) for key, defects in valid if defects]
    if with_boxes and len(by_key) > 1:
        figures["copied_rate"] = _mean([len(askers[defects]) > 1 for _, defects in with_boxes])
    return figures


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
