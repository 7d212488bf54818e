"""Images of WebDataset shards: tar files whose members share a key, such as `0001.png` and `0001.txt`.

A shard is read twice: first its headers, from which it is decided what becomes of each member, then the members that
are taken, one sample at a time. So memory holds the names of a shard and one sample of it.

**Keys.** WebDataset cuts a name at its first dot, so that `cfg7.5_0001.png` and `cfg7.5_0002.png` were one sample of
key `cfg7`. Here a name is cut at its last dot, which keeps them apart, and WebDataset's rule holds where it is needed:
`0001.seg.png` beside `0001.png`, without a text of its own name, is a further member of sample `0001`, which is not
read. Where both rules make sense (`0001.v1.png` without a text, beside `0001.txt` without an image), the image is left
out as `ambiguous-key`.

**Order.** The members of a sample stand together, as every reader of shards expects. Those that do not are left out as
`not-adjacent`: `tar --sort=name` packs them as they should be.
"""

import bz2
import contextlib
import gzip
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from sdg_data.ingest.source_image import (
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    OTHER_PICTURES,
    TEXT_SUFFIXES,
    SourceImage,
    is_system_file,
    printable,
    stray,
    too_large,
    with_text,
)

_DAMAGE: Final = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError)
SHARD_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LOOKED_BEHIND: Final = 1 << 26
_CHUNK: Final = 1 << 20

Refusal = tuple[str, str]


@dataclass(slots=True)
class _Member:
    """A header of the archive, in order; `refusal` where the member is left out, with `used` texts of its own."""

    name: str
    size: int
    key: str
    suffix: str
    refusal: Refusal | None = None
    used: int = 0


@dataclass
class _Shard:
    """What the headers of a shard say. `samples` are members' numbers: the image first, then its texts.

    `damage` says what is wrong with the archive itself, and its members before that are whole.
    """

    members: list[_Member] = field(default_factory=list)
    samples: list[list[int]] = field(default_factory=list)
    damage: Refusal | None = None


def shard_images(shards: list[Path], column: str | None) -> Iterator[SourceImage]:
    """The images of tar files in order, and what is left out of each.

    Args:
        shards: The files.
        column: The key of the prompt in a sample's `.json`; None for its `.txt`, else caption, prompt or text.
    """
    for path in shards:
        shard = _headers(path)
        _decide(shard)
        yield from _samples(path, shard, column)
        for member in shard.members:
            if member.refusal is not None:
                yield SourceImage(_shown(path, member.name), refusal=member.refusal, used=member.used)
        if shard.damage is not None:
            yield SourceImage(printable(str(path)), refusal=shard.damage)


def _shown(path: Path, name: str) -> str:
    return printable(f"{path}#{name}")


# --- the headers


def _headers(path: Path) -> _Shard:
    """Every member that is a file or a link, up to the end of the archive or to its damage."""
    shard = _Shard()
    try:
        with _open(path) as (archive, packed):
            while (info := archive.next()) is not None:
                _forget(archive)
                if info.isdir():
                    continue
                name = info.name.removeprefix("./")
                key, suffix = posixpath.splitext(name)
                member = _Member(name, info.size, key, suffix.lower())
                shard.members.append(member)
                if is_system_file(name):
                    member.refusal = ("system-file", "left there by an operating system")
                elif not info.isreg():
                    member.refusal = ("not-a-regular-file", "a link, pipe or device")
                elif info.size > (MAX_TEXT_BYTES if member.suffix in TEXT_SUFFIXES else MAX_IMAGE_BYTES):
                    member.refusal = too_large(info.size, MAX_IMAGE_BYTES)
                    if packed:
                        # Only by unpacking all of it could the members behind it be reached.
                        message = f"nothing behind {printable(name)} is read, which is too large to be unpacked"
                        shard.damage = ("damaged-shard", message)
                        return shard
            shard.damage = _behind(archive)
    except _DAMAGE as error:
        shard.damage = ("damaged-shard", f"cannot be read further: {error}; images before are taken")
    return shard


def _forget(archive: tarfile.TarFile) -> None:
    """Drop the members that the archive keeps of what it has read: a million would take a gigabyte."""
    vars(archive)["members"] = []


class _BoundedReads:
    """A file that is never asked for more than a member may have.

    tarfile reads the long name and the extended header of a member whole, whatever size they state.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """As of a file; tarfile.ReadError for more than the bound."""
        if not 0 <= size <= MAX_IMAGE_BYTES + _CHUNK:
            raise tarfile.ReadError(f"a header states {size:,} bytes")
        return self._file.read(size)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[tarfile.TarFile, bool]]:
    """The archive, and whether it is packed, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        opened: Any = file
        for mark, unpack in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
            if start.startswith(mark):
                opened = unpack(file, "rb")
        bounded = cast(IO[bytes], _BoundedReads(opened))
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield archive, opened is not file


def _behind(archive: tarfile.TarFile) -> Refusal | None:
    """What is wrong behind the last member: tarfile takes a header that it cannot read for the end."""
    stream = cast(IO[bytes], archive.fileobj)
    stream.seek(archive.offset)
    end = stream.read(tarfile.BLOCKSIZE)
    if not end:
        return ("damaged-shard", "ends without an end mark: it may be cut off") if archive.offset % 512 else None
    if end.strip(b"\0") or len(end) < tarfile.BLOCKSIZE:
        return "damaged-shard", "a header is damaged; images before are taken, what is behind it cannot be found"
    looked = 0
    while looked < _LOOKED_BEHIND and (chunk := stream.read(_CHUNK)):
        if chunk.strip(b"\0"):
            message = "something stands behind its end; archives put together by `cat` are read as the first of them"
            return "damaged-shard", message
        looked += len(chunk)
    return None


