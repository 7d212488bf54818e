"""The Ray executor runs a stage to the same end as the local one. Skipped where the `ray` extra is not installed."""

import io
import os
import sys
from pathlib import Path

import pytest

from sdg_data.blobs import Blobs
from sdg_data.errors import MissingDependency
from sdg_data.progress import Progress
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor, RayExecutor

sys.path.insert(0, str(Path(__file__).parent))
import toy_stage


def quiet() -> Progress:
    return Progress("toy", stream=io.StringIO())


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"sdg-data\[ray\]"):
        RayExecutor(1).execute(toy_stage.ToyStage(tmp_path), progress=quiet())


@pytest.mark.slow
def test_two_actors_end_in_the_state_of_a_local_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    # Workers are processes of their own and have to find the stage.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(toy_stage.__file__).parent), *sys.path]))
    for name in ("local", "ray"):
        toy_stage.fill_prompts(tmp_path / name)
    assert LocalExecutor().execute(toy_stage.ToyStage(tmp_path / "local"), progress=quiet()) == 36
    assert RayExecutor(2).execute(toy_stage.ToyStage(tmp_path / "ray"), progress=quiet()) == 36
    digests = [store_digest(Store(tmp_path / name), Blobs(tmp_path / name / "blobs")) for name in ("local", "ray")]
    assert digests[0] == digests[1]
    assert RayExecutor(1).execute(toy_stage.ToyStage(tmp_path / "ray"), progress=quiet()) == 0
