"""`sdg prelabel` and `sdg enrich` as a user types them, against a local server."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdg_data.cli import run
from sdg_data.errors import ExitCode
from sdg_data.store import annotations, prelabels, reviews
from tests.annotate.hostile import HostileServer, Reply, answer, status
from tests.annotate.support import CLEAN, ONE, Home
from tests.sdg_data.store.makers import annotation, defect, review

MakeHome = Callable[[int], Home]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROFILE", "SDG_HOME", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def config(folder: Path, url: str, more: str = "") -> str:
    path = folder / "mine.toml"
    path.write_text(
        f'extends = "mini"\n[prelabel]\nbackend = "openai"\nmodel = "m"\nbase_url = "{url}"\n{more}', encoding="utf-8"
    )
    return str(path)


def test_a_run_its_failures_and_the_next_run(
    make_home: MakeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(5)
    ill = list(home.image_of)[3]
    healed = False

    def script(caption: str, nth: int) -> Reply:
        return answer("no") if caption == ill and not healed else answer(ONE)

    with HostileServer(script) as server:
        line = ["--home", str(home.folder), "--config", config(tmp_path, server.url), "prelabel", "run", "--json"]
        assert run([*line, "--dry-run"]) == ExitCode.OK
        plan = json.loads(capsys.readouterr().out)
        assert (plan["model"], plan["present"], plan["missing"]) == ("m", 0, 5)
        assert server.requests == []
        assert run([*line, "--limit", "2"]) in (ExitCode.OK, ExitCode.PARTIAL)
        first = json.loads(capsys.readouterr().out)
        assert first["made"] + sum(first["failed"].values()) == 2
        assert first["left"] == 3
        assert run(line) in (ExitCode.OK, ExitCode.PARTIAL)
        second = json.loads(capsys.readouterr().out)
        assert first["made"] + second["made"] == 4
        assert run(line) == ExitCode.OK
        assert json.loads(capsys.readouterr().out)["failed_before"] == 1
        assert len(server.requests) == 5
        healed = True
        assert run([*line, "--retry-failures", "timeout"]) == ExitCode.OK
        assert len(server.requests) == 5
        capsys.readouterr()
        assert run([*line, "--retry-failures", "no-answer-block,timeout"]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out)["made"] == 1
    assert run(["--home", str(home.folder), "prelabel", "info", "--json"]) == ExitCode.OK
    info = json.loads(capsys.readouterr().out)
    assert [(row["answers"], row["defects"]) for row in info["prelabels"]] == [(5, 5)]
    assert info["failures"] == {"no-answer-block": 1}


def test_a_budget_stops_the_run_with_its_own_exit_code(
    make_home: MakeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(6)
    prices = "price_in = 0.0\nprice_out = 1000000.0\nmax_tokens = 200\n"  # a dollar a token written
    with HostileServer(lambda caption, nth: answer(CLEAN, usage=(500, 150))) as server:
        line = [
            "--home",
            str(home.folder),
            "--config",
            config(tmp_path, server.url, prices),
            "prelabel",
            "run",
            "--json",
        ]
        assert run([*line, "--budget", "500"]) == ExitCode.PARTIAL
        summary = json.loads(capsys.readouterr().out)
        # 150 each; a third one is sent at 300, as 300 + 200 <= 500; a fourth would not fit.
        assert (summary["made"], summary["spent"], summary["out_of_budget"], summary["left"]) == (3, 450.0, True, 3)
        assert run([*line, "--budget", "500"]) == ExitCode.PARTIAL
        assert len(server.requests) == 3
    assert run(
        ["--home", str(home.folder), "--config", config(tmp_path, server.url), "prelabel", "run", "--budget", "1"]
    ) == (ExitCode.CONFIG)


def test_mistakes_are_said_and_have_their_codes(
    make_home: MakeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(1)
    at = ["--home", str(home.folder)]
    assert run(["--home", str(tmp_path / "nothing"), "prelabel", "run"]) == ExitCode.STORE
    assert run([*at, "prelabel", "run", "--backend", "oracle"]) == ExitCode.CONFIG
    assert "plays annotators" in capsys.readouterr().err
    assert run([*at, "prelabel", "run", "--backend", "openai", "--model", "gpt"]) == ExitCode.CONFIG
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert run([*at, "prelabel", "run", "--backend", "transformers", "--model", str(tmp_path)]) == ExitCode.GENERATION
    assert run([*at, "prelabel", "run", "--split", "validation"]) != ExitCode.OK
    with HostileServer(lambda caption, nth: status(401, "who are you")) as server:
        line = [*at, "--config", config(tmp_path, server.url), "prelabel", "run"]
        assert run(line) == ExitCode.CONFIG
    assert "who are you" in capsys.readouterr().err
    assert run([*at, "serve", "detector", "--host", "0.0.0.0", "--backend", "mini"]) == ExitCode.CONFIG
    assert "SDG_SERVE_TOKEN" in capsys.readouterr().err


def test_enriching_needs_no_model_on_the_mini_profile(make_home: MakeHome, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(2)
    people = [annotation(image.id, "a", defect()) for image in home.image_of.values()]
    with home.store.write() as tx:
        annotations.insert(tx, people)
        reviews.insert(tx, [review(people[0], "accepted")])
    line = ["--home", str(home.folder), "enrich", "run", "--json"]
    assert run(line) == ExitCode.OK
    said = capsys.readouterr()
    assert json.loads(said.out)["made"] == 1
    assert "no model looks at the images" in said.err
    assert run([*line, "--unreviewed"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["made"] == 1
    with home.store.read() as tx:
        assert prelabels.count_by_model(tx) == []
