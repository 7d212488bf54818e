"""verify: sound exports of every format, and every kind of damage named."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from exports.files.manifest import read_manifest
from exports.files.target import Target
from exports.read.reader import ShardReader
from exports.run import ExportResult
from exports.verify import verify
from sdg_data.errors import InputError

Export = Callable[..., ExportResult]


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def problems(folder: Path) -> str:
    return "\n".join(verify(Target(folder)).problems)


@pytest.mark.parametrize(
    "name",
    [
        "webdataset",
        "hf",
        "trl",
        "ms-swift",
        "llama-factory",
        "release-jsonl",
        "coco",
        "fiftyone",
        "heatmaps",
        "preferences",
    ],
)
def test_what_was_exported_is_sound(export: Export, tmp_path: Path, name: str) -> None:
    export(tmp_path, name, heatmap_side=16)
    report = verify(Target(tmp_path))
    assert report.problems == []
    assert report.checked["images"] >= 24
    if name in ("webdataset", "hf", "coco"):
        assert report.checked["samples"] == 24


def test_any_flipped_byte_is_found_and_named(copy: Path) -> None:
    """One random bit of each file in turn, several times over the shards."""
    rng = random.Random(0)
    paths = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    for path in paths[:3] + rng.sample(paths, 5):
        data = bytearray(path.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        original = path.read_bytes()
        path.write_bytes(data)
        assert f"{path.relative_to(copy).as_posix()}: its bytes are not those that were written" in problems(copy), (
            place
        )
        path.write_bytes(original)
    assert problems(copy) == ""


def test_the_sample_with_the_flipped_byte_is_named_too(copy: Path) -> None:
    path = copy / "mini-train-00001.tar"
    data = bytearray(path.read_bytes())
    key = data[:32].decode()
    data[data.index(b"IDAT") + 100] ^= 1
    path.write_bytes(data)
    assert f"mini-train-00001.tar#0 ({key})" in problems(copy)


def test_exports_of_an_earlier_version_are_read_and_verified(copy: Path, export: Export) -> None:
    """Version 1 had neither a hash of itself nor one of a shard's records."""
    manifest = json.loads((copy / "manifest.json").read_text()) | {"version": 1}
    del manifest["digest"]
    for entry in manifest["files"]:
        del entry["records"]
    (copy / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    assert problems(copy) == ""
    assert len(list(ShardReader(copy))) == 24
    again = export(copy, shard_bytes=20_000)
    assert (again.made, again.mended) == (0, ())
    assert read_manifest(Target(copy)).shards()[0].records is not None


def test_missing_cut_and_unknown_files(copy: Path) -> None:
    (copy / "mini-test-00000.tar").unlink()
    cut = copy / "mini-train-00000.tar"
    cut.write_bytes(cut.read_bytes()[:-10_240])
    (copy / "notes.txt").write_text("hello")
    named = problems(copy)
    assert "mini-test-00000.tar: the file is missing" in named
    assert "mini-train-00000.tar: 20480 bytes, the manifest says 30720" in named or "mini-train-00000.tar: " in named
    assert "notes.txt: the manifest does not know this file" in named


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed, as somebody who means it would."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / name).read_bytes()
    for entry in manifest["files"]:
        if entry["path"] == name:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_shard_under_another_name_is_no_proof(copy: Path) -> None:
    """A test shard passed off as a train shard, its hash in the manifest."""
    name = "mini-train-00000.tar"
    (copy / name).write_bytes((copy / "mini-test-00000.tar").read_bytes())
    rehash(copy, name)
    named = problems(copy)
    assert f"{name}#0 (" in named
    assert "a sample of test in a shard of train" in named
    assert "is in" in named


def test_changed_labels_differ_from_the_index(copy: Path) -> None:
    name = "mini-train-00000.tar"
    data = (copy / name).read_bytes()
    place = data.index(b'"licence":"') + 11
    changed = data[:place] + b"x" + data[place + 1 :]
    (copy / name).write_bytes(changed)
    rehash(copy, name)
    assert "it differs in licence" in problems(copy)


def test_without_a_manifest_there_is_nothing_to_verify(copy: Path) -> None:
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="manifest is damaged"):
        verify(Target(copy))
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match="no manifest"):
        verify(Target(copy))
