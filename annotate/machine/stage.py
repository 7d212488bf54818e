"""The stage that prelabelling and enriching share: it keeps a model busy, and loses no answer.

    run      hands a batch to the pool, and takes back what is done (not necessarily of this batch)
    commit   stores records, failures and usage in one transaction

The last batch is empty: it waits for all that is under way. On a cluster, where a batch must come back whole, `run`
waits for its own. Answers are written to the answer log before anything else happens to them.

A model in this process goes through the same pool and batcher as a server. An item may take several questions, one
after the other (enriching asks again where a rule is broken), and while the model computes a batch the pool prepares
the images of the next one; a plain call with a batch of questions would give up both.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic

from annotate.machine.answer_log import AnswerLog
from annotate.machine.async_pool import AsyncPool
from annotate.machine.budget import Budget
from annotate.machine.results import Asked, Item, Result, Stored, Unanswered, Usage
from annotate.machine.trial import Trial, refusal_of
from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from schemas.records import Failure
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobMissing, ModelError, SdgError
from sdg_data.ids import canonical_json
from sdg_data.store import calls, failures
from sdg_data.store.calls import Call
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import this_tool
from sdg_data.work import Plan

log = logging.getLogger(__name__)


_CHUNK: Final = 16
_GIVE_UP_AFTER: Final = 50
"""After so many questions in a row without an answer the server counts as gone, and the run ends."""
_TRIAL: Final = 16
"""Until one is answered well, so many questions are asked at the most; if all fail alike, the run ends."""
_NO_ANSWER: Final = frozenset({"connection", "timeout", "server-error", "rate-limited", "out-of-memory"})
_MAYBE_PAID: Final = frozenset({"connection", "timeout"})


@dataclass(frozen=True)
class RequestLimits:
    """How many requests a stage makes at once, how long it waits for each, and when it gives up."""

    concurrency: int = 48
    """Questions under way at once: half again a server's 32 slots, so that images travel while all slots work."""
    deadline: float | None = 300.0
    """Seconds for a question with its retries; not applied to a model on this machine."""
    max_tokens: int = 2048
    """Tokens of an answer."""
    retry: RetryPolicy | None = None
    give_up_after: int = _GIVE_UP_AFTER
    """Questions in a row without an answer after which the run ends."""
    trial: int = _TRIAL
    """The first questions, all of which failing alike ends the run."""


