"""Dynamic batching for a model on this machine: the questions that wait when it becomes free go in together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Request = TypeVar("Request")
Response = TypeVar("Response")


class QueueFull(Exception):
    """The queue of questions is full: as many wait as may wait."""


class DynamicBatcher(Generic[Request, Response]):
    """Gathers single calls into batches, and runs these one after another in a thread of its own.

    Bound to the event loop that it is first used on.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Response | Exception]],
        *,
        max_batch: int,
        max_wait: float = 0.0,
        max_waiting: int | None = None,
    ) -> None:
        """Start no thread yet.

        Args:
            run: Computes a batch: a result or an exception for each. What it raises goes to all of the batch.
            max_batch: The most that go into one batch.
            max_wait: Seconds to wait for more once there is a first; 0: only for those who are ready now.
            max_waiting: How many may wait; None: any number.
        """
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Request, asyncio.Future[Response]]] = deque()
        self._full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.batches: int = 0
        self.computing = False

    @property
    def waiting(self) -> int:
        """How many requests wait now, those being computed not counted."""
        return len(self._waiting)

    async def put(self, request: Request) -> Response:
        """The result for one request.

        Raises:
            QueueFull: As many wait as may wait.
            Exception: What `run` gave or raised for it.
        """
        if self._max_waiting is not None and len(self._waiting) >= self._max_waiting:
            raise QueueFull(f"{len(self._waiting)} are waiting")
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if len(self._waiting) >= self._max_batch:
            self._full.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Wait for the batch being computed, then end the thread. Requests that still wait are cancelled."""
        while self._waiting:
            self._waiting.popleft()[1].cancel()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        """Run batches until no question waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._fill()
            batch: list[tuple[Request, asyncio.Future[Response]]] = []
            while self._waiting and len(batch) < self._max_batch:
                request, future = self._waiting.popleft()
                if not future.done():  # its caller may have given up
                    batch.append((request, future))
            if not batch:
                continue
            self.batches += 1
            results: Sequence[Response | Exception]
            self.computing = True
            try:
                results = await loop.run_in_executor(self._thread, self._run, [request for request, _ in batch])
            except Exception as error:  # noqa: BLE001  (handed to each caller, who raises it)
                results = [error] * len(batch)
            self.computing = False
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _fill(self) -> None:
        """Let requests that are ready come in; with `max_wait`, wait for more until the batch is full."""
        await asyncio.sleep(0)
        self._full.clear()
        if self._max_wait and len(self._waiting) < self._max_batch:
            try:
                await asyncio.wait_for(self._full.wait(), self._max_wait)
            except TimeoutError:
                return
