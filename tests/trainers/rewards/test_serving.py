"""The server of rewards: each in its own process, and what becomes of a request when one of them is in trouble."""

import asyncio
import base64
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from sdg_data.errors import ConfigError, InputError, ModelError
from tests.annotate.serve.odd_requests import free_port, wait_for
from trainers.rewards.contract import Score
from trainers.rewards.serving import imscore_scorers
from trainers.rewards.serving.app import make_app
from trainers.rewards.serving.process import RewardProcess, environment
from trainers.rewards.serving.settings import ServedReward, read_rewards
from trainers.rewards.settings import RewardServer
from trainers.rewards.wire_reward import WireReward

SCORERS = f"{Path(__file__).with_name('scorers_to_serve.py')}:Bright"
GREY, DARK = np.full((6, 4, 3), 100, np.uint8), np.full((3, 5, 3), 10, np.uint8)


def served(name: str = "bright", **changes: Any) -> ServedReward:
    values = {"name": name, "scorer": SCORERS, "batch_size": 2, "timeout": 60.0}
    return ServedReward.model_validate({**values, **changes})


def b64(pixels: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def item(text: str, *rewards: str, pixels: Any = GREY, **changes: Any) -> dict[str, Any]:
    return {"history": [{"text": text, "image_b64": b64(pixels), **changes}], "required_rewards": list(rewards)}


@asynccontextmanager
async def server(*settings: ServedReward, max_body: int = 2**20) -> AsyncIterator[Any]:
    """A client of the application, with its processes started."""
    processes = {reward.name: RewardProcess(reward) for reward in settings}
    try:
        await asyncio.gather(*(process.start() for process in processes.values()))
        app = make_app(processes, max_body=max_body, max_buffered=2 * max_body)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            client.processes = processes
            yield client
    finally:
        for process in processes.values():
            await process.stop()


def run(settings: list[ServedReward], use: Callable[[Any], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        async with server(*settings, **options) as client:
            await use(client)

    asyncio.run(go())


async def score(client: Any, *items: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/score", json={"requests": list(items)})
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


def test_what_is_whole_is_answered_beside_what_is_not() -> None:
    async def use(client: Any) -> None:
        bad = item("x", "bright")
        bad["history"][0]["image_b64"] = base64.b64encode(b"no picture").decode()
        text = {"history": [{"text": "x"}], "required_rewards": ["bright"]}
        answer = await score(
            client, item("a", "bright", "double"), item("nan", "bright"), item("text", "bright"), bad, text,
            item("two", "bright"), item("half", "bright"), item("b", "double", pixels=DARK), item("n"),
        )  # fmt: skip
        results, errors = answer["results"], answer["errors"]
        assert results[0] == {"bright": {"bright": 100.0}, "double": {"double": 200.0}}
        assert results[5] == {"bright": {"a": 1.0, "b": 2.0}}
        assert results[7] == {"double": {"double": 20.0}}
        assert [set(table) for table in results[1:5]] == [set()] * 4
        assert results[6] == results[8] == {}
        assert errors[0] == errors[5] == errors[7] == errors[8] == {}
        assert errors[1] == errors[6] == {"bright": "no finite number"}
        assert errors[2] == {"bright": "I cannot see it"}
        assert "no picture" in errors[3]["bright"]
        assert "no picture" in errors[4]["bright"]
        odd = ("digits", "bytes", "truth", "array")
        answer = await score(client, *(item(name, "bright") for name in (*odd, "half a pair", "whole")))
        assert answer["errors"][:4] == [{"bright": "no finite number"}] * 4
        assert answer["errors"][4] == {"bright": "? cannot be written"}
        assert answer["results"][5] == {"bright": {"bright": 3.0}}
        about = (await client.get("/health")).json()
        assert about["status"] == "ok"
        assert about["rewards"]["bright"]["version"] == "bright 1"
        assert (await client.get("/rewards")).json()["rewards"] == ["bright", "double"]
        unknown = await client.post("/score", json={"requests": [item("a", "hpsv9")]})
        assert (unknown.status_code, "available: bright, double" in unknown.text) == (400, True)
        for wrong in ({"requests": 1}, {}, {"requests": [{"history": "x", "required_rewards": []}]}, [1]):
            assert (await client.post("/score", json=wrong)).status_code == 422
        assert (await client.post("/score", content=b"{")).status_code == 422
        assert (await client.post("/score", content=b"x" * (2**20 + 1))).status_code == 413
        foreign = await client.post("/score", json={"requests": []}, headers={"host": "evil.example"})
        assert foreign.status_code == 400

    run([served(), served("double", options={"times": 2})], use)


def test_a_process_that_dies_costs_its_batch_and_is_started_again() -> None:
    async def use(client: Any) -> None:
        items = [item(text, "bright", "double") for text in ("a", "die", "b")]
        items[1]["required_rewards"] = ["bright"]
        answer = await score(client, *items)
        # Two a batch: "a" and "die" are lost with their process, "b" is for the next one.
        assert [sorted(table) for table in answer["results"]] == [["double"], [], ["bright", "double"]]
        assert "SIGKILL" in answer["errors"][0]["bright"]
        assert "illegal memory access" in answer["errors"][1]["bright"]
        about = (await client.get("/health")).json()["rewards"]
        assert (about["bright"]["state"], about["bright"]["restarted"], about["double"]["restarted"]) == ("ready", 1, 0)

    run([served(), served("double", options={"times": 2})], use)


def test_hanging_growing_raising_and_too_few_are_missing() -> None:
    async def use(client: Any) -> None:
        client.processes["bright"].settings = served(timeout=0.3, memory_gib=0)
        hung = await score(client, item("hang", "bright"))
        assert hung["errors"] == [{"bright": "no answer within 0.3 s"}]
        client.processes["bright"].settings = served(memory_gib=0.5)
        grown = await score(client, item("grow", "bright"))
        assert grown["errors"] == [{"bright": "its process took more than 0.5 GiB of memory"}]
        raised = await score(client, item("raise", "bright"))
        assert raised["errors"] == [{"bright": "RuntimeError: out of memory"}]
        few = await score(client, item("few", "bright"), item("a", "bright"))
        assert few["errors"] == [{"bright": "RuntimeError: 1 scores for 2 images"}] * 2
        assert (await score(client, item("a", "bright")))["results"] == [{"bright": {"bright": 100.0}}]
        assert client.processes["bright"].restarted == 2

    run([served()], use)


def test_one_that_dies_too_often_is_left_alone_and_said() -> None:
    async def use(client: Any) -> None:
        for _ in range(3):
            await score(client, item("die", "bright"))
        answer = await score(client, item("a", "bright"))
        assert answer["results"] == [{}]
        assert "failed" in answer["errors"][0]["bright"]
        health = (await client.get("/health")).json()
        assert (health["status"], health["rewards"]["bright"]["state"]) == ("degraded", "failed")

    run([served(restarts=1)], use)


def test_a_client_that_leaves_does_not_shift_the_answers_of_the_next() -> None:
    async def use(client: Any) -> None:
        process = client.processes["bright"]
        asked = asyncio.ensure_future(process.score([GREY], ["a"]))
        await asyncio.sleep(0)
        asked.cancel()
        assert await process.score([DARK], ["b"]) == [{"": 10.0}]

    run([served()], use)


def test_a_reward_that_does_not_load_says_why() -> None:
    async def go() -> None:
        process = RewardProcess(served(options={"broken": True}))
        with pytest.raises(ModelError, match="ImportError: no module named hpsv9"):
            await process.start()
        await process.stop()
        none = RewardProcess(served(python="/nonexistent/python"))
        with pytest.raises(ModelError, match="does not start"):
            await none.start()

    asyncio.run(go())


def test_another_interpreter_does_not_see_our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert "PYTHONPATH" not in environment(served(python="/usr/bin/python3"))
    assert environment(served(gpu="1,2"))["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert environment(served(gpu="none"))["CUDA_VISIBLE_DEVICES"] == ""


def test_files_of_rewards(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("")
    file = tmp_path / "rewards.toml"
    file.write_text('[palette]\n[mine]\nscorer = "s.py:make"\noptions = {x = 1}\nbatch_size = 3\n')
    first, second = read_rewards([], file)
    assert first.task()["options"] == {"kind": "palette"}
    assert second.task() == {"scorer": f"{tmp_path / 's.py'}:make", "options": {"x": 1}}
    assert [reward.name for reward in read_rewards(["mine"], file)] == ["mine"]
    for text, names in (("", []), ("[x]", []), ("[palette]\nbatch = 1", []), ("palette = 1", []), ("", ["hpsv9"])):
        file.write_text(text)
        with pytest.raises(ConfigError):
            read_rewards(names, file)
    file.write_text('[palette]\npython = "none/bin/python"')
    with pytest.raises(ConfigError, match="no such interpreter"):
        read_rewards([], file)
    file.write_bytes(b"\xff[")
    with pytest.raises(InputError):
        read_rewards([], file)


class _Model:
    """What imscore's README promises of a scorer: `from_pretrained`, and `score` of pixels 0 to 1 in BCHW."""

    @classmethod
    def from_pretrained(cls, weights: str, revision: str | None = None) -> "_Model":
        assert (weights, revision) == ("RE-N-Y/mpsv1", None)
        return cls()

    def to(self, device: str) -> "_Model":
        return self

    def eval(self) -> "_Model":
        return self

    def score(self, pixels: Any, prompts: list[str]) -> Any:
        assert pixels.shape[0] == len(prompts)
        assert pixels.shape[1] == 3
        return pixels.mean(dim=(1, 2, 3)) if len(prompts) > 1 else pixels.mean()  # some squeeze a batch of one


def test_imscore_gets_pictures_of_one_size_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("imscore.mps.model")
    module.MPS = _Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imscore.mps.model", module)
    scorer = imscore_scorers.ImscoreScorer({"reward": "mps", "device": "cpu"})
    scores = scorer([GREY, DARK, GREY], ["a", "b", "c"])
    assert scores == pytest.approx([100 / 255, 10 / 255, 100 / 255])
    assert "RE-N-Y/mpsv1" in scorer.version


@pytest.mark.slow
def test_the_command_serves_a_training_and_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "rewards.toml"
    file.write_text(f'[bright]\nscorer = "{SCORERS}"\n[palette]\n')
    command = ["serve", "rewards", "--port", "0", "--file", str(file)]
    line = [sys.executable, "-c", f"from sdg_data.cli import run; run({command!r})"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as running:
        try:
            assert running.stderr is not None
            url = next(text for text in running.stderr if "/score" in text).strip().removesuffix("/score")
            children = [
                int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            ]
            assert len(children) == 2

            async def ask() -> list[Score]:
                from generators.images import GeneratedImage

                reward = WireReward(RewardServer(url=url, reward="bright"), batch_size=2)
                images = [GeneratedImage(pixels, text) for pixels, text in ((GREY, "a"), (DARK, "nan"), (DARK, "b"))]
                try:
                    return await reward.score(images)
                finally:
                    await reward.close()

            assert [answer.value for answer in asyncio.run(ask())] == [100.0, None, 10.0]
            watched = [os.pidfd_open(pid) for pid in children]
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0
            for child in watched:
                assert select.select([child], [], [], 60)[0], "it goes on without its server"
                os.close(child)
        finally:
            running.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_the_command_while_a_reward_is_at_work(number: int, tmp_path: Path) -> None:
    file, pipe, log, port = tmp_path / "rewards.toml", tmp_path / "at-work", tmp_path / "log", free_port()
    os.mkfifo(pipe)
    at_work = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file.write_text(f'[bright]\nscorer = "{SCORERS}"\noptions = {{ at_work = "{pipe}" }}\n')
    command = ["serve", "rewards", "--port", str(port), "--file", str(file)]
    line = [sys.executable, "-c", f"from sdg_data.cli import run; run({command!r})"]
    with log.open("wb") as errors, subprocess.Popen(line, stderr=errors, stdin=subprocess.DEVNULL) as running:
        try:
            wait_for(port, running)
            [child] = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            watched = os.pidfd_open(int(child))
            with socket.create_connection(("127.0.0.1", port)) as client:
                body = json.dumps({"requests": [item("hang", "bright")]}).encode()
                head = f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                assert select.select([at_work], [], [], 60)[0], "the reward was not asked"
                running.send_signal(number)
                assert running.wait(60) in (0, -number)
            assert select.select([watched], [], [], 60)[0], "the reward goes on without its server"
        finally:
            running.kill()
    os.close(watched)
    os.close(at_work)
    said = log.read_text(encoding="utf-8")
    assert "Cancel 1 running task(s)" in said
    assert "Traceback" not in said


def test_a_worker_ends_with_its_input() -> None:
    worker = Path(imscore_scorers.__file__).with_name("worker.py")
    task = json.dumps({"scorer": SCORERS, "options": {}})
    with subprocess.Popen(
        [sys.executable, str(worker), task], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": "bright 1"}
        process.stdin.write(json.dumps({"images": [[1, 1]], "prompts": ["hang"]}).encode() + b"\n\x00\x00\x00")
        process.stdin.close()
        assert process.wait(60) == 0
