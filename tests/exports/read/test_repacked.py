"""Shards that others packed again: the same samples, whatever tar made of names, headers and folders."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from exports.read.reader import CorruptSample, Example, ShardReader
from sdg_data.errors import InputError

LONG = "a_folder_" + "that_goes_on_" * 12


@pytest.fixture
def unpacked(shards: Path, tmp_path: Path) -> Path:
    """The members of one shard as files."""
    folder = tmp_path / "members"
    folder.mkdir()
    subprocess.run(["tar", "xf", shards / "mini-train-00000.tar", "-C", folder], check=True)
    return folder


@pytest.fixture
def expected(shards: Path) -> dict[str, Example]:
    return {example.key: example for example in ShardReader(shards / "mini-train-00000.tar")}


def read(path: Path) -> dict[str, Example]:
    reader = ShardReader(path, check_bytes=True, rank=0, world=1)
    examples = {example.key: example for example in reader}
    assert len(examples) == len(reader)
    return examples


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
@pytest.mark.parametrize("members", [".", "*", "folder", "long", "dotted"])
def test_each_header_and_each_kind_of_name(
    unpacked: Path, expected: dict[str, Example], tmp_path: Path, form: str, members: str
) -> None:
    packed = tmp_path / "packed.tar"
    if members in ("folder", "long", "dotted"):
        if members == "long" and form in ("v7", "ustar"):
            pytest.skip("it holds no such names")
        place = tmp_path / "outer" / {"folder": "v1.2/set", "long": LONG, "dotted": "run.v2.json"}[members]
        shutil.copytree(unpacked, place)
        command = ["-C", tmp_path / "outer", "."]
    else:
        command = ["-C", unpacked, *(["."] if members == "." else sorted(path.name for path in unpacked.iterdir()))]
    subprocess.run(["tar", "cf", packed, f"--format={form}", *command], check=True)
    assert read(packed) == expected


def test_members_in_any_order_and_with_dotted_keys(
    unpacked: Path, expected: dict[str, Example], tmp_path: Path
) -> None:
    for path in list(unpacked.iterdir()):
        path.rename(unpacked / f"cfg7.5_{path.name}")
    names = sorted((path.name for path in unpacked.iterdir()), key=lambda name: name[::-1])  # by suffix
    subprocess.run(["tar", "cf", tmp_path / "packed.tar", "-C", unpacked, *names], check=True)
    repacked = read(tmp_path / "packed.tar")
    assert {key.removeprefix("cfg7.5_"): (example.text, example.image) for key, example in repacked.items()} == {
        key: (example.text, example.image) for key, example in expected.items()
    }


def test_upper_case_suffixes_and_what_macos_adds(unpacked: Path, expected: dict[str, Example], tmp_path: Path) -> None:
    for path in list(unpacked.iterdir()):
        (unpacked / f"._{path.name}").write_bytes(b"junk")
        path.rename(path.with_suffix(path.suffix.upper()))
    (unpacked / ".DS_Store").write_bytes(b"junk")
    subprocess.run(["tar", "cf", tmp_path / "packed.tar", "-C", unpacked, "."], check=True)
    assert read(tmp_path / "packed.tar") == expected


def test_archives_one_behind_the_other(shards: Path, tmp_path: Path) -> None:
    """`cat` of two shards loses nothing, though each has its end mark."""
    paths = sorted(shards.glob("mini-train-*.tar"))[:2]
    (tmp_path / "both.tar").write_bytes(b"".join(path.read_bytes() for path in paths))
    assert list(ShardReader(tmp_path / "both.tar")) == list(ShardReader(paths))


def test_a_half_of_a_sample_is_named(unpacked: Path, tmp_path: Path) -> None:
    victim = sorted(unpacked.glob("*.json"))[0]
    victim.unlink()
    subprocess.run(["tar", "cf", tmp_path / "packed.tar", "-C", unpacked, "."], check=True)
    with pytest.raises(CorruptSample, match="it has only png"):
        list(ShardReader(tmp_path / "packed.tar"))


@pytest.mark.parametrize(("option", "name"), [("z", "gzip"), ("j", "bzip2"), ("J", "xz")])
def test_a_compressed_shard_says_so(unpacked: Path, tmp_path: Path, option: str, name: str) -> None:
    packed = tmp_path / "packed.tar.x"
    made = subprocess.run(["tar", f"c{option}f", packed, "-C", unpacked, "."], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("no such program here")
    with pytest.raises(InputError, match=f"compressed \\({name}\\)"):
        ShardReader(packed)


def test_a_member_that_is_too_large_is_refused_by_its_header(
    unpacked: Path, expected: dict[str, Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a hole: 3 GB by its header, a few blocks on the disk."""
    packed = tmp_path / "packed.tar"
    subprocess.run(["tar", "cf", packed, "-C", unpacked, *sorted(path.name for path in unpacked.iterdir())], check=True)
    info = tarfile.TarInfo("huge.png")
    info.size = 3 << 30
    text = tarfile.TarInfo("huge.json")
    end = packed.stat().st_size - packed.stat().st_size % 512
    with packed.open("r+b") as file:
        file.seek(end)
        file.write(text.tobuf())
        file.write(info.tobuf())
        file.truncate(end + 1024 + info.size + 1024)
    asked: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: asked.append(size) or pread(fd, size, at))  # type: ignore[func-returns-value]
    reader = ShardReader(packed, on_error="skip", check_bytes=True, rank=0, world=1)
    assert {example.key: example for example in reader} == expected
    assert [problem.partition(": ")[2] for problem in reader.skipped] == [
        "its image has 3,221,225,472 bytes; 268,435,456 are the most"
    ]
    assert max(asked) < 1 << 20
