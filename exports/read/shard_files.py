"""Shards as files: which ones a source names, opening them, and where their samples are.

A shard is a tar file; its headers are read once when it is opened, and samples by their offsets after that.
"""

import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from exports.files import tar
from exports.files.manifest import KIND, MANIFEST, FileEntry, read_manifest
from exports.files.target import Target
from schemas.records import Split
from schemas.sample import EXTENSIONS
from sdg_data.errors import InputError
from sdg_data.ingest.image_files import expand_shards
from sdg_data.ingest.packing import packing
from sdg_data.ingest.source_image import MAX_IMAGE_BYTES, MAX_TEXT_BYTES

IMAGE_KINDS = frozenset({*EXTENSIONS.values(), "jpeg"})
"""Suffixes of a sample's image."""


@dataclass(frozen=True)
class Shard:
    """A tar file (a path or a URL), how many samples it holds, and what a manifest says of it.

    Attributes:
        size: In bytes; None where no manifest names it.
        records: sha256 over its samples' JSON; None where no manifest says.
    """

    path: str
    samples: int
    size: int | None = None
    records: str | None = None


class Location(NamedTuple):
    """A sample's place in a shard: (offset, size) of its JSON and of its image. `problem`: why it cannot be read."""

    key: str
    text: tuple[int, int]
    image: tuple[int, int]
    problem: str | None = None


class ShardFile:
    """An open shard and the places of its samples; closed when the last reference to it is gone.

    `damage` says what is wrong with the whole of it: another size than a manifest says, or other records.

    Args:
        shard: Names it in messages, and says what is known of it.
        local: Where its bytes are on this machine.
        delete: Unlink that file now; it stays readable until it is closed.
    """

    def __init__(self, shard: Shard, local: Path, *, delete: bool = False) -> None:
        self.path = path = shard.path
        self.fd = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
        if delete:
            local.unlink()
        if packed := packing(os.pread(self.fd, 16, 0)):
            raise InputError(
                f"the shard is compressed ({packed})",
                item=path,
                hint="Samples are read by their offsets, which needs the plain tar: decompress it first "
                "(`gunzip`, `bunzip2`, `unxz`, `unzstd`).",
            )
        size = os.fstat(self.fd).st_size
        self.places = _places(self.fd, size)
        self.damage = self._damage(shard, size)

    def _damage(self, shard: Shard, size: int) -> str | None:
        if shard.size is not None and shard.size != size:
            return f"the shard has {size} bytes, the manifest says {shard.size}"
        if shard.records is None:
            return None
        total = hashlib.sha256()
        for place in self.places:
            total.update(hashlib.sha256(self.read(place.text)).digest())
        return None if total.hexdigest() == shard.records else "the shard's records are not those of the manifest"

    def read(self, where: tuple[int, int]) -> bytes:
        """The bytes at (offset, size); fewer where the file ends before."""
        return os.pread(self.fd, where[1], where[0])

    def ends_as_written(self, offset: int) -> bool:
        """Whether tar's end mark stands at `offset` and nothing behind it, as in a shard that is complete."""
        ending = tar.ending(offset)
        return os.fstat(self.fd).st_size == offset + len(ending) and self.read((offset, len(ending))) == ending

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


def _places(fd: int, size: int) -> list[Location]:
    """Find the samples of a shard: members that share a key, an image and its JSON, in whatever folder they lie.

    A damaged header belongs to the sample before it if that is short of a member, else to the one behind; if that is
    whole too, a sample between them is lost.

    Returns:
        Every sample in its order; those that cannot be read have a `problem`.
    """
    groups: list[_Group] = []
    damaged_next = False
    for member in tar.members(_Handle(fd), size):
        if not member.name:
            if groups and len(groups[-1].members) == 1:
                groups[-1].damaged = True
            else:
                damaged_next = True
            continue
        key, kind = key_and_kind(member.name)
        if is_junk(member.name):
            continue
        if not groups or groups[-1].key != key or kind in groups[-1].members:
            groups.append(_Group(key, {}, damaged=damaged_next))
            damaged_next = False
        groups[-1].members[kind] = (member.offset, member.size)
    places: list[Location] = []
    for group in _joined(groups):
        places += group.places()
    if damaged_next:
        places.append(_lost())
    return places


@dataclass
class _Group:
    """Members that stand together under one key; `damaged`: a header before or between them cannot be read."""

    key: str
    members: dict[str, tuple[int, int]]
    damaged: bool = False

    @property
    def image(self) -> tuple[int, int] | None:
        """The image, by its suffix; a member of another kind where there is none."""
        others = {kind: where for kind, where in self.members.items() if kind != "json"}
        return next((others[kind] for kind in others if kind in IMAGE_KINDS), next(iter(others.values()), None))

    @property
    def whole(self) -> bool:
        """Both of a sample's members are here."""
        return "json" in self.members and self.image is not None

    def places(self) -> list[Location]:
        """The sample, behind one that was lost, if one was."""
        name = self.key.rpartition("/")[2]
        if self.whole and self.image is not None:
            place = Location(name, self.members["json"], self.image)
            bounds = (("JSON", place.text[1], MAX_TEXT_BYTES), ("image", place.image[1], MAX_IMAGE_BYTES))
            for what, size, most in bounds:
                if size > most:  # by its header, before anything of it is read
                    place = Location(name, (0, 0), (0, 0), f"its {what} has {size:,} bytes; {most:,} are the most")
            return [_lost(), place] if self.damaged else [place]
        if self.damaged:
            return [_lost(name)]
        return [Location(name, (0, 0), (0, 0), f"it has only {', '.join(sorted(self.members))}")]


