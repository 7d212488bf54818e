"""What a training reports: a line and a log entry for each rollout, curves, and a sheet of fixed prompts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from generators.images import GeneratedImage
from sdg_data.progress import duration
from sdg_data.sheets.draw import SheetCell, render_sheet
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.rewards.scoring import ScoredImage

log = logging.getLogger(__name__)

_IN_LINE = ("reward", "burden/artifact", "burden/misalignment", "artifact_guard", "kept", "clipped", "kl", "grad_norm")


class RolloutReporter:
    """Writes log, curves and sheets; only the main process has one."""

    def __init__(self, folder: BoxFlowRunFolder, rollouts: int, done: int, *, curves: bool) -> None:
        """Start to report.

        Args:
            folder: the training's folder; what its log says of later rollouts than `done` is forgotten.
            rollouts: how many there will be.
            done: how many of them are done already.
            curves: whether TensorBoard files are written.
        """
        self._folder, self._rollouts, self._first = folder, rollouts, done
        self._started = time.monotonic()
        self._writer: Any = None
        folder.trim_log(done)
        if curves:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder.tensorboard), purge_step=done + 1 if done else None)

    def rollout(self, number: int, figures: dict[str, float]) -> None:
        """Report the figures of a rollout; `number` counts from 1."""
        self._folder.append_log({"rollout": number, **figures})
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, number)
        pace = (time.monotonic() - self._started) / (number - self._first)
        line = ", ".join(f"{name} {figures[name]:.4g}" for name in _IN_LINE if name in figures)
        left = duration(pace * (self._rollouts - number))
        log.info("rollout %d/%d: %s; %.1f s each, %s left", number, self._rollouts, line, pace, left)

    def sheet(self, number: int, images: Sequence[GeneratedImage], scored: Sequence[ScoredImage]) -> None:
        """Draw the fixed prompts' images with the detector's boxes, after `number` rollouts."""
        cells = [
            SheetCell(
                image=Image.fromarray(image.pixels),
                prompt=image.prompt,
                model=f"after {number}",
                defects=answer.defects,
                note="" if answer.reward is None else f"reward {answer.reward:.3g}",
            )
            for image, answer in zip(images, scored, strict=True)
        ]
        sheet = render_sheet(cells, title=f"After {number} rollouts, averaged weights")
        sheet.save(self._folder.samples / f"{number:06d}.png")
        if self._writer is not None:
            self._writer.add_image("samples", np.asarray(sheet.convert("RGB")), number, dataformats="HWC")

    def close(self) -> None:
        """Write the entries of the curves that are still in memory, and close their file."""
        if self._writer is not None:
            self._writer.close()
