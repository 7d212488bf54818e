"""A user's files with our packages' names: a sentence says what hides what, and nothing else stops working."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdg_data
from sdg_data import shadowing
from sdg_data.doctor import cli as doctor

OURS = Path(sdg_data.__file__).parents[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(OURS)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def script(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(code)
    return run(folder, "train.py")


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    return tmp_path


def test_a_users_schemas_stop_the_core_with_a_sentence(beside: Path) -> None:
    (beside / "schemas.py").write_text("x = 1\n")
    ended = script(beside, "from sdg_data.store.connection import Store\n")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {beside / 'schemas.py'} hides the package `schemas` of sdg-data: rename it")
    assert "another folder" in last
    assert str(OURS / "schemas") in last


def test_a_users_exports_stop_what_needs_ours_and_warn_the_rest(beside: Path) -> None:
    (beside / "exports").mkdir()
    (beside / "exports" / "__init__.py").touch()
    ended = script(beside, "import sdg_data.errors, exports\nprint(exports.__file__)\n")
    assert ended.stdout.strip() == str(beside / "exports" / "__init__.py")
    assert f"RuntimeWarning: {beside / 'exports'} hides the package `exports`" in ended.stderr
    ended = script(beside, "import trainers.detector\n")
    assert ended.stderr.strip().splitlines()[-1].startswith(f"ImportError: {beside / 'exports'} hides")


def test_a_script_may_be_called_annotate(beside: Path) -> None:
    (beside / "annotate.py").write_text("from sdg_data.store.connection import Store\nprint(Store.__name__)\n")
    ended = run(beside, "annotate.py")
    assert (ended.returncode, ended.stdout.strip()) == (0, "Store")
    assert "annotate.py hides the package `annotate`" in ended.stderr
    ended = run(beside, "-m", "sdg_data.cli", "annotate", "report")
    assert ended.returncode == 3
    assert "hides the package `annotate`" in ended.stderr.splitlines()[-1]


def test_a_folder_of_data_hides_nothing(beside: Path) -> None:
    (beside / "exports").mkdir()
    (beside / "exports" / "mini.tar").touch()
    ended = script(beside, "import trainers, exports.read\nprint(exports.__file__)\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == str(OURS / "exports" / "__init__.py")
    assert doctor.check_packages(beside).ok


def test_the_doctor_looks_at_the_folder_it_is_asked_in(beside: Path) -> None:
    (beside / "generators.py").touch()
    check = doctor.check_packages(beside)
    assert not check.ok
    assert check.state.startswith("generators hidden")
    assert str(beside / "generators.py") in str(check.fix)
    assert doctor.check_packages(OURS).ok


def test_nothing_is_hidden_here() -> None:
    assert [shadowing.hidden_by(name) for name in shadowing.PACKAGES] == [None] * len(shadowing.PACKAGES)
