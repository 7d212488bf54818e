"""Votes over twenty kills: none that was taken is lost, and the store is that of an undisturbed study."""

import random
import signal
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from annotate.study.create import create
from sdg_data.blobs import Blobs
from sdg_data.store import studies
from sdg_data.store.digest import store_digest
from tests.annotate.study.killed import RATERS, started
from tests.annotate.study.test_study import image, planned
from tests.annotate.support import Home, captions


def made(folder: Path) -> Home:
    home = Home(folder, captions(20))
    with home.store.write() as tx:
        from sdg_data.store import images

        images.insert(tx, [image(home, text, "n") for text in list(home.image_of)[:18]])
    create(home.store, planned(home))
    with home.store.write() as tx:
        study = studies.named(tx, "study")
        assert study is not None
        studies.add_raters(tx, study.id, RATERS)
    return home


def lines(notes: Path) -> int:
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    quiet, disturbed = made(tmp_path / "quiet"), made(tmp_path / "disturbed")
    undisturbed = started(quiet.folder, "study", tmp_path / "quiet.txt")
    undisturbed.join(300)
    assert undisturbed.exitcode == 0
    total, notes = lines(tmp_path / "quiet.txt"), tmp_path / "disturbed.txt"
    chance = random.Random(9)
    killed = 0
    for target in sorted(chance.sample(range(total), 20)):
        process = started(disturbed.folder, "study", notes)
        while process.exitcode is None and lines(notes) < target:
            process.join(timeout=0.002)
        process.join(timeout=chance.uniform(0, 0.05))
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        with disturbed.store.read() as tx:
            study = studies.named(tx, "study")
            assert study is not None
            given = {f"{vote.trial_id} {vote.rater}" for vote in studies.votes(tx, study.id)}
        assert set(notes.read_text().splitlines()) <= given if notes.exists() else True
    assert killed >= 10
    last = started(disturbed.folder, "study", notes)
    last.join(300)
    assert last.exitcode == 0
    digests = {store_digest(home.store, Blobs(str(home.folder / "blobs"))) for home in (quiet, disturbed)}
    assert len(digests) == 1
