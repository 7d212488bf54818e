"""The command line as a user meets it: data on stdout, the rest on stderr, documented exit codes."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sdg_data import cli
from sdg_data.blobs import Blobs
from sdg_data.errors import ExitCode, SdgError
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SDG_HOME", "PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "p.txt"
    path.write_text("a cat\na dog\n\n")
    return path


Captured = pytest.CaptureFixture[str]


def test_help_names_every_command_and_every_exit_code(capsys: Captured) -> None:
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", text) for name in cli.COMMANDS)
    assert {str(int(code)) for code in ExitCode} <= set(re.findall(r"\b\d+\b", text.partition("Exit codes")[2]))


def test_version_is_the_distributions(capsys: Captured) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"sdg-data {version('sdg-data')}\n"


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_loads_and_has_help(name: str, capsys: Captured) -> None:
    assert cli.run([name, "--help"]) == 0
    assert f"sdg {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(cli.IMAGES))
def test_every_image_command_loads_and_has_help(name: str, capsys: Captured) -> None:
    assert cli.run(["images", name, "--help"]) == 0
    assert f"sdg images {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [["nonsense"], ["prompts", "nonsense"], ["prompts", "import"], ["prompts", "list", "--limit", "0"]]
)
def test_a_wrong_command_line_ends_with_2(line: list[str], capsys: Captured) -> None:
    assert cli.run(line) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_a_mistyped_command_is_guessed(capsys: Captured) -> None:
    cli.run(["prompt"])
    assert "prompts" in capsys.readouterr().err


def test_global_options_may_stand_anywhere(prompt_file: Path, tmp_path: Path) -> None:
    for place, line in enumerate(
        (
            ["--home", "h0", "prompts", "import", "p.txt"],
            ["prompts", "--home=h1", "import", "p.txt"],
            ["prompts", "import", "p.txt", "--home", "h2"],
        )
    ):
        assert cli.run(line) == 0
        assert (tmp_path / f"h{place}" / "store.duckdb").exists()


def test_what_follows_two_dashes_is_no_option(tmp_path: Path, capsys: Captured) -> None:
    assert cli.run(["prompts", "import", "--", "--home"]) == ExitCode.INPUT
    assert "--home" in capsys.readouterr().err


def test_prompts_come_back_as_json(prompt_file: Path, capsys: Captured) -> None:
    assert cli.run(["prompts", "import", "p.txt", "--json", "--licence", "MIT", "--test-share", "0"]) == 0
    [counts] = json.loads(capsys.readouterr().out)
    assert (counts["read"], counts["new"], counts["rejected"]) == (3, 2, 1)
    assert cli.run(["prompts", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["text"], row["licence"], row["split"]) for row in rows} == {
        ("a cat", "MIT", "train"),
        ("a dog", "MIT", "train"),
    }
    assert cli.run(["prompts", "stats", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["source"], row["prompts"], row["longest"]) == ("file:p.txt", 2, 5)


def test_the_table_for_people_has_the_same_counts(prompt_file: Path, capsys: Captured) -> None:
    assert cli.run(["prompts", "import", "p.txt"]) == 0
    captured = capsys.readouterr()
    header, values = captured.out.splitlines()
    row = dict(zip(re.split("  +", header.strip()), values.split(), strict=True))
    assert row == {
        "file": "p.txt",
        "read": "3",
        "new": "2",
        "duplicates in file": "0",
        "already there": "0",
        "rejected": "1",
    }
    assert "rejects" in captured.err


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_lists_stop_at_their_limit_whatever_the_page(
    prompt_file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("sdg_data.ingest.prompts_cli.PAGE", 1)
    cli.run(["prompts", "import", "p.txt"])
    capsys.readouterr()
    assert cli.run(["prompts", "list", "--limit", str(limit)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == min(limit, 2)


def test_bad_input_ends_with_4_and_says_what_and_where(tmp_path: Path, capsys: Captured) -> None:
    for name, content in (("none.txt", None), ("empty.txt", ""), ("odd.xyz", "a"), ("blank.txt", "\n\n")):
        if content is not None:
            (tmp_path / name).write_text(content)
        assert cli.run(["prompts", "import", name]) == ExitCode.INPUT
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"error: {name}: " in captured.err


def test_bad_configuration_ends_with_3(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toml").write_text("[prompts]\nshare = 1\n")
    assert cli.run(["store", "info", "--config", "x.toml"]) == ExitCode.CONFIG
    assert "prompts.share" in capsys.readouterr().err
    assert cli.run(["prompts", "import", "x.txt", "--test-share", "2"]) == ExitCode.CONFIG
    monkeypatch.setenv("PROFILE", "maxi")
    assert cli.run(["store", "info"]) == ExitCode.CONFIG


def test_store_commands(prompt_file: Path, tmp_path: Path, capsys: Captured) -> None:
    home = tmp_path / "data"
    assert cli.run(["store", "info"]) == ExitCode.STORE
    assert "no store yet" in capsys.readouterr().err
    assert cli.run(["store", "migrate", "--dry-run"]) == 0
    assert not home.exists()
    assert cli.run(["store", "migrate"]) == 0
    assert Store(home).version() == Store(home).latest
    cli.run(["prompts", "import", "p.txt"])
    capsys.readouterr()

    assert cli.run(["store", "digest"]) == 0
    assert capsys.readouterr().out == store_digest(Store(home), Blobs(home / "blobs")) + "\n"
    assert cli.run(["store", "info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["prompts"], facts["images"], facts["home"], facts["profile"]) == (2, 0, str(home), "mini")
    assert cli.run(["store", "info"]) == 0
    assert re.search(r"prompts +2\b", capsys.readouterr().out)
    assert cli.run(["store", "snapshot"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_images_are_imported_and_listed(tmp_path: Path, capsys: Captured) -> None:
    from PIL import Image

    (tmp_path / "art").mkdir()
    Image.new("RGB", (5, 3)).save(tmp_path / "art" / "a.png")
    (tmp_path / "art" / "a.txt").write_text("a cat")
    assert cli.run(["images", "import", "art", "--model", "m1", "--licence", "MIT", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 1
    (tmp_path / "art" / "b.png").write_bytes(b"broken")
    (tmp_path / "art" / "b.txt").write_text("a dog")
    assert cli.run(["images", "import", "art", "--model", "m1"]) == ExitCode.PARTIAL
    assert "1 undecodable" in capsys.readouterr().err
    assert cli.run(["images", "list", "--json"]) == 0
    [row] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["model"], row["width"], row["height"], row["licence"]) == ("m1", 5, 3, "MIT")
    assert Path(row["path"]).read_bytes() == (tmp_path / "art" / "a.png").read_bytes()
    assert cli.run(["images", "list", "--model", "other"]) == 0
    assert capsys.readouterr().out == ""


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "generators.cli", None)
    lazy = cli.Lazy("sdg_data.tests_of_nothing:app", "nothing", "generate")
    with pytest.raises(ModuleNotFoundError):
        lazy.load("nothing")  # ours: a bug, and not to be hidden
    with pytest.raises(SdgError, match=r"not_installed is not installed\n.*sdg-data\[generate\]"):
        cli.Lazy("not_installed:app", "nothing", "generate").load("nothing")


def test_a_library_that_a_running_command_misses_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # imported by the command's body
    assert cli.run(["--home", str(tmp_path), "dashboard"]) == ExitCode.MISSING_DEPENDENCY
    assert capsys.readouterr().err == (
        "error: sdg dashboard: uvicorn is not installed\n  pip install 'sdg-data[dashboard]'\n"
    )


def test_a_url_whose_driver_is_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    def without_driver(*_: object, **more: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", without_driver)
    config = tmp_path / "c.toml"
    config.write_text('extends = "mini"\n[storage]\nblobs = "s3://bucket/blobs"\n', encoding="utf-8")
    line = ["--home", str(tmp_path / "home"), "--config", str(config), "images", "import", str(tmp_path)]
    assert cli.run(line) == ExitCode.MISSING_DEPENDENCY
    assert capsys.readouterr().err == (
        "error: s3://bucket/blobs: this kind of URL needs another package: Install s3fs to access S3\n"
        "  pip install 'sdg-data[s3]'\n"
    )


def test_every_documented_exit_code_is_the_trees() -> None:
    """docs/cli.md, the errors' docstring and the code say the same."""
    text = (Path(cli.__file__).parent.parent / "docs" / "cli.md").read_text()
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_the_script_is_installed_and_ends_with_the_errors_code(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("sdg")
    ended = subprocess.run([script, "store", "digest"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.STORE
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
