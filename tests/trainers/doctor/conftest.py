"""Shards of judged scenes, and a doctor of toy size with random weights that writes what it was told to."""

import json
from pathlib import Path

import pytest

from annotate.vlm.qwen.load import load_model, load_processor
from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import run_export
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from tests.annotate import tiny_vlm
from tests.exports.worlds import EVERYTHING
from trainers.doctor.head import HeadShape
from trainers.doctor.mini.corpus import add_judged
from trainers.doctor.model import make_doctor

FORM = {"maps": True, "look": True, "think": False, "typed": True, "short": True, "max_side": 256}


@pytest.fixture(scope="session")
def judged_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 40 judged scenes. No test writes to it."""
    home = tmp_path_factory.mktemp("judged")
    assert add_judged(Store(home), Blobs(home / "blobs"), 40, 3, people=3, test_share=0.2) > 30
    return home


@pytest.fixture(scope="session")
def judged_shards(judged_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their export. No test writes to it."""
    folder = tmp_path_factory.mktemp("judged-export") / "export"
    store, blobs = Store(judged_home), Blobs(judged_home / "blobs")
    options = ExportOptions(phash=False)
    run_export(
        store, blobs, Target(folder), format_name="webdataset", options=options, name="judged", selection=EVERYTHING
    )
    return folder


@pytest.fixture(scope="session")
def tiny_doctor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A doctor's folder with random weights. No test writes to it."""
    folder = tiny_vlm.save_qwen3(tmp_path_factory.mktemp("tiny-doctor") / "base")
    processor = load_processor(str(folder), "qwen3_vl")
    doctor = make_doctor(load_model(str(folder), "float32"), processor.tokenizer, HeadShape.mini())
    made = folder.with_name("doctor")
    doctor.save_pretrained(made)
    processor.save_pretrained(made)
    (made / "detector.json").write_text(json.dumps({"form": FORM}))
    return made
