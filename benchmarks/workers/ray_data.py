"""Ray Data's `map_batches` beside our actors, for the same work: what an exception, a death and a picture cost.

    python -m benchmarks.workers.ray_data [--items 60] [--workers 2] [--seconds 0.1] [--json FILE]

An item waits, and gives back a record of a kilobyte, as a picture's is. One of them raises, or kills its process, the
first time it is tried (`once`) or always (`ever`). Counted are the items that are there at the end, how often an item
was computed (a line in a file each), and how the run ended.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.workers.faulty import BATCH, RayDataWaiting, Waiting, WaitingStage
from sdg_data.errors import SdgError
from sdg_data.progress import Progress
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.ray_pool import RayOptions, RayPool

FAULTS = ("none", "raises once", "raises ever", "dies once", "dies ever")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Ray writes to stderr."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)


def by_ray_data(given: tuple[str, str, float], items: int, workers: int, patience: float) -> dict[str, Any]:
    """One run of Ray Data, in a Ray that is there; what was received before it ended, or in so many seconds."""
    import ray

    records: set[int] = set()
    ended = [f"no end in {patience:.0f} s"]

    def run() -> None:
        try:
            data = ray.data.from_items([{"id": item} for item in range(items)], override_num_blocks=items // BATCH)
            made = data.map_batches(RayDataWaiting, fn_constructor_args=given, batch_size=BATCH, concurrency=workers)
            for row in made.iter_rows():
                records.add(row["id"])
            ended[0] = "well"
        except (ray.exceptions.RayError, RuntimeError) as error:
            ended[0] = type(error).__name__

    with quiet():
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(patience)
    return {"there": len(records), "failures": 0, "ended": ended[0]}


def by_actors(given: tuple[str, str, float], items: int, workers: int, patience: float) -> dict[str, Any]:
    """One run of ours, in a Ray of its own; it ends by itself."""
    stage = WaitingStage(Waiting(*given), items)
    pool = RayPool(RayOptions("", workers), Path(given[0]) / "log")
    ended = "well"
    with quiet():
        try:
            WorkersExecutor(lambda: pool).execute(stage, progress=Progress("waiting", stream=io.StringIO()))
        except SdgError as error:
            ended = f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"
    return {"there": len(stage.records), "failures": len(stage.failures), "ended": ended}


def main() -> None:
    """Run each fault by both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds for each run of Ray Data")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import ray

    rows = []
    for name, run in (("actors", by_actors), ("Ray Data", by_ray_data)):
        if run is by_ray_data:
            with quiet():
                ray.init(num_cpus=options.workers + 4, include_dashboard=False, log_to_driver=False)
        for fault in options.faults.split(","):
            with tempfile.TemporaryDirectory() as folder:
                row = run((folder, fault, options.seconds), options.items, options.workers, options.patience)
                computed = (Path(folder) / "computed").read_text(encoding="ascii").split()
            rows.append({"by": name, "fault": fault, **row, "computed": len(computed), "of": options.items})
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # a pipeline of Ray Data may still be at its item


if __name__ == "__main__":
    main()
