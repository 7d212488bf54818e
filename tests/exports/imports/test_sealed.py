"""Whose word counts for a picture's pixels: that of an export which this account made, or was told the digest of."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from worlds import fill

from exports.files.manifest import MANIFEST, FileEntry, read_manifest
from exports.files.target import Target
from exports.formats.contract import RejectedRow
from exports.imports import rows
from exports.imports.ours import webdataset_rows
from exports.imports.store_rows import ImportResult, import_rows
from exports.run import ExportResult
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest

Export = Callable[..., ExportResult]
World = tuple[Store, Blobs]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pictures that are decoded."""
    sizes: list[int] = []
    measure = rows.measure

    def counted(data: bytes) -> Any:
        sizes.append(len(data))
        return measure(data)

    monkeypatch.setattr(rows, "measure", counted)
    return sizes


@pytest.fixture
def abroad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Become another account, which has made no export."""
    return lambda: monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another account"))


def world(folder: Path) -> World:
    return Store(folder), Blobs(folder / "blobs")


def bring(target: World, source: Path, **options: Any) -> ImportResult:
    return import_rows(*target, "x", webdataset_rows(str(source), **options))


def digest_of(folder: Path) -> str:
    return str(json.loads((folder / MANIFEST).read_text())["digest"])


def altered(source: Path, copy: Path, change: Callable[[bytes], bytes]) -> str:
    """A copy of an export in which one picture is another, and everything that is a hash is right again: its digest."""
    shutil.copytree(source, copy)
    manifest = read_manifest(Target(copy))
    shard = manifest.shards()[0]
    members: dict[str, bytes] = {}
    with tarfile.open(copy / shard.path) as archive:
        for info in archive:
            content = archive.extractfile(info)
            members[info.name] = content.read() if content else b""
    name = next(name for name in members if name.endswith(".png"))
    members[name] = change(members[name])
    text = name.removesuffix(".png") + ".json"
    fields = json.loads(members[text])
    fields |= {"sha256": hashlib.sha256(members[name]).hexdigest(), "bytes": len(members[name])}
    members[text] = json.dumps(fields).encode()
    with tarfile.open(copy / shard.path, "w") as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    records = hashlib.sha256()
    for member, data in members.items():
        if member.endswith(".json"):
            records.update(hashlib.sha256(data).digest())
    written = (copy / shard.path).read_bytes()
    entry = shard.model_copy(
        update={
            "bytes": len(written),
            "sha256": hashlib.sha256(written).hexdigest(),
            "records": records.hexdigest(),
        }
    )
    files: tuple[FileEntry, ...] = tuple(entry if file.path == shard.path else file for file in manifest.files)
    (copy / MANIFEST).write_bytes(manifest.model_copy(update={"files": files}).text())
    return digest_of(copy)


def without_pixels(data: bytes) -> bytes:
    """The picture with its size, checksums and end, and no pixels that decode."""
    import struct
    import zlib

    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", data[16:29]), (b"IDAT", b"no pixels"), (b"IEND", b""))
    )
    return data[:8] + body


def test_pictures_of_an_own_export_are_not_decoded_again(
    shards: Path, decoded: list[int], abroad: Callable[[], None], tmp_path: Path
) -> None:
    own, other = world(tmp_path / "own"), world(tmp_path / "other")
    assert bring(own, shards).new == 24
    assert decoded == []
    abroad()
    assert bring(other, shards).new == 24
    assert len(decoded) == 24
    assert store_digest(*own) == store_digest(*other)
    names = sorted(own[1].iterate())
    assert all(own[1].content_hash(name) == name for name in names)
    assert bring(own, shards).already_there == 24


def test_the_digest_that_the_maker_told_is_as_good(
    shards: Path, decoded: list[int], abroad: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    abroad()
    home = ["--home", str(tmp_path / "home"), "import", "webdataset", str(shards), "--seal"]
    assert run([*home, "0" * 64]) == ExitCode.INPUT
    assert digest_of(shards) in capsys.readouterr().err
    assert run([*home, digest_of(shards)]) == 0
    assert decoded == []
    (tmp_path / "bare").mkdir()
    shard = next(shards.glob("*.tar"))
    shutil.copy(shard, tmp_path / "bare")
    with pytest.raises(InputError, match="there is no manifest"):
        list(webdataset_rows(str(tmp_path / "bare" / shard.name), seal=digest_of(shards)))


def test_the_command_says_the_seal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "home", 6)
    assert run(["--home", str(tmp_path / "home"), "export", "run", "--no-phash"]) == 0
    assert f"sealed as {digest_of(tmp_path / 'home' / 'exports' / 'sdg-webdataset')}" in capsys.readouterr().err


def test_a_manifest_that_anyone_wrote_vouches_for_nothing(shards: Path, decoded: list[int], tmp_path: Path) -> None:
    """Every hash in it is right, the one of itself too: a picture without pixels is refused all the same."""
    seal = altered(shards, tmp_path / "copy", without_pixels)
    assert seal != digest_of(shards)
    target = world(tmp_path / "home")
    result = bring(target, tmp_path / "copy")
    assert (result.new, result.failed) == (23, 1)
    assert len(decoded) == 24
    with pytest.raises(InputError, match="--seal says"):
        bring(world(tmp_path / "third"), tmp_path / "copy", seal=digest_of(shards))


def test_other_bytes_under_a_sealed_manifest_are_refused(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    shard = copy / read_manifest(Target(copy)).shards()[0].path
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    shard.write_bytes(data)
    target = world(tmp_path / "home")
    with pytest.raises(InputError, match="damaged, or changed by hand"):
        bring(target, copy)
    refused = [row for row in webdataset_rows(str(copy), take_sound=True) if isinstance(row, RejectedRow)]
    assert {row.code for row in refused} == {"damaged-shard"}


def test_a_shard_that_is_changed_while_it_is_imported(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    target = world(tmp_path / "home")

    def interrupted() -> Iterator[Any]:
        rows = list(webdataset_rows(str(copy)))
        for shard in copy.glob("*.tar"):
            with shard.open("ab") as file:
                file.write(b"\0" * 512)
        yield from rows

    with pytest.raises(InputError, match="was changed while it was read"):
        import_rows(*target, "x", interrupted())
    assert list(target[1].iterate()) == []
    assert list((tmp_path / "home" / "blobs" / ".tmp").iterdir()) == []


def test_an_export_that_kept_files_of_an_earlier_run_is_not_sealed(
    export: Export, decoded: list[int], abroad: Callable[[], None], tmp_path: Path
) -> None:
    first = world(tmp_path / "first")
    fill(tmp_path / "first", 12)
    export(tmp_path / "out", world=first, shard_bytes=20_000)
    abroad()
    next((tmp_path / "out").glob("*.tar")).unlink()
    again = export(tmp_path / "out", world=first, shard_bytes=20_000)
    assert (again.made, again.kept > 0) == (1, True)
    assert bring(world(tmp_path / "second"), tmp_path / "out").failed == 0
    assert len(decoded) == 12
    export(tmp_path / "anew", world=first, shard_bytes=20_000)
    assert bring(world(tmp_path / "third"), tmp_path / "anew").failed == 0
    assert len(decoded) == 12


def test_an_account_that_can_note_nothing(
    export: Export, decoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))
    first = world(tmp_path / "first")
    fill(tmp_path / "first", 6)
    export(tmp_path / "out", world=first)
    assert bring(world(tmp_path / "second"), tmp_path / "out").failed == 0
    assert len(decoded) == 6
