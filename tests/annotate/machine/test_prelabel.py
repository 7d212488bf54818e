"""The prelabel stage: every image ends as an answer or a failure, whatever the server does, and is paid for once."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotate.machine.budget import Budget
from annotate.machine.prelabel import PrelabelStage
from annotate.machine.stage import RequestLimits
from annotate.vlm.contract import Answer, AskError, Backend, Prices, Question
from annotate.vlm.openai_chat import OpenAIBackend
from annotate.vlm.pool import PoolTimes
from annotate.vlm.retrying import RetryPolicy
from schemas.codecs import Qwen3VL
from schemas.geometry import Box
from schemas.records import Failure, Prelabel
from sdg_data.errors import ConfigError, ModelError
from sdg_data.mini.oracle import find_defects
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.store import calls, failures, prelabels
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor
from tests.annotate.fake_backend import FakeBackend, Step
from tests.annotate.hostile import HostileServer, Reply, answer, status
from tests.annotate.oracle_backend import OracleBackend
from tests.annotate.support import CLEAN, HURRIED, ONE, QUICK, Home, captions, picture, server_settings

ROOT = Path(__file__).parents[3]
MakeHome = Callable[[int], Home]


def stage_of(
    home: Home, backend: Backend, *, limits: RequestLimits = QUICK, budget: Budget | None = None, **more: Any
) -> PrelabelStage:
    return PrelabelStage(
        home.store,
        home.blobs,
        backend,
        load_template(DETECT),
        limits=limits,
        budget=budget or Budget(None, None),
        **more,
    )


def question_of(home: Home) -> Question:
    """The longest question about an image of the home."""
    template, longest = load_template(DETECT), max(home.image_of, key=len)
    return Question(template.question(longest, Qwen3VL()), picture(), longest)


def run(home: Home, backend: Backend, **more: Any) -> PrelabelStage:
    stage = stage_of(home, backend, **more)
    stage.recover()
    try:
        LocalExecutor().execute(stage)
    finally:
        stage.close()
    return stage


def stored(home: Home, stage: PrelabelStage) -> tuple[dict[str, Prelabel], dict[str, list[Failure]]]:
    """(prelabels, failures) by caption."""
    ids = {stage.wanted.prelabeller.prelabel_id(image.id): caption for caption, image in home.image_of.items()}
    with home.store.read() as tx:
        good = {ids[prelabel.id]: prelabel for prelabel in prelabels.by_ids(tx, list(ids)).values()}
        bad: dict[str, list[Failure]] = {}
        for failure in failures.listed(tx, "prelabel"):
            bad.setdefault(ids[failure.item_id], []).append(failure)
    return good, bad


def test_answers_become_prelabels_with_all_that_is_known_of_them(make_home: MakeHome) -> None:
    home = make_home(3)
    texts = dict(zip(home.image_of, [ONE, CLEAN, CLEAN.replace("]", "],")], strict=True))
    backend = FakeBackend(lambda asked: [texts[asked.prompt]])
    stage = run(home, backend, budget=Budget(None, Prices(2.0, 10.0)))
    good, bad = stored(home, stage)
    first, second = list(home.image_of)[:2]
    assert bad.keys() == set(list(home.image_of)[2:])
    prelabel = good[first]
    assert (prelabel.defects[0].box, prelabel.defects[0].importance) == (Box(x0=100, y0=200, x1=300, y1=400), 40)
    assert (prelabel.raw, prelabel.trace, prelabel.model, prelabel.tokens_in, prelabel.tokens_out) == (
        ONE,
        "why",
        "fake",
        100,
        10,
    )
    assert prelabel.cost == pytest.approx((100 * 2 + 10 * 10) / 1e6)
    assert prelabel.template.startswith("detect-1:")
    assert json.loads(prelabel.settings)["codec"] == "qwen3-vl"
    assert good[second].defects == ()
    assert all(asked.prompt in asked.text for asked in backend.asked)


def test_a_second_run_asks_nothing_and_other_parameters_ask_all(make_home: MakeHome) -> None:
    home = make_home(4)
    run(home, FakeBackend([CLEAN]))
    again = FakeBackend([CLEAN])
    assert run(home, again).made == 0
    assert again.asked == []
    other = FakeBackend([CLEAN], max_side=512)
    assert run(home, other).made == 4
    newer = FakeBackend([CLEAN], model="another")
    assert run(home, newer, limit=3).made == 3


def test_failures_are_no_answers_and_are_asked_again_by_their_code(make_home: MakeHome) -> None:
    home = make_home(6)
    names = list(home.image_of)
    bad = {names[0]: "I'm sorry, I can't help with that.", names[1]: "", names[2]: ONE.replace("artifact", "ugly")}
    stage = run(home, FakeBackend(lambda asked: [bad.get(asked.prompt, CLEAN)]))
    _, failed = stored(home, stage)
    assert {name: [failure.code for failure in list_] for name, list_ in failed.items()} == {
        names[0]: ["refused"], names[1]: ["empty"], names[2]: ["unknown-label"],
    }  # fmt: skip
    assert failed[names[2]][0].raw == bad[names[2]]
    healed = FakeBackend([CLEAN])
    assert run(home, healed).made == 0
    assert run(home, healed, retry=("empty",)).made == 1
    assert [asked.prompt for asked in healed.asked] == [names[1]]
    good, failed = stored(home, run(home, FakeBackend([CLEAN]), retry_all=True))
    assert len(good) == 6
    assert good[names[1]].attempt == 2
    assert len(failed) == 3, "what failed stays on record"


def test_an_image_that_cannot_be_read_is_a_failure_and_costs_no_call(make_home: MakeHome) -> None:
    home = make_home(3)
    names = list(home.image_of)
    blob = home.folder / "blobs" / home.image_of[names[0]].blob[:2] / home.image_of[names[0]].blob
    assert blob.exists()
    blob.write_bytes(b"spoilt")
    gone = home.folder / "blobs" / home.image_of[names[1]].blob[:2] / home.image_of[names[1]].blob
    gone.unlink()
    backend = FakeBackend([CLEAN])
    good, failed = stored(home, run(home, backend))
    assert set(good) == {names[2]}
    assert {name: list_[0].code for name, list_ in failed.items()} == {
        names[0]: "blob-corrupt", names[1]: "blob-missing",
    }  # fmt: skip
    assert len(backend.asked) == 1


REPLIES: dict[str, tuple[list[Reply], str, int]] = {
    # what the server does at each try: (replies, code or "" for an answer, requests)
    "fine": ([answer(ONE)], "", 1),
    "late": ([status(429, Retry_After="0"), status(503), answer(CLEAN)], "", 3),
    "cut": ([Reply("half", ONE), Reply("half-chunked", ONE), answer(ONE)], "", 3),
    "dropped once": ([Reply("drop"), answer(CLEAN)], "", 2),
    "dropped": ([Reply("drop")], "connection", 3),
    "dying": ([Reply("half-chunked", ONE)], "connection", 3),
    "limited": ([status(429, Retry_After="0")], "rate-limited", 3),
    "patience": ([status(429, Retry_After="3600")], "rate-limited", 1),
    "ill": ([status(500)], "server-error", 3),
    "mute": ([Reply("hang")], "timeout", 1),
    "mute later": ([status(500), Reply("hang")], "timeout", 2),
    "html": ([Reply("body", "<html>busy</html>")], "bad-response", 1),
    "half a body": ([Reply("half-close", ONE)], "bad-response", 1),
    "prose": ([answer("There is nothing wrong here, it looks good to me overall.")], "no-answer-block", 1),
    "length": ([answer("<think>hm", finish="length")], "truncated-by-length", 1),
    "filtered": ([answer("", finish="content_filter")], "refused", 1),
    "bad box": ([answer(ONE.replace("100,200,300,400", "1,2,3"))], "bad-box", 1),
    "repaired": ([answer(ONE.replace("40}", "40,}"))], "", 1),
    "too big": ([status(413)], "bad-request", 1),
}


def test_whatever_the_server_does_every_image_ends_and_the_totals_add_up(make_home: MakeHome) -> None:
    home = make_home(len(REPLIES) + 20)
    kinds = dict(zip(home.image_of, [*REPLIES, *["fine"] * 20], strict=True))

    def script(caption: str, nth: int) -> Reply:
        replies = REPLIES[kinds[caption]][0]
        return replies[min(nth, len(replies) - 1)]

    with HostileServer(script) as server:
        backend = OpenAIBackend(server_settings(server.url))
        stage = run(
            home, backend, limits=replace(QUICK, concurrency=8, deadline=1.5), budget=Budget(None, Prices(1.0, 1.0))
        )
    good, bad = stored(home, stage)
    got = dict.fromkeys(good, "") | {caption: list_[0].code for caption, list_ in bad.items()}
    assert got == {caption: REPLIES[kind][1] for caption, kind in kinds.items()}
    assert good.keys().isdisjoint(bad)
    assert all(len(list_) == 1 for list_ in bad.values())
    assert server.most_at_once <= 8
    with home.store.read() as tx:
        rows = tx.execute("SELECT item_id, outcome, requests, cost FROM calls").fetchall()
        spent = calls.spent(tx)
    ids = {stage.wanted.prelabeller.prelabel_id(image.id): caption for caption, image in home.image_of.items()}
    assert {ids[item]: requests for item, _, requests, _ in rows} == {
        caption: REPLIES[kind][2] for caption, kind in kinds.items()
    }
    assert len(server.requests) == sum(requests for _, _, requests, _ in rows)
    assert Counter(outcome for _, outcome, _, _ in rows) == Counter(code or "answered" for code in got.values())
    # 1,000 tokens in and 100 out, a dollar a million: every completion that arrived whole is on the bill.
    paid = sum(REPLIES[kind][1] in ("", "no-answer-block", "truncated-by-length", "bad-box") for kind in kinds.values())
    assert spent == pytest.approx(paid * 1100 / 1e6)
    assert stage.made + sum(stage.failed.values()) == len(kinds)


@pytest.mark.parametrize("concurrency", [1, 6])
def test_killed_and_resumed_nothing_that_arrived_is_paid_for_twice(make_home: MakeHome, concurrency: int) -> None:
    home = make_home(30)
    with HostileServer(lambda caption, nth: answer(ONE)) as server:
        command = [sys.executable, "-m", "tests.annotate.killed", str(home.folder), server.url, "11", str(concurrency)]
        died = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
        assert died.returncode == -9, died.stderr.decode()
        journal = home.folder / "journals" / "prelabel.jsonl"
        arrived = {json.loads(line)["kept"]["image_id"] for line in journal.read_text().splitlines()}
        assert len(arrived) == 11
        # A line that was being written when the process died.
        with journal.open("a") as file:
            file.write('{"kept": {"id": "12')
        stage = run(home, OpenAIBackend(server_settings(server.url)))
    good, bad = stored(home, stage)
    assert (len(good), bad) == (30, {})
    twice = {home.image_of[caption].id for caption, times in server.answered.items() if times > 1}
    assert twice.isdisjoint(arrived)
    assert len(twice) < concurrency, "only what was on its way can have been answered twice"
    assert not journal.exists()
    with home.store.read() as tx:
        assert tx.execute("SELECT count(*), count(DISTINCT item_id) FROM calls").fetchall() == [(30, 30)]


def test_the_end_is_the_same_however_often_it_was_interrupted(make_home: MakeHome, tmp_path: Path) -> None:
    one, other = make_home(9), Home(tmp_path / "other", captions(9))
    run(one, FakeBackend([ONE]))
    for limit in (2, 0, 4, 9):
        run(other, FakeBackend([ONE]), limit=limit)
    assert store_digest(one.store, one.blobs) == store_digest(other.store, other.blobs)


def test_a_budget_is_approached_and_not_passed(make_home: MakeHome) -> None:
    home = make_home(40)
    prices = Prices(1.0, 100.0)
    backend = FakeBackend(lambda asked: [Answer(CLEAN, tokens_in=500, tokens_out=150)])
    each = prices.cost(500, 150)
    limit = 12 * each
    stage = run(home, backend, budget=Budget(limit, prices))
    assert stage.out_of_budget
    with home.store.read() as tx:
        spent = calls.spent(tx)
    assert spent == pytest.approx(stage.budget.spent) == pytest.approx(each * len(backend.asked))
    worst = stage.worst(backend.asked[0])
    assert limit - 1.2 * worst <= spent <= limit
    # The bill so far counts: the same budget again buys nothing more.
    again = FakeBackend([CLEAN])
    assert run(home, again, budget=Budget(limit, prices, spent=spent)).out_of_budget
    assert again.asked == []


def test_a_budget_holds_however_often_the_process_is_killed(make_home: MakeHome) -> None:
    home = make_home(40)
    bill = 0.0

    def script(caption: str, nth: int) -> Reply:
        nonlocal bill
        bill += Prices(10.0, 100.0).cost(1000, 100)
        return answer(CLEAN)

    limit = 0.9
    with HostileServer(script) as server:
        for _ in range(3):
            line = [sys.executable, "-m", "tests.annotate.killed", str(home.folder), server.url, "2", "4", str(limit)]
            assert subprocess.run(line, cwd=ROOT, check=False).returncode == -9
        backend = OpenAIBackend(server_settings(server.url), environ={})
        stage = stage_of(home, backend)
        stage.recover()
        with home.store.read() as tx:
            before = calls.spent(tx)
        # Each killed run had two answers, and lost up to four questions, which count at their worst.
        worst = Budget(None, Prices(10.0, 100.0)).worst(question_of(home), 200)
        assert 3 * 2 * Prices(10.0, 100.0).cost(1000, 100) < before <= 3 * (2 * 0.02 + 6 * worst)
        assert bill <= before
        stage = stage_of(home, backend, budget=Budget(limit, Prices(10.0, 100.0), spent=before))
        LocalExecutor().execute(stage)
        stage.close()
        with home.store.read() as tx:
            assert bill <= calls.spent(tx) <= limit
        assert stage.out_of_budget
    assert not list((home.folder / "journals").iterdir())


def test_a_server_that_does_not_count_is_billed_at_the_worst(make_home: MakeHome) -> None:
    home = make_home(2)
    backend = FakeBackend([Answer(CLEAN)])
    stage = run(home, backend, budget=Budget(None, Prices(1.0, 1.0)))
    good, _ = stored(home, stage)
    assert {caption: prelabel.cost for caption, prelabel in good.items()} == {
        asked.prompt: pytest.approx(stage.worst(asked)) for asked in backend.asked
    }


def test_a_budget_without_prices_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="price_in"):
        Budget(1.0, None)


def test_a_refused_key_stops_the_run_and_keeps_what_was_answered(make_home: MakeHome) -> None:
    home = make_home(12)
    names = list(home.image_of)
    steps: dict[str, Step] = {names[7]: AskError("http-401", "HTTP 401: who are you", fatal=True)}
    backend = FakeBackend(lambda asked: [steps.get(asked.prompt, CLEAN)])
    with pytest.raises(ConfigError, match="who are you"):
        run(home, backend, limits=replace(QUICK, concurrency=1))
    paid = len(backend.asked) - 1
    rest = FakeBackend([CLEAN])
    stage = run(home, rest)
    good, bad = stored(home, stage)
    assert (len(good), bad) == (12, {})
    assert len(rest.asked) == 12 - paid


def test_a_server_that_has_gone_stops_the_run(make_home: MakeHome) -> None:
    home = make_home(40)
    backend = FakeBackend([AskError("connection", "refused")])
    with pytest.raises(ModelError, match="in a row"):
        run(home, backend, limits=replace(QUICK, give_up_after=10))
    assert 10 <= len(backend.asked) < 40
    with home.store.read() as tx:
        recorded = failures.count_by_code(tx, "prelabel")
    assert recorded == {"connection": len(backend.asked)}


@pytest.mark.parametrize("code", ["bad-request", "length-without-answer"])
def test_a_stage_ends_when_the_first_answers_all_fail_alike(make_home: MakeHome, code: str) -> None:
    home = make_home(64)
    backend = FakeBackend([AskError(code, "unsupported parameter: max_tokens")])
    with pytest.raises(ModelError, match=f"the first 16 questions all failed alike: {code}: unsupported parameter"):
        run(home, backend, limits=replace(QUICK, concurrency=32))
    assert len(backend.asked) == 16
    with home.store.read() as tx:
        assert failures.count_by_code(tx, "prelabel") == {code: 16}
    # Two ways of failing are no constant one.
    varied = FakeBackend(lambda asked: [AskError(f"c{len(asked.prompt) % 2}", "no")])
    stage = stage_of(home, varied, retry_all=True)
    LocalExecutor().execute(stage)
    stage.close()
    assert sum(stage.failed.values()) == len(varied.asked) == 64


def test_answers_that_arrived_before_an_error_are_stored_by_the_same_run(make_home: MakeHome) -> None:
    home = make_home(12)
    names = list(home.image_of)
    backend = FakeBackend(
        lambda asked: [AskError("other-model", "B", fatal=True) if asked.prompt == names[9] else CLEAN]
    )
    with pytest.raises(ModelError, match="B"):
        run(home, backend, limits=replace(QUICK, concurrency=1))
    with home.store.read() as tx:
        stored_now = prelabels.count_by_model(tx)
    assert sum(int(str(row["answers"])) for row in stored_now) == len(backend.asked) - 1 >= 1


def test_a_few_failures_in_between_stop_nothing(make_home: MakeHome) -> None:
    home = make_home(30)
    odd = set(list(home.image_of)[::2])
    backend = FakeBackend(lambda asked: [AskError("connection", "no") if asked.prompt in odd else CLEAN])
    stage = run(home, backend, limits=replace(QUICK, concurrency=1, give_up_after=5, retry=HURRIED))
    assert (stage.made, stage.failed) == (15, {"connection": 15})


def test_the_oracle_says_what_it_sees(make_home: MakeHome) -> None:
    import io

    import numpy as np
    from PIL import Image

    home = make_home(5)
    good, bad = stored(home, run(home, OracleBackend()))
    assert bad == {}
    for caption, prelabel in good.items():
        with Image.open(io.BytesIO(home.blobs.get(home.image_of[caption].blob))) as image:
            assert prelabel.defects == find_defects(np.asarray(image.convert("RGB")), caption)


def test_a_stage_on_a_worker_waits_for_its_own_batch(make_home: MakeHome) -> None:
    home = make_home(5)
    stage = stage_of(home, FakeBackend([CLEAN]))
    batches = [batch for batch in stage.plan().batches if batch]
    stage.__dict__.update(stage.__getstate__())
    assert [len(stage.run(batch)) for batch in batches] == [5]
    stage.close()


def test_questions_are_ready_before_the_server_is(make_home: MakeHome) -> None:
    """The window: the next questions wait while all slots are busy, and no more than that."""
    home = make_home(30)
    seen: list[int] = []

    def script(asked: Question) -> list[Step]:
        seen.append(stage._pool.outstanding if stage._pool else 0)
        return [CLEAN]

    stage = stage_of(home, FakeBackend(script))
    LocalExecutor().execute(stage)
    stage.close()
    assert stage.made == 30
    assert max(seen) <= 2 * QUICK.concurrency + 16


def test_three_servers_of_which_two_fail_give_what_one_gives(make_home: MakeHome, tmp_path: Path) -> None:
    home, alone = make_home(12), Home(tmp_path / "alone", captions(12))
    limits = replace(QUICK, deadline=60.0, retry=RetryPolicy(tries=6, first_pause=0.0, longest_pause=0.0))
    served = Counter[str]()

    def dying(caption: str, nth: int) -> Reply:
        served["dying"] += 1
        if served["dying"] > 2:
            first.die()
            return Reply("drop")
        return answer(ONE)

    def busy(caption: str, nth: int) -> Reply:
        served["busy"] += 1
        return status(503) if served["busy"] > 1 else answer(ONE)

    first = HostileServer(dying)
    with first, HostileServer(busy) as second, HostileServer(lambda caption, nth: answer(ONE)) as third:
        urls = " ".join(server.url for server in (first, second, third))
        backend = OpenAIBackend(server_settings(urls), environ={}, times=PoolTimes(silence=0.2))
        stage = run(home, backend, limits=limits)
        run(alone, OpenAIBackend(server_settings(third.url), environ={}), limits=limits)
    good, bad = stored(home, stage)
    assert (len(good), bad, stage.made) == (12, {}, 12)
    assert sum(row["answered"] for row in backend.pool.rows()) == 12
    with home.store.read() as tx, alone.store.read() as other:
        assert prelabels.count_by_model(tx) == prelabels.count_by_model(other)
