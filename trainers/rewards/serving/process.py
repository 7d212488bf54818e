"""Starts the process of a reward, asks it, and starts it again when it has died, hung, or grown too large.

What it did not answer is missing with the reason; the next pictures are for the new process. One that dies more often
in a row than it may is left alone, and everything that it is asked is missing from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sdg_data.chat_marks import without_marks
from sdg_data.errors import ModelError
from trainers.rewards.contract import Pixels
from trainers.rewards.serving.settings import ServedReward

log = logging.getLogger(__name__)

WORKER: Final = Path(__file__).with_name("worker.py")
_LOOK_SECONDS: Final = 0.25
"""Between two looks at a process's memory."""
_LONGEST_LINE: Final = 8 * 2**20
_OF_THIS_ENVIRONMENT: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class ProcessDied(Exception):
    """The process gives no answer any more; the message says why."""


class RewardProcess:
    """One reward in a process of its own. Bound to the event loop that it is started on.

    `state` is starting, ready, restarting, failed or stopped; `reason` says why where it is not ready. `version` is
    what the scorer says of itself.
    """

    def __init__(self, settings: ServedReward) -> None:
        """Start nothing yet."""
        self.settings, self.name = settings, settings.name
        self.state, self.reason, self.version = "starting", "", ""
        self.deaths = self.restarted = self.waiting = self.answered = 0
        self._process: asyncio.subprocess.Process | None = None
        self._busy = asyncio.Lock()
        self._tail: deque[str] = deque(maxlen=20)
        self._helpers: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start the process and wait until it has loaded.

        Raises:
            ModelError: it does not start, or its reward does not load.
        """
        try:
            async with self._busy:
                await self._spawn()
        except ProcessDied as error:
            self.state, self.reason = "failed", str(error)
            raise ModelError(
                f"does not load: {error}",
                item=self.name,
                hint="docs/rewards.md says what it needs, and how it gets an environment of its own.",
            ) from error

    async def score(self, images: Sequence[Pixels], prompts: Sequence[str]) -> list[dict[str, float | None] | str]:
        """Score pictures, one call after another.

        Args:
            images: the pictures.
            prompts: a prompt for each.

        Returns:
            For each a table of numbers by name, None where one is not finite, or a text that says why there is none.
        """
        self.waiting += 1
        try:
            # Whoever asked may leave; a message that was begun is finished, or the next answer would be this one's.
            return await asyncio.shield(self._kept(self._one_after_another(list(images), list(prompts))))
        finally:
            self.waiting -= 1

    def kill(self) -> None:
        """End the process at once, and do not wait for it."""
        self.state = "stopped"
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the process at once, and wait until it has ended."""
        self.kill()
        helpers = list(self._helpers)
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._kill()

    async def _one_after_another(self, images: list[Pixels], prompts: list[str]) -> list[dict[str, float | None] | str]:
        async with self._busy:
            if self.state != "ready":
                return [f"{self.name} is {self.state}: {self.reason}"] * len(images)
            try:
                scores = await self._exchange(images, prompts)
            except ProcessDied as error:
                await self._kill()
                self.deaths += 1
                self.state, self.reason = "restarting", str(error)
                log.warning("%s: %s", self.name, error)
                self._kept(self._restart())
                return [str(error)] * len(images)
            self.deaths = 0
            self.answered += len(images)
            return scores

    async def _exchange(self, images: list[Pixels], prompts: list[str]) -> list[dict[str, float | None] | str]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        head = {
            "images": [list(image.shape[:2]) for image in images],
            "prompts": [without_marks(prompt) for prompt in prompts],
        }
        try:
            process.stdin.write(json.dumps(head).encode() + b"\n")
            for image in images:
                process.stdin.write(image.tobytes())
                await process.stdin.drain()
        except (ConnectionError, RuntimeError):
            pass  # it has died: that it gives no answer says so
        answer = await self._message(self.settings.timeout)
        if "failed" in answer:
            return [str(answer["failed"])] * len(images)
        scores = answer.get("scores")
        if not isinstance(scores, list) or len(scores) != len(images):
            raise ProcessDied("its process answers nonsense")
        return scores

    async def _message(self, seconds: float) -> dict[str, Any]:
        """The process's next message; `ProcessDied` is raised where none comes."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        reading = asyncio.ensure_future(process.stdout.readline())
        ends = asyncio.get_running_loop().time() + seconds
        bound = self.settings.memory_gib * 2**30
        try:
            while True:
                left = ends - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait({reading}, timeout=min(left, _LOOK_SECONDS) if bound else left)
                if done:
                    break
                if asyncio.get_running_loop().time() >= ends:
                    raise ProcessDied(f"no answer within {seconds:g} s")
                if resident(process.pid) > bound:
                    raise ProcessDied(f"its process took more than {self.settings.memory_gib:g} GiB of memory")
            line = reading.result()
        except ValueError as error:
            raise ProcessDied("its process answers more than is read") from error
        finally:
            reading.cancel()
        if not line:
            raise ProcessDied(await self._last_words())
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ProcessDied("its process answers nonsense") from error
        if not isinstance(message, dict):
            raise ProcessDied("its process answers nonsense")
        return message

    async def _spawn(self) -> None:
        settings = self.settings
        self._tail.clear()
        try:
            self._process = await asyncio.create_subprocess_exec(
                settings.interpreter,
                str(WORKER),
                json.dumps(settings.task()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(settings),
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl-C is for the server, which ends its processes itself
            )
        except OSError as error:
            raise ProcessDied(f"{settings.interpreter} does not start ({error.strerror})") from error
        self._kept(self._hear(self._process))
        try:
            message = await self._message(settings.start_timeout)
            if "ready" not in message:
                raise ProcessDied(str(message.get("failed", "its process answers nonsense")))
        except BaseException:
            await self._kill()
            raise
        self.version = str(message["ready"])
        self.state, self.reason = "ready", ""

    async def _restart(self) -> None:
        async with self._busy:
            while self.state == "restarting":
                if self.deaths > self.settings.restarts:
                    self.state = "failed"
                    log.error("%s died %d times in a row and is left alone: %s", self.name, self.deaths, self.reason)
                    return
                try:
                    await self._spawn()
                    self.restarted += 1
                    log.warning("%s was started again", self.name)
                except ProcessDied as error:
                    self.deaths += 1
                    self.reason = str(error)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines of what the process says beside its answers."""
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            for line in data.decode(errors="replace").splitlines():
                if line.strip():
                    self._tail.append(line.strip()[:200])
                    log.debug("%s: %s", self.name, line.strip()[:500])

    async def _last_words(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = f": {self._tail[-1]}" if self._tail else ""
        return f"its process ended {how}{said}"

    async def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _kept(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)
        return task


def environment(settings: ServedReward) -> dict[str, str]:
    """The environment of a reward's process: another interpreter does not see this one's packages."""
    values = dict(os.environ)
    if settings.interpreter != sys.executable:
        for name in _OF_THIS_ENVIRONMENT:
            values.pop(name, None)
    else:
        values["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if settings.gpu:
        values["CUDA_VISIBLE_DEVICES"] = "" if settings.gpu == "none" else settings.gpu
    return values


def resident(pid: int) -> int:
    """The bytes of memory that a process holds; 0 where that cannot be known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
