"""Exporting and reading at realistic sizes, beside GNU tar, webdataset.ShardWriter and webdataset's reader.

The pictures are PNGs of about 1 MB (768², smooth colours with a little noise, which is what a photograph's PNG is to a
decoder), 24 different ones under many names; their count is what fits the disk unless it is given. Everything runs
on the page cache, each measurement in turn, best of the repeats. On a shared machine a wall clock says who else was
there: CPU seconds are given beside it, and the shares of both.

    python benchmarks/export.py [--samples 600] [--repeats 2] [--folder DIR]
"""

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from exports.options import ExportOptions
from exports.reader import ShardReader
from exports.run import run_export
from exports.select import Selection
from exports.target import Target
from schemas.defect import Defect
from schemas.geometry import Box
from schemas.records import ImageRecord, Prelabel, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import blob_name, content_id, image_id, prompt_id, split_of
from sdg_data.progress import Progress
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store

SIDE = 768
TAIL = b"\0\0\0\0IEND\xaeB`\x82"


def pictures(number: int) -> list[bytes]:
    """PNGs of about 1 MB."""
    made = []
    for seed in range(min(number, 24)):
        rng = np.random.default_rng(seed)
        smooth = ndimage.zoom(rng.uniform(0, 255, (24, 24, 3)), (SIDE / 24, SIDE / 24, 1), order=1)
        pixels = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
        made.append(buffer.getvalue())
    return made


