"""Damaged checkpoints, each kind of file in each way that disks, kills and people damage them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.common.checksums import damaged, write_checksums
from trainers.detector.run_folder import CHECKSUMS, DetectorRunFolder

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin", "config.json")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """What some file systems leave of a file that was not on the disk yet when the power went."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"\x07\x07\x07\x07")] ^= 1
    path.write_bytes(data)


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tensor = torch.full((256,), 7, dtype=torch.uint8)
    for name in FILES:
        if name == "model.safetensors":
            save_file({"weight": tensor}, folder / name)
        elif name == "config.json":
            (folder / name).write_text('{"a": 1}')
        else:
            torch.save({"state": tensor}, folder / name)
    (folder / "trainer_state.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, emptied, zeroed, Path.unlink])
@pytest.mark.parametrize("noted", [True, False])
def test_the_newest_whole_checkpoint_is_taken(
    tmp_path: Path, name: str, damage: Callable[[Path], None], noted: bool
) -> None:
    folder = DetectorRunFolder(tmp_path)
    older, newer = (checkpoint(folder.checkpoints / f"checkpoint-{step}") for step in (3, 6))
    if noted:
        for path in (older, newer):
            write_checksums(path / CHECKSUMS, [path / file for file in (*FILES, "trainer_state.json")])
    assert folder.last_checkpoint() == newer
    damage(newer / name)
    if not noted and damage is Path.unlink:  # nothing says that it was there
        assert folder.last_checkpoint() == newer
        return
    assert folder.last_checkpoint() == older
    assert not newer.exists()


@pytest.mark.parametrize("name", FILES[1:-1])
def test_a_flipped_bit_is_noticed_without_a_note_too(tmp_path: Path, name: str) -> None:
    path = checkpoint(tmp_path / "c")
    assert damaged(path / CHECKSUMS, path.iterdir()) == []
    flipped(path / name)
    assert damaged(path / CHECKSUMS, path.iterdir()) == [name]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"model.safetensors": 5}', '{"model.safet'])
def test_a_note_that_says_nothing_is_damaged(tmp_path: Path, text: str) -> None:
    path = checkpoint(tmp_path / "c")
    (path / CHECKSUMS).write_text(text)
    assert damaged(path / CHECKSUMS, path.iterdir()) == [CHECKSUMS]


def test_a_file_in_the_place_of_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    folder = DetectorRunFolder(tmp_path)
    older = checkpoint(folder.checkpoints / "checkpoint-3")
    (folder.checkpoints / "checkpoint-6").write_text("not a folder")
    assert folder.last_checkpoint() == older


@pytest.mark.parametrize("damage", [cut, emptied, zeroed, flipped])
@pytest.mark.parametrize("noted", [True, False])
def test_boxflow_goes_on_from_the_newest_whole_one(tmp_path: Path, damage: Callable[[Path], None], noted: bool) -> None:
    folder = BoxFlowRunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for number in (1, 2):
        folder.save_checkpoint(number, {"weights": torch.full((256,), 7, dtype=torch.uint8)}, keep=5)
    newest = folder.checkpoints / "000002.pt"
    assert folder.last_checkpoint() == newest
    if not noted:
        newest.with_suffix(".checksum.json").unlink()
    damage(newest)
    assert folder.last_checkpoint() == folder.checkpoints / "000001.pt"
