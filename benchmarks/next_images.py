"""What each way of choosing the next images buys per 1,000 tasks, in a drawn world with known truth.

Images have true defects of the mini world. Three detectors see them, each with error rates of its own; one generator's
images and one kind of defect are harder for all of them, as unfamiliar things are. People answered a first part at
random, a tenth of it blind; then each policy chooses the next 1,000. What an answer corrects is what the shown detector
got wrong: defects that it missed, boxes on nothing, and wrong types, matched at IoU 0.5.

    python benchmarks/next_images.py [--images 6000 --first 600 --budget 1000 --seeds 20]
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, stdev

from annotate.review.next_images import Candidate, Corrected, RankingPolicy, gravest, rank
from annotate.simulation.annotators import ErrorRates, SimulatedAnnotator
from schemas.defect import Defect
from schemas.records import AnnotationStatus, Prelabel
from sdg_data.ids import content_id
from sdg_data.metrics.matching import box_f1, match_defects
from sdg_data.mini.inject import sample_corrupted

MODELS = {"flux2-dev": (0.35, 1.0), "z-image-turbo": (0.3, 1.0), "longcat-image": (0.25, 1.3), "sana-1.5": (0.1, 2.2)}
"""Each model's share of the images, and how much harder its images are for detectors."""
HARD = ("lighting", "texture")
"""Subtypes that detectors miss twice as often."""
CLEAN = 0.35
DETECTORS = (
    ErrorRates(miss=0.22, invent=0.18, confuse=0.06, jitter=0.08, skip=0.0, unsure=0.0),
    ErrorRates(miss=0.28, invent=0.22, confuse=0.08, jitter=0.10, skip=0.0, unsure=0.0),
    ErrorRates(miss=0.35, invent=0.15, confuse=0.10, jitter=0.10, skip=0.0, unsure=0.0),
)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DrawnImage:
    """A candidate with its truth, and how much of what is shown of it is wrong."""

    candidate: Candidate
    truth: tuple[Defect, ...]
    errors: int


def world(count: int, seed: int, truths: Sequence[tuple[Defect, ...]]) -> list[DrawnImage]:
    """So many images with their detectors' answers."""
    rng = random.Random(f"next-images:{seed}")
    drawn = []
    for number in range(count):
        (model,) = rng.choices(list(MODELS), [share for share, _ in MODELS.values()])
        truth = () if rng.random() < CLEAN else rng.choice(truths)
        image = content_id("drawn", seed, number)
        answers = [_answer(image, index, rates, MODELS[model][1], truth) for index, rates in enumerate(DETECTORS)]
        candidate = Candidate(image, model, answers, answers[0])
        drawn.append(DrawnImage(candidate, truth, errors(answers[0].defects, truth)))
    return drawn


def errors(said: Sequence[Defect], truth: Sequence[Defect]) -> int:
    """Defects missed, and boxes on nothing; a wrong type is both."""
    return len(said) + len(truth) - 2 * len(match_defects(said, truth).at_least(0.5).first)


def corrected(images: Sequence[DrawnImage], seed: int) -> list[Corrected]:
    """What careful people made of these."""
    rng = random.Random(f"corrected:{seed}")
    return [
        Corrected(
            image.candidate.group,
            1 - box_f1(image.candidate.answers[0].defects, image.truth, 0.5, by_type=True),
            rng.random() < 0.1,
        )
        for image in images
    ]


def _answer(image: str, index: int, rates: ErrorRates, harder: float, truth: Sequence[Defect]) -> Prelabel:
    rng = random.Random(content_id("detector", index, image))
    seen = [defect for defect in truth if gravest([defect]) not in HARD or rng.random() > rates.miss]
    harder_rates = replace(
        rates,
        miss=min(0.7, rates.miss * harder),
        invent=min(0.7, rates.invent * harder),
        confuse=min(0.4, rates.confuse * harder),
    )
    said = SimulatedAnnotator(f"detector-{index}", 0, harder_rates).enter(image, seen, [])
    assert said.status in (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)
    return Prelabel(
        id=content_id("answer", index, image),
        image_id=image,
        model=f"detector-{index}",
        revision="r",
        template="t",
        settings="{}",
        raw="",
        trace=None,
        defects=tuple(region.defect for region in said.regions),
        repairs=(),
        attempt=1,
        tokens_in=None,
        tokens_out=None,
        cost=None,
        seconds=None,
        tool="benchmark",
        created_at=_NOW,
    )


def measure(
    count: int, first: int, budget: int, seed: int, truths: Sequence[tuple[Defect, ...]]
) -> list[dict[str, float]]:
    """One row a policy: errors corrected per 1,000 tasks, tasks with an error, and images of the rarest group."""
    images = world(count, seed, truths)
    seen, left = images[:first], images[first:]
    answers = corrected(seen, seed)
    by_id = {image.candidate.image_id: image for image in left}
    total = sum(image.errors for image in left)
    rows = []
    for policy in RankingPolicy:
        ranked = rank([image.candidate for image in left], policy, answers)[:budget]
        chosen = [by_id[image.candidate.image_id] for image in ranked]
        groups = Counter(image.candidate.group for image in chosen)
        corrected_errors = sum(image.errors for image in chosen)
        everywhere = {image.candidate.group for image in left}
        rows.append(
            {
                "corrected": 1000 * corrected_errors / budget,
                "with errors": fmean(image.errors > 0 for image in chosen),
                "left": (total - corrected_errors) / len(left),
                "groups": fmean(groups[group] >= min(10, _there(left, group)) for group in everywhere),
            }
        )
    return rows


def _there(images: Sequence[DrawnImage], group: tuple[str, str]) -> int:
    return sum(image.candidate.group == group for image in images)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 6000), ("first", 600), ("budget", 1000), ("seeds", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    rng = random.Random(1)
    truths = [sample_corrupted(rng).defects for _ in range(400)]
    runs = [measure(given.images, given.first, given.budget, seed, truths) for seed in range(given.seeds)]
    columns = ("policy", "errors corrected per 1,000 tasks", "tasks with an error", "errors left per image")
    print(f"| {' | '.join((*columns, 'groups seen ≥ 10 times'))} |")
    print("|---" * 5 + "|")
    for index, policy in enumerate(RankingPolicy):
        values = [run[index] for run in runs]
        rates = [value["corrected"] for value in values]
        error = stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else 0.0
        print(
            f"| {policy.value} | {fmean(rates):.0f} ± {2 * error:.0f} | "
            f"{fmean(value['with errors'] for value in values):.0%} | {fmean(value['left'] for value in values):.3f} | "
            f"{fmean(value['groups'] for value in values):.0%} |"
        )


if __name__ == "__main__":
    main()
