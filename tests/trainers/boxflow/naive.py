"""The same numbers by plain loops over cells, in Python's own floats."""

import math
import statistics
from collections.abc import Sequence

from schemas.defect import Defect, DefectType
from schemas.geometry import Box


def defect(x0: int, y0: int, x1: int, y1: int, kind: str = "artifact", importance: int = 50) -> Defect:
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type=DefectType(kind), reason="something", importance=importance)


def overlap(low: float, high: float, cell: int, cells: int, rule: str) -> float:
    start, end = low * cells / 1000, high * cells / 1000
    if rule == "floor":
        return 1.0 if int(start) <= cell < int(end) else 0.0
    return max(0.0, min(end, cell + 1) - max(start, cell))


def heat(defects: Sequence[Defect], kind: str, row: int, column: int, grid: tuple[int, int], rule: str) -> float:
    best = 0.0
    for defect in defects:
        if defect.type == kind:
            part = overlap(defect.box.y0, defect.box.y1, row, grid[0], rule)
            part *= overlap(defect.box.x0, defect.box.x1, column, grid[1], rule)
            best = max(best, part * defect.importance / 100)
    return best


def reward(
    base: float,
    defects: Sequence[Defect],
    alphas: tuple[float, float],
    row: int,
    column: int,
    grid: tuple[int, int],
    rule: str = "fractional",
) -> float:
    return (
        base
        - alphas[0] * heat(defects, "artifact", row, column, grid, rule)
        - alphas[1] * heat(defects, "misalignment", row, column, grid, rule)
    )


def advantage(values: Sequence[float], epsilon: float) -> list[float]:
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return [(value - mean) / (spread + epsilon) for value in values]


def log_density(taken: Sequence[float], mean: Sequence[float], std: float) -> float:
    """The mean over channels."""
    logs = [
        -0.5 * ((x - m) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi)) for x, m in zip(taken, mean, strict=True)
    ]
    return statistics.fmean(logs)
