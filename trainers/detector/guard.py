"""Stops a reinforcement learning that has collapsed, before it costs hours."""

from __future__ import annotations

from collections import deque
from typing import Any

from transformers import TrainerCallback

from trainers.detector.grpo_config import GuardSettings


class CollapseGuard(TrainerCallback):
    """Looks at the logged figures (`reward_logging.health`); `verdict` says what went wrong, or is None.

    Ends the training with a checkpoint once one figure was beyond its bound in `window` entries in a row. All processes
    see the same figures, so all stop at the same step.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._seen: deque[frozenset[str]] = deque(maxlen=settings.window)
        self.verdict: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Look at a log entry.

        Returns:
            The trainer's control.
        """
        if logs and "format_rate" in logs and self.judge(logs) is not None:
            control.should_training_stop = control.should_save = True
        return control

    def judge(self, figures: dict[str, Any]) -> str | None:
        """Look at one more entry.

        Returns:
            What went wrong, or None.
        """
        self._seen.append(frozenset(self._wrong(figures)))
        if len(self._seen) == self._settings.window:
            always = frozenset.intersection(*self._seen)
            if always:
                self.verdict = f"{'; '.join(sorted(always))}, in {self._settings.window} log entries in a row"
        return self.verdict

    def _wrong(self, figures: dict[str, Any]) -> list[str]:
        bounds = self._settings
        problems = []
        if figures["format_rate"] < bounds.min_format:
            problems.append(f"fewer than {bounds.min_format:.0%} of the answers have a valid form")
        if (figures.get("silent_rate") or 0) > bounds.max_silent:
            problems.append(f"more than {bounds.max_silent:.0%} of the answers about defective images are empty")
        if (figures.get("boxes_per_answer") or 0) > bounds.max_boxes:
            problems.append(f"more than {bounds.max_boxes:g} boxes an answer")
        if (figures.get("copied_rate") or 0) > bounds.max_copied:
            problems.append(f"more than {bounds.max_copied:.0%} of the answers are another image's, word for word")
        return problems
