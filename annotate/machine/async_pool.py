"""Runs coroutines on an event loop in a thread of its own, for a caller that works in batches.

A stage computes batch by batch, and a server's slots would stand idle at the end of each. So the stage submits its
items as they come, goes on with the next ones, and takes back whatever is done.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class AsyncPool(Generic[Result]):
    """Runs coroutines. Only one thread at a time may use it."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self.loop = asyncio.new_event_loop()
        self._done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        self.outstanding = 0
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> None:
        """Start a coroutine on the pool's event loop; its result comes out of the pool when it has ended."""
        self.outstanding += 1
        asyncio.run_coroutine_threadsafe(work, self.loop).add_done_callback(self._done.put)

    def take(self, *, leave: int) -> list[Result]:
        """The results that are done, after waiting until at most `leave` are not.

        Raises:
            Exception: What one of the coroutines raised; the results of the others stay for `settle`.
        """
        taken: list[Future[Result]] = []
        while self.outstanding > leave or not self._done.empty():
            future = self._done.get()
            self.outstanding -= 1
            error = future.exception()
            if error is not None:
                self.outstanding += len(taken)
                for done in taken:
                    self._done.put(done)
                raise error
            taken.append(future)
        return [future.result() for future in taken]

    def settle(self) -> list[Result]:
        """The results of all, after waiting; those that raised are left out, for `take` has reported the first."""
        results = []
        while self.outstanding:
            future = self._done.get()
            self.outstanding -= 1
            if future.exception() is None:
                results.append(future.result())
        return results

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine on the pool's event loop, wait for it, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Stop the thread. No coroutine may be outstanding."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
