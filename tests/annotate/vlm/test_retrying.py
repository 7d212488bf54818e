"""RetryPolicy: what is asked again, how often, after which pause; with a clock that only moves when told to."""

import asyncio
from collections.abc import Sequence

import pytest

from annotate.vlm.contract import Answer, AskError, Question
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from tests.annotate.fake_backend import FakeBackend, Step
from tests.annotate.support import question


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def broken(code: str = "connection", **changes: object) -> AskError:
    return AskError(code, "no", transient=True, **changes)  # type: ignore[arg-type]


def ask(
    script: Sequence[Step], *, policy: RetryPolicy | None = None, deadline: float | None = 1000.0
) -> tuple[Answer | AskError, FakeBackend, Clock]:
    backend, clock = FakeBackend(script), Clock()

    async def go() -> Answer | AskError:
        client = RetryingClient(
            backend,
            concurrency=1,
            deadline=deadline,
            policy=policy or RetryPolicy(tries=5, first_pause=1.0, longest_pause=4.0),
            sleep=clock.sleep,
            clock=clock,
        )
        try:
            return await client.ask(question())
        except AskError as error:
            return error

    return asyncio.run(go()), backend, clock


def test_the_pauses_grow_to_a_bound_and_the_requests_are_counted() -> None:
    answer, backend, clock = ask([broken(), broken(), broken(), broken(), "x"])
    assert isinstance(answer, Answer)
    assert (answer.text, answer.requests, len(backend.asked)) == ("x", 5, 5)
    for pause, bound in zip(clock.pauses, [1.0, 2.0, 4.0, 4.0], strict=True):
        assert bound / 2 <= pause <= bound
    assert answer.seconds == pytest.approx(sum(clock.pauses))


def test_the_last_failure_is_the_one_reported() -> None:
    error, backend, _ = ask([broken("connection"), broken("server-error")], policy=RetryPolicy(tries=3, first_pause=1))
    assert isinstance(error, AskError)
    assert (error.code, error.requests, len(backend.asked)) == ("server-error", 3, 3)


def test_what_will_not_pass_is_asked_once() -> None:
    error, backend, clock = ask([AskError("bad-request", "no"), "x"])
    assert isinstance(error, AskError)
    assert (error.code, error.requests, clock.pauses, len(backend.asked)) == ("bad-request", 1, [], 1)


def test_a_pause_that_the_server_asked_for_is_the_least() -> None:
    answer, _, clock = ask([broken("rate-limited", retry_after=7.0), "x"])
    assert isinstance(answer, Answer)
    assert 7.0 <= clock.pauses[0] <= 8.0


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    error, backend, clock = ask([broken("rate-limited", retry_after=60.0), "x"], deadline=30.0)
    assert isinstance(error, AskError)
    assert (error.code, clock.pauses, len(backend.asked)) == ("rate-limited", [], 1)
    assert "30 s" in error.message


def test_an_answer_that_never_comes_is_a_time_out() -> None:
    async def go() -> AskError:
        backend = FakeBackend(["x"], gate=asyncio.Event)  # a new gate each time, which nobody opens
        client = RetryingClient(backend, concurrency=1, deadline=0.01)
        with pytest.raises(AskError) as caught:
            await client.ask(question())
        return caught.value

    assert asyncio.run(go()).code == "timeout"


def test_no_more_than_so_many_at_once() -> None:
    async def go() -> FakeBackend:
        gate = asyncio.Event()
        backend = FakeBackend(lambda q: [q.text], gate=lambda: gate)
        client = RetryingClient(backend, concurrency=3, deadline=None)
        tasks = [asyncio.create_task(client.ask(question(str(number)))) for number in range(10)]
        while len(backend.asked) < 3:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(backend.asked) == 3
        gate.set()
        assert [answer.text for answer in await asyncio.gather(*tasks)] == [str(number) for number in range(10)]
        return backend

    assert asyncio.run(go()).most_at_once == 3


def test_the_deadline_counts_from_when_its_turn_comes() -> None:
    """A question that waited long in line still has all its time."""
    backend, clock = FakeBackend([broken(), broken(), broken(), "x"]), Clock()

    async def go() -> list[Answer]:
        client = RetryingClient(
            backend, concurrency=1, deadline=20.0, policy=RetryPolicy(tries=5, first_pause=4.0, longest_pause=4.0),
            sleep=clock.sleep, clock=clock,
        )  # fmt: skip
        questions: list[Question] = [question(str(number)) for number in range(4)]
        return await asyncio.gather(*(client.ask(question) for question in questions))

    answers = asyncio.run(go())
    assert clock.now - 100 > 20
    assert [answer.requests for answer in answers] == [4, 4, 4, 4]
