"""A `ShardReader` as torch's DataLoader takes it. A module of its own, because importing torch takes seconds."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from exports.read.reader import Example, ShardReader


class TorchShards(IterableDataset):
    """A `ShardReader` for `DataLoader(TorchShards(reader), num_workers=…)`; each worker reads its own part.

    torchdata's StatefulDataLoader finds `state_dict` and `load_state_dict` here, one state per worker.
    """

    def __init__(self, reader: ShardReader) -> None:
        super().__init__()
        self.reader = reader

    def __iter__(self) -> Iterator[Example]:
        """Iterate over this worker's part of the epoch."""
        return iter(self.reader)

    def __len__(self) -> int:
        """Count the samples of this rank; inside a worker, of that worker."""
        return len(self.reader)

    def state_dict(self) -> dict[str, Any]:
        """Where this worker stands; see `ShardReader.state_dict`."""
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state; see `ShardReader.load_state_dict`."""
        self.reader.load_state_dict(state)