# --- what becomes of each member


def _decide(shard: _Shard) -> None:
    """Put members together to samples, and give every other one the reason why it is left out."""
    members = shard.members
    groups: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        if member.refusal is None:
            groups.setdefault(member.key, []).append(number)
    for key, numbers in groups.items():
        _leave_out(members, groups, key, numbers)
    # What is left out may stand between the members of a sample.
    left = [number for number, member in enumerate(members) if member.refusal is None]
    place = {number: position for position, number in enumerate(left)}
    for numbers in groups.values():
        _make_samples(shard, [number for number in numbers if number in place], place)


def _leave_out(members: list[_Member], groups: dict[str, list[int]], key: str, numbers: list[int]) -> None:
    """Refuse the members of a key that belong to no sample of it."""
    images = [number for number in numbers if members[number].suffix in IMAGE_SUFFIXES]
    texts = [number for number in numbers if members[number].suffix in TEXT_SUFFIXES]
    for number in set(numbers).difference(images, texts):
        members[number].refusal = stray(members[number].name)
    if images and not texts:
        problem = _further_member(members, groups, key)
        for number in images:
            members[number].refusal = problem
    if not images:
        others = [number for number in numbers if members[number].suffix in OTHER_PICTURES]
        if others:
            members[others[0]].used = len(texts)
        else:
            for number in texts:
                members[number].refusal = stray(members[number].name)


def _make_samples(shard: _Shard, numbers: list[int], place: Mapping[int, int]) -> None:
    """A sample of the members of a key, or one of each whole group of them where the key comes again."""
    members = shard.members
    images = [number for number in numbers if members[number].suffix in IMAGE_SUFFIXES]
    texts = [number for number in numbers if members[number].suffix in TEXT_SUFFIXES]
    if not images:
        return
    runs = _runs(numbers, members, place)
    if len(runs) == 1 or all({*run}.intersection(images) and {*run}.intersection(texts) for run in runs):
        for run in runs:
            first, *more = [number for number in run if number in images]
            shard.samples.append([first, *(number for number in run if number in texts)])
            for number in more:
                members[number].refusal = ("not-an-image", f"{printable(members[first].name)} is the sample's image")
        return
    suffixes = [members[number].suffix for number in numbers]
    if len(set(suffixes)) < len(suffixes):
        refusal = ("key-twice", "its key is there more than once, and its members do not stand together")
    else:
        refusal = ("not-adjacent", "its members do not stand together; pack the shard with `tar --sort=name`")
    for number in images:
        members[number].refusal = refusal
    members[images[0]].used = len(texts)


def _runs(numbers: list[int], members: list[_Member], place: Mapping[int, int]) -> list[list[int]]:
    """The members of a key, parted where others stand between them, and where a suffix comes again."""
    runs: list[list[int]] = []
    suffixes: set[str] = set()
    for number in numbers:
        suffix = members[number].suffix
        if not runs or place[number] != place[runs[-1][-1]] + 1 or suffix in suffixes:
            runs.append([])
            suffixes = set()
        runs[-1].append(number)
        suffixes.add(suffix)
    return runs


def _further_member(members: list[_Member], groups: dict[str, list[int]], key: str) -> Refusal | None:
    """Why an image without a text may be no sample of its own: by WebDataset's rule it belongs to a shorter key."""
    folder, _, last = key.rpartition("/")
    if "." not in last:
        return None
    short = posixpath.join(folder, last.split(".")[0])
    suffixes = {members[number].suffix for number in groups.get(short, [])}
    if suffixes & IMAGE_SUFFIXES:
        return "not-an-image", f"a further member of sample {printable(short)}, whose image is taken"
    if suffixes & TEXT_SUFFIXES:
        message = f"its text may be that of {printable(short)}: name both up to the last dot alike"
        return "ambiguous-key", message
    return None


# --- the samples


def _samples(path: Path, shard: _Shard, column: str | None) -> Iterator[SourceImage]:
    """Read the members of the samples in one pass, and hand each sample on when its last member is there."""
    sample_of = {number: sample for sample in shard.samples for number in sample}
    last = max(sample_of, default=-1)
    waiting: dict[int, bytes] = {}
    handed = 0
    try:
        with _open(path) as (archive, _):
            number = -1
            while number < last and (info := archive.next()) is not None:
                _forget(archive)
                if info.isdir():
                    continue
                number += 1
                sample = sample_of.get(number)
                if sample is None:
                    continue
                content = archive.extractfile(info)
                data = content.read() if content is not None else b""
                if len(data) != info.size:
                    raise tarfile.ReadError("unexpected end of data")
                waiting[number] = data
                if number == max(sample):
                    yield _sample(path, shard, sample, waiting, column)
                    handed += 1
                    waiting.clear()
    except _DAMAGE as error:
        shard.damage = shard.damage or ("damaged-shard", f"cannot be read further: {error}; images before are taken")
    # Samples are handed on in the order of their last members; those that damage cut off are left.
    for sample in sorted(shard.samples, key=max)[handed:]:
        shard.members[sample[0]].refusal = ("undecodable", "the archive is damaged or cut off there")
        shard.members[sample[0]].used = len(sample) - 1


def _sample(
    path: Path, shard: _Shard, sample: list[int], contents: dict[int, bytes], column: str | None
) -> SourceImage:
    def read(number: int) -> Callable[[], bytes]:
        data = contents[number]
        return lambda: data

    image, *texts = sample
    source_image = SourceImage(_shown(path, shard.members[image].name), contents[image], used=len(texts))
    return with_text(source_image, {shard.members[number].suffix: read(number) for number in texts}, column)


def is_shard(path: Path) -> bool:
    """Whether a file's name is that of a tar file that is read."""
    return path.name.lower().endswith(SHARD_SUFFIXES)
