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
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sdg_data.errors import GenerationError, SdgError
from sdg_data.progress import Progress
from sdg_data.work import Plan
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.ray_pool import RayOptions, RayPool

BATCH = 4
RECORD = "x" * 1000
FAULTS = ("none", "raises once", "raises ever", "dies once", "dies ever")


class Waiting:
    """Waits for each item, and does to item 10 what `fault` says."""

    def __init__(self, folder: str, fault: str, seconds: float) -> None:
        self._folder, self._fault, self._seconds = Path(folder), fault, seconds

    def compute(self, items: Sequence[int]) -> list[str]:
        """Records of items."""
        for item in items:
            with (self._folder / "computed").open("a", encoding="ascii") as lines:
                lines.write(f"{item}\n")
            time.sleep(self._seconds)
            if item == 10 and self._due():
                if self._fault.startswith("raises"):
                    raise GenerationError("out of order", item="item 10")
                os.kill(os.getpid(), signal.SIGKILL)
        return [RECORD for _ in items]

    def _due(self) -> bool:
        if self._fault.endswith("once"):
            with contextlib.suppress(FileExistsError):
                (self._folder / "tried").touch(exist_ok=False)
                return True
            return False
        return self._fault != "none"


class WaitingStage:
    """`Waiting` as a stage of ours."""

    name = "waiting"

    def __init__(self, waiting: Waiting, total: int) -> None:
        self._waiting, self._total = waiting, total
        self.records: dict[int, str] = {}
        self.failures: list[int] = []

    def plan(self) -> Plan[int]:
        """All items."""
        return Plan(self._total, (range(at, min(at + BATCH, self._total)) for at in range(0, self._total, BATCH)))

    def run(self, batch: Sequence[int]) -> Sequence[tuple[int, str | None]]:
        """Compute."""
        return list(zip(batch, self._waiting.compute(batch), strict=True))

    def persist(self, results: Sequence[Any]) -> Sequence[Any]:
        """Do nothing."""
        return results

    def commit(self, results: Sequence[tuple[int, str | None]]) -> None:
        """Keep what came; a failure has no record."""
        for item, record in results:
            if record is None:
                self.failures.append(item)
            else:
                self.records[item] = record

    def item_id(self, item: int) -> str:
        """Its number."""
        return f"item {item}"

    def lost(self, batch: Sequence[int], code: str, message: str) -> Sequence[tuple[int, None]]:
        """A failure each."""
        return [(item, None) for item in batch]

    def refused(self, batch: Sequence[int], error: SdgError) -> None:
        """End the run."""
        raise error


class RayDataWaiting:
    """`Waiting` as Ray Data takes it."""

    def __init__(self, *given: Any) -> None:
        self._waiting = Waiting(*given)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute."""
        items = [int(item) for item in batch["id"]]
        return {"id": items, "record": self._waiting.compute(items)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Ray writes to stderr."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)


def by_ray_data(given: tuple[str, str, float], items: int, workers: int) -> dict[str, Any]:
    """One run of Ray Data, in a Ray that is there; what was received before it ended."""
    import ray

    records: set[int] = set()
    ended = "well"
    with quiet():
        try:
            data = ray.data.from_items([{"id": item} for item in range(items)], override_num_blocks=items // BATCH)
            made = data.map_batches(RayDataWaiting, fn_constructor_args=given, batch_size=BATCH, concurrency=workers)
            for row in made.iter_rows():
                records.add(row["id"])
        except (ray.exceptions.RayError, RuntimeError) as error:
            ended = f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"
    return {"there": len(records), "failures": 0, "ended": ended}


def by_actors(given: tuple[str, str, float], items: int, workers: int) -> dict[str, Any]:
    """One run of ours, in a Ray of its own."""
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
                row = run((folder, fault, options.seconds), options.items, options.workers)
                computed = (Path(folder) / "computed").read_text(encoding="ascii").split()
            rows.append({"by": name, "fault": fault, **row, "computed": len(computed), "of": options.items})
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.stdout.flush()
    ray.shutdown()


if __name__ == "__main__":
    main()
