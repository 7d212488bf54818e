"""A pipeline of webdataset over our shards and foreign ones, for trainers that already speak it.

    pipeline = webdataset_pipeline("exports/sdg30k", split="train", seed=0, shuffle=1000, decode="pil")
    loader = webdataset.WebLoader(pipeline, batch_size=None, num_workers=4)

The samples are those of `ShardReader`, whose key, image, text and typed sample are `__key__`, `image`, `json` and
`sample` here; what else a foreign shard holds stays as its bytes under its suffix. The order is webdataset's: whole
shards are dealt to nodes and workers, so that their parts differ in length, and a pass cannot be resumed in the middle.
For both see `ShardReader`.
"""

import functools
import io
import logging
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch.utils.data import IterableDataset

from exports.files import tar
from exports.files.target import Target
from exports.read.passes import Passes, pass_id, worker_number
from exports.read.reader import DECODERS, CorruptSample, Decode
from exports.read.shard_files import IMAGE_KINDS, find_shards, is_junk, key_and_kind
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.errors import MissingDependency

log = logging.getLogger(__name__)

_METADATA = re.compile(r"__[^/]*__($|/)")
"""Members that webdataset passes over."""
Handler = Callable[[Exception], bool]
_STREAMED = ("pipe:", "http://", "https://", "gs://", "hf://", "file:")
"""What webdataset opens by itself; other URLs are opened as exports are."""


def webdataset_pipeline(
    urls: str | Path | Sequence[str | Path],
    *,
    split: str | None = None,
    seed: int | None = None,
    shuffle: int = 0,
    resampled: bool = False,
    decode: Decode = "bytes",
    typed: bool = True,
    handler: Handler | Literal["raise", "skip"] = "raise",
) -> Any:
    """Make a `webdataset.DataPipeline` that yields typed samples.

    Args:
        urls: As for `ShardReader`; also `pipe:` commands, compressed tars, and URLs that webdataset opens.
        split: Only this split.
        seed: Shuffles the shards, in another order each epoch, the same in all processes; None: as they are listed.
        shuffle: Samples in a buffer out of which they are drawn by chance; 0: as they stand in the shards.
        resampled: Draw shards with replacement, without end and apart in each worker, instead of dealing them out.
        decode: As for `ShardReader`.
        typed: Read each sample's JSON as a `Sample`; foreign shards need False, and have `sample` None.
        handler: What to do about a shard or a sample that cannot be read: webdataset's, or "skip" to log it and go on.

    Returns:
        The pipeline; further stages can be appended. Its samples are dictionaries, as the module says.

    Raises:
        MissingDependency: webdataset is not installed. (InputError where there are no shards.)
    """
    try:
        import webdataset
        from webdataset.tariterators import group_by_keys
    except ImportError as error:
        raise MissingDependency("webdataset is not installed", hint="pip install 'sdg-data[train]'") from error
    on_error = _HANDLERS[handler] if isinstance(handler, str) else handler
    dealt = [] if resampled else [webdataset.split_by_node, webdataset.split_by_worker]
    drawn = [webdataset.shuffle(shuffle, seed=seed)] if shuffle else []
    return webdataset.DataPipeline(
        _Shards(_paths(urls, split), seed, resampled),
        *dealt,
        functools.partial(_opened, handler=on_error),
        functools.partial(_members, handler=on_error),
        functools.partial(group_by_keys, keys=key_and_kind, handler=on_error),
        *drawn,
        functools.partial(_as_samples, decode=DECODERS[decode], typed=typed, handler=on_error),
    )


class _Shards(IterableDataset):
    """The shards of an epoch, before they are dealt out."""

    def __init__(self, paths: Sequence[str], seed: int | None, resampled: bool) -> None:
        super().__init__()
        self._paths, self._seed, self._resampled = list(paths), seed, resampled
        self._passes, self._starts, self._epoch = Passes(), 0, 0

    def __iter__(self) -> Iterator[dict[str, str]]:
        self._starts += 1
        worker, this = worker_number(), pass_id(self._starts)
        epoch = max(self._passes.epoch(this), self._epoch)
        self._passes.start(worker, this, epoch)
        if self._resampled:
            self._passes.finish(worker, epoch)  # there is no end of a pass
            key = f"resampled:{self._seed}:{epoch}:{_rank()}:{worker}"
            chance = random.Random(None if self._seed is None else key)
            while True:
                yield {"url": chance.choice(self._paths)}
        paths = list(self._paths)
        if self._seed is not None:
            random.Random(f"shards:{self._seed}:{epoch}").shuffle(paths)
        for path in paths:
            yield {"url": path}
        self._passes.finish(worker, epoch)


