"""In what order a rater sees the trials of a study, and on which side each arm stands.

Sides are balanced, never drawn: of the trials of the same arms a rater sees each arm equally often on each side, and of
two raters with following numbers one sees a pair the other way round. A repeated trial stands the other way round than
the trial that it repeats, and comes later.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from schemas.study import StudyTrial, TrialKind

REPEAT_AFTER = 0.3
"""A repeat comes after at least so much of a study (as a share of its length)."""


def arrangements(trials: Sequence[StudyTrial], rater_number: int) -> dict[str, tuple[int, ...]]:
    """The places of each trial's arms from left to right, as a rater sees them; the number balances sides.

    Args:
        trials: All trials of the study, in the order of their numbers.
        rater_number: From 0.

    Returns:
        Trial id -> a permutation of its arms' places.
    """
    seen: Counter[tuple[object, ...]] = Counter()
    shown: dict[str, tuple[int, ...]] = {}
    for trial in trials:
        if trial.repeats is not None:
            shown[trial.id] = shown[trial.repeats][::-1]
            continue
        group = (trial.kind, trial.arms)
        shown[trial.id] = _arrangement(len(trial.arms), seen[group] + rater_number)
        seen[group] += 1
    return shown


def _arrangement(arms: int, number: int) -> tuple[int, ...]:
    """The places rotated by `number`; every second round of rotations the other way round, for three arms and more."""
    turned = tuple((place + number) % arms for place in range(arms))
    return turned[::-1] if arms > 2 and number // arms % 2 else turned


def sequence(trials: Sequence[StudyTrial], seed: int, rater: str) -> list[StudyTrial]:
    """The trials in the rater's own order, which follows from the seed and the name alone."""
    keys: dict[str, float] = {}
    for trial in sorted(trials, key=lambda trial: trial.kind is TrialKind.REPEATED):
        own = _fraction(seed, rater, trial.id)
        keys[trial.id] = own if trial.repeats is None else keys[trial.repeats] + REPEAT_AFTER * (1 + own)
    return sorted(trials, key=lambda trial: (keys[trial.id], trial.id))


def _fraction(*parts: object) -> float:
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
