"""The folder of a training: what it is, its log, its checkpoints, its pictures.

    run.json             settings, model and prompts; a training with others needs another folder
    log.jsonl            one line for each rollout
    checkpoints/N.pt     after N rollouts: trained weights, their average, optimizer, schedule, random states
    samples/N.png        fixed prompts with fixed noise, by the averaged weights
    audit/N/             images of a rollout for people to look at, until they are in the store
    tensorboard/
    lora/ or model/      the averaged weights; there when the training has ended

A checkpoint is written beside its place and renamed, so one that is there is whole.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

import torch

from sdg_data.errors import ConfigError, InputError
from trainers.files import replace_file

log = logging.getLogger(__name__)

_MAY_CHANGE: Final = frozenset(
    {"report", "keep", "save_every", "rollouts", "device", "reward_deadline", "max_failure_rate", "audit_share"}
    | {"ratio_tolerance", "sheet_prompts"}
)
"""Settings that change nothing about what was learned so far."""


class RunFolder:
    """Paths of a training, and what is in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run.json"
        self.log = root / "log.jsonl"
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.tensorboard = root / "tensorboard"
        self.lora = root / "lora"
        self.model = root / "model"

    def claim(self, note: dict[str, Any]) -> None:
        """Make the folder that of this training. ConfigError where it holds another one."""
        try:
            for folder in (self.root, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write there ({error.strerror})", item=str(self.root)) from error
        if self.run.is_file():
            before = json.loads(self.run.read_text(encoding="utf-8"))
            different = _differences(before, note)
            if different:
                raise ConfigError(
                    f"the folder holds another training; different: {', '.join(different)}",
                    item=str(self.root),
                    hint="Name another --out, or delete this folder.",
                )
        replace_file(self.run, json.dumps(note, indent=2, ensure_ascii=False, sort_keys=True) + "\n")

    def last_checkpoint(self) -> Path | None:
        """The latest one."""
        found = sorted((int(path.stem), path) for path in self.checkpoints.glob("*.pt") if path.stem.isdigit())
        return found[-1][1] if found else None

    def save_checkpoint(self, number: int, state: dict[str, Any], keep: int) -> None:
        """Write it, and forget all but the latest `keep`."""
        path = self.checkpoints / f"{number:06d}.pt"
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)
        for old in sorted(self.checkpoints.glob("*.pt"))[:-keep]:
            old.unlink()

    def trim_log(self, rollouts: int) -> None:
        """Forget what was logged of later rollouts than these: it will be logged again."""
        if not self.log.is_file():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line that was cut off
            if entry["rollout"] <= rollouts:
                kept.append(line)
        replace_file(self.log, "".join(f"{line}\n" for line in kept))

    def append_log(self, entry: dict[str, Any]) -> None:
        """One line more."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for part in ("config", "model", "prompts"):
        old, new = before.get(part) or {}, now.get(part) or {}
        names = [name for name in sorted({*old, *new} - _MAY_CHANGE) if old.get(name) != new.get(name)]
        found += [f"{part}.{name} ({old.get(name)!r}, now {new.get(name)!r})" for name in names]
    return found
