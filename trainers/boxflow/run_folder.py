"""The folder of a BoxFlow training (`trainers.common.run_folder`), and what only it has.

    checkpoints/N.pt     after N rollouts: trained weights, their average, optimizer, schedule, random states
    samples/N.png        fixed prompts with fixed noise, by the averaged weights
    lora/ or model/      the averaged weights; there when the training has ended

A checkpoint is written beside its place and renamed, and its checksum beside it tells whether it is whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import torch

from sdg_data.errors import InputError
from trainers.common import run_folder
from trainers.common.checksums import damaged, write_checksums

log = logging.getLogger(__name__)

_SUMS: Final = ".checksum.json"


class BoxFlowRunFolder(run_folder.RunFolder):
    """Paths of a BoxFlow training, and its checkpoints."""

    counter = "rollout"
    compared = ("model", "prompts")
    may_change = frozenset(
        {"rollouts", "policy.device", "rewards.reward_deadline", "rewards.max_failure_rate"}
        | {
            "monitoring.audit_share",
            "monitoring.ratio_tolerance",
            "monitoring.sheet_prompts",
            "monitoring.trial_images",
        }
        | {f"monitoring.artifact_guard{part}" for part in ("", "_images", "_rise", "_window")}
        | {"saving.save_every", "saving.keep", "saving.report"}
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lora = root / "lora"

    def last_checkpoint(self) -> Path | None:
        """The latest whole checkpoint; None where there is none yet."""
        numbered = [(int(path.stem), path) for path in self.checkpoints.glob("*.pt") if path.stem.isdigit()]
        for _, path in sorted(numbered, reverse=True):
            if not damaged(path.with_suffix(_SUMS), [path]):
                return path
            log.warning("%s is damaged; going on from the one before", path.name)
        return None

    def save_checkpoint(self, number: int, state: dict[str, Any], keep: int) -> None:
        """Write the checkpoint after `number` rollouts, then delete all but the latest `keep`.

        Raises:
            InputError: it cannot be written; the ones before are still there.
        """
        path = self.checkpoints / f"{number:06d}.pt"
        temporary = path.with_suffix(".tmp")
        try:
            torch.save(state, temporary)
            temporary.replace(path)
            write_checksums(path.with_suffix(_SUMS), [path])
        except (OSError, RuntimeError) as error:  # RuntimeError: how torch says that the disk is full
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"cannot write the checkpoint ({str(error).splitlines()[0]})",
                item=str(path),
                hint="Make room on the disk, then run the same command again: it goes on from the checkpoint before.",
            ) from error
        for old in sorted(self.checkpoints.glob("*.pt"))[:-keep]:
            old.unlink()
            old.with_suffix(_SUMS).unlink(missing_ok=True)
