"""Arms as processes: what is done is not done again, what waits is started later, what fails is said."""

from pathlib import Path

import pytest

from trainers.common.arms import ArmStep, run_arms, write_report

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('done')"


def test_an_arm_starts_when_the_one_that_it_waits_for_is_done(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def next_step(name: str) -> ArmStep | None:
        target = tmp_path / name
        if target.exists() or (name == "second" and not first.exists()):
            return None
        return ArmStep(name, ["-c", WRITE, str(target)])

    assert run_arms(["second", "first"], next_step, tmp_path / "logs", workers=2) == set()
    assert second.read_text() == "done"
    stamp = second.stat().st_mtime_ns
    assert run_arms(["second", "first"], next_step, tmp_path / "logs", workers=2) == set()
    assert second.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("code", [0, 3])
def test_an_arm_that_makes_nothing_has_failed(code: int, tmp_path: Path) -> None:
    """Also where it says that all went well: it would be started for ever."""

    def next_step(name: str) -> ArmStep | None:
        script = f"print('said {name}'); import sys; sys.exit({code})"
        return ArmStep(name, ["-c", script])

    assert run_arms(["a", "b"], next_step, tmp_path, workers=1) == {"a", "b"}
    assert (tmp_path / "a.log").read_text() == "said a\n"


def test_a_report_is_its_summary_and_its_pages(tmp_path: Path) -> None:
    write_report({"arms": 2}, {"seeds": 5}, tmp_path / "s.json", [(tmp_path / "docs" / "t.md", "| a |\n")])
    assert (tmp_path / "s.json").read_text() == '{\n  "facts": {\n    "seeds": 5\n  },\n  "arms": 2\n}\n'
    assert (tmp_path / "docs" / "t.md").read_text() == "| a |\n"
