"""Normalisation within the group of one prompt's samples, per location (arXiv 2606.06113, eq. 5).

This is the A of `trainers.boxflow.credit`, which decides what is normalised for each kind of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

MINIMUM = 2
"""A group with fewer samples that count is dropped: one sample alone cannot be compared."""


def group_advantages(
    reward_maps: torch.Tensor,
    group_ids: torch.Tensor | Sequence[int],
    epsilon: float = 1e-4,
    *,
    minimum: int = MINIMUM,
    clip: float | None = None,
) -> torch.Tensor:
    """The advantage of each sample and location: its reward, standardised within the group of its prompt.

    A(h, w) = (R_D − mean over the group) / (standard deviation over the group + ε), at each location by itself. The
    standard deviation is the unbiased one (n − 1), as for σ_R. `ValueError` is raised for group ids that are not N
    integers, and for a minimum below 2.

    Args:
        reward_maps: (N, ...) with any shape of locations: (N, rows, columns) for maps, (N,) for scalars (Flow-GRPO). A
            sample with a value that is not finite does not count.
        group_ids: (N,), integers: samples of one prompt have equal ones. In any order; groups may differ in size.
        epsilon: keeps a group of equal rewards at 0.
        minimum: a group with fewer samples that count is dropped; at least 2.
        clip: advantages are cut to −clip..clip.

    Returns:
        Of the shape of `reward_maps`, float32; 0 for samples that do not count (`counting_samples` says which).
    """
    ids = checked_ids(group_ids, len(reward_maps))
    values = reward_maps.float()
    result = torch.zeros_like(values)
    # One group at a time: its rows stay in the cache between the passes.
    for rows, known in _groups(values, ids, minimum):
        group = values[rows]
        if not known.all():
            rows, group = _rows(rows)[known], group[known]
        # From the first one: equal rewards then differ by exactly nothing, whatever their size.
        centred = group - group[:1]
        centred -= centred.mean(dim=0)
        spread = (torch.einsum("k...,k...->...", centred, centred) / (len(group) - 1)).sqrt_()
        centred /= spread.add_(epsilon)
        result[rows] = centred if clip is None else centred.clamp_(-clip, clip)
    return result


def spread_advantages(
    reward_maps: torch.Tensor,
    group_ids: torch.Tensor | Sequence[int],
    epsilon: float = 1e-4,
    *,
    minimum: int = MINIMUM,
    clip: float | None = None,
) -> torch.Tensor:
    """The advantage of each image, shared out to its locations: their mean is the image's advantage.

    A(h, w) = (R_D(h, w) − mean over the group at that location) / (s + ε), with s the unbiased standard deviation over
    the group of the images' mean rewards. So the mean of A over an image's locations is `group_advantages` of its mean
    reward, wherever in the image the reward was lost and on however few locations.

    Args:
        reward_maps: (N, rows, columns). A sample with a value that is not finite does not count.
        group_ids: (N,), integers.
        epsilon: keeps a group of equal rewards at 0.
        minimum: a group with fewer samples that count is dropped; at least 2.
        clip: an image whose mean advantage is beyond ± this is scaled down to it, all its locations alike.

    Returns:
        Of the shape of `reward_maps`, float32; 0 for samples that do not count.
    """
    ids = checked_ids(group_ids, len(reward_maps))
    values = reward_maps.float()
    result = torch.zeros_like(values)
    for rows, known in _groups(values, ids, minimum):
        members = _rows(rows)[known]
        centred = values[members] - values[members[:1]]
        centred -= centred.mean(dim=0)
        advantages = centred / (centred.mean(dim=(1, 2)).std() + epsilon)
        if clip is not None:
            means = advantages.mean(dim=(1, 2), keepdim=True).abs()
            advantages *= torch.where(means > clip, clip / means, 1.0)
        result[members] = advantages
    return result


def counting_samples(
    reward_maps: torch.Tensor, group_ids: torch.Tensor | Sequence[int], *, minimum: int = MINIMUM
) -> torch.Tensor:
    """Which samples count: those that are finite everywhere, in a group of at least `minimum` such samples.

    Args:
        reward_maps: (N, ...), as in `group_advantages`.
        group_ids: (N,), integers.
        minimum: at least 2.

    Returns:
        (N,), bool.
    """
    ids = checked_ids(group_ids, len(reward_maps))
    result = torch.zeros(len(reward_maps), dtype=torch.bool, device=reward_maps.device)
    for rows, known in _groups(reward_maps.float(), ids, minimum):
        result[rows] = known
    return result


def checked_ids(group_ids: torch.Tensor | Sequence[int], count: int) -> torch.Tensor:
    """Group ids as a tensor.

    Args:
        group_ids: integers.
        count: how many there must be.

    Returns:
        (N,), int64.

    Raises:
        ValueError: floats, which lose digits from 2²⁴ on, or another number of ids than `count`.
    """
    if not isinstance(group_ids, torch.Tensor):
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in group_ids):
            raise ValueError("group ids are integers")
        group_ids = torch.tensor(list(group_ids), dtype=torch.int64)
    if group_ids.is_floating_point() or group_ids.is_complex() or group_ids.dtype is torch.bool:
        raise ValueError(f"group ids are integers, not {group_ids.dtype}")
    if group_ids.shape != (count,):
        raise ValueError(f"{count} samples and group ids of shape {tuple(group_ids.shape)}")
    return group_ids.to(torch.int64)


def _groups(values: torch.Tensor, ids: torch.Tensor, minimum: int) -> list[tuple[slice | torch.Tensor, torch.Tensor]]:
    """(rows of a group, which of them are finite) of each group with enough finite ones."""
    if minimum < MINIMUM:
        raise ValueError(f"a group needs at least {MINIMUM} samples, not {minimum}")
    order = torch.argsort(ids, stable=True)
    _, counts = torch.unique_consecutive(ids[order], return_counts=True)
    groups: list[tuple[slice | torch.Tensor, torch.Tensor]] = []
    start = 0
    for count in counts.tolist():
        members = order[start : start + count]
        start += count
        first, last = int(members[0]), int(members[-1])
        # Rows side by side are a view, not a copy.
        rows = slice(first, last + 1) if last - first == count - 1 else members.to(values.device)
        # NaN and infinity survive a sum.
        known = torch.isfinite(values[rows].flatten(1).sum(1) if values.dim() > 1 else values[rows])
        if int(known.sum()) >= minimum:
            groups.append((rows, known))
    return groups


def _rows(rows: slice | torch.Tensor) -> torch.Tensor:
    return torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
