"""Streaming shards back: typed samples, shuffled by a seed, shared out over ranks and workers, resumable anywhere.

    for example in ShardReader("exports/sdg30k", split="train", seed=0, decode="numpy"):
        example.image        # (height, width, 3) uint8
        example.sample       # a Sample, its defects typed

The order of an epoch is a pure function of (shards, seed, epoch): shards are permuted, and the samples within each.
It is cut into as many consecutive parts as there are consumers, so each sample goes to exactly one of them and each of
them reads few shards. A position in it is all there is to a checkpoint.

Shards on this machine are read in place; others are fetched one ahead to a temporary folder, and deleted behind.
What this leaves out: shuffling across shards (the exporter has hashed every sample into its place).
"""

import bisect
import contextlib
import hashlib
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from exports.files import tar
from exports.files.manifest import read_manifest
from exports.files.target import Target
from exports.read.decode import decode_rgb, open_image
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.errors import ConfigError, InputError
from sdg_data.ingest.image_files import expand_shards

log = logging.getLogger(__name__)

Decode = Literal["bytes", "pil", "numpy"]
Even = Literal["keep", "drop", "pad"]
OnError = Literal["raise", "skip"]

_STATE_VERSION = 1


class Example(NamedTuple):
    """One sample. `image`: bytes, a Pillow image, or RGB (height, width, 3) uint8; `sample` None with `typed=False`."""

    key: str
    image: Any
    text: bytes
    sample: Sample | None


class CorruptSample(InputError):
    """A sample that cannot be read: which shard, which key, and why."""


@dataclass(frozen=True)
class Shard:
    """A tar file, and how many samples it holds."""

    path: str
    samples: int


class _Location(NamedTuple):
    """Where a sample is in its shard; `problem` says why there is none."""

    key: str
    text: tuple[int, int]
    image: tuple[int, int]
    problem: str | None = None


