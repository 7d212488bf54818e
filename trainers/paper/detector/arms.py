"""The arms: what each is trained with, and which comparisons the table makes of them.

All of SFT's start from the base, with the same data, seed and number of steps; GRPO starts from `sft`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

BASE: Final = "base"


@dataclass(frozen=True, slots=True)
class Arm:
    """`command` of `sdg train detector` with `options`, from the model of another arm; the base is not trained here."""

    name: str
    title: str
    start: str = BASE
    command: Literal["sft", "grpo"] | None = "sft"
    options: tuple[str, ...] = ()


ARMS: Final = {
    arm.name: arm
    for arm in (
        Arm(BASE, "base", command=None),
        Arm("sft", "SFT"),
        Arm("sft-no-jitter", "SFT, jitter off", options=("--jitter", "0")),
        Arm("sft-no-trace", "SFT, trace off", options=("--no-trace",)),
        Arm("grpo", "SFT + GRPO", start="sft", command="grpo"),
    )
}
CONTRASTS: Final = (("sft", BASE), ("grpo", "sft"), ("sft", "sft-no-jitter"), ("sft", "sft-no-trace"))
"""(one, other): the table says whether the first is better, on the same images."""
