"""The same files by us, by GNU tar and by webdataset.ShardWriter; every one's output is on the disk at the end."""

import io
import shutil
import subprocess
from pathlib import Path

import webdataset as wds
from measure import Contender, contest, flush, ratio

from exports.dataset.select import Selection, select
from exports.files import shards as webdataset
from exports.files.export_job import ExportJob
from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import run_export
from sdg_data.blobs import Blobs
from sdg_data.progress import Progress
from sdg_data.store.connection import Store

SELECTION = Selection(source="prelabel:vlm")


def writing(store: Store, blobs: Blobs, folder: Path, repeats: int, *, cached: bool) -> dict[str, float]:
    """Ratios to GNU tar. `cached`: the images fit the page cache, so all are read from it."""
    names = list(blobs.iterate())
    paths = [Path(blobs.path(name)) for name in names]
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    quiet = Progress("export", stream=io.StringIO())
    out = folder / "out"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    def shards(workers: int) -> float:
        job = ExportJob("b", buffer, blobs, Target(out), workers=workers, progress=quiet)
        job.begin(format_name="webdataset")
        webdataset.write(job)
        return megabytes

    def tar() -> float:
        (out / "list").write_text("".join(f"{name[:2]}/{name}\n" for name in names))
        subprocess.run(["tar", "cf", out / "gnu.tar", "-C", blobs.url, "-T", out / "list"], check=True)
        flush(out / "gnu.tar")
        return megabytes

    def shard_writer() -> float:
        with wds.ShardWriter(str(out / "wds-%05d.tar"), maxsize=512e6, maxcount=10**9, verbose=0) as sink:
            for index, path in enumerate(paths):
                sink.write({"__key__": f"{index:08d}", "png": path.read_bytes(), "json": {"n": index}})
        for path in out.glob("wds-*.tar"):
            flush(path)
        return megabytes

    if cached:
        for path in paths:
            path.read_bytes()
    ours, one = "our shards and index (all hashed), 2 workers", "our shards and index (all hashed), 1 worker"
    with select(store, SELECTION)[0] as buffer:
        rows = contest(
            [
                Contender("GNU tar", tar, clear),
                Contender("webdataset.ShardWriter", shard_writer, clear),
                Contender(one, lambda: shards(1), clear),
                Contender(ours, lambda: shards(2), clear),
            ],
            "MB",
            repeats,
        )
    ratio(rows, "webdataset.ShardWriter", "GNU tar", "MB")
    return {
        "write, 1 worker, beside GNU tar": ratio(rows, one, "GNU tar", "MB", "0.8"),
        "write beside GNU tar": ratio(rows, ours, "GNU tar", "MB", "0.8"),
        "write beside ShardWriter": ratio(rows, ours, "webdataset.ShardWriter", "MB"),
    }


def whole_export(store: Store, blobs: Blobs, folder: Path, *, shard_bytes: int, progress: Progress) -> Path:
    """Select, shards, index, card, manifest; the folder."""
    out = folder / "ours"
    options = ExportOptions(phash=False, shard_bytes=shard_bytes)
    run_export(
        store, blobs, Target(out), format_name="webdataset", name="b", options=options, workers=2,
        selection=SELECTION, progress=progress,
    )  # fmt: skip
    return out
