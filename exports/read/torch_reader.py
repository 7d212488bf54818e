"""The reader as torch's DataLoader takes it. Apart, because importing torch takes seconds."""

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
        """This worker's part."""
        return iter(self.reader)

    def __len__(self) -> int:
        """Samples of this rank; inside a worker, of that worker."""
        return len(self.reader)

    def state_dict(self) -> dict[str, Any]:
        """See `ShardReader.state_dict`."""
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `ShardReader.load_state_dict`."""
        self.reader.load_state_dict(state)
