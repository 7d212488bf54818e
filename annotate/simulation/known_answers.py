"""Simulated people of known habits at known-answer items, without a server: how soon the bars find whom.

Each seed has honest people whose error rates differ as people's do, one who is careless, one who copies the
prelabels, one who clicks at random, and one honest one who grows careless after `TURNS` items. Items, faults of
prelabels, scores and bars are the product's own. `benchmarks/known_answers.py` prints it as a table.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from annotate.known_answers.arrivals import CLAIMS, IOU
from annotate.known_answers.items import CLEAN, boxes_with_a_fault
from annotate.known_answers.scoring import AnswerScore, own_eyes, score
from annotate.known_answers.sequential import Bar, follow
from annotate.simulation.annotators import Region, SimulatedAnnotator, annotators
from annotate.simulation.habits import CARELESS, COPIES, RandomClicker
from schemas.defect import Defect
from schemas.known_answers import KnownTruth
from schemas.records import Origin
from sdg_data.mini.inject import sample_corrupted
from sdg_data.settings import KnownAnswerSettings

BLIND = 0.1
WITHIN = 50
TURNS = 100
"""After so many items the one who turns grows careless."""
Item = tuple[str, KnownTruth, list[Region], bool]
"""An id, what is right, what the page shows, and whether it shows a prelabel."""


@dataclass(frozen=True)
class SimulatedScore:
    """One answer's score, and what it says of the person's own eyes; None: nothing."""

    score: AnswerScore
    own: float | None


@dataclass(frozen=True)
class Found:
    """After how many items one person had which alarm; None: there was none."""

    accuracy: int | None
    own_eyes: int | None

    @property
    def first(self) -> int | None:
        """The earlier of the two."""
        return min((at for at in (self.accuracy, self.own_eyes) if at is not None), default=None)


def truths(count: int = 400) -> list[tuple[Defect, ...]]:
    """Defects as the mini world's injection makes them."""
    rng = random.Random(1)
    return [sample_corrupted(rng, most=2).defects for _ in range(count)]


def items(seed: int, pool: Sequence[tuple[Defect, ...]]) -> Iterator[Item]:
    """Known-answer items without end: an id, the truth, and what the page shows."""
    rng = random.Random(f"known-answers:{seed}")
    elsewhere = [defect for defects in pool for defect in defects]
    number = 0
    while True:
        number += 1
        truth = KnownTruth(defects=() if rng.random() < CLEAN else rng.choice(pool))
        shown: list[Defect] = []
        led = rng.random() >= BLIND
        if led:
            shown, truth = boxes_with_a_fault(truth, elsewhere, rng)
        regions = [
            Region(f"p{index}", (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1), defect, Origin.PREDICTION)
            for index, defect in enumerate(shown)
        ]
        yield f"{seed}-{number}", truth, regions, led


def work(
    person: SimulatedAnnotator, given: Iterator[Item], count: int, then: SimulatedAnnotator | None = None
) -> list[SimulatedScore]:
    """The scores of a person's answers to so many items; skips have none. `then`: who they are after `TURNS` items."""
    scores: list[SimulatedScore] = []
    while len(scores) < count:
        image, truth, shown, led = next(given)
        now = then if then is not None and len(scores) >= TURNS else person
        answer = now.enter(image, truth.defects, shown)
        if answer.status in CLAIMS:
            scored = score([region.defect for region in answer.regions], truth, iou=IOU)
            scores.append(SimulatedScore(scored, own_eyes(scored.share, scored.followed, led=led)))
    return scores


def alarms(scores: Sequence[SimulatedScore], settings: KnownAnswerSettings) -> Found:
    """After how many items each bar gave an alarm."""
    own = [(number, answered.own) for number, answered in enumerate(scores, 1) if answered.own is not None]
    accuracy = follow([answered.score.share for answered in scores], Bar(settings.accuracy, settings.alpha)).alarm_at
    alone = follow([value for _, value in own], Bar(settings.own_eyes, settings.alpha)).alarm_at
    return Found(accuracy, None if alone is None else own[alone - 1][0])


def team(seed: int, honest: int) -> dict[str, list[SimulatedAnnotator]]:
    """The people of one seed, by habit."""
    return {
        "honest": list(annotators(honest, seed, kind="honest")),
        "careless": [SimulatedAnnotator("careless", seed, CARELESS)],
        "copies": [SimulatedAnnotator("copier", seed, COPIES)],
        "clicks": [RandomClicker("clicker", seed)],
    }


def simulate(
    seeds: Sequence[int], pool: Sequence[tuple[Defect, ...]], *, honest: int = 2, count: int = WITHIN
) -> dict[str, list[list[SimulatedScore]]]:
    """The scores of everybody, by habit."""
    run: dict[str, list[list[SimulatedScore]]] = {}
    for seed in seeds:
        for habit, people in team(seed, honest).items():
            given = items(seed, pool)
            asked = count if habit == "honest" else WITHIN + 20
            run.setdefault(habit, []).extend(work(person, given, asked) for person in people)
        (usual,) = annotators(1, seed, kind="turning")
        turned = replace(usual, rates=CARELESS)
        run.setdefault("turns", []).append(work(usual, items(seed, pool), TURNS + WITHIN + 20, turned))
    return run