class ShardReader:
    """Iterates over one consumer's part of the shards; each pass is an epoch.

    `source`: an export's folder or URL, or a tar file, a pattern of them (`*`, `{000..012}`), or a list of them.
    `seed` None: in stored order, every epoch alike (evaluation). `rank` and `world`: this process and how many there
    are (None: the environment's RANK and WORLD_SIZE); the workers of a torch DataLoader share a rank's part by
    themselves. `even`: "keep" gives every sample to exactly one consumer, so parts may differ by one; "drop" makes them
    equal by leaving out the last few; "pad" by giving the first few twice. `on_error="skip"` passes over samples that
    cannot be read, logs each and lists them in `skipped`. `check_bytes` compares each image with its sha256. `threads`
    read and decode ahead, in order; 0: none.

    Raises InputError where there are no shards, CorruptSample with `on_error="raise"`.
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
        self._decode = _DECODERS[decode]
        self._rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        self._world = int(os.environ.get("WORLD_SIZE", "1")) if world is None else world
        if not 0 <= self._rank < self._world:
            raise ConfigError(f"there is no rank {self._rank} among {self._world}")
        self._even, self._skip, self._threads = even, on_error == "skip", threads
        self.epoch = 0
        self.skipped: list[str] = []
        self._position = 0
        self._resume = False

    @property
    def total(self) -> int:
        """Samples in all parts together."""
        return sum(shard.samples for shard in self._shards)

    def __len__(self) -> int:
        """Samples in this consumer's part of an epoch."""
        return len(self._part())

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass; by itself it counts up at the end of each."""
        self.epoch, self._position, self._resume = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Where this consumer stands: after the last example that was handed out."""
        return {
            "version": _STATE_VERSION,
            "epoch": self.epoch,
            "position": self._position,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there at the next pass. ConfigError where it is of other shards, another order or another part."""
        if state.get("version") != _STATE_VERSION or state.get("fingerprint") != self._fingerprint():
            raise ConfigError(
                "this state is of another reader",
                hint="Shards, seed, rank, world, workers and `even` must be those that it was saved with.",
            )
        self.epoch, self._position, self._resume = int(state["epoch"]), int(state["position"]), True

    def __iter__(self) -> Iterator[Example]:
        """This part of the epoch, from its beginning, or from where `load_state_dict` said."""
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
        with contextlib.closing(_opened(self._runs())) as runs:
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

    def _read(self, file: "ShardFile", number: int) -> Example | str:
        where = f"{file.path}#{number}"
        place = file.places[number] if number < len(file.places) else _Location("", (0, 0), (0, 0), "it is missing")
        if place.problem is not None:
            return f"{where}: {place.problem}"
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


_DECODERS: dict[Decode, Callable[[bytes], Any]] = {"bytes": lambda data: data, "pil": open_image, "numpy": decode_rgb}


class ShardFile:
    """An open shard and the places of its samples. Closed when nobody holds it any more."""

    def __init__(self, path: str, local: Path, *, delete: bool = False) -> None:
        self.path = path
        self.fd = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
        if delete:
            local.unlink()
        self.places = _places(self.fd, os.fstat(self.fd).st_size)

    def __del__(self) -> None:
        fd = getattr(self, "fd", None)
        if fd is not None:
            os.close(fd)


class _Handle:
    """A file descriptor as `tar.members` reads it, without a buffer between."""

    def __init__(self, fd: int) -> None:
        self._fd, self._at = fd, 0

    def seek(self, offset: int, /) -> int:
        self._at = offset
        return offset

    def read(self, size: int, /) -> bytes:
        return os.pread(self._fd, size, self._at)


def _places(fd: int, size: int) -> list[_Location]:
    """The samples of a shard: members that share a key and stand together, an image and its JSON.

    A damaged header belongs to the sample before it if that is short of a member, else to the one behind; if that is
    whole too, a sample between them is lost.
    """
    places: list[_Location] = []
    group: dict[str, tuple[int, int]] = {}
    current: str | None = None
    damaged_here = damaged_next = False

    def finish() -> None:
        image = next((where for kind, where in group.items() if kind != "json"), None)
        if "json" in group and image is not None:
            if damaged_here:
                places.append(_lost())
            places.append(_Location(current or "", group["json"], image))
        elif damaged_here:
            places.append(_lost(current))
        else:
            places.append(_Location(current or "", (0, 0), (0, 0), f"it has only {', '.join(sorted(group))}"))

    for member in tar.members(_Handle(fd), size):
        if not member.name:
            damaged_next |= len(group) != 1
            damaged_here |= len(group) == 1
            continue
        key, _, kind = member.name.partition(".")
        if key != current:
            if current is not None:
                finish()
            current, group = key, {}
            damaged_here, damaged_next = damaged_next, False
        group[kind] = (member.offset, member.size)
    if current is not None:
        finish()
    if damaged_next:
        places.append(_lost())
    return places


def _lost(key: str | None = None) -> _Location:
    return _Location(key or "?", (0, 0), (0, 0), "a header is damaged, or the file is cut off")


def _opened(runs: Iterator[tuple[Shard, list[int]]]) -> Generator[tuple[ShardFile, list[int]], None, None]:
    """The shards as open files; those elsewhere are fetched, the next one while this one is read."""
    with tempfile.TemporaryDirectory(prefix="sdg-shards-") as folder, ThreadPoolExecutor(1) as pool:
        ahead: deque[tuple[Future[ShardFile], list[int]]] = deque()
        for shard, places in runs:
            ahead.append((pool.submit(open_shard, shard, Path(folder)), places))
            if len(ahead) == 2:
                future, chosen = ahead.popleft()
                yield future.result(), chosen
        while ahead:
            future, chosen = ahead.popleft()
            yield future.result(), chosen


def open_shard(shard: Shard, folder: Path) -> ShardFile:
    """A shard of this machine in place; one from elsewhere is fetched to `folder`. Raises InputError."""
    if "://" not in shard.path:
        try:
            return ShardFile(shard.path, Path(shard.path))
        except OSError as error:
            raise InputError(f"cannot read the shard ({error.strerror})", item=shard.path) from error
    base, _, name = shard.path.rpartition("/")
    handle, fetched = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as sink, Target(base).open(name) as file:
        shutil.copyfileobj(file, sink, 1 << 20)
    return ShardFile(shard.path, Path(fetched), delete=True)


def find_shards(source: str | Path | Sequence[str | Path], split: Split | None) -> list[Shard]:
    """See `ShardReader`'s `source`. Raises InputError where there are none."""
    if isinstance(source, str | Path):
        text = str(source)
        if not text.endswith((".tar", "}", "*")):
            target = Target(text)
            entries = read_manifest(target).shards(split)
            if not entries:
                raise InputError("the export has no shards" + (f" of {split}" if split else ""), item=text)
            return [Shard(target.path(entry.path), entry.samples or 0) for entry in entries]
        paths = [text] if "://" in text else [str(path) for path in expand_shards(text)]
    else:
        paths = [str(path) for path in source]
    if split is not None:
        paths = [path for path in paths if f"-{split}-" in Path(path).name]
    if not paths:
        raise InputError("no such shards", item=str(source))
    return [_counted(path) for path in paths]


def _counted(path: str) -> Shard:
    """A shard without a manifest: its headers are read to count its samples."""
    with tempfile.TemporaryDirectory(prefix="sdg-shards-") as folder:
        return Shard(path, len(open_shard(Shard(path, 0), Path(folder)).places))
