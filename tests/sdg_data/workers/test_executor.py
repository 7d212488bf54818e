"""The driver's side: what is handed out, and what becomes of work that is lost, refused or slow."""

import io
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from sdg_data.errors import BlobError, ModelError, WorkerError
from sdg_data.progress import Progress
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.messages import OUT_OF_MEMORY, Died, Event, PoolLost, Raised, Ready
from tests.sdg_data.workers.numbers import Clock, Numbers, Refusing, ScriptedPool, TwoModels, WithoutModel

Answer = Callable[[], Event]


def execute(stage: Any, pool: ScriptedPool) -> int:
    clock = pool.clock or Clock()
    pool.clock = clock
    progress = Progress("numbers", stream=io.StringIO())
    return WorkersExecutor(lambda: pool, clock=clock).execute(stage, progress=progress)


def whole(stage: Numbers) -> bool:
    return stage.rows == {number: number * number for number in range(stage.total)} and not stage.twice


def test_every_batch_is_computed_once() -> None:
    stage = Numbers(20)
    pool = ScriptedPool(["a", "b"], lambda worker, ticket, items, answer: [answer()])
    assert execute(stage, pool) == 20
    assert whole(stage)
    assert sorted(number for _, items in pool.handed for number in items) == list(range(20))
    assert {worker for worker, _ in pool.handed} == {"a", "b"}
    assert pool.closed
    assert execute(stage, ScriptedPool([], lambda *_: [])) == 0  # nothing is missing: no worker is started


def test_the_work_of_a_worker_that_died_goes_to_others(caplog: pytest.LogCaptureFixture) -> None:
    stage, pool = Numbers(20), ScriptedPool(["a", "b"], lambda *_: [])
    dead: list[int] = []

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        if worker == "a" and not dead:
            dead.append(ticket)
            return [Died("a", "was killed by SIGKILL"), pool.again("a")]
        return [answer()]

    pool._script = script
    with caplog.at_level(logging.WARNING):
        assert execute(stage, pool) == 20
    assert whole(stage)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "a on a place was killed by SIGKILL; it was at 6 items, the first number 0, which others do"


def test_an_item_over_which_workers_die_is_a_failure_and_takes_no_neighbour_with_it() -> None:
    stage, pool = Numbers(20), ScriptedPool(["a", "b"], lambda *_: [])

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        if 7 in items:
            return [Died(worker, "ran out of memory", OUT_OF_MEMORY), pool.again(worker)]
        return [answer()]

    pool._script = script
    assert execute(stage, pool) == 20
    assert stage.failed.keys() == {7}
    code, message = stage.failed[7]
    assert code == "worker-out-of-memory"
    assert "ran out of memory" in message
    assert stage.rows == {number: number * number for number in range(20) if number != 7}
    assert not stage.twice
    tried = [items for _, items in pool.handed if 7 in items]
    assert tried == [(6, 7, 8)] * 2 + [(7,)] * 2


def test_a_machine_that_goes_is_no_fault_of_the_work() -> None:
    stage, pool = Numbers(3), ScriptedPool(["a"], lambda *_: [])
    left = [9]

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        left[0] -= 1
        if left[0] >= 0:
            return [Died(worker, "is gone with its machine", blameless=True), pool.again(worker)]
        return [answer()]

    pool._script = script
    assert execute(stage, pool) == 3
    assert whole(stage)
    assert {items for _, items in pool.handed} == {(0, 1, 2)}


def test_after_the_cluster_was_lost_everything_under_way_is_handed_out_again() -> None:
    stage, pool = Numbers(30), ScriptedPool(["a", "b", "c"], lambda *_: [])
    handed: list[int] = []

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        handed.append(ticket)
        if len(handed) < 4:
            return []
        if len(handed) == 4:
            return [PoolLost("the head is gone"), *(pool.again(name) for name in "abc")]
        return [answer()]

    pool._script = script
    assert execute(stage, pool) == 30
    assert whole(stage)


def test_if_every_item_kills_the_run_ends_and_says_so() -> None:
    stage, pool = Numbers(100, size=1), ScriptedPool(["a"], lambda *_: [])
    pool._script = lambda worker, *_: [Died(worker, "was killed by SIGSEGV"), pool.again(worker)]
    with pytest.raises(WorkerError, match="8 items in a row") as caught:
        execute(stage, pool)
    assert "SIGSEGV" in caught.value.message
    assert len(stage.failed) == 8
    assert not stage.rows
    assert pool.closed


def test_workers_that_die_before_they_begin_end_the_run() -> None:
    class Stillborn(ScriptedPool):
        def start(self, stage: bytes) -> None:
            self._events = [Died("a", "ended with exit code 1")] * 20

    with pytest.raises(WorkerError, match="8 workers in a row died before they began"):
        execute(Numbers(3), Stillborn(["a"], lambda *_: []))


