"""Planning at scale: 3,000,000 missing images against 3,000,000 done; aim: under 10 s and under 2 GB.

The store is made by SQL (750,000 prompts, 4 models, 2 samples each; the first sample is done). Three measurements:
counting what is missing (`--dry-run`), the first page (when work starts), and every missing row, page by page. Each
runs in a process of its own, and so does the making, so that peak memory is that of the measurement. The time is wall
time, with CPU time beside it: where that is much smaller, the machine was busy with something else.

    python benchmarks/plan.py [--prompts 750000] [--home DIR]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sdg_data.ids import canonical_json
from sdg_data.store import images
from sdg_data.store.connection import Store

SETTINGS = canonical_json({"guidance_scale": 4.0, "height": 1024, "num_inference_steps": 28, "width": 1024})
VARIANTS = tuple(images.Variant(f"model-{letter}", "main", SETTINGS) for letter in "abcd")
WANTED = images.WantedImages(VARIANTS, samples=2)
AIM_SECONDS, AIM_BYTES = 10.0, 2e9


def build(home: Path, prompts: int) -> None:
    """Rows of the shape and size that real ones have, made by SQL."""
    with Store(home).write() as tx:
        tx.execute(
            """
            INSERT INTO prompts
            SELECT substr(sha256('prompt' || i), 1, 32),
                   'a photograph of subject ' || i || repeat(', highly detailed', 4),
                   'benchmark', NULL, if(i % 25 = 0, 'test', 'train'), TIMESTAMP '2026-01-01'
            FROM range(?) AS numbers(i)
            """,
            [prompts],
        )
        for variant in VARIANTS:
            tx.execute(
                "INSERT INTO variants VALUES (?, ?, ?, ?)",
                [variant.id, variant.model, variant.revision, variant.settings],
            )
            tx.execute(
                """
                INSERT INTO images
                SELECT substr(sha256(id || ?), 1, 32), id, ?, 0, 7, sha256(id || ? || 'blob'), 'image/png', 1024, 1024,
                       1500000, 'Apache-2.0', 'generated', 'diffusers 0.42', 1.5, TIMESTAMP '2026-01-01'
                FROM prompts ORDER BY hash(id)
                """,
                [variant.id, variant.id, variant.id],
            )


def measure(home: Path, what: str) -> dict[str, float]:
    """One measurement in this process: seconds, rows, and peak resident bytes."""
    store = Store(home)
    start, cpu = time.perf_counter(), time.process_time()
    if what == "count":
        with store.read() as tx:
            rows = sum(images.count_missing(tx, WANTED))
    elif what == "first page":
        rows = next(images.missing(store, WANTED)).num_rows
    else:
        rows = sum(page.num_rows for page in images.missing(store, WANTED))
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> int:
    """Build, measure, print; 1 if an aim is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=750_000)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--measure", choices=["count", "first page", "every row"], help=argparse.SUPPRESS)
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.home, arguments.measure)))
        return 0
    if arguments.build:
        build(arguments.home, arguments.prompts)
        return 0
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder)
        if not (home / "store.duckdb").exists():
            command = [sys.executable, __file__, "--home", str(home), "--prompts", str(arguments.prompts), "--build"]
            subprocess.run(command, check=True)
        size = (home / "store.duckdb").stat().st_size / 1e6
        print(f"{arguments.prompts * len(VARIANTS):,} done, as many missing; store {size:.0f} MB")
        for what in ("count", "first page", "every row"):
            command = [sys.executable, __file__, "--home", str(home), "--measure", what]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            good = result["seconds"] < AIM_SECONDS and result["peak_bytes"] < AIM_BYTES
            failed |= not good
            figures = (
                f"{result['seconds']:6.2f} s  {result['cpu_seconds']:6.2f} s CPU  {result['peak_bytes'] / 1e9:5.2f} GB"
            )
            print(f"{what:10}  {result['rows']:>9,} rows  {figures}  {'ok' if good else 'MISSED'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
