"""A refinement in a process of its own, to be killed at any moment."""

import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor
from tests.trainers.refinement.world import Brightness, Painter, job, stage

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def refine(home: Path) -> None:
    """Refine everything in a home; some edits fail, and the colours depend on the seed."""
    store, blobs = Store(home), Blobs(home / "blobs")
    painter = Painter(lambda request: (255, 0, -1, 230)[request.seed % 4])
    LocalExecutor().execute(stage(store, blobs, job(candidates=2), painter, reward=Brightness()))


def started(home: Path) -> BaseProcess:
    """`refine` on its way."""
    process = _context.Process(target=refine, args=(home,))
    process.start()
    return process
