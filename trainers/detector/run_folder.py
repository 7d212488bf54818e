"""The folder of a training run, and going on where it stopped.

    run.json             what it is: configuration, data, base model; a run with other values needs another folder
    log.jsonl            one line for each logged step and each evaluation
    checkpoints/         checkpoint-N: model, optimizer, scheduler, random states, position in the data
    samples/             step-N.png: held-out samples with their truth and the detector's answer
    tensorboard/
    model/               the best checkpoint's weights, processor and detector.json; there when the run has ended
    evaluation.json      SDG-Eval of those weights on the held-out part, with bootstrap intervals

A checkpoint counts when its `trainer_state.json`, which is written last, is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, Final

from annotate.vlm.qwen.load import weights_hash
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import HASH_LIMIT
from trainers.files import replace_file

log = logging.getLogger(__name__)

_STATE: Final = "trainer_state.json"
_MAY_CHANGE: Final = frozenset({"report", "workers", "pictures", "keep", "device"})
"""Settings that change nothing about what is learned."""


class RunFolder:
    """Paths of a run, and what is in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run.json"
        self.log = root / "log.jsonl"
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.tensorboard = root / "tensorboard"
        self.model = root / "model"
        self.evaluation = root / "evaluation.json"

    @property
    def finished(self) -> bool:
        """Whether the run has ended: the model's folder is moved there in one step."""
        return self.model.is_dir()

    def claim(self, note: dict[str, Any]) -> None:
        """Make the folder that of this run. ConfigError where it holds another one."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.checkpoints, self.samples):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write there ({error.strerror})", item=str(self.root)) from error
        if self.run.is_file():
            before = json.loads(self.run.read_text(encoding="utf-8"))
            different = _differences(before, note)
            if different:
                raise ConfigError(
                    f"the folder holds another run; different: {', '.join(different)}",
                    item=str(self.root),
                    hint="Name another --out, or delete this folder.",
                )
        write_json(self.run, note)

    def last_checkpoint(self) -> Path | None:
        """The latest whole checkpoint; torn ones after it are deleted."""
        numbered = sorted(
            (path for path in self.checkpoints.glob("checkpoint-*") if path.name.partition("-")[2].isdigit()),
            key=lambda path: int(path.name.partition("-")[2]),
            reverse=True,
        )
        for path in numbered:
            if _whole(path):
                return path
            log.warning("%s was cut off while it was written; going on from the one before", path.name)
            shutil.rmtree(path)
        return None

    def trim_log(self, step: int) -> None:
        """Forget what was logged after `step`: it will be logged again."""
        if not self.log.is_file():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line that was cut off
            if entry["step"] <= step:
                kept.append(line)
        replace_file(self.log, "".join(f"{line}\n" for line in kept))

    def append_log(self, entry: dict[str, Any]) -> None:
        """One line more."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def source_fingerprint(source: str) -> str:
    """What a model's name stands for: of a folder a hash of its files (of a large one, of their names and sizes), else
    the name itself."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    if sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= HASH_LIMIT:
        return weights_hash(folder)
    parts = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented, in one step."""
    replace_file(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for part in ("config", "data", "base"):
        old, new = before.get(part) or {}, now.get(part) or {}
        names = [name for name in sorted({*old, *new} - _MAY_CHANGE) if old.get(name) != new.get(name)]
        found += [f"{part}.{name} ({old.get(name)!r}, now {new.get(name)!r})" for name in names]
    return found
