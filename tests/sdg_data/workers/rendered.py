"""A driver for the cluster tests: `python -m tests.sdg_data.workers.rendered HOME BLOBS ADDRESS SECONDS` makes what is
missing, with a model that waits and draws. ADDRESS "": this process alone."""

import logging
import sys
from pathlib import Path

from benchmarks.workers import waiting
from sdg_data.errors import SdgError
from sdg_data.locks import note_path
from sdg_data.progress import Progress, noted_in
from sdg_data.work import Executor, LocalExecutor
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.ray_pool import RayOptions, RayPool


def main() -> None:
    """Make what is missing."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    home, blobs, address, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    presets = [waiting.preset("first", seconds, 4), waiting.preset("second", seconds, 2)]
    stage = waiting.stage(home, blobs, presets)
    executor: Executor = LocalExecutor()
    if address:
        pool = RayPool(RayOptions(address, None), home / "logs" / "workers.log")
        executor = WorkersExecutor(lambda: pool)
    (home / "locks").mkdir(exist_ok=True)
    with noted_in(note_path(home, "generate")):
        made = executor.execute(stage, progress=Progress("generate", unit="images"))
    print(f"made {made}")


if __name__ == "__main__":
    try:
        main()
    except SdgError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
