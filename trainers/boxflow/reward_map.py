"""From scalar rewards and boxes to a reward per location (arXiv 2606.06113, eq. 4).

    W_type(h, w) = max over the boxes of a type of  covered part of the cell · importance/100,  0 where there is none
    R_D(h, w)    = R − α_art·W_art(h, w) − α_mis·W_mis(h, w)          α_type = weight of the type · σ_R

A sample whose base reward or detection is missing (None, or a reward that is not finite) is NaN everywhere; the
functions that read these maps leave it out (`trainers.boxflow.advantage`). It is never taken for a clean image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from schemas.geometry import GRID
from sdg_data.metrics.matching import box_array

CellRule = Literal["fractional", "floor"]
CELL_RULES: Final[tuple[str, ...]] = get_args(CellRule)
TYPES: Final = (DefectType.ARTIFACT, DefectType.MISALIGNMENT)
"""The order of the types wherever there is an axis for them."""

Rewards: TypeAlias = "Sequence[float | None] | torch.Tensor"
Detections: TypeAlias = Sequence[Sequence[Defect] | None]

_Floats = NDArray[np.float32]
_Patch = tuple[slice, slice]


def reward_maps(
    base_rewards: Rewards,
    defects: Detections,
    grid: tuple[int, int],
    alpha_artifact: float | torch.Tensor,
    alpha_misalignment: float | torch.Tensor,
    cell_rule: CellRule = "fractional",
    margin: float = 0.0,
) -> torch.Tensor:
    """The reward of each location of each image: the base reward, less at the defects (R_D of eq. 4).

    `ValueError` is raised where N differs between the arguments, for a grid without cells, for an unknown rule and for
    a margin below 0.

    Args:
        base_rewards: R, N values; None or NaN where there is none.
        defects: N lists of boxes with types and importance, an empty one for a clean image, None where the detector
            gave no answer.
        grid: (rows, columns) of locations, height first; any H×W.
        alpha_artifact: α_art, the very factor of W_art: a number, or (N,) with one for each sample. The paper's is
            0.5·σ_R, σ_R by `group_sigma`.
        alpha_misalignment: α_mis likewise; the paper's is 0.05·σ_R.
        cell_rule: "fractional" counts a cell by the part of it that a box covers; "floor" rounds both edges of a box
            down to whole cells, as the paper's release does, so that boxes thinner than a cell vanish.
        margin: cells by which each box grows on all sides first, within the image; 0 is the paper's. What decides
            whether a defect comes about lies around it too, and a box that ends at the object rewards a smaller object.

    Returns:
        (N, rows, columns), float32; NaN for samples without a reward or a detection.
    """
    rewards = _rewards(base_rewards, defects)
    count = len(rewards)
    alphas = np.stack([_per_sample(alpha_artifact, count), _per_sample(alpha_misalignment, count)], axis=1)
    maps = np.empty((count, *_checked(grid)), dtype=np.float32)
    maps[:] = rewards[:, None, None]
    for sample, kind, patch, heat in _heats(defects, grid, cell_rule, margin):
        maps[sample][patch] -= alphas[sample, kind] * heat
    return torch.from_numpy(maps)


def penalty_maps(defects: Detections, grid: tuple[int, int], cell_rule: CellRule = "fractional") -> torch.Tensor:
    """W_art and W_mis of eq. 4.

    Args:
        defects: N lists, None where the detector gave no answer.
        grid: (rows, columns) of locations.
        cell_rule: see `reward_maps`.

    Returns:
        (N, 2, rows, columns), float32, 0..1, types as in `TYPES`; NaN without a detection.
    """
    maps = np.zeros((len(defects), len(TYPES), *_checked(grid)), dtype=np.float32)
    for sample, kind, patch, heat in _heats(defects, grid, cell_rule):
        maps[sample, kind][patch] = heat
    for sample, detection in enumerate(defects):
        if detection is None:
            maps[sample] = np.nan
    return torch.from_numpy(maps)


def spread_burdens(defects: Detections, grid: tuple[int, int], margin: float = 0.0) -> torch.Tensor:
    """Σ importance/100 of each type, with each box's spread evenly over what it covers: overlapping boxes add up.

    Args:
        defects: N lists, None where the detector gave no answer.
        grid: (rows, columns) of locations.
        margin: cells by which each box grows on all sides first, see `reward_maps`.

    Returns:
        (N, 2, rows, columns), float32, types as in `TYPES`, whose mean over locations is that of `burdens` whatever the
        boxes' sizes; NaN without a detection.
    """
    rows, columns = _checked(grid)
    maps = np.zeros((len(defects), len(TYPES), rows, columns), dtype=np.float32)
    boxes = _boxes(defects, grid, "fractional", margin)
    for index, (sample, defect) in enumerate(boxes.defects):
        covered = boxes.rows[index, :, None] * boxes.columns[index]
        maps[sample, TYPES.index(defect.type)] += covered * (defect.importance / 100 * covered.size / covered.sum())
    for sample, detection in enumerate(defects):
        if detection is None:
            maps[sample] = np.nan
    return torch.from_numpy(maps)


def burdens(defects: Detections) -> torch.Tensor:
    """Σ importance/100 of each sample's defects, by type.

    Returns:
        (N, 2), float32, types as in `TYPES`; NaN where there is no answer.
    """
    sums = np.zeros((len(defects), len(TYPES)), dtype=np.float32)
    for sample, detection in enumerate(defects):
        if detection is None:
            sums[sample] = np.nan
            continue
        for defect in detection:
            sums[sample, TYPES.index(defect.type)] += defect.importance / 100
    return torch.from_numpy(sums)


def scalar_box_rewards(
    base_rewards: Rewards,
    defects: Detections,
    alpha_artifact: float | torch.Tensor,
    alpha_misalignment: float | torch.Tensor,
) -> torch.Tensor:
    """The control: the same boxes taken from the scalar, R − α_art·Σ_art ŝ/100 − α_mis·Σ_mis ŝ/100.

    It knows what the boxes say but not where, so what BoxFlow gains over it is gained by the location. Arguments are
    those of `reward_maps`.

    Returns:
        (N,), float32; NaN as in `reward_maps`.
    """
    rewards = _rewards(base_rewards, defects)
    sums = burdens(defects).numpy()
    first, second = _per_sample(alpha_artifact, len(rewards)), _per_sample(alpha_misalignment, len(rewards))
    return torch.from_numpy(np.where(np.isnan(rewards), rewards, rewards - first * sums[:, 0] - second * sums[:, 1]))


def group_sigma(base_rewards: torch.Tensor, group_ids: torch.Tensor, floor: float = 0.0) -> torch.Tensor:
    """σ_R: for each sample the unbiased standard deviation of its group's base rewards, at least `floor`.

    Args:
        base_rewards: (N,), NaN where a sample does not count.
        group_ids: (N,), integers.
        floor: in units of the reward. Without one, a group of equal rewards has σ_R = 0, and α = weight·σ_R takes the
            spatial penalty away just where it is all there is to learn from. Where the floor is used its size matters
            little, as eq. 5 divides by the standard deviation again, as long as weight·floor is well above that ε.

    Returns:
        (N,), float32; `floor` for a group of fewer than two samples that count.
    """
    result = torch.full((len(base_rewards),), float(floor))
    values = base_rewards.double()
    for group in torch.unique(group_ids).tolist():
        members = group_ids == group
        known = values[members & torch.isfinite(values)]
        # From the first one, so that equal rewards differ by exactly nothing.
        if len(known) > 1:
            result[members] = max(float((known - known[0]).std()), floor)
    return result


def known_rewards(base_rewards: Rewards, defects: Detections) -> torch.Tensor:
    """R with NaN wherever the reward or the detection is missing: (N,), float32."""
    return torch.from_numpy(_rewards(base_rewards, defects))


def _rewards(base_rewards: Rewards, defects: Detections) -> _Floats:
    given = base_rewards.tolist() if isinstance(base_rewards, torch.Tensor) else base_rewards
    if len(given) != len(defects):
        raise ValueError(f"{len(given)} base rewards and {len(defects)} detections")
    values = np.array([np.nan if reward is None else reward for reward in given], dtype=np.float32)
    values[~np.isfinite(values)] = np.nan
    values[[detection is None for detection in defects]] = np.nan
    return values


def _per_sample(alpha: float | torch.Tensor, count: int) -> _Floats:
    values = alpha.detach().cpu().numpy() if isinstance(alpha, torch.Tensor) else np.asarray(alpha)
    return np.broadcast_to(values.astype(np.float32), (count,))


def _checked(grid: tuple[int, int]) -> tuple[int, int]:
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise ValueError(f"a grid of {rows} rows and {columns} columns has no cells")
    return rows, columns


class _Boxes(NamedTuple):
    """The boxes of all samples on a grid.

    `defects` is (sample, defect) of each, `rows` and `columns` the part that it covers of each row and column, (n,
    rows) and (n, columns), `ends` its first row and the one after its last, and likewise its columns.
    """

    defects: list[tuple[int, Defect]]
    rows: _Floats
    columns: _Floats
    ends: tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]


def _boxes(defects: Detections, grid: tuple[int, int], cell_rule: CellRule, margin: float) -> _Boxes:
    """The boxes of all samples, in order.

    Returns:
        Them; rows and columns of float32.

    Raises:
        ValueError: an unknown rule, or a margin below 0.
    """
    if cell_rule not in CELL_RULES:
        raise ValueError(f"there is no cell rule {cell_rule!r}; it is one of {', '.join(CELL_RULES)}")
    if not margin >= 0:
        raise ValueError(f"a margin of {margin} cells; boxes do not shrink")
    flat = [(sample, defect) for sample, detection in enumerate(defects) for defect in detection or ()]
    corners: NDArray[np.float64] = box_array([defect.box for _, defect in flat]).reshape(-1, 4)
    if margin:
        by = margin * GRID / np.array([grid[1], grid[0]] * 2)
        corners = np.clip(corners + np.array([-1, -1, 1, 1]) * by, 0, GRID)
    rows, top, bottom = _cover(corners[:, 1], corners[:, 3], grid[0], cell_rule)
    columns, left, right = _cover(corners[:, 0], corners[:, 2], grid[1], cell_rule)
    return _Boxes(flat, rows, columns, ((top, bottom), (left, right)))


def _heats(
    defects: Detections, grid: tuple[int, int], cell_rule: CellRule, margin: float = 0.0
) -> Iterator[tuple[int, int, _Patch, _Floats]]:
    """The heat of each sample and type with boxes.

    Only the cells around the boxes are touched: most of a map is never written twice.

    Yields:
        (sample, index of the type, the part of the grid with any heat, W there).
    """
    boxes = _boxes(defects, grid, cell_rule, margin)
    rows, columns = boxes.rows, boxes.columns
    (top, bottom), (left, right) = boxes.ends
    rows *= np.array([defect.importance / 100 for _, defect in boxes.defects], dtype=np.float32)[:, None]
    members: dict[tuple[int, int], list[int]] = {}
    for index, (sample, defect) in enumerate(boxes.defects):
        if top[index] < bottom[index] and left[index] < right[index]:
            members.setdefault((sample, TYPES.index(defect.type)), []).append(index)
    for (sample, kind), some in members.items():
        y0, y1 = min(top[box] for box in some), max(bottom[box] for box in some)
        x0, x1 = min(left[box] for box in some), max(right[box] for box in some)
        heat = rows[some[0], y0:y1, None] * columns[some[0], x0:x1]
        for box in some[1:]:
            np.maximum(heat, rows[box, y0:y1, None] * columns[box, x0:x1], out=heat)
        yield sample, kind, (slice(y0, y1), slice(x0, x1)), heat


def _cover(
    low: NDArray[np.float64], high: NDArray[np.float64], cells: int, cell_rule: CellRule
) -> tuple[_Floats, list[int], list[int]]:
    """Of each interval low..high (thousandths): part of each cell (n, cells), first cell, cell after the last."""
    start, end = low * cells / GRID, high * cells / GRID
    first = np.floor(start).astype(np.int64)
    edges = np.arange(cells)
    if cell_rule == "floor":
        last = np.floor(end).astype(np.int64)
        part = ((edges >= first[:, None]) & (edges < last[:, None])).astype(np.float32)
    else:
        last = np.ceil(end).astype(np.int64)
        inside = np.minimum(end[:, None], edges + 1) - np.maximum(start[:, None], edges)
        part = np.clip(inside, 0.0, 1.0).astype(np.float32)
    return part, first.tolist(), last.tolist()
