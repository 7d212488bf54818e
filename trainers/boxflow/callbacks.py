"""What is looked at while it trains: a line and a log entry a rollout, curves, and a sheet of fixed prompts."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from sdg_data.progress import duration
from sdg_data.sheets.draw import SheetCell, render_sheet
from trainers.boxflow.run_folder import RunFolder
from trainers.rewards.contract import Shot
from trainers.rewards.scoring import Assessed

log = logging.getLogger(__name__)

_SHOWN = ("reward", "burden/artifact", "burden/misalignment", "kept", "clipped", "kl", "grad_norm")


class Watcher:
    """On the main process. `first`: the rollouts that are done already."""

    def __init__(self, folder: RunFolder, rollouts: int, first: int, *, curves: bool) -> None:
        self._folder, self._rollouts, self._first = folder, rollouts, first
        self._started = time.monotonic()
        self._writer: Any = None
        folder.trim_log(first)
        if curves:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder.tensorboard), purge_step=first + 1 if first else None)

    def rollout(self, number: int, figures: dict[str, float]) -> None:
        """`number` from 1."""
        self._folder.append_log({"rollout": number, **figures})
        for name, value in figures.items():
            self._curve(name, value, number)
        pace = (time.monotonic() - self._started) / (number - self._first)
        shown = ", ".join(f"{name} {figures[name]:.4g}" for name in _SHOWN if name in figures)
        left = duration(pace * (self._rollouts - number))
        log.info("rollout %d/%d: %s; %.1f s each, %s left", number, self._rollouts, shown, pace, left)

    def sheet(self, number: int, shots: Sequence[Shot], found: Sequence[Assessed]) -> None:
        """A picture of the fixed prompts, with the detector's boxes; `number` of rollouts done."""
        cells = [
            SheetCell(
                image=Image.fromarray(shot.pixels),
                prompt=shot.prompt,
                model=f"after {number}",
                defects=one.defects,
                note="" if one.reward is None else f"reward {one.reward:.3g}",
            )
            for shot, one in zip(shots, found, strict=True)
        ]
        image = render_sheet(cells, title=f"After {number} rollouts, averaged weights")
        image.save(self._folder.samples / f"{number:06d}.png")
        if self._writer is not None:
            self._writer.add_image("samples", np.asarray(image.convert("RGB")), number, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    def _curve(self, name: str, value: float, number: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, number)


class StopSign:
    """Ctrl-C and SIGTERM stop at the end of a rollout, with a checkpoint; a second one stops at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: dict[int, Any] = {}

    @property
    def raised(self) -> bool:
        """Whether somebody asked."""
        return self._asked.is_set()

    def __enter__(self) -> StopSign:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        log.warning("stopping at the end of this rollout, with a checkpoint; once more stops at once")
