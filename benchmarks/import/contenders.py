"""What is timed: our importers, and what others would do to read the same files. Each runs in a fresh process."""

import contextlib
import importlib
import io
import os
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, float]
_LOADED = (
    *("exports.imports.cli", "exports.imports.ours", "exports.imports.store_rows", "sdg_data.ingest.images"),
    *("sdg_data.ingest.prompts_cli", "sdg_data.ingest.images_cli", "polars", "pandas", "pyarrow.parquet"),
)


def _timed(work: Callable[[], float]) -> Row:
    before, start = _cpu_seconds(), time.perf_counter()
    done = work()
    wall = time.perf_counter() - start
    return {"done": done, "wall_s": wall, "cpu_s": _cpu_seconds() - before, "peak_mb": _peak()}


def _cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _peak() -> float:
    """VmHWM is this program's own; ru_maxrss would begin with its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def _import(*command: str, expected: int) -> Callable[[Path, Path], Row]:
    """`sdg` in this process. `expected` is looked up in its JSON: what was not new would be too fast."""

    def run(corpus: Path, home: Path) -> Row:
        from sdg_data.cli import run as sdg

        _load_modules()

        def work() -> float:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = sdg(
                    ["--home", str(home / "home"), *(part.replace("CORPUS", str(corpus)) for part in command), "--json"]
                )
            if code != 0:
                raise SystemExit(f"exit {code}: {out.getvalue()[-500:]}")
            return 0.0

        row = _timed(work)
        return row | {"done": _stored(home / "home")[expected]}

    return run


def _load_modules() -> None:
    """Those that the commands import when they begin, about a second of CPU; the readers' are not timed either."""
    for module in _LOADED:
        importlib.import_module(module)


def _stored(home: Path) -> tuple[float, float, float]:
    """(prompts, images, MB of images) of a store."""
    from sdg_data.store.connection import Store

    with Store(home).read() as tx:
        prompts = tx.execute("SELECT count(*) FROM prompts").fetchall()[0][0]
        images, size = tx.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM images").fetchall()[0]
    return float(prompts), float(images), float(size) / 1e6


def _polars(name: str) -> Callable[[Path, Path], Row]:
    def run(corpus: Path, _: Path) -> Row:
        import polars as pl

        path = corpus / name
        scan: Any = pl.scan_csv if path.suffix == ".csv" else pl.scan_parquet
        return _timed(lambda: float(scan(path).select("prompt").collect().height))

    return run


def _header(data: bytes) -> bool:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.width > 0


def _read_folder(corpus: Path, _: Path) -> Row:
    def work() -> float:
        number = 0
        for path in sorted((corpus / "in").rglob("*.png")):
            number += _header(path.read_bytes())
            path.with_suffix(".txt").read_text()
        return float(number)

    return _timed(work)


def _read_tar(corpus: Path, _: Path) -> Row:
    def work() -> float:
        number = 0
        with tarfile.open(corpus / "images.tar", "r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                data = content.read() if content else b""
                number += member.name.endswith(".png") and _header(data)
        return float(number)

    return _timed(work)


def _reader(**options: Any) -> Callable[[Path, Path], Row]:
    def run(corpus: Path, _: Path) -> Row:
        from exports.read.reader import ShardReader

        def work() -> float:
            size = 0
            for example in ShardReader(str(corpus / "shards"), rank=0, world=1, **options):
                size += len(example.image) if isinstance(example.image, bytes) else 0
                number[0] += 1
            return size / 1e6

        number = [0]
        row = _timed(work)
        if row["done"] == 0:  # decoded: what the shards hold
            row["done"] = sum(path.stat().st_size for path in (corpus / "shards").glob("*.tar")) / 1e6
        return row

    return run


def _abroad(run: Callable[[Path, Path], Row]) -> Callable[[Path, Path], Row]:
    """The same by an account that has made no export: no manifest vouches for the pictures."""

    def elsewhere(corpus: Path, home: Path) -> Row:
        os.environ["XDG_STATE_HOME"] = str(home / "state")
        return run(corpus, home)

    return elsewhere


CONTENDERS: dict[tuple[str, str], Callable[[Path, Path], Row]] = {
    ("prompts.csv", "import"): _import("prompts", "import", "CORPUS/prompts.csv", expected=0),
    ("prompts.csv", "polars"): _polars("prompts.csv"),
    ("prompts.parquet", "import"): _import("prompts", "import", "CORPUS/prompts.parquet", expected=0),
    ("prompts.parquet", "polars"): _polars("prompts.parquet"),
    ("images folder", "import"): _import("images", "import", "CORPUS/in", expected=1),
    ("images folder", "read and header"): _read_folder,
    ("images tar", "import"): _import("images", "import", "CORPUS/images.tar", expected=1),
    ("images tar", "read and header"): _read_tar,
    ("our shards", "import"): _import("import", "webdataset", "CORPUS/shards", expected=2),
    ("our shards", "import of another account"): _abroad(_import("import", "webdataset", "CORPUS/shards", expected=2)),
    ("our shards", "reader, bytes"): _reader(typed=False),
    ("our shards", "reader, bytes and samples"): _reader(),
    ("our shards", "reader, bytes and their hashes"): _reader(check_bytes=True),
    ("our shards", "reader, decoded"): _reader(decode="numpy"),
}
