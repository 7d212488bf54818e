"""The real commands with two workers beside one process: the same digest, the same evaluation."""

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import run_export
from sdg_data.blobs import Blobs
from sdg_data.mini.weights import weights_folder
from sdg_data.store.digest import store_digest
from tests.exports.worlds import EVERYTHING, fill

pytestmark = pytest.mark.slow

IMAGES = 36


def sdg(home: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "PROFILE": "mini"}
    command = [sys.executable, "-m", "sdg_data.cli", "--home", str(home), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_enrichments_by_two_workers_have_the_digest_of_one_process(tmp_path: Path) -> None:
    digests = []
    for name, more in (("none", None), ("one", ()), ("two", ("--workers", "2"))):
        store = fill(tmp_path / name, IMAGES)
        if more is not None:
            said = sdg(tmp_path / name, "enrich", "run", *more)
            assert ("2 workers" in said) == bool(more)
        digests.append(store_digest(store, Blobs(tmp_path / name / "blobs")))
    nothing, one, two = digests
    assert nothing != one == two


def test_an_evaluation_by_two_workers_is_that_of_one_process(tmp_path: Path) -> None:
    store, blobs = fill(tmp_path / "home", IMAGES), Blobs(tmp_path / "home" / "blobs")
    shards = tmp_path / "shards"
    options = ExportOptions(phash=False, shard_bytes=60_000)
    run_export(
        store, blobs, Target(shards), format_name="webdataset", options=options, name="drawn", selection=EVERYTHING
    )
    for name, more in (("one", ()), ("two", ("--workers", "2"))):
        said = sdg(
            tmp_path / "home",
            *("train", "detector", "eval", "--data", str(shards), "--split", "train"),
            *("--model", str(weights_folder("mini-detector")), "--out", str(tmp_path / name)),
            *("--batch", "2", "--max-tokens", "256", "--resamples", "50", *more),
        )
        assert ("2 workers" in said) == bool(more)
    names = ["evaluation.json", "predictions.jsonl", "truth.jsonl", "samples.png"]
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False) == (names, [], [])
    assert json.loads((tmp_path / "one" / "evaluation.json").read_text())["figures"]