def test_a_machine_on_which_no_worker_begins_does_not_end_the_work_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        return [*[Died("b", "was killed")] * 10, answer()]

    class OneBegins(ScriptedPool):
        def start(self, stage: bytes) -> None:
            super().start(stage)
            self._events = [self.again("a")]

    stage = Numbers(9)
    with caplog.at_level(logging.WARNING):
        assert execute(stage, OneBegins(["a", "b"], script)) == 9
    assert whole(stage)
    assert len(caplog.records) == 7 + 2  # the first seven of thirty, the 8th and the 16th


def test_a_model_that_works_nowhere_is_given_up_and_the_other_goes_on() -> None:
    stage = TwoModels(40, loads=False)
    pool = ScriptedPool(["a", "b", "c"], lambda worker, ticket, items, answer: [answer()])
    assert execute(stage, pool) == 20
    assert stage.rows.keys() == set(range(0, 40, 2))
    assert [error.message for error in stage.errors] == ["does not load"]
    assert sum(items[0] % 2 for _, items in pool.handed) <= 6  # three tries, and what was handed out beside them


def test_a_model_that_does_not_load_on_one_worker_is_computed_by_the_others() -> None:
    """The worker on which it does not load is the quickest: it could use up all tries before the other is done once."""

    class Slow(ScriptedPool):
        waiting: ClassVar[list[Event]] = []

        def events(self, timeout: float) -> list[Event]:
            events = super().events(timeout)
            return events or [self.waiting.pop(0)] if self.waiting else events

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        if worker == "a":
            return [Raised("a", ticket, ModelError("CUDA error"))]
        pool.waiting.append(answer())
        return []

    stage = Numbers(60)
    pool = Slow(["a", "b"], script)
    assert execute(stage, pool) == 60
    assert whole(stage)
    assert sum(worker == "a" for worker, _ in pool.handed) <= 4  # two at the beginning, and again after 30 and 60 s


def test_an_error_of_a_stage_with_one_model_ends_the_run() -> None:
    with pytest.raises(ModelError, match="no such model"):
        execute(WithoutModel(30), ScriptedPool(["a", "b"], lambda worker, ticket, items, answer: [answer()]))


def test_a_blob_store_that_refuses_for_a_while_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    Refusing.refusals = 5
    stage = Refusing(20)
    assert execute(stage, ScriptedPool(["a", "b"], lambda worker, ticket, items, answer: [answer()])) == 20
    assert whole(stage)
    assert "503 SlowDown; number 0 … again in 1 s" in caplog.text


def test_a_blob_store_that_goes_on_refusing_ends_the_run_with_its_error() -> None:
    Refusing.refusals = 10**6
    stage = Refusing(20)
    with pytest.raises(BlobError, match=r"503 SlowDown \(told by [ab] on a place, 6 times\)") as caught:
        execute(stage, ScriptedPool(["a", "b"], lambda worker, ticket, items, answer: [answer()]))
    assert caught.value.item == "ab12"
    assert not stage.failed
    Refusing.refusals = 0


def test_at_the_end_an_idle_worker_computes_what_a_slow_one_is_at(caplog: pytest.LogCaptureFixture) -> None:
    stage = Numbers(12)
    slow: list[tuple[int, Answer]] = []

    def script(worker: str, ticket: int, items: Sequence[Any], answer: Answer) -> list[Event]:
        if worker == "slow":
            slow.append((ticket, answer))
            return []
        late = [kept() for number, kept in slow if number == ticket]  # the slow worker answers too, a moment later
        return [answer(), *late]

    pool = ScriptedPool(["slow", "fast"], script)
    assert execute(stage, pool) == 12
    assert whole(stage)
    assert "fast also computes what another worker is slow with" in caplog.text
    assert len(slow) == 2


def test_another_version_of_the_software_is_refused() -> None:
    class Old(ScriptedPool):
        def start(self, stage: bytes) -> None:
            self._events = [Ready("a", "10.0.0.7", "0.0.1")]

    with pytest.raises(WorkerError, match=r"a on 10\.0\.0\.7 has sdg-data 0\.0\.1"):
        execute(Numbers(3), Old(["a"], lambda *_: []))


def test_the_largest_model_comes_first_and_each_worker_stays_with_its_own() -> None:
    stage = TwoModels(120, loads=True)
    pool = ScriptedPool(["a", "b", "c", "d", "e", "f"], lambda worker, ticket, items, answer: [answer()])
    assert execute(stage, pool) == 120
    first = [items[0] % 2 for _, items in pool.handed[:6]]
    assert first.count(1) == 5  # five times the cost: five of six workers
    assert first[0] == 1
    models = {name: [items[0] % 2 for worker, items in pool.handed if worker == name] for name in "abcdef"}
    changes = sum(a != b for own in models.values() for a, b in pairwise(own))
    assert changes <= 6  # at most once each, when its own model is done
