"""Several servers as one: who is asked, what becomes of questions of a server that fails, and who counts."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from annotate.vlm.contract import Answer, AskError, Question
from annotate.vlm.openai_chat import OpenAIBackend
from annotate.vlm.pool import PoolTimes, ServerPool
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from sdg_data.settings import VlmSettings
from tests.annotate.hostile import HostileServer, Reply, answer, status
from tests.annotate.support import CLEAN, ONE, picture, server_settings

A, B = "http://a:1/v1", "http://b:1/v1"
PATIENT = RetryPolicy(tries=6, first_pause=0.0, longest_pause=0.0)
SOON = PoolTimes(rest=0.0, silence=0.005, look=0.02)


async def there(address: str) -> int:
    return 200


async def silent(address: str) -> int:
    await asyncio.Event().wait()
    return 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def serve(clock: Clock, speeds: dict[str, float], count: int, slots: int) -> Counter[str]:
    """Who answered how many of `count` questions, of which `slots` are under way at a time: a simulated time."""

    async def go() -> Counter[str]:
        pool = ServerPool(list(speeds), there, deadline=1e9, clock=clock, times=PoolTimes(silence=1e9))
        ends: list[tuple[float, asyncio.Future[None]]] = []
        left = count

        async def worker() -> None:
            nonlocal left
            while left:
                left -= 1

                async def send(address: str) -> None:
                    done = asyncio.get_running_loop().create_future()
                    ends.append((clock.now + speeds[address], done))
                    await done

                await pool.ask(send)

        workers = [asyncio.ensure_future(worker()) for _ in range(slots)]
        while not all(task.done() for task in workers):
            for _ in range(6):
                await asyncio.sleep(0)
            if ends:
                first = min(ends, key=lambda pair: pair[0])
                ends.remove(first)
                clock.now = first[0]
                first[1].set_result(None)
        return Counter({server.address: server.answered for server in pool.servers})

    return asyncio.run(go())


def test_questions_go_by_speed() -> None:
    shares = serve(Clock(), {"fast": 1.0, "slow": 4.0}, 1000, 20)
    # Each has as many under way as seconds make equal: 16 and 4, which do 16 and 1 a second.
    assert shares["fast"] + shares["slow"] == 1000
    assert 10 < shares["fast"] / shares["slow"] < 22


def test_equal_servers_have_equal_shares() -> None:
    shares = serve(Clock(), {"a": 1.0, "b": 1.0, "c": 1.0}, 300, 9)
    assert max(shares.values()) - min(shares.values()) <= 3


def ask_pool(
    send: Callable[[str], Awaitable[str]],
    look: Callable[[str], Awaitable[int]],
    questions: int,
    times: PoolTimes = SOON,
) -> tuple[list[str | AskError], ServerPool]:
    async def go() -> tuple[list[str | AskError], ServerPool]:
        pool = ServerPool([A, B], look, deadline=60, times=SOON)

        async def one() -> str | AskError:
            for _ in range(6):
                try:
                    return await pool.ask(send)
                except AskError as error:
                    last = error
                    if not error.transient:
                        break
            return last

        results = await asyncio.gather(*(one() for _ in range(questions)))
        await pool.close()
        return results, pool

    return asyncio.run(go())


def test_what_is_under_way_at_a_server_that_is_gone_is_handed_over() -> None:
    async def send(address: str) -> str:
        if address == A:
            await asyncio.Event().wait()
        return address

    results, pool = ask_pool(send, lambda address: silent(address) if address == A else there(address), 8)
    assert results == [B] * 8
    rows = {row["server"]: row for row in pool.rows()}
    assert (rows[A]["answered"], rows[B]["answered"]) == (0, 8)
    assert rows[A]["state"] == "down"
    assert rows[A]["failed"] == 4, "half of them were there when it fell silent"


def test_a_server_that_is_busy_and_there_keeps_its_questions() -> None:
    async def go() -> str:
        release = asyncio.Event()
        looks: list[str] = []

        async def look(address: str) -> int:
            looks.append(address)
            if len(looks) == 3:
                release.set()
            return 200

        async def send(address: str) -> str:
            await release.wait()
            return address

        pool = ServerPool([A, B], look, deadline=60, times=PoolTimes(silence=0.001, look=1.0))
        return await pool.ask(send)

    assert asyncio.run(go()) == A


def test_a_server_that_recovers_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    broken = {A}

    async def send(address: str) -> str:
        if address in broken:
            raise AskError("connection", "refused", transient=True)
        return address

    async def look(address: str) -> int:
        return 503 if address in broken else 200

    async def go() -> list[str]:
        clock = Clock()
        pool = ServerPool([A, B], look, deadline=60, times=PoolTimes(rest=10.0), clock=clock)
        with pytest.raises(AskError):
            await pool.ask(send)
        answers = [await pool.ask(send) for _ in range(3)]
        clock.now = 11.0
        answers.append(await pool.ask(send))  # it is looked at, and still down
        await asyncio.sleep(0.0)
        await pool.servers[0].looking  # type: ignore[misc]
        broken.clear()
        clock.now = 100.0
        answers.append(await pool.ask(send))
        assert await pool.servers[0].looking  # type: ignore[misc]
        answers.append(await pool.ask(send))
        await pool.close()
        return answers

    assert asyncio.run(go()) == [B, B, B, B, B, A]
    assert f"{A} is down" in caplog.text
    assert f"{A} answers again" in caplog.text


def test_tries_are_bounded_where_all_are_down() -> None:
    async def send(address: str) -> str:
        raise AskError("connection", "refused", transient=True)

    results, pool = ask_pool(send, silent, 1)
    assert isinstance(results[0], AskError)
    assert sum(server.failed for server in pool.servers) == 6


def backend_of(*servers: HostileServer, **changes: object) -> OpenAIBackend:
    return OpenAIBackend(
        server_settings(" ".join(server.url for server in servers), **changes), environ={}, times=PoolTimes(silence=0.2)
    )


def ask_all(backend: OpenAIBackend, count: int, slots: int = 4) -> list[Answer | AskError]:
    async def go() -> list[Answer | AskError]:
        client = RetryingClient(backend, concurrency=slots, deadline=30.0, policy=PATIENT)

        async def one(number: int) -> Answer | AskError:
            caption = f"picture {number}"
            try:
                return await client.ask(Question(f"<prompt>\n{caption}\n</prompt>", picture(), caption))
            except AskError as error:
                return error

        results = await asyncio.gather(*(one(number) for number in range(count)))
        await backend.close()
        return results

    return asyncio.run(go())


def named(model: str, text: str = CLEAN) -> Reply:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return Reply("body", json.dumps({"choices": [choice], "model": model}))


def test_one_dies_one_is_busy_one_lies_and_all_questions_are_answered_once() -> None:
    asked = Counter[str]()

    def dying(caption: str, nth: int) -> Reply:
        asked["dying"] += 1
        if asked["dying"] > 5:
            dead.die()
            return Reply("drop")
        return named("m")

    dead = HostileServer(dying)
    with (
        HostileServer(lambda caption, nth: named("m")) as good,
        dead,
        HostileServer(lambda caption, nth: status(503, Retry_After="3600")) as busy,
        HostileServer(lambda caption, nth: named("another", ONE)) as liar,
    ):
        backend = backend_of(liar, dead, busy, good)
        results = ask_all(backend, 60, slots=8)
    assert [result.text if isinstance(result, Answer) else result.code for result in results] == [CLEAN] * 60
    rows = backend.pool.rows()
    assert [row["answered"] for row in rows[::2]] == [0, 0]
    assert rows[1]["answered"] + rows[3]["answered"] == 60
    assert rows[1]["answered"] <= 5
    assert "answers as another" in rows[0]["state"]
    assert rows[1]["state"] == rows[2]["state"] == "down"


def test_a_server_that_refuses_is_left_out_and_the_others_go_on() -> None:
    with (
        HostileServer(lambda caption, nth: status(404, "no such model")) as other,
        HostileServer(lambda caption, nth: answer(CLEAN)) as good,
    ):
        backend = backend_of(other, good)
        results = ask_all(backend, 6)
    assert all(isinstance(result, Answer) for result in results)
    assert "404" in backend.pool.rows()[0]["state"]


def test_where_all_refuse_the_run_ends() -> None:
    with (
        HostileServer(lambda caption, nth: status(401)) as server,
        HostileServer(lambda caption, nth: status(401)) as two,
    ):
        results = ask_all(backend_of(server, two), 4)
    assert all(isinstance(result, AskError) for result in results)
    assert any(isinstance(result, AskError) and result.fatal for result in results)


def test_a_name_that_all_servers_answer_under_is_an_alias(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with (
        HostileServer(lambda caption, nth: named("m-2026-01")) as server,
        HostileServer(lambda caption, nth: named("m-2026-01")) as two,
    ):
        results = ask_all(backend_of(server, two), 8)
    assert all(isinstance(result, Answer) for result in results)
    assert "all servers answer as m-2026-01" in caplog.text


def test_a_single_server_is_as_it_was() -> None:
    with HostileServer(lambda caption, nth: named("m" if nth == 0 and caption == "picture 0" else "n")) as server:
        results = ask_all(backend_of(server), 2, slots=1)
    assert isinstance(results[0], Answer)
    assert isinstance(results[1], AskError)
    assert (results[1].code, results[1].fatal) == ("other-model", True)


def test_addresses_may_be_a_list() -> None:
    assert (
        VlmSettings.model_validate({"base_url": ["http://a/v1", "http://b/v1"]}).base_url == "http://a/v1 http://b/v1"
    )