def different(data: bytes, number: int) -> bytes:
    """The same picture under other bytes: a text chunk with the number before the end."""
    import zlib

    chunk = b"tEXt" + b"n\0" + f"{number:08d}".encode()
    return (
        data[: -len(TAIL)] + (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + TAIL
    )


def build(home: Path, number: int) -> tuple[Store, Blobs]:
    """A store of prelabelled images."""
    store, blobs, base = Store(home), Blobs(home / "blobs"), pictures(number)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    box = Box(x0=100, y0=200, x1=300, y1=400)
    reason = "The left hand has six fingers, the last of which ends in a blur. " * 3
    defects = tuple(Defect(box=box, type="artifact", reason=reason, importance=60) for _ in range(3))
    with store.write() as tx:
        for start in range(0, number, 100):
            records: tuple[list[Prompt], list[ImageRecord], list[Prelabel]] = ([], [], [])
            for index in range(start, min(start + 100, number)):
                data = different(base[index % len(base)], index)
                path = Path(blobs.path(blob_name(data)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                text = f"a photograph of subject {index}, highly detailed"
                identity = prompt_id(text)
                key = image_id(identity, "m", "r", 0, "{}")
                records[0].append(
                    Prompt(id=identity, text=text, source="b", licence=None, split=split_of(identity, 0.04))
                )
                records[1].append(
                    ImageRecord(
                        id=key, prompt_id=identity, model="m", revision="r", sample=0, seed=index, settings="{}",
                        blob=blob_name(data), media_type="image/png", width=SIDE, height=SIDE, bytes=len(data),
                        licence="Apache-2.0", source="generated", tool="b", seconds=None, created_at=now,
                    )
                )  # fmt: skip
                records[2].append(
                    Prelabel(
                        id=content_id("p", key), image_id=key, model="vlm", revision="r", template="t", settings="{}",
                        raw="", trace="### Step 1\n" + "words and more words " * 60, defects=defects, repairs=(),
                        attempt=1, tokens_in=None, tokens_out=None, cost=None, seconds=None, tool="b", created_at=now,
                    )
                )  # fmt: skip
            prompts.insert(tx, records[0])
            images.insert(tx, records[1])
            prelabels.insert(tx, records[2])
    return store, blobs


def timed(name: str, work: Callable[[], float], unit: str, repeats: int) -> dict[str, Any]:
    """Best of the repeats: `work` returns how much it did."""
    best: dict[str, Any] = {}
    for _ in range(repeats):
        before, started = os.times(), time.perf_counter()
        done = work()
        wall = time.perf_counter() - started
        after = os.times()
        cpu = (after.user + after.system + after.children_user + after.children_system) - (
            before.user + before.system + before.children_user + before.children_system
        )
        if not best or wall < best["wall_s"]:
            best = {"what": name, f"{unit}/s": round(done / wall), f"{unit}/cpu_s": round(done / cpu), "wall_s": wall}
            best["cpu_s"] = round(cpu, 2)
    best["wall_s"] = round(best["wall_s"], 2)
    print(json.dumps(best), flush=True)
    return best


def flush(path: Path) -> None:
    """Wait until a file is on the disk, as our own writing does."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def writing(store: Store, blobs: Blobs, folder: Path, number: int, repeats: int) -> None:
    """The same files by us, by GNU tar and by webdataset."""
    import webdataset as wds

    names = list(blobs.iterate())
    megabytes = sum(Path(blobs.path(name)).stat().st_size for name in names) / 1e6
    options = ExportOptions(phash=False)
    quiet = Progress("export", stream=io.StringIO())

    def ours(workers: int) -> float:
        out = folder / "ours"
        shutil.rmtree(out, ignore_errors=True)
        run_export(
            store, blobs, Target(out), format_name="webdataset", name="b", options=options, workers=workers,
            selection=Selection(source="prelabel:vlm"), progress=quiet,
        )  # fmt: skip
        return megabytes

    def shards_only(workers: int) -> float:
        from exports import webdataset
        from exports.job import Job

        out = folder / "shards"
        shutil.rmtree(out, ignore_errors=True)
        job = Job("b", spool, blobs, Target(out), workers=workers, progress=quiet)
        job.begin(format_name="webdataset")
        webdataset.write(job)
        return megabytes

    def tar() -> float:
        subprocess.run(
            ["tar", "cf", folder / "gnu.tar", "-C", blobs.url, *(n[:2] + "/" + n for n in names)], check=True
        )
        for path in folder.glob("wds-*.tar"):
            flush(path)
        return megabytes

    def shard_writer() -> float:
        with wds.ShardWriter(str(folder / "wds-%05d.tar"), maxsize=512e6, maxcount=10**9, verbose=0) as sink:
            for index, name in enumerate(names):
                sink.write(
                    {"__key__": f"{index:08d}", "png": Path(blobs.path(name)).read_bytes(), "json": {"n": index}}
                )
        for path in folder.glob("wds-*.tar"):
            flush(path)
        return megabytes

    from exports.select import select

    spool, _ = select(store, Selection(source="prelabel:vlm"))
    with spool:
        rows = [
            timed("GNU tar of the same files", tar, "MB", repeats),
            timed("webdataset.ShardWriter", shard_writer, "MB", repeats),
            timed(
                "our shards and index, 1 worker (sha256 of blobs and shards, fsync)",
                lambda: shards_only(1),
                "MB",
                repeats,
            ),
            timed("our shards and index, 2 workers", lambda: shards_only(2), "MB", repeats),
        ]
    timed("the whole export: select, shards, card, manifest", lambda: ours(2), "MB", 1)
    for row in rows[2:]:
        ratio, cpu = row["MB/s"] / rows[0]["MB/s"], row["MB/cpu_s"] / rows[0]["MB/cpu_s"]
        print(f"  beside GNU tar: {ratio:.2f} by the clock, {cpu:.2f} by CPU seconds (aim 0.8)")
    for name in ("gnu.tar", *(path.name for path in folder.glob("wds-*"))):
        (folder / name).unlink()
    shutil.rmtree(folder / "shards")


def reading(folder: Path, number: int, repeats: int) -> None:
    """The same shards, in the same order."""
    import webdataset as wds

    paths = sorted(str(path) for path in (folder / "ours").glob("*.tar"))
    few = min(number, 300)

    def theirs() -> float:
        return sum(1 for _ in wds.WebDataset(paths, shardshuffle=False))

    def theirs_decoded() -> float:
        found = wds.WebDataset(paths, shardshuffle=False).decode("rgb8")
        return sum(1 for _, one in zip(range(few), found, strict=False) if one["png"].shape)

    def ours(**options: Any) -> Callable[[], float]:
        return lambda: sum(1 for _ in ShardReader(paths, rank=0, world=1, **options))

    def ours_decoded(threads: int) -> float:
        found = ShardReader(paths, decode="numpy", threads=threads, rank=0, world=1)
        return sum(1 for _, one in zip(range(few), found, strict=False) if one.image.shape)

    rows = [
        timed("webdataset, bytes", theirs, "samples", repeats),
        timed("our reader, bytes", ours(typed=False), "samples", repeats),
        timed("our reader, bytes and typed samples", ours(), "samples", repeats),
        timed("our reader, bytes, shuffled", ours(typed=False, seed=0), "samples", repeats),
    ]
    for row in rows[1:]:
        print(f"  beside webdataset: {row['samples/s'] / rows[0]['samples/s']:.2f} (aim 2)")
    decoded = [
        timed("webdataset, decoded (Pillow)", theirs_decoded, "images", repeats),
        timed("our reader, decoded, typed", lambda: ours_decoded(0), "images", repeats),
        timed("our reader, decoded, typed, 2 threads", lambda: ours_decoded(2), "images", repeats),
    ]
    for row in decoded[1:]:
        clock, cpu = (row[key] / decoded[0][key] for key in ("images/s", "images/cpu_s"))
        print(f"  beside webdataset: {clock:.2f} by the clock, {cpu:.2f} by CPU seconds (aim 1.3)")


def main() -> None:
    """Build, write, read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peak", action="store_true", help="Only export, and print this process's peak memory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        store, blobs = build(folder / "home", given.samples)
        if given.peak:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            run_export(
                store, blobs, Target(folder / "ours"), format_name="webdataset", name="b", workers=2,
                options=ExportOptions(phash=False, shard_bytes=100_000_000), selection=Selection(source="prelabel:vlm"),
            )  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"samples": given.samples, "before_mb": round(before), "peak_mb": round(after)}))
            return
        print(f"{given.samples} samples; the issue's 30,000 need 60 GB of disk and a machine of their own", flush=True)
        writing(store, blobs, folder, given.samples, given.repeats)
        reading(folder, given.samples, given.repeats)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
