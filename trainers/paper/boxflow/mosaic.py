"""Images of many objects: mosaics of the small model's images, each of one object, with a reward for the whole.

The question is whether it pays to know where a defect is. With one object an image it cannot: the region is the image.
The small model draws no more than two shapes, so an image of K objects is K of its images side by side, each with its
own prompt, drawn and learned from by itself. A reward judges the mosaic as one image: it sees the mean of the panels'
rewards and all their defects. The objects' defects are then independent by construction, and everything but the credit
is the same for every K: the same panels at the same cost. What a mosaic has not is attention between its objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from schemas.defect import Defect
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.credit import Advantages, compute_advantages


def mosaic_advantages(
    config: BoxFlowConfig,
    base_rewards: Sequence[float | None],
    defects: Sequence[Sequence[Defect] | None],
    group_ids: torch.Tensor,
    grid: tuple[int, int],
    *,
    panels: int,
) -> Advantages:
    """The advantages of N panels, where `panels` groups that follow one another make a group of mosaics.

    The mosaic number j of a group has the panels number j of these groups. Its reward R is the mean of their base
    rewards; the scalar kinds see R and the defects of all its panels, `box` sees R and, at each location, the defects
    there. A mosaic with a panel that has no answer does not count.

    Args:
        config: the kind of advantage; `box` by area, `scalar` or `scalar-boxes`.
        base_rewards: N values, None where there is no answer.
        defects: N lists, None where there is no answer.
        group_ids: (N,), the rollout's: 0, 0, …, 1, 1, … with as many of each.
        grid: (rows, columns) of a panel's locations.
        panels: K, objects of an image; 1 changes nothing.

    Returns:
        N advantages, and which panels count.

    Raises:
        ValueError: A number of groups that K does not divide, or a kind whose maps would have to be the mosaic's.
    """
    groups = int(group_ids[-1]) + 1
    if groups % panels:
        raise ValueError(f"{groups} groups cannot make mosaics of {panels} panels")
    credit = config.credit
    if credit.advantage == "dense-heatmap" or credit.box_total != "area":
        raise ValueError(f"the advantage {credit.advantage!r} ({credit.box_total}) is not known of mosaics")
    samples = len(base_rewards) // groups
    members = torch.arange(len(base_rewards)).reshape(-1, panels, samples).transpose(1, 2).reshape(-1, panels)
    rewards: list[float | None] = []
    together: list[list[Defect] | None] = []
    for mosaic in members.tolist():
        answers = [(base_rewards[panel], defects[panel]) for panel in mosaic]
        known = [(reward, some) for reward, some in answers if reward is not None and some is not None]
        complete = len(known) == panels
        rewards.append(sum(reward for reward, _ in known) / panels if complete else None)
        together.append([defect for _, some in known for defect in some] if complete else None)
    if credit.advantage == "box":
        of_panel: list[float | None] = [None] * len(base_rewards)
        for mosaic, reward in zip(members.tolist(), rewards, strict=True):
            for panel in mosaic:
                of_panel[panel] = reward
        return compute_advantages(config, of_panel, defects, group_ids, grid)
    mosaic_ids = torch.arange(len(members)) // samples
    shared = compute_advantages(config, rewards, together, mosaic_ids, grid)
    place = torch.empty(len(base_rewards), dtype=torch.int64)
    place[members.flatten()] = torch.arange(len(members)).repeat_interleave(panels)
    return replace(shared, values=shared.values[place], counts=shared.counts[place])
