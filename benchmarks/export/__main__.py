"""Exporting and reading at realistic sizes, in one run: writing beside GNU tar and webdataset.ShardWriter, reading
beside webdataset, litdata and MosaicML streaming, and the peak memory at two sizes.

    python benchmarks/export [--samples 30000] [--repeats 2] [--folder DIR] [--others VENV] [--no-others]

`--samples` is 30,000 images of about 1 MB, or as many as fit the disk: source and one output in 60 % of what is free.
Every output is deleted before the next is made. All writers' bytes are on the disk (fsync) at the end of their time;
where the images do not fit the page cache the disk rules, and it is said so (`--folder /dev/shm` takes the disk out).
Reading is measured on shards that fit the page cache. litdata and MosaicML streaming live in a venv of their own
(`build/bench-venv`), made at the first run: they want other versions of what we use.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from corpus import build
from measure import available_memory
from reading import reading
from writing import whole_export, writing

from exports.read.shard_files import find_shards
from sdg_data.blobs import Blobs
from sdg_data.progress import Progress
from sdg_data.store.connection import Store

FULL = 30_000
PICTURE = 1_050_000
"""Bytes of a picture and its sample, about."""
PEAK_SIZES = (500, 2_000)
OTHERS = Path("build/bench-venv")


def affordable(folder: Path) -> int:
    """Samples whose source and one output take 60 % of the free space at most."""
    return min(FULL, int(0.6 * shutil.disk_usage(folder).free / (2 * PICTURE)))


def others_python(venv: Path) -> Path | None:
    """The others' Python, their venv made where there is none; None, and why, if it cannot be."""
    python = venv.absolute() / "bin" / "python"
    if not python.exists():
        print(f"making {venv} for litdata and MosaicML streaming", flush=True)
        wanted = Path(__file__).with_name("others.txt")
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(venv, ignore_errors=True)
            print(f"litdata and MosaicML streaming are left out: {error}", flush=True)
            return None
    return python


def peak(home: Path, out: Path) -> int:
    """Export `home` in a process of its own; its peak memory in bytes."""
    command = [sys.executable, Path(__file__).parent, "--peak-of", home, "--folder", out]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(ran.stdout)


def peak_of(home: Path, out: Path) -> None:
    """The child of `peak`. VmHWM is this program's own; ru_maxrss would begin with its parent's."""
    quiet = Progress("export", stream=io.StringIO())
    whole_export(Store(home), Blobs(home / "blobs"), out, shard_bytes=100_000_000, progress=quiet)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            print(int(line.split()[1]) * 1024)


def memory(folder: Path, limit: int) -> dict[str, float]:
    """Peak memory of exporting two sizes, shards of 100 MB."""
    figures = {}
    for number in sorted({min(size, limit) for size in PEAK_SIZES}):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            build(Path(place) / "home", number)
            figures[f"peak MB, {number} samples"] = round(peak(Path(place) / "home", Path(place)) / 1e6)
        print(f"  peak memory of an export of {number} samples: {figures[f'peak MB, {number} samples']} MB", flush=True)
    return figures


def main() -> None:
    """Build, write, read, weigh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="Where there is room; default: the system's temporary folder")
    parser.add_argument("--others", type=Path, default=OTHERS, metavar="VENV")
    parser.add_argument("--no-others", action="store_true")
    parser.add_argument("--peak-of", type=Path, metavar="HOME", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of is not None:
        peak_of(given.peak_of, given.folder)
        return
    python = None if given.no_others else others_python(given.others)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        room = affordable(folder)
        number = given.samples or room
        if number < FULL:
            why = "" if given.samples else f": {room} fit 60 % of the free disk with one output beside the source"
            print(f"{number} samples instead of {FULL}{why}", flush=True)
        store, blobs = build(folder / "home", number)
        cached = 2 * number * PICTURE < available_memory()
        if not cached:
            print("source and output are larger than the page cache: the disk rules the writing", flush=True)
        figures = writing(store, blobs, folder, given.repeats, cached=cached)
        out = whole_export(store, blobs, folder, shard_bytes=100_000_000, progress=Progress("export"))
        shutil.rmtree(folder / "home")
        shards = find_shards(out, None)
        few = max(1, int(available_memory() / 4 / 100_000_000))
        if len(shards) > few:
            print(f"reading is measured on {few} of {len(shards)} shards, which fit the page cache", flush=True)
        figures |= reading([shard.path for shard in shards[:few]], given.repeats, python, folder)
        shutil.rmtree(out)
        figures |= memory(folder, number)
    print(json.dumps({"samples": number, **{key: round(value, 2) for key, value in figures.items()}}))


if __name__ == "__main__":
    main()
