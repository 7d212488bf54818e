"""What a doctor is trained on, from the shards of an export: scores and maps beside the detector's rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from exports.dataset.image_extras import maps_of, scores_of
from exports.read.shard_table import ShardTable
from sdg_data.errors import InputError
from sdg_data.image_scores import NAMES
from sdg_data.progress import Progress
from trainers.detector.batches import EpochItems, SftCollator, TrainingItem
from trainers.detector.data import TrainingData, TrainingRow
from trainers.detector.jitter import jitter_defects
from trainers.doctor.chat import DoctorChat
from trainers.doctor.model import KINDS

log = logging.getLogger(__name__)

NO_SCORES: Final = "no-scores"
"""Not all four scores were given."""


class DoctorItem(NamedTuple):
    """A training item with its image's scores and maps."""

    item: TrainingItem
    scores: dict[str, float]
    maps: torch.Tensor | None
    """(2, H, W) in the order of `KINDS`; None where the form asks for none."""


class DoctorItems(EpochItems):
    """Rows by number, as `EpochItems`, with scores and maps; `scale`: cells along a side of one visual token."""

    def __init__(self, table: ShardTable, rows: Sequence[TrainingRow], chat: DoctorChat, scale: int | None) -> None:
        super().__init__(table, rows)
        self._chat, self._scale = chat, scale

    def __getitem__(self, number: int) -> Any:
        item = super().__getitem__(number)
        maps = None
        if self._scale is not None:
            maps = true_maps(self.table, item.row, self._chat.map_shape(item.row.size, self._scale))
        return DoctorItem(item, scores_of(self.table.sample(item.row.place)), maps)


class DoctorCollator(SftCollator):
    """Makes tensors of items, with `true_maps`: a list of (2, H, W), one for each image."""

    def __init__(self, chat: DoctorChat, *, jitter: float, seed: int) -> None:
        super().__init__(chat, jitter=jitter, seed=seed)
        self._doctor = chat
        self._scores: dict[str, dict[str, float]] = {}

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """Make a batch.

        Returns:
            As `SftCollator`; `true_maps` too where the items have maps.
        """
        self._scores = {entry.item.row.key: entry.scores for entry in items}
        batch: dict[str, Any] = super().__call__([entry.item for entry in items])
        if all(entry.maps is not None for entry in items):
            batch["true_maps"] = [entry.maps for entry in items]
        return batch

    def answer(self, item: TrainingItem) -> str:
        """The answer's text that the model learns, in the item's epoch: regions are jittered."""
        row = item.row
        defects = jitter_defects(row.defects, self._jitter, seed=self._seed, epoch=item.epoch, key=row.key)
        return self._doctor.answer(defects, row.trace, row.size, self._scores[row.key])


def true_maps(table: ShardTable, row: TrainingRow, shape: tuple[int, int]) -> torch.Tensor:
    """The maps of a row.

    Args:
        table: The shards.
        row: Of them.
        shape: (H, W).

    Returns:
        (2, H, W) in the order of `KINDS`, float32.

    Raises:
        InputError: The sample holds maps that cannot be read.
    """
    try:
        maps = maps_of(table.sample(row.place), *shape)
    except ValueError as error:
        raise InputError(str(error), item=row.key) from error
    return torch.from_numpy(np.stack([maps[kind] for kind in KINDS]).astype(np.float32))


def keep_scored(data: TrainingData) -> None:
    """Leave out the samples without all four scores, from training and from what is held out, and count them.

    Args:
        data: What was read; changed in place.

    Raises:
        InputError: Nothing is left.
    """
    everything = [*data.train, *data.held_out]
    without = set()
    with Progress("reading scores", unit="samples").running(len(everything)) as progress:
        for row in everything:
            if set(NAMES) - scores_of(data.table.sample(row.place)).keys():
                without.add(row.key)
            progress.advance(1)
    if not without:
        return
    data.dropped[NO_SCORES] = [row.key for row in everything if row.key in without]
    data.train = [row for row in data.train if row.key not in without]
    data.held_out = [row for row in data.held_out if row.key not in without]
    log.warning("left out, %s: %d samples, such as %s", NO_SCORES, len(without), data.dropped[NO_SCORES][0])
    if not data.train:
        raise InputError(
            "no sample has all four scores of the whole image",
            hint="They come with RichHF-18K, and from Label Studio with `scores = true`.",
        )
