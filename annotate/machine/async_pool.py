"""Coroutines on an event loop of its own thread, fed by a thread that works in batches.

A stage computes batch by batch, and a server's slots would stand idle at the end of each. So a stage hands its items
over as they come, goes on with the next ones, and takes back whatever is done.
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
    """Runs coroutines; used by one thread at a time."""

    def __init__(self, name: str) -> None:
        """Starts the thread."""
        self.loop = asyncio.new_event_loop()
        self._done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        self.outstanding = 0
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> None:
        """Start it."""
        self.outstanding += 1
        asyncio.run_coroutine_threadsafe(work, self.loop).add_done_callback(self._done.put)

    def take(self, *, leave: int) -> list[Result]:
        """What is done, waiting until at most `leave` are not. Raises what one of them raised."""
        results = []
        while self.outstanding > leave or not self._done.empty():
            future = self._done.get()
            self.outstanding -= 1
            results.append(future.result())
        return results

    def settle(self) -> list[Result]:
        """Wait for all; those that raised are left out (the first to raise has been reported by `take`)."""
        results = []
        while self.outstanding:
            future = self._done.get()
            self.outstanding -= 1
            if future.exception() is None:
                results.append(future.result())
        return results

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Stop the thread. Nothing may be outstanding."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
