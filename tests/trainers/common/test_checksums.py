"""Checkpoints that are not what was written are passed over for the newest whole one."""

import json
from pathlib import Path

import pytest
import torch

from sdg_data.errors import InputError
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.common.checksums import write_checksums
from trainers.detector.run_folder import CHECKSUMS, DetectorRunFolder


@pytest.mark.parametrize("harm", ["half", "flip", "empty"])
def test_boxflow_goes_on_from_the_newest_whole_one(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = BoxFlowRunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for number in (1, 2, 3):
        folder.save_checkpoint(number, {"weights": torch.arange(100)}, keep=2)
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == [
        "000002.checksum.json", "000002.pt", "000003.checksum.json", "000003.pt",
    ]  # fmt: skip
    last = folder.checkpoints / "000003.pt"
    assert folder.last_checkpoint() == last
    _harm(last, harm)
    assert folder.last_checkpoint() == folder.checkpoints / "000002.pt"
    assert "000003.pt is damaged" in caplog.text
    (folder.checkpoints / "000003.checksum.json").unlink()  # as from before there were any
    assert folder.last_checkpoint() == last


@pytest.mark.parametrize("harm", ["half", "flip", "empty"])
def test_a_detector_goes_on_from_the_newest_whole_one(tmp_path: Path, harm: str) -> None:
    folder = DetectorRunFolder(tmp_path)
    for number in (5, 10):
        checkpoint = folder.checkpoints / f"checkpoint-{number}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(bytes(range(256)) * 40)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": number}))
        write_checksums(checkpoint / CHECKSUMS, list(checkpoint.iterdir()))
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-10"
    _harm(folder.checkpoints / "checkpoint-10" / "model.safetensors", harm)
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-5"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BoxFlowRunFolder(tmp_path)
    folder.checkpoints.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="cannot write the checkpoint"):
        folder.save_checkpoint(1, {}, keep=2)


def _harm(path: Path, harm: str) -> None:
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 4
    path.write_bytes(b"" if harm == "empty" else data if harm == "flip" else data[: len(data) // 2])
