"""Importing beside plain reading of the same files, in one run: rows, images and bytes a second, and peak memory.

    python benchmarks/import [--scale 1] [--repeats 1] [--folder DIR]

At `--scale 1` it is 1,000,000 prompts (CSV and Parquet) beside polars alone (scan, and collect the column); 100,000
images of 64×64 (a folder and a tar) beside a loop that reads each and its header, as img2dataset's reader does; and
1,000 samples of 1 MB in our own shards beside the reader of the same, by the account that made them and by another.
Every contender runs in a process of its own, on files in the page cache, into a fresh home; `--folder /dev/shm` takes
the disk out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders import CONTENDERS
from corpus import write_corpus

READERS = ("reader, bytes", "reader, bytes and samples", "reader, bytes and their hashes", "reader, decoded")
PAIRS = (
    ("prompts.csv", "rows", ("import", "polars")),
    ("prompts.parquet", "rows", ("import", "polars")),
    ("images folder", "images", ("import", "read and header")),
    ("images tar", "images", ("import", "read and header")),
    ("our shards", "MB", ("import", "import of another account", *READERS)),
)


def measured(what: str, name: str, corpus: Path, folder: Path) -> dict[str, float]:
    """One turn of a contender."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        command = [sys.executable, str(Path(__file__).parent), "--child", what, name, str(corpus), home]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return row


def main() -> None:
    """Write the corpus, let the contenders take turns, print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=1, help="the best turn of so many counts")
    parser.add_argument("--folder", type=Path, help="where there is room; default: the system's temporary folder")
    parser.add_argument("--only", action="append", choices=[what for what, _, _ in PAIRS])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        what, name, corpus, home = given.child
        print(json.dumps(CONTENDERS[what, name](Path(corpus), Path(home))))
        return
    print(f"load before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")  # where an account notes its exports
        for what, unit, names in PAIRS:
            if given.only and what not in given.only:
                continue
            corpus = folder / "corpus"
            write_corpus(what, corpus, given.scale)
            best: dict[str, dict[str, float]] = {}
            for _ in range(given.repeats):
                for name in names:
                    row = measured(what, name, corpus, folder)
                    if name not in best or row["wall_s"] < best[name]["wall_s"]:
                        best[name] = row
            for name, row in best.items():
                rate, of_cpu = row["done"] / row["wall_s"], row["done"] / row["cpu_s"]
                first = best[names[0]]
                ratio = first["done"] / first["wall_s"] / rate
                print(
                    f"{what:16} {name:32} {rate:12,.0f} {unit}/s {of_cpu:12,.0f} {unit}/CPU s {row['peak_mb']:6,.0f} MB"
                    f"   import / this: {ratio:.3f}",
                    flush=True,
                )
            shutil.rmtree(corpus)


if __name__ == "__main__":
    main()