def _joined(groups: list[_Group]) -> list[_Group]:
    """Put the halves of samples together whose members do not stand together; drop further files of whole samples."""
    halves: dict[str, _Group] = {}
    whole = {group.key for group in groups if group.whole}
    joined: list[_Group] = []
    for group in groups:
        first = halves.get(group.key)
        if group.whole or group.damaged:
            joined.append(group)
        elif first is not None and not first.whole and not set(first.members) & set(group.members):
            first.members |= group.members
        elif group.key not in whole and group.key.rpartition(".")[0] not in whole:
            halves[group.key] = group
            joined.append(group)
    return joined


def key_and_kind(name: str) -> tuple[str, str]:
    """A member's key and kind: `./set/a.b.png` is the `png` of `set/a.b`; of unknown suffixes the first dot counts."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, suffix = last.rpartition(".")
    kind = suffix.lower()
    if not stem or kind not in {"json", *IMAGE_KINDS}:
        stem, _, kind = last.partition(".")
    return folder + slash + stem, kind


def is_junk(name: str) -> bool:
    """What macOS puts beside files: `._a.png`, `__MACOSX/`, `.DS_Store`."""
    parts = name.split("/")
    return parts[-1].startswith("._") or parts[-1] == ".DS_Store" or "__MACOSX" in parts


def _lost(key: str | None = None) -> Location:
    return Location(key or "?", (0, 0), (0, 0), "a header is damaged, or the file is cut off")


def opened_shards(runs: Iterator[tuple[Shard, list[int]]]) -> Generator[tuple[ShardFile, list[int]], None, None]:
    """Open shards one after another; those elsewhere are fetched, the next one while this one is read.

    Args:
        runs: Each shard with the indices of the samples to read from it, in order.

    Yields:
        The open shard with those indices.
    """
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
    """Open a shard: in place on this machine, or fetched.

    Args:
        shard: Its path or URL.
        folder: Takes what is fetched.

    Returns:
        The open shard with its samples' places.

    Raises:
        InputError: It cannot be read, or is compressed.
    """
    if "://" not in shard.path:
        try:
            return ShardFile(shard, Path(shard.path))
        except OSError as error:
            raise InputError(f"cannot read the shard ({error.strerror})", item=shard.path) from error
    base, _, name = shard.path.rpartition("/")
    handle, fetched = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as sink, Target(base).open(name) as file:
        shutil.copyfileobj(file, sink, 1 << 20)
    return ShardFile(shard, Path(fetched), delete=True)


def find_shards(source: str | Path | Sequence[str | Path], split: Split | None) -> list[Shard]:
    """List the shards that a `source` names; without a manifest their headers are read to count samples.

    Args:
        source: As for `ShardReader`.
        split: Only shards of this split: by the manifest, or by `-train-` or `-test-` in the file's name.

    Returns:
        The shards, an export's train first.

    Raises:
        InputError: There are none.
    """
    if isinstance(source, str | Path):
        text = str(source)
        if not text.endswith((".tar", "}", "*")) and not Path(text).is_file():
            target = Target(text)
            entries = read_manifest(target).shards(split)
            if not entries:
                raise InputError("the export has no shards" + (f" of {split}" if split else ""), item=text)
            return [_shard(target.path(entry.path), entry) for entry in entries]
        paths = [text] if "://" in text else [str(path) for path in expand_shards(text)]
    else:
        paths = [str(path) for path in source]
    if split is not None:
        paths = [path for path in paths if f"-{split}-" in Path(path).name]
    if not paths:
        raise InputError("no such shards", item=str(source))
    beside = _manifests_beside(paths)
    return [_shard(path, beside[path]) if path in beside else _counted(path) for path in paths]


def _shard(path: str, entry: FileEntry) -> Shard:
    return Shard(path, entry.samples or 0, entry.bytes, entry.records)


def _manifests_beside(paths: Sequence[str]) -> dict[str, FileEntry]:
    """What manifests of exports in the shards' own folders say of them, by their paths; on this machine only."""
    entries: dict[str, FileEntry] = {}
    for folder in {Path(path).parent for path in paths if "://" not in path}:
        target = Target(folder)
        text = target.read(MANIFEST) if target.size(MANIFEST) is not None else None
        if text is not None and f'"{KIND}"'.encode() in text:
            entries |= {str(folder / entry.path): entry for entry in read_manifest(target).files}
    return {path: entries[str(Path(path))] for path in paths if "://" not in path and str(Path(path)) in entries}


def _counted(path: str) -> Shard:
    """A shard without a manifest: its headers are read to count its samples."""
    with tempfile.TemporaryDirectory(prefix="sdg-shards-") as folder:
        return Shard(path, len(open_shard(Shard(path, 0), Path(folder)).places))
