"""`sdg generate` as it is typed: plans, lists and refusals. (Runs as processes are in test_resume.py.)"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from generators.models.registry import built_in_presets
from generators.preflight import Surroundings
from sdg_data.cli import run
from sdg_data.errors import ExitCode
from sdg_data.preflight.machine import Gpu
from sdg_data.store import failures, images
from sdg_data.store.connection import Store
from tests.generators.support import add_prompts, config_for


@pytest.fixture
def sdg(home: Path, folders: Callable[[str], Path], tmp_path: Path) -> Callable[..., int]:
    config = config_for(tmp_path / "tiny.toml", folders, {"tiny": "FluxPipeline"})
    return lambda *arguments: run(["--home", str(home), "--config", str(config), "generate", *arguments])


def test_models_are_listed_with_licence_revision_and_whether_they_are_here(
    sdg: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sdg("models", "--json") == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    minis = [name for name in built_in_presets() if name.startswith("mini-")]
    assert listed.keys() == {*built_in_presets(), "tiny"}
    assert listed["tiny"]["installed"] is True
    assert (listed["flux2-dev"]["installed"], listed["flux2-dev"]["pinned"]) == (False, True)
    assert listed["z-image-turbo"]["licence"] == "Apache-2.0"
    assert [name for name, row in listed.items() if row["profile"]] == minis
    assert sdg("models") == 0
    assert "26afe3a78b" in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_and_makes_nothing(
    sdg: Callable[..., int],
    store: Store,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    here = Surroundings((Gpu("NVIDIA H100", 80.0),), 500.0, 10**12, False)
    monkeypatch.setattr(Surroundings, "here", classmethod(lambda cls, device, online: here))
    add_prompts(store, ["one", "two", "three"])
    before = sorted(home.rglob("*"))
    assert sdg("run", "--models", "tiny,z-image-turbo", "--samples-per-prompt", "2", "--dry-run", "--json") == 0
    tiny, turbo = json.loads(capsys.readouterr().out)["plan"]
    assert (tiny["missing"], tiny["batch_size"], tiny["seconds_from"]) == (6, 4, "unknown")
    assert (turbo["missing"], round(turbo["seconds"], 1)) == (6, 6.2)
    assert turbo["revision"] == built_in_presets()["z-image-turbo"].revision
    assert sdg("run", "--models", "tiny", "--limit", "2", "--batch-size", "3", "--dry-run") == 0
    assert sorted(home.rglob("*")) == before


def test_a_run_with_failures_ends_with_its_own_code(
    sdg: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    add_prompts(store, ["one", "two"])
    decode = diffusers.AutoencoderKL.decode
    broken = pytest.MonkeyPatch()
    broken.setattr(diffusers.AutoencoderKL, "decode", lambda *a, **b: [decode(*a, **b)[0] * float("nan")])
    assert sdg("run", "--models", "tiny", "--json") == ExitCode.PARTIAL
    broken.undo()
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failed"] == {"nan-image": 2}
    assert "failed: 2 nan-image" in captured.err
    assert sdg("run", "--models", "tiny") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert sdg("run", "--models", "tiny", "--retry-failures", "--code", "blank-image") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert sdg("run", "--models", "tiny", "--retry-failures", "blank-image,out-of-memory") == 0
    assert "nothing to do" in capsys.readouterr().err
    for form in (["--code", "nan-image"], ["nan-image,blank-image"], ["all"], []):
        assert sdg("run", "--models", "tiny", "--dry-run", "--json", "--retry-failures", *form) == 0
        assert json.loads(capsys.readouterr().out)["plan"][0]["missing"] == 2
    assert sdg("run", "--models", "tiny", "--retry-failures", "--code", "nan-image", "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 2
    with store.read() as tx:
        assert images.count_by_model(tx) == {"tiny": 2}
        assert failures.count_by_code(tx) == {"nan-image": 2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--models", "tinny"], ExitCode.CONFIG, "Did you mean tiny?"),
        (["run", "--models", ","], ExitCode.CONFIG, "no model is named"),
        (["run", "--models", "tiny", "--split", "val"], ExitCode.CONFIG, "there is no split 'val'"),
        (["run", "--models", "tiny", "--code", "nan-image"], ExitCode.CONFIG, "--retry-failures"),
        (["run", "--models", "tiny", "--device", "tpu"], ExitCode.CONFIG, "cannot compute on 'tpu'"),
        (["run", "--models", "tiny", "--samples-per-prompt", "0"], ExitCode.USAGE, "samples-per-prompt"),
    ],
)
def test_what_makes_no_sense_is_said(
    sdg: Callable[..., int],
    store: Store,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    message: str,
) -> None:
    add_prompts(store, ["one"])
    assert sdg(*arguments) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["index", "weights"])
def test_weights_that_cannot_be_loaded_are_named(
    store: Store,
    home: Path,
    folders: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    add_prompts(store, ["one"])
    folder = tmp_path / "broken"
    if damage == "index":
        folder.mkdir()
        (folder / "model_index.json").write_text("{}")
    else:
        shutil.copytree(folders("FluxPipeline"), folder)
        weights = next((folder / "vae").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:100])
    config = tmp_path / "broken.toml"
    config.write_text(f'[models.broken]\npipeline = "FluxPipeline"\nrepository = "{folder}"\n', encoding="utf-8")
    arguments = ["--home", str(home), "--config", str(config), "generate", "run", "--models", "broken"]
    assert run(arguments) == ExitCode.GENERATION
    assert f"cannot load {folder}" in capsys.readouterr().err
