"""The learning rate of the toy trainings: a linear warm-up, then a cosine."""

import math


def warmup_cosine(step: int, steps: int, *, warmup: int, floor: float, span: float = 1.0, peak: float = 1.0) -> float:
    """peak · min(1, (step + 1) / warmup) · (span · ½(1 + cos(π · step / steps)) + floor): the rate of one step.

    Args:
        step: Steps taken before, from 0.
        steps: Length of the cosine. It may exceed the training, which then ends before the rate is at its lowest.
        warmup: Steps until the rate is no longer lowered for the start.
        floor: What is left of the rate at the cosine's end.
        span: By how much the cosine falls.
        peak: The rate itself; 1 gives a factor.
    """
    return peak * min(1.0, (step + 1) / warmup) * (span * 0.5 * (1 + math.cos(math.pi * step / steps)) + floor)
