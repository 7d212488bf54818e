"""litdata and MosaicML streaming on the same samples; run by the Python of their own venv, which has nothing of ours.

    VENV/bin/python others.py SHARDS.json FOLDER REPEATS few

Copies the shards' samples into each one's format, in their order, and reads them as bytes, shuffled, and decoded (the
first `few`, by Pillow). Prints one JSON line: what -> rate, or the error that kept it from running.
"""

import hashlib
import io
import json
import os
import resource
import shutil
import sys
import tarfile
import time
import types
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHUNK = 64 << 20


def samples(shards: list[str]) -> Iterator[dict[str, Any]]:
    """Key, JSON and image of each sample, in order."""
    for path in shards:
        with tarfile.open(path) as file:
            text = b""
            for member in file:
                data = file.extractfile(member).read()
                key, _, kind = member.name.partition(".")
                if kind == "json":
                    text = data
                else:
                    yield {"key": key, "json": text, "image": data}


def litdata(shards: list[str], folder: str) -> Callable[[bool], Any]:
    """Chunks of litdata's; then its dataset."""
    from litdata import StreamingDataset
    from litdata.streaming.cache import Cache

    cache = Cache(folder, chunk_bytes=CHUNK)
    for number, sample in enumerate(samples(shards)):
        cache[number] = sample
    cache.done()
    cache.merge(1)
    return lambda shuffle: StreamingDataset(folder, shuffle=shuffle, seed=0)


def mosaic(shards: list[str], folder: str) -> Callable[[bool], Any]:
    """MDS shards; then their dataset."""
    if find_spec("torchvision") is None or not _imports("torchvision"):
        # The package's __init__ imports its vision part, which needs torchvision; that has no build for a CPU-only
        # torch. What is measured here, streaming.base, needs none.
        package = types.ModuleType("streaming")
        package.__path__ = list(find_spec("streaming").submodule_search_locations)
        sys.modules["streaming"] = package
    from streaming.base import MDSWriter, StreamingDataset

    columns = {"key": "str", "json": "bytes", "image": "bytes"}
    with MDSWriter(out=folder, columns=columns, size_limit=CHUNK) as sink:
        for sample in samples(shards):
            sink.write(sample)
    return lambda shuffle: StreamingDataset(local=folder, shuffle=shuffle, batch_size=1, shuffle_seed=0)


def _imports(name: str) -> bool:
    try:
        __import__(name)
    except (ImportError, RuntimeError, OSError):
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[loaded]
        return False
    return True


def cpu_seconds() -> float:
    """Of this process so far, all its threads, and the children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def rate(read: Callable[[], int], repeats: int) -> dict[str, float]:
    """The best of the repeats by the clock: a second, and a CPU second of all threads and children."""
    best = {"s": 0.0, "cpu_s": 0.0}
    for _ in range(repeats):
        before, started = cpu_seconds(), time.perf_counter()
        done = read()
        wall = time.perf_counter() - started
        cpu = cpu_seconds() - before
        if done / wall > best["s"]:
            best = {"s": done / wall, "cpu_s": done / cpu}
    return best


def measure(dataset: Callable[[bool], Any], repeats: int, few: int) -> dict[str, Any]:
    """Bytes, shuffled, decoded; and the order of the keys, for the caller to compare with its own."""
    keys = [sample["key"] for sample in dataset(False)]

    # bytes(): litdata hands out views of a mapped file, which nobody has read until they are copied.
    def plain(shuffle: bool) -> Callable[[], int]:
        data = dataset(shuffle)
        return lambda: sum(len(bytes(sample["image"])) > 0 and len(sample["json"]) > 0 for sample in data)

    def decoded() -> int:
        number = 0
        for sample in dataset(False):
            np.asarray(Image.open(io.BytesIO(sample["image"])).convert("RGB"))
            number += 1
            if number == few:
                break
        return number

    return {
        "order": hashlib.sha256("".join(keys).encode()).hexdigest(),
        "bytes": rate(plain(False), repeats),
        "shuffled": rate(plain(True), repeats),
        "decoded": rate(decoded, repeats),
    }


def main() -> None:
    """Each in turn; the first one's copy is deleted before the second's is made."""
    shards, folder = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    repeats, few = int(sys.argv[3]), int(sys.argv[4])
    figures: dict[str, Any] = {}
    for name, make in (("litdata", litdata), ("MosaicML streaming", mosaic)):
        place = str(Path(folder) / name.split()[0])
        try:
            figures[name] = measure(make(shards, place), repeats, few)
        except (ImportError, RuntimeError, OSError, ValueError) as error:
            figures[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(figures), flush=True)
    os._exit(0)  # their background threads need not be waited for


if __name__ == "__main__":
    main()