def _rank() -> int:
    from webdataset.utils import pytorch_worker_info

    return int(pytorch_worker_info()[0])


def _paths(urls: str | Path | Sequence[str | Path], split: str | None) -> list[str]:
    """Paths and URLs; what webdataset opens by itself is not looked at before it is read."""
    given = [urls] if isinstance(urls, str | Path) else list(urls)
    if any(str(url).startswith(_STREAMED) for url in given):
        from webdataset.shardlists import expand_urls

        paths = [path for url in given for path in expand_urls(str(url))]
        return [path for path in paths if split is None or f"-{split}-" in path]
    packed = [str(url) for url in given if str(url).endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"))]
    plain = [url for url in given if str(url) not in packed]
    source = plain[0] if isinstance(urls, str | Path) and plain else plain
    readable = [shard.path for shard in find_shards(source, None if split is None else Split(split))] if plain else []
    return [*readable, *packed]


def _opened(shards: Iterator[dict[str, Any]], *, handler: Handler) -> Iterator[dict[str, Any]]:
    from webdataset.gopen import gopen

    for shard in shards:
        url = shard["url"]
        base, _, name = url.rpartition("/")
        try:
            foreign = "://" in url and not url.startswith(_STREAMED)
            stream = Target(base).open(name) if foreign else gopen(url)
        except (OSError, ValueError) as error:
            if handler(error):
                continue
            return
        with stream:
            yield {**shard, "stream": stream}


def _members(shards: Iterator[dict[str, Any]], *, handler: Handler) -> Iterator[dict[str, Any]]:
    """The members of each shard, as `webdataset.tariterators.tar_file_expander` gives them.

    A plain tar on this machine is read by its headers and offsets, which is faster and goes on behind damage. Whatever
    else (streams, compressed tars) is left to webdataset.

    Yields:
        `fname`, `data` and `__url__` of each member; an empty dictionary behind each shard.
    """
    from webdataset.tariterators import tar_file_expander

    for shard in shards:
        stream = shard["stream"]
        if not (isinstance(stream, io.BufferedReader) and _is_plain_tar(stream)):
            yield from tar_file_expander(iter([shard]), handler=handler, select_files=_is_wanted)
            continue
        url, raw = shard["url"], stream.raw
        for member in tar.members(raw, os.fstat(stream.fileno()).st_size):
            if not member.name:
                damage = CorruptSample(f"{url}: the tar is damaged at byte {member.offset}")
                if not handler(damage):
                    return
            elif _is_wanted(member.name) and not _METADATA.match(member.name):
                raw.seek(member.offset)
                yield {"fname": member.name, "data": raw.read(member.size), "__url__": url}
        yield {}  # so that samples of two shards are not mixed up


def _is_plain_tar(stream: io.BufferedReader) -> bool:
    try:
        start = os.pread(stream.fileno(), tar.BLOCK, 0)
    except OSError:  # a pipe
        return False
    return start[257:262] == b"ustar"


def _is_wanted(name: str) -> bool:
    return not is_junk(name)


def _as_samples(
    groups: Iterator[dict[str, Any]], *, decode: Callable[[bytes], Any], typed: bool, handler: Handler
) -> Iterator[dict[str, Any]]:
    for parts in groups:
        try:
            sample = _as_sample(parts, decode=decode, typed=typed)
        except CorruptSample as error:
            if handler(error):
                continue
            return
        yield sample


def _as_sample(parts: Mapping[str, Any], *, decode: Callable[[bytes], Any], typed: bool) -> dict[str, Any]:
    """A group of members as `ShardReader` reads it."""
    where = f"{parts['__url__']} ({parts['__key__']})"
    members = {kind: data for kind, data in parts.items() if not kind.startswith("__")}
    text = members.pop("json", None)
    kind = next((kind for kind in members if kind in IMAGE_KINDS), None)
    if kind is None or (typed and text is None):
        raise CorruptSample(f"{where}: it has only {', '.join(sorted(parts.keys() - {'__key__', '__url__'}))}")
    sample = None
    if typed:
        try:
            sample = Sample.model_validate_json(text)
        except ValidationError as error:
            raise CorruptSample(f"{where}: its JSON is no sample: {error.errors()[0]['msg']}") from error
    try:
        image = decode(members.pop(kind))
    except ValueError as error:
        raise CorruptSample(f"{where}: the image does not decode: {error}") from error
    key = parts["__key__"].rpartition("/")[2]
    return {"__key__": key, "__url__": parts["__url__"], **members, "image": image, "json": text, "sample": sample}


def _raise(error: Exception) -> bool:
    raise error


def _skip(error: Exception) -> bool:
    log.warning("skipped: %s", error)
    return True


_HANDLERS: dict[str, Handler] = {"raise": _raise, "skip": _skip}
