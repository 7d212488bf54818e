"""A rater's keys on the real page in a real browser; a server that is killed and started again loses no vote."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.study.report import load
from tests.annotate.study.test_study import home, planned  # noqa: F401
from tests.annotate.support import Home
from tests.browser import chromium, needs_chromium

pytest.importorskip("gradio")

pytestmark = [pytest.mark.slow, needs_chromium]
PATIENCE = 90_000


class Served:
    """`sdg study serve` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Start it, and wait for the rater's link."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sdg_data.cli", "--home", str(self.folder), "study", "serve", "study",
             "--raters", "ann", "--port", str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().split("\t")[1].strip()
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def served(home: Home) -> Iterator[Served]:  # noqa: F811
    from annotate.study.create import create

    create(home.store, planned(home))
    server = Served(home.folder)
    yield server
    server.kill()


def test_every_trial_by_keys_alone_over_a_killed_server(home: Home, served: Served) -> None:  # noqa: F811
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served.link)
        page.wait_for_selector(".study .view img")

        def press(key: str, done: int) -> None:
            page.keyboard.press(key)
            page.wait_for_function(f"document.querySelector('.study .done').textContent.startsWith('{done} of 24')")

        def transforms() -> list[str]:
            return page.eval_on_selector_all(".study .view img", "all => all.map(image => image.style.transform)")  # type: ignore[no-any-return]

        page.keyboard.press("+")
        left, right = transforms()
        assert left == right
        assert "scale(1.5)" in left
        press("ArrowLeft", 1)
        press("3", 2)
        press("ArrowDown", 3)
        page.keyboard.press("Backspace")  # the answer before: it is shown as it was given, and changed
        page.wait_for_selector(".study button.chosen")
        assert page.inner_text(".study button.chosen") == "The same"
        page.keyboard.press("1")
        page.wait_for_function("!document.querySelector('.study button.chosen')")

        served.kill()
        page.keyboard.press("2")
        page.wait_for_selector(".study .message.wrong")
        assert len(load(home.store, "study").votes) == 3
        served.start()
        page.goto(served.link)
        page.wait_for_selector(".study .view img")
        for done in range(4, 25):
            press("2", done)
        page.wait_for_selector(".study .finished")
        assert not [error for error in errors if "fetch" not in error.lower()]
    votes: list[Any] = list(load(home.store, "study").votes)
    assert len(votes) == 24
    # As they were given, seen from the left: left, right, and the third changed from a tie to left.
    given = [tuple(vote.ranks[place] for place in vote.shown) for vote in votes]
    assert sorted(given) == sorted([(1, 2), (2, 1), (1, 2)] + [(1, 1)] * 21)
