"""Which epoch a pass of torch's DataLoader is, known to all of its workers.

Each worker has a copy of the dataset that is gone after the pass, so that a counter in it would begin anew.
"""

import torch
from torch.utils.data import get_worker_info

MAIN = -1
"""Stands for the process that has the loader, where workers have their numbers from 0."""
_MOST_WORKERS = 1024


class Passes:
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
        """Note that a worker begins its part of an epoch, in this pass."""
        self._rows[worker % _MOST_WORKERS, 0] = 2 * (epoch + 1)
        self._rows[worker % _MOST_WORKERS, 1] = pass_id

    def finish(self, worker: int, epoch: int) -> None:
        """Note that a worker has read its part of an epoch to the end."""
        self._rows[worker % _MOST_WORKERS, 0] = 2 * (epoch + 1) + 1

    def forget(self) -> None:
        """Forget all passes, as if no worker had read anything."""
        self._rows.zero_()

    def used(self) -> bool:
        """Whether any worker has begun to read since the last `forget`."""
        return bool(self._rows.any())


def pass_id(starts: int) -> int:
    """A number that all workers of a pass share, another for the next pass; `starts` counts those of this copy."""
    info = get_worker_info()
    seed = 0 if info is None else info.seed - info.id
    return hash((seed, starts)) or 1


def worker_number() -> int:
    """This worker's number, `MAIN` in the process that has the loader."""
    info = get_worker_info()
    return MAIN if info is None else int(info.id)
