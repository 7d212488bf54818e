"""The micro-batcher: who goes in together, what comes back to whom."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from annotate.vlm.batching import DynamicBatcher, QueueFull


def test_those_who_wait_go_in_together_and_get_their_own_back() -> None:
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> Sequence[int | Exception]:
        sizes.append(len(batch))
        return [ValueError(str(question)) if question == 5 else question * question for question in batch]

    async def go() -> list[int | BaseException]:
        batcher = DynamicBatcher[int, int](run, max_batch=4)
        results = await asyncio.gather(*(batcher.put(number) for number in range(10)), return_exceptions=True)
        await batcher.close()
        return results

    results = asyncio.run(go())
    assert sizes == [4, 4, 2]
    assert isinstance(results[5], ValueError)
    assert [result for index, result in enumerate(results) if index != 5] == [n * n for n in range(10) if n != 5]


def test_an_error_of_the_batch_reaches_each() -> None:
    def run(batch: Sequence[int]) -> Sequence[int | Exception]:
        raise RuntimeError("the model fell over")

    async def go() -> list[int | BaseException]:
        batcher = DynamicBatcher[int, int](run, max_batch=8)
        return await asyncio.gather(batcher.put(1), batcher.put(2), return_exceptions=True)

    assert [str(result) for result in asyncio.run(go())] == ["the model fell over"] * 2


def test_a_full_queue_refuses() -> None:
    free = threading.Event()

    def run(batch: Sequence[int]) -> Sequence[int | Exception]:
        assert free.wait(60)
        return list(batch)

    async def go() -> None:
        batcher = DynamicBatcher[int, int](run, max_batch=1, max_waiting=2)
        first = asyncio.create_task(batcher.put(0))
        while batcher.batches == 0:
            await asyncio.sleep(0)
        rest = [asyncio.create_task(batcher.put(number)) for number in (1, 2)]
        while batcher.waiting < 2:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.put(3)
        free.set()
        assert await asyncio.gather(first, *rest) == [0, 1, 2]

    asyncio.run(go())


def test_company_is_waited_for_until_the_batch_is_full() -> None:
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> Sequence[int | Exception]:
        sizes.append(len(batch))
        return list(batch)

    async def go() -> None:
        batcher = DynamicBatcher[int, int](run, max_batch=3, max_wait=60.0)
        tasks = [asyncio.create_task(batcher.put(1))]
        for _ in range(5):
            await asyncio.sleep(0)
        assert sizes == []
        tasks += [asyncio.create_task(batcher.put(2)), asyncio.create_task(batcher.put(3))]
        await asyncio.gather(*tasks)

    asyncio.run(go())
    assert sizes == [3]


def test_whoever_gave_up_is_left_out() -> None:
    seen: list[int] = []

    def run(batch: Sequence[int]) -> Sequence[int | Exception]:
        seen.extend(batch)
        return list(batch)

    async def go() -> None:
        batcher = DynamicBatcher[int, int](run, max_batch=4)
        gone, stays = asyncio.create_task(batcher.put(1)), asyncio.create_task(batcher.put(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 2

    asyncio.run(go())
    assert seen == [2]
