"""The doctor: what is there, what is not, and how to get it."""

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import generators
from sdg_data import cli
from sdg_data.doctor import cli as doctor
from sdg_data.errors import ExitCode
from sdg_data.store.connection import Store
from sdg_data.store.migrations import MIGRATIONS


def test_a_missing_distribution_names_its_extra() -> None:
    job = doctor.Job("sdg paint", "paint", ("pydantic", "no-such-thing", "nor-this"))
    check = doctor.check_job(job)
    assert (check.ok, check.state) == (False, "missing no-such-thing, nor-this")
    assert check.fix == "pip install 'sdg-data[paint]'"
    assert doctor.check_job(doctor.Job("x", "y", ("pydantic",))).ok


def test_every_job_names_an_extra_of_the_distribution_that_brings_what_it_needs() -> None:
    project = tomllib.loads((Path(doctor.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {extra: {re.split("[^\\w.-]", line)[0] for line in lines} for extra, lines in extras.items()}
    assert {job.extra for job in doctor.JOBS} == set(extras)
    for job in doctor.JOBS:
        assert set(job.needs) <= names[job.extra]
    assert set(doctor.BASE) <= {re.split("[^\\w.-]", line)[0] for line in project["dependencies"]}


def test_the_store_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"

    def home_line(expected: int) -> str:
        assert cli.run(["doctor", "--json", "--home", str(home)]) == expected
        return next(str(check["state"]) for check in json.loads(capsys.readouterr().out) if check["what"] == "home")

    assert "made by the first import" in home_line(0)
    with Store(home, migrations=MIGRATIONS[:1]).write():
        pass
    assert "will be migrated" in home_line(0)
    assert Store(home).version() == 1
    with Store(home, migrations=[*MIGRATIONS, SimpleNamespace(VERSION=99, up=lambda c: None)]).write():
        pass
    assert "schema version 99" in home_line(ExitCode.STORE)


def test_the_toy_models_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = doctor.check_minis()
    assert shipped.ok
    assert str(Path(generators.__file__).parent / "mini" / "weights") in shipped.state
    monkeypatch.setattr(doctor, "weights_folder", lambda name: tmp_path / name)
    check = doctor.check_minis()
    assert not check.ok
    assert str(tmp_path / "mini-sana") in check.state


def test_a_broken_base_install_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "BASE", ("pydantic", "no-such-thing"))
    assert cli.run(["doctor"]) == ExitCode.MISSING_DEPENDENCY
    captured = capsys.readouterr()
    assert "no-such-thing" in captured.out
    assert "pip install sdg-data" in captured.err


def test_a_profile_is_held_against_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers")
    from generators import preflight
    from sdg_data.preflight import hub, machine
    from sdg_data.preflight.findings import Finding
    from sdg_data.preflight.machine import Gpu

    monkeypatch.setattr(hub, "check_hub", lambda subject, *_: Finding(subject, "hub", "there"))
    monkeypatch.setattr(hub, "has_token", lambda: False)
    monkeypatch.setattr(hub, "is_cached", lambda *_: False)
    monkeypatch.setattr(preflight, "installed", lambda preset: preset.folder is not None)
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("NVIDIA H100 80GB HBM3", 79.6)])
    monkeypatch.setattr(machine, "memory_gib", lambda: 2000.0)
    monkeypatch.setattr(machine, "free_bytes", lambda path: 10**12)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def findings(profile: str, expected: int) -> list[dict[str, object]]:
        line = ["doctor", "--json", "--profile", profile, "--home", str(tmp_path)]
        assert cli.run(line) == expected
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["findings"]
        return found

    assert not [finding for finding in findings("mini", 0) if finding["ok"] is False]
    real = findings("sdg30k", ExitCode.GENERATION)
    assert [(finding["subject"], finding["what"]) for finding in real if finding["ok"] is False] == [
        ("flux2-dev", "licence")
    ]
    times = [str(finding["state"]) for finding in real if finding["what"] == "time"]
    assert len(times) == 4
    assert all("estimate" in time for time in times)
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "sdg30k"\n[generate]\nmodels = ["z-image-turbo"]\n', encoding="utf-8")
    assert not [finding for finding in findings(str(mine), 0) if finding["ok"] is False]
    assert cli.run(["doctor", "--profile", "no-such-profile"]) == ExitCode.CONFIG
    assert "no-such-profile" in capsys.readouterr().err


def test_a_gpu_is_asked_for_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from sdg_data.preflight import machine

    monkeypatch.setattr(machine, "gpus", list)
    assert cli.run(["doctor", "--gpu", "--home", str(tmp_path)]) == ExitCode.GENERATION
    assert "there is no GPU" in capsys.readouterr().out
