"""The table of the ablation: means over seeds with intervals, and contrasts paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as students_t

from trainers.paper.doctor.arms import ARMS, CONTRASTS, FIGURES

Seeds = Mapping[int, Mapping[str, float]]
"""Seed -> the figures of an arm's run."""


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half of its 95 % interval by Student's t; None for fewer than two values."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, float(students_t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))


def summarise(runs: Mapping[str, Seeds]) -> dict[str, Any]:
    """Means of every arm and the contrasts.

    Args:
        runs: By arm and seed.

    Returns:
        `arms`: arm -> figure -> `{mean, half, seeds}`; `contrasts`: with `difference`, `half`, `seeds`, and `holds`:
        whether the interval is above 0 (None where there are too few seeds to say).
    """
    arms: dict[str, Any] = {}
    for name, seeds in runs.items():
        arms[name] = {}
        for figure in FIGURES:
            values = [figures[figure] for figures in seeds.values() if figure in figures]
            if values:
                mean, half = interval(values)
                arms[name][figure] = {"mean": mean, "half": half, "seeds": len(values)}
    contrasts = []
    for one, other, figure in CONTRASTS:
        first, second = runs.get(one, {}), runs.get(other, {})
        paired = [
            first[seed][figure] - second[seed][figure]
            for seed in sorted(first.keys() & second.keys())
            if figure in first[seed] and figure in second[seed]
        ]
        if not paired:
            continue
        mean, half = interval(paired)
        holds = None if half is None else mean - half > 0
        contrasts.append(
            {"one": one, "other": other, "figure": figure, "difference": mean, "half": half, "seeds": len(paired),
             "holds": holds}
        )  # fmt: skip
    return {"arms": arms, "contrasts": contrasts}


def markdown(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The tables as Markdown; a claim that is not established is said to be so."""
    lines = ["# ImageDoctor's ablation in miniature", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["| arm | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, figures in summary["arms"].items():
        cells = [_cell(figures.get(figure)) for figure in FIGURES]
        lines.append(f"| {ARMS[name].title} | " + " | ".join(cells) + " |")
    lines += ["", "Mean ± half of the 95 % interval over seeds; one seed has none.", ""]
    lines += ["| is it better? | figure | difference | seeds | |", "|---|---|---|---|---|"]
    for row in summary["contrasts"]:
        verdict = {None: "one seed: not decided", True: "yes", False: "not established"}[row["holds"]]
        lines.append(
            f"| {ARMS[row['one']].title} over {ARMS[row['other']].title} | {row['figure']} | "
            f"{_signed(row['difference'], row['half'])} | {row['seeds']} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    return f"{value['mean']:.3f}" + ("" if value["half"] is None else f" ± {value['half']:.3f}")


def _signed(mean: float, half: float | None) -> str:
    return f"{mean:+.3f}" + ("" if half is None else f" ± {half:.3f}")
