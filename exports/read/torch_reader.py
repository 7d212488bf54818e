"""A `ShardReader` as torch's DataLoader takes it. A module of its own, because importing torch takes seconds."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from exports.read.reader import Example, ShardReader
from sdg_data.errors import ConfigError

_MOST_WORKERS = 1024
_MAIN = -1
"""Stands for the process that has the loader, where workers have their numbers from 0."""


class TorchShards(IterableDataset):
    """A `ShardReader` for `DataLoader(TorchShards(reader), num_workers=…)`; each worker reads its own part.

    Every pass is another epoch, with workers too: a pass follows the last one that any worker finished. Workers find
    out through shared memory, because each of them has a copy of the reader that is gone after the pass.

    To go on in the middle of an epoch with workers, use torchdata's StatefulDataLoader. It finds `state_dict` and
    `load_state_dict` here, one state per worker; in the process that has the loader they know nothing of the workers,
    and say so.
    """

    def __init__(self, reader: ShardReader) -> None:
        super().__init__()
        self.reader = reader
        self._passes = _Passes()
        self._starts = 0
        self._loaded_by: int | None = None

    def __iter__(self) -> Iterator[Example]:
        """Begin this worker's part of the epoch. What a loader saves before the first example is then of this epoch.

        Returns:
            The examples.

        Raises:
            ConfigError: The reader has a state that was loaded in another process.
        """
        worker, resumes = _worker(), self.reader.resumes
        if worker == _MAIN:
            self._passes.forget()
            return iter(self.reader)
        if resumes and self._loaded_by != worker:
            raise ConfigError(
                "a state that was loaded outside of the workers says nothing of where each of them was",
                hint="With workers, load it into torchdata's StatefulDataLoader: it hands each worker its own.",
            )
        self._starts += 1
        self._loaded_by = None
        if not resumes:
            self.reader.set_epoch(max(self._passes.epoch(self._pass_id()), self.reader.epoch))
        self._passes.start(worker, self._pass_id(), self.reader.epoch)
        return self._part(worker, self.reader.epoch)

    def _part(self, worker: int, epoch: int) -> Iterator[Example]:
        yield from self.reader
        self._passes.finish(worker, epoch)

    def __len__(self) -> int:
        """Count the samples of this rank; inside a worker, of that worker."""
        return len(self.reader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; without this each pass is the next one."""
        self.reader.set_epoch(epoch)
        self._passes.forget()

    def state_dict(self) -> dict[str, Any]:
        """Where this worker stands; see `ShardReader.state_dict`.

        Returns:
            The state, for JSON.

        Raises:
            ConfigError: Workers read, and this is not one of them.
        """
        if _worker() == _MAIN and self._passes.used():
            raise ConfigError(
                "workers read the shards, and where they are is not known here",
                hint="Use torchdata's StatefulDataLoader, and its state_dict: it has the state of each worker.",
            )
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state; see `ShardReader.load_state_dict`."""
        self.reader.load_state_dict(state)
        self._loaded_by = _worker()

    def _pass_id(self) -> int:
        """The same for all workers of a pass, another for the next: the loader's seed, and which start this is."""
        info = get_worker_info()
        seed = 0 if info is None else info.seed - info.id
        return hash((seed, self._starts)) or 1


class _Passes:
    """Which epoch each worker read last, whether to its end, and in which pass: a row a worker, in shared memory.

    A worker writes its own row only, a number at a time, so that no lock is needed: one that starts late finds the pass
    in the row of an earlier one, or the same rows of the pass before.
    """

    def __init__(self) -> None:
        self._rows = torch.zeros(_MOST_WORKERS, 2, dtype=torch.int64).share_memory_()

    def epoch(self, pass_id: int) -> int:
        """The epoch of a pass: that of a worker which is in it, else the one behind the last that was finished."""
        rows = self._rows.clone()
        same = rows[(rows[:, 1] == pass_id) & (rows[:, 0] > 0)]
        if len(same):
            return int(same[0, 0] // 2) - 1
        last = int(rows[:, 0].max())
        return 0 if last == 0 else last // 2 - 1 + last % 2

    def start(self, worker: int, pass_id: int, epoch: int) -> None:
        """Note what a worker begins."""
        self._rows[worker % _MOST_WORKERS, 0] = 2 * (epoch + 1)
        self._rows[worker % _MOST_WORKERS, 1] = pass_id

    def finish(self, worker: int, epoch: int) -> None:
        """Note that a worker has read all of its part."""
        self._rows[worker % _MOST_WORKERS, 0] = 2 * (epoch + 1) + 1

    def forget(self) -> None:
        """No worker has read."""
        self._rows.zero_()

    def used(self) -> bool:
        """Whether a worker has read."""
        return bool(self._rows.any())


def _worker() -> int:
    info = get_worker_info()
    return _MAIN if info is None else int(info.id)
