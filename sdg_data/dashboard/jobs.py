"""Long computations that a page asks for, on threads of their own: a page asks again until the result is there.

No request waits for one, so a control answers at once, and a reader may close the page and come back.
"""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from sdg_data.errors import InputError

MOST = 8
"""Computations that are under way or wait for their turn."""


@dataclass
class _Job:
    began: float
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Jobs:
    """Computes one thing after another. Results are no business of its own: what is computed leaves them in a cache."""

    def __init__(self) -> None:
        self._jobs: dict[Hashable, _Job] = {}
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def waited(self, key: Hashable, compute: Callable[[], object]) -> float | None:
        """Have something computed that is not under way yet.

        Args:
            key: What it is known by.
            compute: Leaves its result where the caller looks for it. It is called once, in another thread.

        Returns:
            The seconds since it was asked for first; None once it is done, which is forgotten by telling it.

        Raises:
            InputError: Too many others are waiting.
            Exception: What `compute` raised.
        """
        with self._guard:
            job = self._jobs.get(key)
            if job is None:
                for other in [name for name, known in self._jobs.items() if known.done.is_set()]:
                    del self._jobs[other]  # nobody came back for it
                if len(self._jobs) >= MOST:
                    raise InputError(f"{MOST} others are being computed; try again when one of them is done")
                job = self._jobs[key] = _Job(time.monotonic())
                threading.Thread(target=self._run, args=(job, compute), name="job", daemon=True).start()
            if not job.done.is_set():
                return time.monotonic() - job.began
            del self._jobs[key]
        if job.error is not None:
            raise job.error
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was asked for is done; False where one of them takes longer than `timeout` seconds."""
        with self._guard:
            jobs = list(self._jobs.values())
        return all(job.done.wait(timeout) for job in jobs)

    def _run(self, job: _Job, compute: Callable[[], object]) -> None:
        try:
            with self._turn:
                compute()
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            job.error = error
        finally:
            job.done.set()
