"""A run that is killed again and again ends like one that nobody disturbed."""

import random
import signal
from pathlib import Path

import pytest

from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.trainers.refinement.killed import started
from tests.trainers.refinement.world import picture, stored

PICTURES = [picture((4 * (k % 7), 8), (20, 4 * (k % 6)), (4 * (k % 5), 28)) for k in range(40)]


def blob_count(home: Path) -> int:
    return sum(1 for _ in (home / "blobs").glob("[0-9a-f][0-9a-f]/*"))


def digest(home: Path) -> str:
    return store_digest(Store(home), Blobs(home / "blobs"))


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    stored(quiet, *PICTURES)
    stored(disturbed, *PICTURES)
    before = blob_count(quiet)
    undisturbed = started(quiet)
    undisturbed.join(300)
    assert undisturbed.exitcode == 0
    made = blob_count(quiet) - before
    chance = random.Random(4)
    killed = 0
    for target in sorted(chance.sample(range(before, before + made), 20)):
        process = started(disturbed)
        while process.exitcode is None and blob_count(disturbed) < target:
            process.join(timeout=0.002)
        process.join(timeout=chance.uniform(0, 0.05))
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
    assert killed >= 10
    last = started(disturbed)
    last.join(300)
    assert last.exitcode == 0
    assert digest(disturbed) == digest(quiet)
