"""The folder of a BoxFlow training (`trainers.common.run_folder`), and what only it has.

    checkpoints/N.pt     after N rollouts: trained weights, their average, optimizer, schedule, random states
    samples/N.png        fixed prompts with fixed noise, by the averaged weights
    lora/ or model/      the averaged weights; there when the training has ended

A checkpoint is written beside its place and renamed, so one that is there is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainers.common import run_folder


class BoxFlowRunFolder(run_folder.RunFolder):
    """Paths of a BoxFlow training, and its checkpoints."""

    counter = "rollout"
    compared = ("model", "prompts")
    may_change = frozenset(
        {"rollouts", "policy.device", "rewards.reward_deadline", "rewards.max_failure_rate"}
        | {"monitoring.audit_share", "monitoring.ratio_tolerance", "monitoring.sheet_prompts"}
        | {"saving.save_every", "saving.keep", "saving.report"}
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lora = root / "lora"

    def last_checkpoint(self) -> Path | None:
        """The latest checkpoint; None where there is none yet."""
        numbered = [(int(path.stem), path) for path in self.checkpoints.glob("*.pt") if path.stem.isdigit()]
        return max(numbered)[1] if numbered else None

    def save_checkpoint(self, number: int, state: dict[str, Any], keep: int) -> None:
        """Write the checkpoint after `number` rollouts, then delete all but the latest `keep`."""
        path = self.checkpoints / f"{number:06d}.pt"
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)
        for old in sorted(self.checkpoints.glob("*.pt"))[:-keep]:
            old.unlink()
