"""Notices a detector that has fallen silent: no boxes are not the same as no defects, and silence raises the reward."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from trainers.rewards.scoring import ScoredImage

log = logging.getLogger(__name__)

ALARM_AFTER: Final = 3
"""Rollouts in a row without one box."""


class SilenceAlarm:
    """Counts rollouts in a row in which every answer was "clean"."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def hear(self, images: Sequence[ScoredImage]) -> bool:
        """Look at a rollout's answers, and warn from the third silent one on.

        Args:
            images: those of all processes; one without an answer says nothing.

        Returns:
            Whether it warned.
        """
        answered = [image.defects for image in images if image.defects is not None]
        if not answered:
            return False
        self.in_a_row = 0 if any(answered) else self.in_a_row + 1
        if self.in_a_row < ALARM_AFTER:
            return False
        log.warning(
            "the detector found no defect in any image of %d rollouts in a row: is it still the one that was meant?",
            self.in_a_row,
        )
        return True
