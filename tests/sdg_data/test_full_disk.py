"""A full disk, in the words of each library that writes; /dev/full is one."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from sdg_data.errors import InputError
from sdg_data.full_disk import is_full
from trainers.detector.run_folder import DetectorRunFolder


def raised_by_torch() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.save({"a": torch.zeros(100_000)}, "/dev/full")
    return caught.value


def test_each_library_says_it_in_its_own_words() -> None:
    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert is_full(caught.value)
    assert is_full(raised_by_torch())
    with pytest.raises(OSError, match="written") as short, Path("/dev/full").open("wb") as file:
        np.zeros(100_000).tofile(file)
    assert is_full(short.value)
    assert is_full(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    wrapped = ValueError("the trainer failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "x")
    assert is_full(wrapped)
    assert not is_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_full(RuntimeError("CUDA out of memory"))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("(os error 28) No space left on device")],
)
def test_a_training_ends_with_the_usual_error(tmp_path: Path, error: Exception) -> None:
    folder = DetectorRunFolder(tmp_path)
    with pytest.raises(InputError, match="cannot write there") as caught, folder.held():
        raise error
    assert "free some space" in str(caught.value)
    with pytest.raises(RuntimeError, match="something else"), folder.held():
        raise RuntimeError("something else")


def test_a_command_ends_with_a_sentence_and_its_threads_without_a_traceback() -> None:
    code = (
        "import sys, threading, sdg_data.cli as cli\n"
        "def full(*_, **__):\n"
        "    worker = threading.Thread(target=lambda: open('/dev/full', 'wb', buffering=0).write(b'x'))\n"
        "    worker.start(); worker.join()\n"
        "    open('/dev/full', 'wb', buffering=0).write(b'x')\n"
        "cli.get_group = lambda app: type('G', (), {'main': staticmethod(full)})\n"
        "sys.argv = ['sdg']; cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
