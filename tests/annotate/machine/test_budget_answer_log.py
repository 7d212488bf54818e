"""The budget's arithmetic, and the journal's half-written lines."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from annotate.machine.answer_log import AnswerLog
from annotate.machine.budget import Budget
from annotate.machine.results import Result
from annotate.vlm.contract import Prices
from schemas.records import Enrichment, Failure
from sdg_data.errors import StoreError
from tests.annotate.support import picture, question


def test_the_worst_case_is_more_than_any_server_counts() -> None:
    budget = Budget(None, Prices(1e6, 0.0))  # a dollar a token read
    for side, known in ((1024, (765, 1032, 1369)), (512, (255, 258, 361)), (64, (85, 258, 9))):
        # OpenAI's tiles, Gemini's tiles, Qwen2.5-VL's merged patches; and a token has at least one byte of text.
        asked = question("x" * 100)
        bound = budget.worst(type(asked)(asked.text, picture(side, side), "c"), 500)
        assert bound >= max(known) + 100


def test_what_does_not_fit_is_not_set_aside() -> None:
    budget = Budget(1.0, Prices(1.0, 1.0), spent=0.4)
    assert budget.reserve(0.4)
    assert not budget.reserve(0.3)
    assert budget.reserve(0.2)
    budget.settle(0.4, 0.1)
    assert budget.spent == pytest.approx(0.5)
    assert budget.reserve(0.3)
    assert not budget.reserve(0.01)


def test_many_threads_do_not_pass_the_limit_together() -> None:
    budget = Budget(100.0, Prices(1.0, 1.0))
    bought = []

    def buy() -> None:
        for _ in range(50):
            if budget.reserve(1.0):
                budget.settle(1.0, 1.0)
                bought.append(1)

    threads = [threading.Thread(target=buy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(bought), budget.spent) == (100, 100.0)


def failure(number: int) -> Failure:
    return Failure(stage="s", item_id=str(number), code="c", message="ü\n", raw="\ud83d half a smile", attempt=1)


def test_a_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = AnswerLog(tmp_path, "s", Failure)
    for number in range(7):
        journal.append(failure(number))
    journal.close()
    chunks: list[list[Failure]] = []
    assert AnswerLog(tmp_path, "s", Failure).replay(chunks.append, chunk=3) == 7
    assert [part for chunk in chunks for part in chunk] == [failure(number) for number in range(7)]
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert not journal.path.exists()
    assert AnswerLog(tmp_path, "s", Failure).replay(chunks.append) == 0


def test_a_line_without_an_end_was_being_written(tmp_path: Path) -> None:
    journal = AnswerLog(tmp_path, "s", Failure)
    journal.append(failure(1))
    journal.append(failure(2))
    journal.close()
    whole = journal.path.read_bytes()
    second = whole.index(b"\n") + 1
    for cut in range(second, len(whole)):
        journal.path.write_bytes(whole[:cut])
        failed: list[Failure] = []
        assert journal.replay(failed.extend) == 1
        assert failed == [failure(1)]


def test_a_spoilt_line_stops_and_is_kept(tmp_path: Path) -> None:
    journal = AnswerLog(tmp_path, "s", Failure)
    journal.append(failure(1))
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes() + b'{"stage": 5}\n')
    with pytest.raises(StoreError, match="cannot be read"):
        journal.replay(lambda lines: None)
    assert journal.path.exists()


def test_the_record_is_called_kept_in_an_answer_log(tmp_path: Path) -> None:
    """As it was in earlier versions, whose logs are read."""
    answer_log = AnswerLog(tmp_path, "s", Result[Enrichment])
    record = Enrichment(
        id="e" * 32,
        annotation_id="a" * 32,
        model="m",
        revision="1",
        template="t",
        settings="{}",
        raw="",
        trace="- none",
        defects=(),
        attempt=1,
        tokens_in=None,
        tokens_out=None,
        cost=None,
        seconds=None,
        tool="sdg-data",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    answer_log.append(Result[Enrichment](record=record))
    answer_log.close()
    assert answer_log.path.read_text(encoding="utf-8").startswith('{"kept":{"id":"eee')
    results: list[Result[Enrichment]] = []
    assert answer_log.replay(results.extend) == 1
    assert [result.record for result in results] == [record]
