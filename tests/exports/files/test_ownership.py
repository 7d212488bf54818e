"""What an export may replace and delete: its own files, in a folder that is nobody else's. Nothing else, ever."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.dataset.select import Selection
from exports.files.export_job import ExportJob
from exports.files.manifest import read_manifest
from exports.files.target import ExportError, Target
from exports.run import ExportResult
from exports.verify import verify
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ConfigError, ExitCode, InputError, SdgError
from sdg_data.store.connection import Store
from tests.exports.worlds import fill

Export = Callable[..., ExportResult]
World = tuple[Store, Blobs]
KINDS = (".tar", ".parquet", ".png")
FEWER = Selection(models=("alpha",))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("small")
    return fill(home, 6), Blobs(home / "blobs")


def contents(folder: Path) -> dict[str, str]:
    """Path -> what it is, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = f"-> {path.readlink()}"
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def strangers(folder: Path) -> None:
    """What people and programs leave in a folder."""
    for name in (
        "notes.txt",
        ".tmp-draft",
        ".tmp-0123456789abcdef",
        "data/.tmp-x",
        ".hidden",
        "old/mini-train-00009.tar",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (folder / "link").symlink_to("notes.txt")
    (folder / "away").symlink_to("/etc")


@pytest.mark.parametrize("name", ["webdataset", "hf", "coco"])
def test_files_of_others_stay(small: World, export: Export, tmp_path: Path, name: str) -> None:
    """Beside a finished export, through reruns that have less to write, and through one that replaces it."""
    out = tmp_path / "out"
    export(out, name, world=small, shard_bytes=9_000)
    before = contents(out)
    strangers(out)
    mine = {path: what for path, what in contents(out).items() if path not in before}
    assert len(mine) == 8
    export(out, name, world=small, shard_bytes=9_000, selection=FEWER)
    export(out, "trl" if name == "hf" else "hf", world=small, overwrite=True)
    export(out, name, world=small, name="other", overwrite=True)
    after = contents(out)
    assert mine.items() <= after.items()
    fresh = tmp_path / "fresh"
    export(fresh, name, world=small, name="other")
    assert {path: what for path, what in after.items() if path not in mine} == contents(fresh)


def test_a_folder_of_others_is_refused_and_left_as_it_is(small: World, export: Export, tmp_path: Path) -> None:
    strangers(tmp_path)
    mine = contents(tmp_path)
    with pytest.raises(ConfigError, match="holds other files"):
        export(tmp_path, world=small)
    assert contents(tmp_path) == mine
    export(tmp_path, world=small, overwrite=True)
    assert mine.items() <= contents(tmp_path).items()


@pytest.mark.parametrize(
    "name", ["README.md", "figures", "mini-train-00000.tar", "manifest.json", ".state/begun.json", "croissant.json/x"]
)
def test_a_name_that_somebody_else_has(small: World, export: Export, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"name": "my app"}')
    mine = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(SdgError):
            export(tmp_path, world=small, overwrite=overwrite)
    assert mine.items() <= contents(tmp_path).items()
    if name != "mini-train-00000.tar":  # which names a format has is known when it begins to write
        assert contents(tmp_path) == mine


def test_a_manifest_cannot_name_what_is_elsewhere(small: World, export: Export, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    export(out, world=small)
    victim.write_text("mine")
    manifest = json.loads((out / "manifest.json").read_text())
    for path in ("../victim", str(victim), "a/../../victim", "./README.md", ""):
        spoilt = {**manifest, "files": [*manifest["files"], {**manifest["files"][0], "path": path}]}
        (out / "manifest.json").write_text(json.dumps(spoilt))
        with pytest.raises(InputError, match="damaged"):
            read_manifest(Target(out))
        with pytest.raises(InputError, match="damaged"):
            export(out, world=small)
    assert victim.read_text() == "mine"


def test_a_manifest_that_was_changed_owns_only_what_it_made(small: World, export: Export, tmp_path: Path) -> None:
    """Somebody wrote a file of his own into the manifest: it is not deleted, whatever the options say."""
    export(tmp_path, world=small)
    (tmp_path / "thesis.tex").write_text("years")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"].append({**manifest["files"][0], "path": "thesis.tex"})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="changed after it was written"):
        export(tmp_path, world=small)
    export(tmp_path, world=small, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_linked_folder_is_not_emptied(small: World, export: Export, tmp_path: Path) -> None:
    """`data/` was moved to a larger disk and linked; what the export no longer has stays there."""
    out, disk = tmp_path / "out", tmp_path / "disk"
    export(out, "hf", world=small, shard_bytes=9_000)
    (out / "data").rename(disk)
    (out / "data").symlink_to(disk)
    (disk / "mine").write_text("mine")
    export(out, "webdataset", world=small, overwrite=True)
    assert (disk / "mine").read_text() == "mine"
    assert list(disk.glob("*.parquet"))


def test_a_damaged_file_is_made_anew_and_said(small: World, export: Export, tmp_path: Path) -> None:
    """Of the same size, so that only its hash tells; the others are kept."""
    for name in ("webdataset", "hf", "coco"):
        out = tmp_path / name
        first = export(out, name, world=small, shard_bytes=9_000)
        whole = contents(out)
        victim = sorted(path for path in out.rglob("*") if path.parent.name != "figures" and path.suffix in KINDS)[-1]
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        again = export(out, name, world=small, shard_bytes=9_000)
        assert again.mended == (victim.relative_to(out).as_posix(),)
        assert first.mended == ()
        assert contents(out) == whole
        assert verify(Target(out)).sound


def test_files_of_a_killed_export_are_known(small: World, export: Export, tmp_path: Path) -> None:
    """It is stopped while it writes images; a later run for fewer samples deletes those that it no longer needs."""
    real, calls = Target.write, 0

    def write(self: Target, name: str, data: bytes) -> str:
        nonlocal calls
        calls += name.startswith("images/")
        if calls > 4:
            raise KeyboardInterrupt
        return real(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Target, "write", write)
        with pytest.raises(KeyboardInterrupt):
            export(tmp_path / "out", "coco", world=small)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    export(tmp_path / "out", "coco", world=small, selection=FEWER)
    export(tmp_path / "fresh", "coco", world=small, selection=FEWER)
    assert contents(tmp_path / "out") == {
        **contents(tmp_path / "fresh"),
        "mine.txt": hashlib.sha256(b"mine").hexdigest(),
    }


# --- places that no export may use


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_that_no_export_may_use(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    home, blob_folder, person = tmp_path / "a/home", tmp_path / "b/blobs", tmp_path / "c/person"
    for folder in (person / "work", tmp_path / "links"):
        folder.mkdir(parents=True)
    store, blobs = fill(home, 6, blobs=Blobs(blob_folder)), Blobs(blob_folder)
    (home / "labelstudio").mkdir()
    (tmp_path / "links/home").symlink_to(home)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.chdir(person / "work")
    before = contents(tmp_path)
    refused: list[Any] = [home, home / "x", home / "labelstudio", home / "exports", home / "blobs", tmp_path / "a"]
    refused += [blob_folder, blob_folder / "ab", tmp_path / "b", tmp_path, "/", "~", person / "work", ".", ".."]
    refused += [tmp_path / "links/home", tmp_path / "links/home/x", f"file://{home}", home / "exports/.."]
    for place in refused:
        with pytest.raises(ConfigError, match="may not be, hold or lie in"):
            export(Target(place), world=(store, blobs), overwrite=overwrite)
    assert contents(tmp_path) == before
    export(home / "exports" / "deep" / "one", world=(store, blobs), overwrite=overwrite)
    export(Target("~/out"), world=(store, blobs), overwrite=overwrite)
    assert verify(Target(person / "out")).sound


def test_addresses_that_cannot_be_used_end_in_an_error_with_its_name(
    small: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "x")
    places = [
        "ftp://localhost:1/x",
        "sftp://localhost:1/x",
        "nonsense://x",
        "s3://",
        "file:///",
        str(tmp_path / "a\0b"),
        "http://localhost:1/x",
        "~nobody-of-that-name/x",
        str(tmp_path / ("n" * 300)),
        str(tmp_path / ("n" * 200) / ("m" * 300)),
        str(tmp_path / "file"),
        str(tmp_path / "file" / "below"),
        str(tmp_path / "dangling"),
        "/proc/x",
        "/dev/null",
    ]
    for place in places:
        for words in (["export", "run", "--output", place, "--unreviewed"], ["export", "verify", place]):
            code = run(["--home", str(small[0].home), *words])
            said = capsys.readouterr().err
            assert code not in (ExitCode.OK, ExitCode.PARTIAL), place
            assert said.splitlines()[-1].startswith(("error: ", "  ")), said
            assert "Traceback" not in said
    code = run(["--home", str(small[0].home), "export", "run", "--output", str(tmp_path / "out"), "--name", "n" * 300])
    assert code == ExitCode.ERROR
    assert "error: " in capsys.readouterr().err


def test_a_read_only_folder(small: World, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ExportError, match="Read-only") as caught:
        export(tmp_path, world=small)
    assert "--output" in str(caught.value)


def test_what_is_no_regular_file_is_never_opened(small: World, export: Export, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(SdgError, match="no regular file"):
        export(tmp_path, world=small, overwrite=True)
    with pytest.raises(SdgError, match="no regular file"):
        verify(Target(tmp_path))


def test_claims_survive_and_refuse(small: World, tmp_path: Path) -> None:
    """A job knows after a restart what the one before it has claimed."""
    job = ExportJob("mini", None, small[1], Target(tmp_path))  # type: ignore[arg-type]
    job.begin(format_name="own")
    job.claim(["a", "b/c"])
    (tmp_path / "d").write_text("mine")
    again = ExportJob("mini", None, small[1], Target(tmp_path))  # type: ignore[arg-type]
    again.begin(format_name="own")
    again.claim(["a", "b/c"])
    with pytest.raises(ConfigError, match="no file of an export"):
        again.claim(["d"])
    with pytest.raises(ConfigError, match="no file of an export"):
        again.claim(["d/e"])
    with pytest.raises(ConfigError, match="holds the export 'mini' as own"):
        ExportJob("mini", None, small[1], Target(tmp_path)).begin(format_name="hf")  # type: ignore[arg-type]
    shutil.rmtree(tmp_path / ".state")
