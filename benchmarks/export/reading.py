"""The same shards by us, by webdataset, and (copied into their formats) by litdata and MosaicML streaming."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import webdataset as wds
from measure import Contender, contest, ratio

from exports.read.decode import decode_rgb
from exports.read.reader import ShardReader
from exports.read.webdataset import webdataset_pipeline

FEW = 300
"""So many images are decoded."""


def reading(paths: list[str], repeats: int, others: Path | None, folder: Path) -> dict[str, float]:
    """Ratios to webdataset and, where `others` is their Python, to the other two. All shards are in the page cache."""
    count = sum(1 for _ in ShardReader(paths, typed=False, rank=0, world=1))  # and now they are in it
    most = max(ShardReader([path], rank=0, world=1).total for path in paths)
    few = min(count, FEW)

    def ours(**options: Any) -> Callable[[], float]:
        return lambda: sum(1 for _ in ShardReader(paths, rank=0, world=1, **options))

    def theirs(shuffle: bool) -> Callable[[], float]:
        def read() -> float:
            data = wds.WebDataset(paths, shardshuffle=len(paths) if shuffle else False, seed=0)
            return sum(1 for _ in (data.shuffle(most) if shuffle else data))

        return read

    def ours_decoded(threads: int) -> Callable[[], float]:
        def read() -> float:
            reader = ShardReader(paths, decode="numpy", threads=threads, rank=0, world=1)
            return sum(1 for _, sample in zip(range(few), reader, strict=False) if sample.image.shape)

        return read

    def theirs_decoded(decoder: Any) -> Callable[[], float]:
        def read() -> float:
            reader = wds.WebDataset(paths, shardshuffle=False).decode(decoder)
            return sum(1 for _, sample in zip(range(few), reader, strict=False) if sample["png"].shape)

        return read

    def with_ours(key: str, data: bytes) -> Any:
        return decode_rgb(data) if key.endswith(".png") else None

    def pipeline() -> float:
        return sum(1 for _ in webdataset_pipeline(paths, typed=False))

    plain = contest(
        [
            Contender("webdataset", theirs(shuffle=False)),
            Contender("webdataset_pipeline", pipeline),
            Contender("our reader", ours(typed=False)),
            Contender("our reader with typed samples", ours()),
            Contender("webdataset shuffled", theirs(shuffle=True)),
            Contender("our reader shuffled", ours(typed=False, seed=0)),
        ],
        "samples",
        repeats,
    )
    figures = {
        "bytes beside webdataset": ratio(plain, "our reader", "webdataset", "samples", "2"),
        "webdataset_pipeline beside webdataset": ratio(plain, "webdataset_pipeline", "webdataset", "samples", "1"),
        "typed beside webdataset": ratio(plain, "our reader with typed samples", "webdataset", "samples"),
        "shuffled beside webdataset": ratio(plain, "our reader shuffled", "webdataset shuffled", "samples", "2"),
    }
    decoded = contest(
        [
            Contender("webdataset decoded (Pillow)", theirs_decoded("rgb8")),
            Contender("webdataset decoded by our decoder", theirs_decoded(with_ours)),
            Contender("our reader decoded, typed", ours_decoded(0)),
            Contender("our reader decoded, typed, 2 threads", ours_decoded(2)),
        ],
        "images",
        repeats,
    )
    theirs_name = "webdataset decoded (Pillow)"
    figures["decoded beside webdataset"] = ratio(decoded, "our reader decoded, typed", theirs_name, "images", "1.3")
    figures["decoded, 2 threads, beside webdataset"] = ratio(
        decoded, "our reader decoded, typed, 2 threads", theirs_name, "images", "1.3"
    )
    figures["decoded beside webdataset with our decoder"] = ratio(
        decoded, "our reader decoded, typed", "webdataset decoded by our decoder", "images"
    )
    if others is not None:
        figures |= _beside(others, paths, repeats, few, folder, plain, decoded)
    return figures


def _beside(
    python: Path, paths: list[str], repeats: int, few: int, folder: Path, plain: dict[str, Any], decoded: dict[str, Any]
) -> dict[str, float]:
    order = hashlib.sha256()
    for sample in ShardReader(paths, typed=False, rank=0, world=1):
        order.update(sample.key.encode())
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shards = Path(place) / "shards.json"
        shards.write_text(json.dumps(paths))
        script = Path(__file__).with_name("others.py")
        command = [python, script, shards, place, str(repeats), str(few)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{script.name} failed:\n{ran.stderr[-2000:]}")
    mine = {
        "bytes": (plain["our reader"], "samples"),
        "shuffled": (plain["our reader shuffled"], "samples"),
        "decoded": (decoded["our reader decoded, typed"], "images"),
    }
    figures = {}
    for name, rates in json.loads(ran.stdout.splitlines()[-1]).items():
        if "error" in rates:
            print(f"{name} does not run here: {rates['error']}", flush=True)
            continue
        if rates.pop("order") != order.hexdigest():
            raise SystemExit(f"{name} gave other samples, or in another order")
        for what, theirs in rates.items():
            row, unit = mine[what]
            rates = {f"{unit}/{per}": round(number, 2) for per, number in theirs.items()}
            print(json.dumps({"what": f"{name}, {what}", **rates}))
            clock, cpu = (row[f"{unit}/{per}"] / theirs[per] for per in ("s", "cpu_s"))
            figures[f"{what} beside {name}"] = clock
            figures[f"{what} beside {name}, CPU"] = cpu
            print(f"  our reader / {name}, {what}: {clock:.2f} by the clock, {cpu:.2f} by CPU seconds", flush=True)
    return figures
