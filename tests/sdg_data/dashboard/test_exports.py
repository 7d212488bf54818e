"""Health's view of exports: what it lists and verifies, against the command's own words and files on disk."""

from pathlib import Path

import orjson
import pytest

pytest.importorskip("gradio")

from sdg_data.cli import run
from sdg_data.dashboard.app import make_context
from sdg_data.dashboard.pages.health.exports import find_exports, list_exports, verify_export
from sdg_data.dashboard.pages.health.page import render_exports, render_verification
from tests.sdg_data.dashboard.conftest import Filled, fill


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    made = fill(tmp_path_factory.mktemp("exported") / "home")
    target = made.home / "exports" / "one" / "shards"
    assert run(["--home", str(made.home), "export", "run", "--output", str(target), "--unreviewed"]) == 0
    broken = made.home / "exports" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{", encoding="utf-8")
    (made.home / "exports" / "unfinished").mkdir()
    return made


def test_exports_are_listed_and_a_damaged_manifest_says_so(exported: Filled) -> None:
    folder = exported.home / "exports" / "one" / "shards"
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    rows = {row["export"]: row for row in list_exports(exported.home)}
    assert set(rows) == set(find_exports(exported.home)) == {"one/shards", "broken"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert rows["one/shards"] == {
        "export": "one/shards",
        "format": "webdataset",
        "samples": sum(manifest["counts"]["split"].values()),
        "files": len(files),
        "shards": sum(path.suffix == ".tar" for path in files),
        "megabytes": pytest.approx(sum(path.stat().st_size for path in files) / 1e6),
        "tool": manifest["tool"],
    }
    assert "cannot be read" in rows["broken"]["format"]
    assert rows["broken"]["samples"] is None
    assert "cannot be read" in render_exports(make_context(exported.home, exported.blobs))


def test_verifying_says_what_the_command_says(exported: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported.home / "exports" / "one" / "shards"
    context = make_context(exported.home, exported.blobs)
    for damage in (False, True):
        if damage:
            shard = next(folder.rglob("*.tar"))
            shard.write_bytes(shard.read_bytes()[:-1024])
        capsys.readouterr()
        run(["export", "verify", str(folder), "--json"])
        said = orjson.loads(capsys.readouterr().out)
        report = verify_export(exported.home, "one/shards")
        assert (report.sound, report.problems, report.checked) == (said["sound"], said["problems"], said["checked"])
        page = render_verification(context, "one/shards")
        assert ("DAMAGED" in page) == (not report.sound)
        assert all(Path(problem.partition(":")[0]).name in page for problem in report.problems)
    assert verify_export(exported.home, "broken").problems
    assert verify_export(exported.home, "../..").problems == ["there is no such export"]
