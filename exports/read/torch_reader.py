"""A `ShardReader` as torch's DataLoader takes it. A module of its own, because importing torch takes seconds."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from exports.read.passes import MAIN, Passes, pass_id, worker_number
from exports.read.reader import Example, ShardReader
from sdg_data.errors import ConfigError


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
        self._passes = Passes()
        self._starts = 0
        self._loaded_by: int | None = None

    def __iter__(self) -> Iterator[Example]:
        """Begin this worker's part of the epoch. What a loader saves before the first example is then of this epoch.

        Returns:
            The examples.

        Raises:
            ConfigError: The reader has a state that was loaded in another process.
        """
        worker, resumes = worker_number(), self.reader.resumes
        if worker == MAIN:
            self._passes.forget()
            return iter(self.reader)
        if resumes and self._loaded_by != worker:
            raise ConfigError(
                "a state that was loaded outside of the workers says nothing of where each of them was",
                hint="With workers, load it into torchdata's StatefulDataLoader: it hands each worker its own.",
            )
        self._starts += 1
        this = pass_id(self._starts)
        self._loaded_by = None
        if not resumes:
            self.reader.set_epoch(max(self._passes.epoch(this), self.reader.epoch))
        self._passes.start(worker, this, self.reader.epoch)
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
        """The reading position of this worker; see `ShardReader.state_dict`.

        Returns:
            The state, for JSON.

        Raises:
            ConfigError: Workers read, and this is not one of them.
        """
        if worker_number() == MAIN and self._passes.used():
            raise ConfigError(
                "workers read the shards, and where they are is not known here",
                hint="Use torchdata's StatefulDataLoader, and its state_dict: it has the state of each worker.",
            )
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state; see `ShardReader.load_state_dict`."""
        self.reader.load_state_dict(state)
        self._loaded_by = worker_number()
