"""How much of N workers' time is used: images a second with 1, 2, 4 … workers, and what the driver pays for an image.

    python -m benchmarks.workers.scaling --workers 1,2,4,8,32 --seconds 1 --images-each 12 [--ray] [--json FILE]

A worker waits its preset's seconds for an image (`waiting.py`), so it needs no CPU. Measured is from the moment when
all workers are ready to the last result. Efficiency: the seconds that a worker's images take by themselves, of those.
CPU seconds are those of this process: the driver with the store's writer. Bytes are what goes to the workers and comes
back.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.workers import waiting
from sdg_data.progress import Progress
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.messages import Done, Event, Pool, Ready
from sdg_data.workers.process_pool import ProcessPool, Slot
from sdg_data.workers.ray_pool import RayOptions, RayPool


class WatchedPool:
    """A pool that holds work back until all workers are ready, and counts bytes."""

    def __init__(self, pool: Pool, workers: int) -> None:
        self._pool, self._workers, self.name = pool, workers, pool.name
        self.began = self.ended = 0.0
        self.cpu_at_begin = 0.0
        self.bytes_out = self.bytes_back = self.images = 0
        self._ready: list[Event] = []

    def start(self, stage: bytes) -> None:
        """Start the pool."""
        self._pool.start(stage)

    def hand(self, worker: str, ticket: int, batch: Sequence[Any]) -> None:
        """Hand a batch on, and count it."""
        self.bytes_out += len(pickle.dumps(batch))
        self._pool.hand(worker, ticket, batch)

    def events(self, timeout: float) -> list[Event]:
        """What the pool says; that workers are ready, all at once."""
        events = self._pool.events(timeout)
        if not self.began:
            self._ready += [event for event in events if isinstance(event, Ready)]
            if len(self._ready) < self._workers:
                return []
            self.began, self.cpu_at_begin = time.perf_counter(), cpu_seconds()
            return self._ready
        for event in events:
            if isinstance(event, Done):
                self.bytes_back += len(pickle.dumps(event))
                self.images += len(event.results)
                self.ended = time.perf_counter()
        return events

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()


def cpu_seconds() -> float:
    """CPU that this process has used, without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(workers: int, seconds: float, images_each: int, batch: int, *, ray: bool, folder: Path) -> dict[str, Any]:
    """One run."""
    home = folder / f"{'ray' if ray else 'local'}-{workers}"
    number = workers * images_each
    waiting.fill(home, number)
    stage = waiting.stage(home, str(home / "blobs"), [waiting.preset("waiting", seconds, batch)])
    log = home / "log"
    inner: Pool = (
        RayPool(RayOptions("", workers), log)
        if ray
        else ProcessPool([Slot(f"worker {place}") for place in range(workers)], log)
    )
    pool = WatchedPool(inner, workers)
    done = WorkersExecutor(lambda: pool).execute(stage, progress=Progress("scaling", stream=io.StringIO()))
    cpu = cpu_seconds() - pool.cpu_at_begin
    wall = pool.ended - pool.began
    return {
        "pool": "ray" if ray else "processes",
        "workers": workers,
        "images": done,
        "wall_seconds": round(wall, 3),
        "efficiency": round(images_each * seconds / wall, 4),
        "images_per_second": round(done / wall, 3),
        "driver_cpu_ms_per_image": round(1000 * cpu / done, 3),
        "bytes_out_per_image": round(pool.bytes_out / done),
        "bytes_back_per_image": round(pool.bytes_back / done),
    }


def main() -> None:
    """Run each number of workers, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,32")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--images-each", type=int, default=12)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in map(int, given.workers.split(",")):
            row = measure(workers, given.seconds, given.images_each, given.batch, ray=given.ray, folder=Path(folder))
            print(json.dumps(row), flush=True)
            rows.append(row)
    cost = rows[-1]["driver_cpu_ms_per_image"]
    print(f"one driver's CPU is full at {1000 / cost:.0f} images a second", file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