class VlmStage(abc.ABC, Generic[Item, Stored]):
    """A stage that asks a model about images. Close it: that commits what was still under way."""

    name: str
    result_type: type[Any]

    def __init__(
        self, store: Store, blobs: Blobs, backend: Backend, limits: RequestLimits, budget: Budget, *, limit: int | None
    ) -> None:
        """Ask nothing yet; `limit`: how many items to ask about at the most."""
        self._store, self._blobs, self._backend = store, blobs, backend
        self._limits, self.budget, self._limit = limits, budget, limit
        self._answer_log: AnswerLog[Any] | None = AnswerLog(store.home, self.name, self.result_type)
        self._asked_log: AnswerLog[Asked] | None = AnswerLog(store.home, f"{self.name}-asked", Asked)
        self._pool: AsyncPool[Result[Stored]] | None = None
        self._client: RetryingClient | None = None
        self._slots: asyncio.Semaphore | None = None
        self._unanswered_in_a_row = 0
        self._trial = Trial(limits.trial)
        self._logged_results = self._committed_results = 0
        self.out_of_budget = False
        self.made = 0
        self.failed: dict[str, int] = {}

    # What the stages differ in

    @abc.abstractmethod
    def count(self) -> int:
        """The number of items that have no record yet."""

    @abc.abstractmethod
    def items(self) -> Iterable[Item]:
        """The items that have no record yet, in a fixed order."""

    @abc.abstractmethod
    def question(self, item: Item, image: EncodedImage) -> Question:
        """Make the first question about an item; `image` is its picture as the backend takes it."""

    @abc.abstractmethod
    async def work(self, item: Item, question: Question) -> Result[Stored]:
        """Ask the question, with `ask`, and judge the answer.

        Raises:
            Unanswered: There is no answer.
        """

    @abc.abstractmethod
    def insert(self, tx: Tx, records: list[Stored]) -> None:
        """Store the records of answered items inside the given transaction."""

    # The stage (`sdg_data.work.Stage`)

    def recover(self) -> int:
        """Store the answers that a killed run had received, and return how many.

        What it had asked and got no answer to is on the bill from now on, at its worst.
        """
        if self._answer_log is None or self._asked_log is None:
            return 0
        count = self._answer_log.replay(self._store_results)
        self._asked_log.replay(self._store_lost)
        return count

    def plan(self) -> Plan[Item]:
        """The items that have no record now, in batches."""
        total = self.count()
        return Plan(total if self._limit is None else min(total, self._limit), self._batches())

    def run(self, batch: Sequence[Item]) -> Sequence[Result[Stored]]:
        """Start a batch, and return what is done.

        Raises:
            ModelError: The server has not answered for so many questions that it counts as gone.
            ConfigError: The server refuses every question.
        """
        pool = self._started()
        self._check()
        results: list[Result[Stored]] = []
        for item in batch:
            prepared = self._prepared(item)
            if isinstance(prepared, Result):
                results.append(prepared)
                continue
            worst = self.worst(prepared)
            while not self.budget.reserve(worst):
                if not pool.outstanding:
                    self.out_of_budget = True
                    return results
                results += pool.take(leave=pool.outstanding - 1)
            pool.submit(self._answer(item, prepared, worst))
        whole = self._answer_log is None or not batch
        results += pool.take(leave=0 if whole else 2 * self._limits.concurrency)
        return results

    def persist(self, results: Sequence[Result[Stored]]) -> Sequence[Result[Stored]]:
        """Do nothing: answers have no bytes outside the database."""
        return results

    def commit(self, results: Sequence[Result[Stored]]) -> None:
        """Store records, failures and calls in one transaction."""
        self._store_results(results)
        self._committed_results += sum(result.call is not None for result in results)
        for result in results:
            if result.failure is not None:
                self.failed[result.failure.code] = self.failed.get(result.failure.code, 0) + 1
            else:
                self.made += 1

    def _store_results(self, results: Sequence[Result[Stored]]) -> None:
        with self._store.write() as tx:
            self.insert(tx, [result.record for result in results if result.record is not None])
            failures.insert(tx, [result.failure for result in results if result.failure is not None])
            calls.insert(tx, [result.call for result in results if result.call is not None])

    def _store_lost(self, asked: Sequence[Asked]) -> None:
        """Put questions without a call on the bill, in calls of their own: their items will be asked again."""
        with self._store.write() as tx:
            settled = calls.known(tx, self.name, [question.item_id for question in asked])
            lost = [question for question in asked if (question.item_id, question.attempt) not in settled]
            calls.insert(
                tx,
                [
                    Call(
                        stage=self.name,
                        item_id=f"{question.item_id}:{question.token}",
                        attempt=question.attempt,
                        model=self._backend.identity.model,
                        outcome="lost",
                        requests=1,
                        tokens_in=None,
                        tokens_out=None,
                        cost=question.worst,
                        seconds=None,
                    )
                    for question in lost
                ],
            )
        if lost:
            worst = sum(question.worst for question in lost)
            log.warning("%d questions of a killed run got no answer; they count as USD %.4f", len(lost), worst)

    def close(self) -> None:
        """Wait for what is under way, store it, and free the model."""
        if self._pool is None:
            return
        late = self._pool.settle()
        if late:
            self.commit(late)
        self._pool.call(self._backend.close())
        self._pool.close()
        self._pool = self._client = None
        if self._answer_log is None or self._asked_log is None:
            return
        if self._committed_results == self._logged_results:
            self._answer_log.clear()
            self._asked_log.clear()
        else:  # an error took some results with it: the next run finds them here
            self._answer_log.close()
            self._asked_log.close()

    def __getstate__(self) -> dict[str, Any]:
        """On a worker there is neither a store nor an answer log, and a batch comes back whole."""
        here = ("_pool", "_client", "_slots", "_store", "_answer_log", "_asked_log")
        return self.__dict__ | dict.fromkeys(here) | {"_trial": Trial(self._limits.trial)}

    # On workers (`sdg_data.work.PortableStage`)

    def item_id(self, item: Item) -> str:
        """The id of the record that the answer about an item makes."""
        return item.id

    def lost(self, batch: Sequence[Item], code: str, message: str) -> Sequence[Result[Stored]]:
        """Failures of items that workers died over."""
        return [self._without_call(item, code, message) for item in batch]

    def refused(self, batch: Sequence[Item], error: SdgError) -> None:
        """End the run: there is one model.

        Raises:
            SdgError: The error.
        """
        raise error

    # For subclasses

    async def ask(self, question: Question, usage: Usage) -> tuple[Answer, Usage]:
        """Ask, and add what it took to the usage.

        Raises:
            Unanswered: There is no answer.
        """
        assert self._client is not None
        try:
            answer = await self._client.ask(question)
        except AskError as error:
            counted = error.tokens_in is not None and error.tokens_out is not None
            cost = self.budget.cost(error.tokens_in, error.tokens_out, 0.0) if counted else None
            raise Unanswered(error, usage.add_failed(error, cost)) from error
        cost = self.budget.cost(answer.tokens_in, answer.tokens_out, self.worst(question))
        return answer, usage.add(answer, cost)

    def worst(self, question: Question) -> float:
        """An upper bound of what the item of this question costs, in US dollars."""
        return self.budget.worst(question, question.max_tokens or self._limits.max_tokens)

    def result(
        self,
        item: Item,
        usage: Usage,
        *,
        record: Stored | None = None,
        code: str = "",
        message: str = "",
        raw: str | None = None,
    ) -> Result[Stored]:
        """A result with its call: that of a record or, without one, of the failure that `code` names."""
        failure = self._failure(item, code, message[:2000], raw) if record is None else None
        call = Call(
            stage=self.name,
            item_id=item.id,
            attempt=item.attempt,
            model=self._backend.identity.model,
            outcome="answered" if failure is None else failure.code,
            **vars(usage),
        )
        result: Result[Stored] = self.result_type(record=record, failure=failure, call=call)
        return result

    def facts(self, item: Item, template: str, raw: str, usage: Usage) -> dict[str, Any]:
        """The fields that the records of all stages have: who answered, what, and what it took."""
        identity = self._backend.identity
        counted = {name: value for name, value in vars(usage).items() if name != "requests"}
        return {
            "id": item.id,
            "model": identity.model,
            "revision": identity.revision,
            "template": template,
            "settings": canonical_json(identity.settings),
            "raw": raw,
            "attempt": item.attempt,
            **counted,
            "tool": f"{this_tool()} ({identity.backend})",
            "created_at": datetime.now(UTC),
        }

    def _failure(self, item: Item, code: str, message: str, raw: str | None = None) -> Failure:
        return Failure(stage=self.name, item_id=item.id, code=code, message=message, raw=raw, attempt=item.attempt)

    def _batches(self) -> Iterator[list[Item]]:
        left = self._limit
        batch: list[Item] = []
        for item in self.items():
            if left is not None and left <= 0:
                break
            if self.out_of_budget:
                return
            batch.append(item)
            left = None if left is None else left - 1
            if len(batch) == _CHUNK:
                yield batch
                batch = []
        if batch:
            yield batch
        yield []  # wait for what is under way

    def _started(self) -> AsyncPool[Result[Stored]]:
        if self._pool is None:
            self._pool = AsyncPool(f"{self.name}-asking")
            self._slots = asyncio.Semaphore(self._limits.concurrency)
            self._client = RetryingClient(
                self._backend,
                concurrency=self._limits.concurrency,
                deadline=None if self._backend.local else self._limits.deadline,
                policy=self._limits.retry,
            )
        return self._pool

    def _prepared(self, item: Item) -> Question | Result[Stored]:
        """The question, or the failure of an image that cannot be read."""
        try:
            data = self._blobs.get(item.image.blob)
            image = self._backend.prepare(data, item.image.media_type)
        except (BlobMissing, BlobCorrupt) as error:
            code = "blob-missing" if isinstance(error, BlobMissing) else "blob-corrupt"
            return self._without_call(item, code, error.message)
        except ValueError as error:
            return self._without_call(item, "bad-image", str(error))
        if image.data is data:  # for a server on this machine, which may read it there
            image = replace(image, path=self._blobs.local_path(item.image.blob))
        return self.question(item, image)

    def _without_call(self, item: Item, code: str, message: str) -> Result[Stored]:
        failure = self._failure(item, code, message)
        result: Result[Stored] = self.result_type(failure=failure)
        return result

    async def _answer(self, item: Item, question: Question, worst: float) -> Result[Stored]:
        assert self._slots is not None
        await self._trial.enter()
        async with self._slots:  # what only waits for its turn is not on the bill of a run that is killed
            result = await self._asked(item, question, worst)
        if self._answer_log is not None:
            self._answer_log.append(result)
            self._logged_results += 1
        return result

    async def _asked(self, item: Item, question: Question, worst: float) -> Result[Stored]:
        """What came of an item that is asked about now; the budget and the trial are told."""
        spent = 0.0
        try:
            self._check()
            self._trial.check(self._backend)
            spent = worst  # what a call cost that ends in an exception is not known
            if self._asked_log is not None and worst > 0:
                token = secrets.token_hex(4)
                self._asked_log.append(Asked(item_id=item.id, attempt=item.attempt, worst=worst, token=token))
            try:
                result = await self.work(item, question)
                spent = (result.call.cost if result.call is not None else None) or 0.0
                self._unanswered_in_a_row = 0
            except Unanswered as end:
                if end.error.fatal:
                    raise refusal_of(end.error, self._backend) from end
                result = self.result(item, end.usage, code=end.error.code, message=end.error.message, raw=end.error.raw)
                spent = (end.usage.cost or 0.0) + (worst if end.error.code in _MAYBE_PAID else 0.0)
                self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if end.error.code in _NO_ANSWER else 0
            self._trial.leave(result.failure)
        except SdgError as error:  # no other question may wait for this one
            self._trial.stop(error)
            raise
        finally:
            self.budget.settle(worst, spent)
        return result

    def _check(self) -> None:
        """End a run whose server has gone, rather than record that for every image."""
        if self._unanswered_in_a_row >= self._limits.give_up_after:
            raise ModelError(
                f"{self._unanswered_in_a_row} questions in a row found no answer ({self._backend.identity.backend})",
                item=self._backend.identity.model,
                hint=f"Is the server up? Then run the same command again; `--retry-failures` asks those again. "
                f"Failed so far: {self.failed}",
            )
