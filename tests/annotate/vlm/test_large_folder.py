"""The state of weights that are too large to be read at every start: written down once, noticed where it changes."""

import hashlib
import json
from pathlib import Path

import pytest

from annotate.vlm.qwen import load
from annotate.vlm.qwen.load import noted_files, weights_hash
from sdg_data import ids
from trainers.detector.loading import write_detector_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ids, "HASH_LIMIT", 1000)
    path = tmp_path / "model"
    (path / "sub").mkdir(parents=True)
    for name, size in (("config.json", 20), ("model-1.safetensors", 5_000_000), ("sub/model-2.safetensors", 300)):
        (path / name).write_bytes(hashlib.shake_128(name.encode()).digest(size))
    return path


def by_hand(folder: Path) -> str:
    """The state, from each file read whole."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("detector.json", "README.md")
    )
    lines = [f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\0" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:40]


def test_a_large_folder_is_known_without_being_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_hash(folder) == by_hand(folder)
    write_detector_file(folder, {"template": "detect-1"})
    assert json.loads((folder / "detector.json").read_text())["template"] == "detect-1"
    (folder / "README.md").write_text("a card, written later")
    monkeypatch.setattr(load, "_sha256", lambda path: pytest.fail(f"read {path}"))
    assert weights_hash(folder) == by_hand(folder)


def test_other_weights_of_the_same_sizes_are_others(folder: Path) -> None:
    write_detector_file(folder, {})
    before = weights_hash(folder)
    weights = folder / "model-1.safetensors"
    weights.write_bytes(hashlib.shake_128(b"trained further").digest(5_000_000))
    assert weights_hash(folder) == by_hand(folder) != before


@pytest.mark.parametrize("change", ["more", "less", "renamed"])
def test_another_set_of_files_is_another_state(folder: Path, change: str) -> None:
    write_detector_file(folder, {})
    before = weights_hash(folder)
    if change == "more":
        (folder / "model-3.safetensors").write_bytes(b"x")
    elif change == "less":
        (folder / "sub" / "model-2.safetensors").unlink()
    else:
        (folder / "config.json").rename(folder / "config2.json")
    assert weights_hash(folder) == by_hand(folder) != before


_MALFORMED = '{"files": {"config.json": 1, "model-1.safetensors": [], "sub/model-2.safetensors": null}}'


@pytest.mark.parametrize("note", [_MALFORMED, '{"files": 5}', '{"files": {"config.json": 1}}', '{"files": {}}', "{}"])
def test_a_note_that_says_nothing_is_read_over(folder: Path, note: str) -> None:
    (folder / "detector.json").write_text(note)
    assert weights_hash(folder) == by_hand(folder)


def test_small_folders_keep_the_state_that_they_had(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    write_detector_file(tmp_path, {"template": "detect-1"})
    assert "files" not in json.loads((tmp_path / "detector.json").read_text())
    assert weights_hash(tmp_path) == ids.folder_hash(tmp_path)
    assert [len(values) for values in noted_files(tmp_path).values()] == [3]
