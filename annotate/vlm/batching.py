"""Many questions at a time for a model on this machine: whoever waits when it becomes free goes in together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class QueueFull(Exception):
    """As many as may wait are waiting."""


class MicroBatcher(Generic[Asked, Given]):
    """Gathers single calls into batches and runs those in a thread of its own, one after another.

    `run` returns a result or an exception for each; what it raises goes to all of the batch. `linger`: seconds to wait
    for company once there is a first (0: only for those who are ready now). Bound to the loop it is first used on.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Sequence[Given | Exception]],
        *,
        max_batch: int,
        linger: float = 0.0,
        max_waiting: int | None = None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._linger = linger
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.batches: int = 0

    @property
    def waiting(self) -> int:
        """How many wait now, those at work not counted."""
        return len(self._waiting)

    async def put(self, one: Asked) -> Given:
        """The result for one. Raises QueueFull, or what `run` made of it."""
        if self._max_waiting is not None and len(self._waiting) >= self._max_waiting:
            raise QueueFull(f"{len(self._waiting)} are waiting")
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        if len(self._waiting) >= self._max_batch:
            self._full.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Wait for the batch at work, then let the thread go. Those who still wait are cancelled."""
        while self._waiting:
            self._waiting.popleft()[1].cancel()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        """Until nobody waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._company()
            batch: list[tuple[Asked, asyncio.Future[Given]]] = []
            while self._waiting and len(batch) < self._max_batch:
                one, future = self._waiting.popleft()
                if not future.done():  # its asker may have given up
                    batch.append((one, future))
            if not batch:
                continue
            self.batches += 1
            results: Sequence[Given | Exception]
            try:
                results = await loop.run_in_executor(self._thread, self._run, [one for one, _ in batch])
            except Exception as error:  # noqa: BLE001  (handed to each asker, who raises it)
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _company(self) -> None:
        """Let those who are ready come in; with `linger`, wait for more until the batch is full."""
        await asyncio.sleep(0)
        self._full.clear()
        if self._linger and len(self._waiting) < self._max_batch:
            try:
                await asyncio.wait_for(self._full.wait(), self._linger)
            except TimeoutError:
                return
