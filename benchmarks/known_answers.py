"""How soon known-answer items find people who do not work well, and how often they accuse those who do.

Each seed has a team of simulated people: honest ones whose error rates differ as people's do (`annotators`), one who is
careless, one who copies the prelabels, one who clicks at random, and one honest one who grows careless after 100 items.
Items, faults of prelabels, scores and bars are the product's own. Printed is after how many known-answer items there
was an alarm, how many of the seeds had one within 50, and the false alarms of the honest within 50 and 500 items.

    python benchmarks/known_answers.py [--seeds 200 --honest 2 --items 500 --accuracy 0.75 --own-eyes 0.7 --alpha 0.02]
"""

from __future__ import annotations

import argparse
from statistics import fmean, quantiles

from annotate.simulation.known_answers import TURNS, WITHIN, SimulatedScore, alarms, simulate, truths
from sdg_data.settings import KnownAnswerSettings


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
        shares = [fmean(one.score.share for one in scores) for scores in everybody]
        left = [one.score.followed for scores in everybody for one in scores if one.score.followed is not None]
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
        found = [alarms(scores, settings) for scores in everybody]
        start = TURNS if habit == "turns" else 0
        at = sorted(one.first - start if one.first is not None else 10**6 for one in found)
        within = sum(0 < one <= WITHIN for one in at)
        cuts = quantiles(at, n=20) if len(at) > 1 else at * 20
        words = [f"{cut:.0f}" if cut < 10**5 else "–" for cut in (cuts[9], cuts[18])]
        kinds = [sum(getattr(one, name) is not None for one in found) for name in ("accuracy", "own_eyes")]
        ever = sum(one.first is not None for one in found)
        row = [habit, len(at), f"{within} ({within / len(at):.1%})", *words, *kinds, ever]
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
