"""What is written down of a training: in its `run.json`, and beside the weights that it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from exports.files.manifest import read_manifest
from exports.files.target import Target
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingData
from trainers.detector.run_folder import source_fingerprint
from trainers.detector.train_config import TrainConfig


def run_note(
    config: TrainConfig, samples: TrainingData, chat: Chat, *, model: str, data: str, counts: dict[str, int]
) -> dict[str, Any]:
    """The facts of a training for its `run.json`, which a resumed run must agree with.

    Args:
        config: the training's.
        samples: what is trained and held out.
        chat: how the model is asked.
        model: the base's name, as it was given.
        data: the shards' name, as it was given.
        counts: parameters, see `trainers.detector.loading.trainable`.

    Returns:
        JSON.
    """
    source: dict[str, Any] = {"source": data}
    if not data.endswith((".tar", "}", "*")):
        manifest = read_manifest(Target(data))
        source |= {"name": manifest.name, "content": manifest.content, "counts": manifest.counts}
    return {
        "config": config.model_dump(mode="json"),
        "base": {"model": model, "fingerprint": source_fingerprint(model)},
        "data": {**source, **samples.report()},
        "template": chat.template.id,
        "boxes": chat.family,
        "parameters": counts,
        "versions": {"torch": torch.__version__, **_versions()},
    }


def detector_note(note: dict[str, Any]) -> dict[str, Any]:
    """What `detector.json` beside the weights says: the part of the run's note that describes the model.

    Its keys are read by whoever asks the model, and stay flat.

    Args:
        note: that of `run.json`.

    Returns:
        JSON.
    """
    config, data = note["config"], note["config"]["data"]
    return {
        "template": note["template"],
        "boxes": note["boxes"],
        "trace": data["trace"],
        "max_side": data["max_side"],
        "kind": config["kind"],
        "recipe": config["recipe"],
        # A local base by its folder's name: where it lay on this machine is nobody else's business.
        "base": {**note["base"], "model": _public_name(note["base"]["model"])},
        "data": {name: note["data"].get(name) for name in ("name", "content", "fingerprint", "train")},
    }


def _public_name(source: str) -> str:
    return Path(source).resolve().name if Path(source).is_dir() else source


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("transformers", "trl", "peft", "accelerate")}
