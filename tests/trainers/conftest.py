"""Shards of the drawn world and a Qwen3-VL of toy size with random weights."""

from pathlib import Path

import pytest

from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import run_export
from sdg_data.blobs import Blobs
from tests.annotate import tiny_vlm
from tests.exports.worlds import EVERYTHING, fill


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's folder. No test writes to it."""
    return tiny_vlm.save_qwen3(tmp_path_factory.mktemp("detector") / "tiny")


@pytest.fixture(scope="session")
def detector_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 72 images in several shards of each split; some samples have no trace. No test writes to it."""
    home = tmp_path_factory.mktemp("detector-world")
    store, blobs = fill(home, 72), Blobs(home / "blobs")
    folder = tmp_path_factory.mktemp("detector-export") / "export"
    options = ExportOptions(phash=False, shard_bytes=60_000)
    run_export(
        store, blobs, Target(folder), format_name="webdataset", options=options, name="drawn", selection=EVERYTHING
    )
    return folder
