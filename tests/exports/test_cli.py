"""The commands in one process: exit codes, JSON on stdout, and that --help loads nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exports.describe.hub import push
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.store.connection import Store

World = tuple[Store, Blobs]


def sdg(world: World, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["--home", str(world[0].home), *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_export_verify_import(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    common = ["--unreviewed", "--fill-prelabels", "vlm", "--name", "mini"]
    code, text, _ = sdg(world, capsys, "export", "run", "--output", out, *common, "--shard-mb", "0.02", "--json")
    assert code == ExitCode.OK
    said = json.loads(text)
    assert said["train"] + said["test"] == 24
    assert (said["kept"], said["output"]) == (0, out)
    code, text, err = sdg(world, capsys, "export", "verify", out)
    assert (code, text) == (ExitCode.OK, "")
    assert "sound" in err
    home = Store(tmp_path / "home"), Blobs(tmp_path / "home/blobs")
    code, text, _ = sdg(home, capsys, "import", "webdataset", out, "--json")
    assert code == ExitCode.OK
    assert json.loads(text)["new"] == 24
    shard = next((tmp_path / "out").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    shard.write_bytes(data)
    code, text, err = sdg(world, capsys, "export", "verify", out)
    assert code == ExitCode.ERROR
    assert shard.name in text
    assert "DAMAGED" in err


def test_dry_run_and_wrong_words(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text, _ = sdg(world, capsys, "export", "run", "--dry-run", "--json", "--which", "clean")
    assert code == ExitCode.OK
    assert json.loads(text)["images"] == 24
    for words, expected in (
        (["--format", "csv"], ExitCode.CONFIG),
        (["--select", "people"], ExitCode.CONFIG),
        (["--split", "dev"], ExitCode.CONFIG),
        (["--axis-order", "xxyy"], ExitCode.CONFIG),
        (["--licence", "MIT"], ExitCode.INPUT),
        (["--output", "memory://x", "--push-to-hub", "a/b"], ExitCode.CONFIG),
    ):
        code, _, err = sdg(world, capsys, "export", "run", "--output", str(tmp_path / "out"), *words)
        assert code == expected, words
        assert err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_a_run_would_meet(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    others = tmp_path / "others"
    others.mkdir()
    (others / "thesis.txt").write_text("mine")
    for words, expected, said in (
        (["--format", "csv"], ExitCode.CONFIG, "csv"),
        (["--axis-order", "xxyy"], ExitCode.CONFIG, "xxyy"),
        (["--name", "a b"], ExitCode.CONFIG, "a b"),
        (["--output", str(others)], ExitCode.CONFIG, "thesis.txt"),
        (["--output", "memory://x", "--push-to-hub", "a/b"], ExitCode.CONFIG, "memory://x"),
        (["--output", str(tmp_path / "new"), "--push-to-hub", "a/b"], ExitCode.CONFIG, "no token"),
    ):
        code, _, err = sdg(world, capsys, "export", "run", "--dry-run", *words)
        assert (code, said in err) == (expected, True), (words, err)
    new = str(tmp_path / "new")
    _, before, _ = sdg(world, capsys, "export", "run", "--dry-run", "--json", "--output", new)
    assert not Path(new).exists()
    assert sorted(path.name for path in others.iterdir()) == ["thesis.txt"]
    sdg(world, capsys, "export", "run", "--output", new)
    _, after, _ = sdg(world, capsys, "export", "run", "--dry-run", "--json", "--output", new)
    states = [json.loads(text)["findings"][0]["state"] for text in (before, after)]
    assert states == [f"{new}: a new export", f"{new}: goes on with what is there"]

    monkeypatch.setattr("exports.preflight.free_bytes", lambda path: 10)
    code, _, err = sdg(world, capsys, "export", "run", "--dry-run", "--output", str(tmp_path / "full"))
    assert (code, "disk: pictures of" in err) == (ExitCode.CONFIG, True), err


def test_formats_are_listed_and_exist(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    code, text, _ = sdg(world, capsys, "export", "formats", "--json")
    assert code == ExitCode.OK
    for name in json.loads(text):
        assert callable(importlib.import_module(f"exports.formats.{name.replace('-', '_')}").write)


def test_help_is_light() -> None:
    code = "import sys, exports.cli; print([m for m in ('torch','duckdb','pydantic','pyarrow') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_pushing_uploads_a_finished_export_only(shards: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repository: str, **options: Any) -> None:
            calls.append((repository, options))

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    assert push(shards, "me/mini", api=Api()) == "https://huggingface.co/datasets/me/mini"
    assert calls[0] == ("me/mini", {"repo_type": "dataset", "exist_ok": True})
    assert calls[1][1]["folder_path"] == str(shards)
    files = {path.relative_to(shards).as_posix() for path in shards.rglob("*") if path.is_file()}
    assert set(calls[1][1]["allow_patterns"]) == files
    with pytest.raises(InputError, match="no manifest"):
        push(tmp_path, "me/mini", api=Api())
    assert len(calls) == 2
