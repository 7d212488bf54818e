"""The folder of a detector's training (`trainers.common.run_folder`), and what only it has.

    checkpoints/         checkpoint-N: model, optimizer, scheduler, random states, position in the data
    samples/             step-N.png: held-out samples with their truth and the detector's answer
    model/               the best checkpoint's weights, processor and detector.json; there when the run has ended
    evaluation.json      SDG-Eval of those weights on the held-out part, with bootstrap intervals

A checkpoint counts when its `trainer_state.json`, which is written last, is whole, and its files have the checksums of
its `checksums.json`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Final

from annotate.vlm.qwen.load import weights_hash
from sdg_data.ids import HASH_LIMIT
from trainers.common import run_folder
from trainers.common.checksums import damaged

log = logging.getLogger(__name__)

_STATE: Final = "trainer_state.json"
CHECKSUMS: Final = "checksums.json"
"""In a checkpoint: what its files were when they were written."""


class DetectorRunFolder(run_folder.RunFolder):
    """Paths of a detector's training, and its checkpoints."""

    counter = "step"
    compared = ("data", "base")
    may_change = frozenset({"model.device", "data.workers", "evaluation.pictures", "saving.keep", "saving.report"})

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.evaluation = root / "evaluation.json"

    @property
    def finished(self) -> bool:
        """Whether the run has ended: the model's folder is moved there in one step."""
        return self.model.is_dir()

    def last_checkpoint(self) -> Path | None:
        """The latest whole checkpoint, None where there is none; torn ones after it are deleted."""
        numbered = sorted(
            (path for path in self.checkpoints.glob("checkpoint-*") if path.name.partition("-")[2].isdigit()),
            key=lambda path: int(path.name.partition("-")[2]),
            reverse=True,
        )
        for path in numbered:
            files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else []
            wrong = damaged(path / CHECKSUMS, files) if _is_whole(path) else [_STATE]
            if not wrong:
                return path
            log.warning("%s is not whole (%s); going on from the one before", path.name, ", ".join(wrong))
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return None


def source_fingerprint(source: str) -> str:
    """What a model's name stands for: two models with the same name and other weights have different ones.

    Args:
        source: a folder, or a hub repository.

    Returns:
        Of a folder a hash of its files (of a large folder, of their names and sizes), else the name itself.
    """
    folder = Path(source)
    if not folder.is_dir():
        return source
    if sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= HASH_LIMIT:
        return weights_hash(folder)
    parts = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
