"""How soon known-answer items find people who do not work well, and how often they accuse those who do.

Each seed has a team of simulated people: honest ones whose error rates differ as people's do (`annotators`), one who is
careless, one who copies the prelabels, one who clicks at random, and one honest one who grows careless after 100 items.
Items, faults of prelabels, scores and bars are the product's own. Printed is after how many known-answer items there
was an alarm, how many of the seeds had one within 50, and the false alarms of the honest within 50 and 500 items.

    python benchmarks/known_answers.py [--seeds 200 --honest 2 --items 500 --accuracy 0.75 --own-eyes 0.7 --alpha 0.02]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, quantiles

from annotate.known_answers.incoming import CLAIMS, IOU
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
class FirstAlarms:
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


def alarms(scores: Sequence[SimulatedScore], settings: KnownAnswerSettings) -> FirstAlarms:
    """After how many items each bar gave an alarm."""
    own = [(number, answered.own) for number, answered in enumerate(scores, 1) if answered.own is not None]
    accuracy = follow([answered.score.share for answered in scores], Bar(settings.accuracy, settings.alpha)).alarm_at
    alone = follow([value for _, value in own], Bar(settings.own_eyes, settings.alpha)).alarm_at
    return FirstAlarms(accuracy, None if alone is None else own[alone - 1][0])


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bars = KnownAnswerSettings()
    for name, value in (("seeds", 200), ("honest", 2), ("items", 500)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name in ("accuracy", "own_eyes", "alpha"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, nargs="+", default=[getattr(bars, name)])
    given = parser.parse_args()
    run = simulate(range(given.seeds), truths(), honest=given.honest, count=given.items)
    for habit, everybody in run.items():
        shares = [fmean(answer.score.share for answer in scores) for scores in everybody]
        followed = [answer.score.followed for scores in everybody for answer in scores]
        left = [share for share in followed if share is not None]
        words = f"right {fmean(shares):.3f} ({min(shares):.3f}–{max(shares):.3f}), faults left in {fmean(left):.3f}"
        print(f"{habit}: {words}")
    for accuracy in given.accuracy:
        for alone in given.own_eyes:
            for alpha in given.alpha:
                chosen = KnownAnswerSettings(accuracy=accuracy, own_eyes=alone, alpha=alpha)
                _print(run, chosen)


def _print(run: dict[str, list[list[SimulatedScore]]], settings: KnownAnswerSettings) -> None:
    print(f"\naccuracy {settings.accuracy}, own eyes {settings.own_eyes}, alpha {settings.alpha}")
    print("| habit | runs | found within 50 | median | 95 % | by accuracy | by own eyes | ever |\n" + "|---" * 8 + "|")
    for habit, everybody in run.items():
        people = [alarms(scores, settings) for scores in everybody]
        start = TURNS if habit == "turns" else 0
        at = sorted(person.first - start if person.first is not None else 10**6 for person in people)
        within = sum(0 < items_seen <= WITHIN for items_seen in at)
        cuts = quantiles(at, n=20) if len(at) > 1 else at * 20
        words = [f"{cut:.0f}" if cut < 10**5 else "–" for cut in (cuts[9], cuts[18])]
        kinds = [sum(getattr(person, name) is not None for person in people) for name in ("accuracy", "own_eyes")]
        ever = sum(person.first is not None for person in people)
        row = [habit, len(at), f"{within} ({within / len(at):.1%})", *words, *kinds, ever]
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
