"""Stream shards: typed samples, shuffled by a seed, shared out over ranks and workers, resumable at any sample.

    for example in ShardReader("exports/sdg30k", split="train", seed=0, decode="numpy"):
        example.image        # (height, width, 3) uint8
        example.sample       # a Sample, its defects typed

The order of an epoch is a pure function of (shards, seed, epoch): shards are permuted, and the samples within each.
It is cut into as many consecutive parts as there are consumers (ranks times workers), so each sample goes to exactly
one of them and each of them reads few shards. A checkpoint is a position in that order.

Shards on this machine are read in place. Others are fetched to a temporary folder, one ahead of the one being read, and
deleted once they have been read.

Beside webdataset, which reads the same files:

    webdataset                                    here
    WebDataset(urls, shardshuffle, seed)          ShardReader(source, seed=…)
    split_by_node, split_by_worker                rank, world; DataLoader workers are found by themselves
    with_epoch, resampled                         even="drop" or "pad": equal parts
    decode("pil"), decode("rgb8")                 decode="pil", decode="numpy"
    handler=warn_and_continue                     on_error="skip", and the list `skipped`
    shuffle(buffer)                               none: the exporter has hashed every sample into its place
    none                                          state_dict, load_state_dict: exact resumption
"""

import bisect
import contextlib
import hashlib
import logging
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from exports.read.decode import decode_rgb, open_image
from exports.read.shard_files import Location, Shard, ShardFile, find_shards, opened_shards
from schemas.records import Split
from schemas.sample import Sample
from sdg_data import processes
from sdg_data.errors import ConfigError, InputError

log = logging.getLogger(__name__)

Decode = Literal["bytes", "pil", "numpy"]
Even = Literal["keep", "drop", "pad"]
OnError = Literal["raise", "skip"]

_STATE_VERSION = 1


class Example(NamedTuple):
    """A sample as it was read.

    `image` is what `decode` asked for: encoded bytes, a Pillow image, or RGB as (height, width, 3) uint8. `text` is the
    sample's JSON; `sample` is None with `typed=False`.
    """

    key: str
    image: Any
    text: bytes
    sample: Sample | None


class CorruptSample(InputError):
    """A sample cannot be read; the message names its shard, its key and the reason."""


