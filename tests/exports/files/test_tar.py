"""Tar bytes against the standard library and GNU tar, in both directions."""

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from exports.files import tar

FILES = {"a.json": b"{}", "a.png": b"x" * 512, "b.json": b"", "b.png": bytes(range(256)) * 5}


def archive(files: dict[str, bytes] = FILES) -> bytes:
    body = b"".join(tar.header(name, len(data)) + data + tar.padding(len(data)) for name, data in files.items())
    return body + tar.ending(len(body))


def test_others_read_what_we_write(tmp_path: Path) -> None:
    data = archive()
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        assert {member.name: file.extractfile(member).read() for member in file} == FILES  # type: ignore[union-attr]
        assert {(member.uid, member.gid, member.mtime, member.mode, member.uname) for member in file} == {
            (0, 0, 0, 0o644, "")
        }
    (tmp_path / "x.tar").write_bytes(data)
    listed = subprocess.run(["tar", "tf", tmp_path / "x.tar"], capture_output=True, check=True, text=True)
    assert listed.stdout.split() == list(FILES)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_we_read_what_others_write(kind: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as file:
        file.addfile(tarfile.TarInfo("empty-folder/"))
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    members = [member for member in tar.members(io.BytesIO(data), len(data)) if not member.name.endswith("/")]
    assert {
        member.name: data[member.offset : member.offset + member.size]
        for member in members
        if member.name != "empty-folder"
    } == FILES


def test_a_damaged_header_costs_its_member_only() -> None:
    data = bytearray(archive())
    place = data.index(b"a.png")
    data[place] ^= 1
    names = [member.name for member in tar.members(io.BytesIO(data), len(data))]
    assert names == ["a.json", "", "b.json", "b.png"]


def test_a_cut_is_seen_wherever_it_is() -> None:
    """Every proper prefix up to the end mark yields a nameless member; with the end mark it is whole."""
    data = archive()
    end = len(data.rstrip(b"\0"))
    rng = random.Random(0)
    for length in sorted(rng.sample(range(1, end - end % 512 + 512), 60)):
        members = list(tar.members(io.BytesIO(data[:length]), length))
        assert not members or members[-1].name == "" or length >= end, length
        assert [member.name for member in members if member.name] == list(FILES)[
            : sum(bool(member.name) for member in members)
        ]


def test_sizes_add_up() -> None:
    assert sum(tar.member_bytes(len(data)) for data in FILES.values()) + len(tar.ending(0)) >= len(archive()) - 10240
    assert tar.member_bytes(512) == 1024
    assert tar.member_bytes(513) == 1536
