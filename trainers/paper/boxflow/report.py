"""From the judge's numbers to a table, a figure and sentences that say what was established and what was not.

Intervals are bootstrap ones: seeds and prompts are drawn with replacement, the same draw for all arms, as all arms were
trained with the same seeds and judged on the same prompts from the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.charts import Series, bars, nice_top
from trainers.paper.boxflow.arms import BASE, TITLES
from trainers.paper.boxflow.judge import MEASURES

Floats = NDArray[np.float64]

RESAMPLES: Final = 2_000
GOAL: Final = 0.30
FORWARD_GOAL: Final = 0.35
_SHOWN: Final = {
    "artifact": "artifacts",
    "misalignment": "misalignments",
    "missing": "missing objects",
    "burden": "burden",
    "drift": "drift",
    "total": "burden + drift",
    "right": "right",
}
"""Measures of the table, and its heads."""
_CONTRASTS: Final = (
    ("boxflow", "flow-grpo"),
    ("boxflow", "denseflow"),
    ("boxflow", "scalar-boxes"),
    ("boxflow-paper", "flow-grpo"),
    ("scalar-boxes", "flow-grpo"),
    ("boxflow-forward", "flow-grpo"),
    ("boxflow-forward", "denseflow"),
    ("boxflow-forward", "boxflow"),
    ("boxflow-forward", "scalar-boxes"),
    ("boxflow-forward", "scalar-boxes-forward"),
    ("boxflow-forward", "flow-grpo-forward"),
    ("scalar-boxes-forward", "scalar-boxes"),
    ("flow-grpo-forward", "flow-grpo"),
)


def summarise(results: Mapping[str, Floats], seed: int = 0) -> dict[str, Any]:
    """Means, intervals and paired differences.

    Args:
        results: arm -> (seeds, prompts, measures), in the order of `MEASURES`; the base has one seed, which is
            compared with each of the others'.
        seed: of the resampling.

    Returns:
        JSON: `arms` with means and intervals of each measure, `contrasts` with those of paired differences.
    """
    draws = _draws({name: values.shape[:2] for name, values in results.items() if name != BASE}, results, seed)
    arms: dict[str, Any] = {}
    for name, values in results.items():
        means = values.mean(axis=(0, 1))
        arms[name] = {
            "seeds": len(values),
            "prompts": values.shape[1],
            **{
                measure: {"mean": float(means[index]), "interval": _interval(draws[name][:, index])}
                for index, measure in enumerate(MEASURES)
            },
        }
        if name != BASE and BASE in results:
            for measure in ("burden", "total"):
                index = MEASURES.index(measure)
                # a drawn set of prompts on which the base has nothing to cut says nothing
                below = draws[BASE][:, index] > 0
                cut = 1 - draws[name][below, index] / draws[BASE][below, index]
                mean = 1 - means[index] / results[BASE].mean(axis=(0, 1))[index]
                arms[name][f"{measure} cut"] = {"mean": float(mean), "interval": _interval(cut)}
    contrasts = []
    for first, second in _CONTRASTS:
        if first in results and second in results:
            index = MEASURES.index("total")
            gap = draws[first][:, index] - draws[second][:, index]
            mean = results[first].mean(axis=(0, 1))[index] - results[second].mean(axis=(0, 1))[index]
            contrasts.append({"of": first, "to": second, "mean": float(mean), "interval": _interval(gap)})
    return {"arms": arms, "contrasts": contrasts}


def markdown(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The experiment's result as Markdown: a table of the arms, a sentence for each contrast, and the settings."""
    lines = [
        f"| arm | {' | '.join(_SHOWN.values())} | burden cut | cut with drift |",
        f"|---{'|---' * len(_SHOWN)}|---|---|",
    ]
    for name, values in summary["arms"].items():
        cells = [_cell(values[measure]) for measure in _SHOWN]
        cuts = [_percent(values[cut]) if cut in values else "" for cut in ("burden cut", "total cut")]
        lines.append(f"| {TITLES[name]} | {' | '.join([*cells, *cuts])} |")
    lines += ["", *(_sentence(contrast) for contrast in summary["contrasts"]), "", _verdict(summary)]
    lines += _curve_table(summary.get("curves", {}))
    lines += ["", "Settings: " + ", ".join(f"{key} {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def mean_curves(curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> dict[str, list[dict[str, float]]]:
    """The burden of the fixed prompts' images on the way, as the oracle and the detector see it: means over seeds.

    Args:
        curves: arm -> for each training what was seen: `rollouts`, `oracle`, `detector`.

    Returns:
        arm -> points in the order of rollouts; only those that every training of the arm has.
    """
    means: dict[str, list[dict[str, float]]] = {}
    for arm, trainings in curves.items():
        by_time = [{point["rollouts"]: point for point in training} for training in trainings]
        shared = sorted(set.intersection(*(set(points) for points in by_time)))
        if shared:
            means[arm] = [
                {"rollouts": time}
                | {who: float(np.mean([points[time][who] for points in by_time])) for who in ("oracle", "detector")}
                for time in shared
            ]
    return means


def figure(summary: Mapping[str, Any]) -> str:
    """SVG: burden and drift of each arm, with intervals."""
    names = list(summary["arms"])
    series = []
    for title, measure in (("burden", "burden"), ("burden + drift", "total")):
        values = [summary["arms"][name][measure] for name in names]
        series.append(Series(title, [value["mean"] for value in values], [value["interval"] for value in values]))
    top = nice_top(max(summary["arms"][name]["total"]["interval"][1] for name in names))
    return bars("What the oracle finds per image", [TITLES[name] for name in names], series, top=top)


def _curve_table(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """The guard: where the detector's figure falls and the oracle's does not, the reward is being hacked."""
    times = sorted({int(point["rollouts"]) for points in curves.values() for point in points})
    if not times:
        return []
    lines = ["", "Burden of fixed prompts' images after so many rollouts, as the oracle sees it, and the detector:", ""]
    lines += [f"| arm | {' | '.join(str(time) for time in times)} |", "|---" * (len(times) + 1) + "|"]
    for arm, points in curves.items():
        seen = {int(point["rollouts"]): f"{point['oracle']:.3f}, {point['detector']:.3f}" for point in points}
        lines.append(f"| {TITLES[arm]} | {' | '.join(seen.get(time, '') for time in times)} |")
    return lines


def _draws(shapes: Mapping[str, tuple[int, ...]], results: Mapping[str, Floats], seed: int) -> dict[str, Floats]:
    """arm -> (resamples, measures): means over drawn seeds and prompts."""
    seeds = min((shape[0] for shape in shapes.values()), default=1)
    prompts = min(values.shape[1] for values in results.values())
    rng = np.random.default_rng(seed)
    drawn: dict[str, Floats] = {name: np.empty((RESAMPLES, len(MEASURES))) for name in results}
    for row in range(RESAMPLES):
        chosen = rng.integers(0, seeds, seeds)
        weights = np.bincount(rng.integers(0, prompts, prompts), minlength=prompts) / prompts
        for name, values in results.items():
            some = values[chosen, :prompts] if name != BASE else values[:, :prompts]
            drawn[name][row] = weights @ some.mean(axis=0)
    return drawn


def _interval(samples: Floats) -> list[float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return [float(low), float(high)]


def _cell(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['mean']:.3f} ({low:.3f}–{high:.3f})"


def _percent(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{100 * value['mean']:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _sentence(contrast: Mapping[str, Any]) -> str:
    low, high = contrast["interval"]
    verdict = "lower" if high < 0 else "higher" if low > 0 else "not established"
    first, second = TITLES[contrast["of"]], TITLES[contrast["to"]]
    return (
        f"- {first} − {second}, burden + drift, paired: {contrast['mean']:+.3f} ({low:+.3f} to {high:+.3f}): {verdict}."
    )


def _verdict(summary: Mapping[str, Any]) -> str:
    arms = summary["arms"]
    if BASE not in arms or not {"boxflow", "boxflow-forward"} & arms.keys():
        return "BoxFlow-GRPO or the base is missing: nothing can be said yet."
    said = []
    if arm := arms.get("boxflow"):
        plain, cut = arm["burden cut"]["mean"], arm["total cut"]["mean"]
        goal = "reached" if min(plain, cut) >= GOAL else "not reached"
        text = f"A cut of 30 % by BoxFlow-GRPO: {goal} (burden {100 * plain:.0f} %, with drift {100 * cut:.0f} %)."
        said.append(text + _beaten(summary, "boxflow"))
    if arm := arms.get("boxflow-forward"):
        cut, base = arm["total cut"]["mean"], arms[BASE]
        more = arm["drift"]["mean"] > base["drift"]["mean"]
        goal = "reached" if cut >= FORWARD_GOAL and not more else "not reached"
        text = f"A cut of 35 % of burden + drift by {TITLES['boxflow-forward']}, without more drift: {goal}"
        text += f" ({100 * cut:.0f} %, drift {arm['drift']['mean']:.3f} against {base['drift']['mean']:.3f})."
        said.append(text + _beaten(summary, "boxflow-forward"))
    return "\n\n".join(said)


def _beaten(summary: Mapping[str, Any], arm: str) -> str:
    lower = {contrast["to"]: contrast["interval"][1] < 0 for contrast in summary["contrasts"] if contrast["of"] == arm}
    won = [TITLES[name] for name, beaten in lower.items() if beaten]
    lost = [TITLES[name] for name, beaten in lower.items() if not beaten]
    text = f" Beyond the interval it beats: {', '.join(won) or 'none'}."
    return text + (f" It does not beat: {', '.join(lost)}." if lost else "")