class ShardReader:
    """Iterates over one consumer's part of the shards; each pass is an epoch.

    Args:
        source: An export's folder or URL, or a tar file, a pattern of them (`*`, `{000..012}`), or a list of them.
        split: Only this split.
        seed: Shuffles shards and the samples within each; None: in stored order, every epoch alike (evaluation).
        decode: "bytes" as stored, "pil" for Pillow images, "numpy" for (height, width, 3) uint8.
        typed: Parse each sample's JSON; else `Example.sample` is None.
        rank: This process; None: the environment's RANK. The workers of a torch DataLoader share a rank's part.
        world: How many processes there are; None: the environment's WORLD_SIZE.
        even: "keep" gives every sample to exactly one consumer, so parts may differ by one sample; "drop" makes them
            equally long by leaving out the last few, "pad" by giving the first few twice.
        on_error: "raise" CorruptSample for a sample that cannot be read, or "skip" it, log it and list it in `skipped`.
        check_bytes: Compare each image with its sha256. (A shard that a manifest names is always held to it in size,
            and in its records by their hash.)
        threads: How many read and decode ahead, in order; 0: none.

    Raises:
        InputError: There are no shards.
        ConfigError: `rank` is not below `world`.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        split: str | None = None,
        seed: int | None = None,
        decode: Decode = "bytes",
        typed: bool = True,
        rank: int | None = None,
        world: int | None = None,
        even: Even = "keep",
        on_error: OnError = "raise",
        check_bytes: bool = False,
        threads: int = 0,
    ) -> None:
        self._shards = find_shards(source, None if split is None else Split(split))
        self._seed, self._typed, self._check = seed, typed, check_bytes
        self._decode = DECODERS[decode]
        self._rank = processes.rank() if rank is None else rank
        self._world = processes.world_size() if world is None else world
        if not 0 <= self._rank < self._world:
            raise ConfigError(f"there is no rank {self._rank} among {self._world}")
        self._even, self._skip, self._threads = even, on_error == "skip", threads
        self.epoch = 0
        self.skipped: list[str] = []
        self._position = 0
        self._resume = False

    @property
    def total(self) -> int:
        """The number of samples in all parts together, before any are skipped."""
        return sum(shard.samples for shard in self._shards)

    def __len__(self) -> int:
        """Count the samples in this consumer's part of an epoch."""
        return len(self._part())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; without this it counts up at the end of each."""
        self.epoch, self._position, self._resume = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Save where this consumer stands: after the last example that was handed out. Goes into JSON."""
        return {
            "version": _STATE_VERSION,
            "epoch": self.epoch,
            "position": self._position,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on from a saved state.

        Args:
            state: What `state_dict` gave.

        Raises:
            ConfigError: It is of other shards, another order or another consumer.
        """
        if state.get("version") != _STATE_VERSION or state.get("fingerprint") != self._fingerprint():
            raise ConfigError(
                "this state is of another reader",
                hint="Shards, seed, rank, world, workers and `even` must be those that it was saved with.",
            )
        self.epoch, self._position, self._resume = int(state["epoch"]), int(state["position"]), True

    @property
    def resumes(self) -> bool:
        """Whether the next pass goes on from a state that was loaded."""
        return self._resume

    def __iter__(self) -> Iterator[Example]:
        """Read this part of the epoch, from its beginning, or from where `load_state_dict` said."""
        if not self._resume:
            self._position = 0
        self._resume = False
        for example in self._examples():
            self._position += 1
            if example is not None:
                yield example
        self.epoch += 1
        self._position = 0

    # --- the order

    def _consumers(self) -> tuple[int, int]:
        """(which, of how many), the workers of a DataLoader counted."""
        torch_data = sys.modules.get("torch.utils.data")
        info = None if torch_data is None else torch_data.get_worker_info()
        workers, worker = (1, 0) if info is None else (info.num_workers, info.id)
        return self._rank * workers + worker, self._world * workers

    def _part(self) -> range:
        """The positions of this part in the epoch's order; with "pad" they may go beyond the end and start over."""
        index, parts = self._consumers()
        total = self.total
        if self._even == "keep":
            return range(index * total // parts, (index + 1) * total // parts)
        size = total // parts if self._even == "drop" else -(-total // parts)
        return range(index * size, (index + 1) * size)

    def _fingerprint(self) -> str:
        index, parts = self._consumers()
        shards = [(Path(shard.path).name, shard.samples) for shard in self._shards]
        return hashlib.sha256(repr((shards, self._seed, index, parts, self._even)).encode()).hexdigest()[:16]

    def _runs(self) -> Iterator[tuple[Shard, list[int]]]:
        """What to read next: shards, each with the places in it, in order."""
        order = list(range(len(self._shards)))
        if self._seed is not None:
            random.Random(f"shards:{self._seed}:{self.epoch}").shuffle(order)
        ends = list(accumulate(self._shards[number].samples for number in order))
        part = self._part()
        position, stop, total = part.start + self._position, part.stop, self.total
        while position < stop and total:
            lap, inside = divmod(position, total)
            slot = bisect.bisect_right(ends, inside)
            number = order[slot]
            shard = self._shards[number]
            first = inside - (ends[slot] - shard.samples)
            last = min(shard.samples, first + stop - position)
            places = list(range(shard.samples))
            if self._seed is not None:
                random.Random(f"samples:{self._seed}:{self.epoch}:{number}").shuffle(places)
            yield shard, places[first:last]
            position = lap * total + ends[slot] - shard.samples + last

    # --- reading

    def _examples(self) -> Iterator[Example | None]:
        """One for each position: an example, or None for one that was skipped."""
        with contextlib.ExitStack() as stack:
            if not self._threads:
                for task in self._tasks():
                    yield self._settled(task)
                return
            pool = stack.enter_context(ThreadPoolExecutor(self._threads, thread_name_prefix="shards"))
            ahead: deque[Future[Example | str]] = deque()
            stack.callback(lambda: [future.cancel() for future in ahead])
            for task in self._tasks():
                ahead.append(pool.submit(task))
                if len(ahead) >= 4 * self._threads:
                    yield self._settled(ahead.popleft().result)
            while ahead:
                yield self._settled(ahead.popleft().result)

    def _tasks(self) -> Iterator[Callable[[], "Example | str"]]:
        """What to do for each position: it returns an example, or says why there is none."""
        with contextlib.closing(opened_shards(self._runs())) as runs:
            for file, places in runs:
                for place in places:
                    yield partial(self._read, file, place)

    def _settled(self, task: Callable[[], "Example | str"]) -> Example | None:
        outcome = task()
        if isinstance(outcome, Example):
            return outcome
        if not self._skip:
            raise CorruptSample(outcome, hint='`sdg export verify` names all damage; on_error="skip" passes over it.')
        log.warning("skipped: %s", outcome)
        self.skipped.append(outcome)
        return None

    def _read(self, file: ShardFile, number: int) -> Example | str:
        where = f"{file.path}#{number}"
        place = file.places[number] if number < len(file.places) else Location("", (0, 0), (0, 0), "it is missing")
        if file.damage is not None or place.problem is not None:
            return f"{where}: {place.problem or file.damage}"
        text = os.pread(file.fd, place.text[1], place.text[0])
        image = os.pread(file.fd, place.image[1], place.image[0])
        where = f"{where} ({place.key})"
        sample = None
        if self._typed or self._check:
            try:
                sample = Sample.model_validate_json(text)
            except ValidationError as error:
                return f"{where}: its JSON is no sample: {error.errors()[0]['msg']}"
        if self._check and sample is not None and hashlib.sha256(image).hexdigest() != sample.sha256:
            return f"{where}: the image's bytes are damaged"
        try:
            return Example(place.key, self._decode(image), text, sample)
        except ValueError as error:
            return f"{where}: the image does not decode: {error}"


DECODERS: dict[Decode, Callable[[bytes], Any]] = {"bytes": lambda data: data, "pil": open_image, "numpy": decode_rgb}
