"""Progress lines, with a clock that the test moves."""

import io
from pathlib import Path

import pytest

from sdg_data.progress import Note, Progress, duration, noted_in, read_note


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_say_rate_and_time_left_but_not_too_often() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress("generate", unit="images", stream=stream, clock=clock)
    with progress.running(400):
        for _ in range(20):
            clock.now += 1.0
            progress.advance(5)
        clock.now += 100.0
        progress.advance(300)
    assert stream.getvalue().splitlines() == [
        "generate: 50/400 images (12.5 %), 5/s, 1 min 10 s left",
        "generate: 100/400 images (25.0 %), 5/s, 1 min 0 s left",
        "generate: 400 images (100.0 %), 3.33/s in 2 min 0 s",
    ]


def test_without_a_total_it_says_what_it_knows() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress("import", unit="images", stream=stream, clock=clock).running(None) as progress:
        clock.now += 10.0
        progress.advance(20)
    assert stream.getvalue().splitlines()[0] == "import: 20 images, 2/s in 10 s"


def test_nothing_done_says_nothing() -> None:
    stream = io.StringIO()
    with Progress("x", stream=stream).running(0):
        pass
    assert stream.getvalue() == ""


def test_on_a_terminal_it_draws_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress("generate", unit="images", stream=stream).running(3) as progress:
        progress.advance(3)
    assert "3/3" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (18720, "5 h 12 min"),
        (183600, "2 d 3 h"),
    ],
)
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_note_says_from_outside_how_far_it_is(tmp_path: Path) -> None:
    path, now = tmp_path / "stage.progress", [100.0]
    with noted_in(path):
        progress = Progress("stage", unit="items", stream=io.StringIO(), clock=lambda: now[0])
        with progress.running(10):
            assert read_note(path) == Note("stage", "items", 0, 10, 0.0)
            progress.advance(3)  # at once: not written yet
            assert read_note(path) == Note("stage", "items", 0, 10, 0.0)
            now[0] += 2
            progress.advance(1)
            assert read_note(path) == Note("stage", "items", 4, 10, 2.0)
            progress.advance(6)
            assert read_note(path) == Note("stage", "items", 10, 10, 2.0)
    assert list(tmp_path.iterdir()) == []
    with noted_in(tmp_path / "no" / "such" / "folder"), Progress("x", stream=io.StringIO()).running(1):
        pass
    path.write_text("{")
    assert read_note(path) is None
