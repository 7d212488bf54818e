"""Defects to measure: by hypothesis, and by chance on a coarse grid."""

import random

from hypothesis import strategies as st

from schemas.defect import Defect, Subtype
from schemas.geometry import Box


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    return Box(x0=x0, y0=y0, x1=draw(st.integers(x0 + 1, 1000)), y1=draw(st.integers(y0 + 1, 1000)))


@st.composite
def defects(draw: st.DrawFn) -> Defect:
    subtype = draw(st.sampled_from(Subtype))
    return Defect(
        box=draw(boxes()),
        type=subtype.type,
        subtype=draw(st.sampled_from([None, subtype])),
        reason=draw(st.sampled_from(["a hand", "six fingers on a hand", "the hat is green", "x1 y2", "手指六根"])),
        importance=draw(st.integers(1, 100)),
    )


def some_defects(rng: random.Random, most: int = 5, grid: int = 10) -> list[Defect]:
    """Boxes on a coarse grid, so that they overlap, coincide and tie."""
    found = []
    step = 1000 // grid
    for _ in range(rng.randint(0, most)):
        x0, y0 = rng.randint(0, grid - 2), rng.randint(0, grid - 2)
        x1, y1 = rng.randint(x0 + 1, min(grid, x0 + 5)), rng.randint(y0 + 1, min(grid, y0 + 5))
        found.append(
            Defect(
                box=Box(x0=x0 * step, y0=y0 * step, x1=x1 * step, y1=y1 * step),
                type=rng.choice(["artifact", "misalignment"]),
                reason=" ".join(rng.choices(["a", "hand", "with", "six", "fingers", "extraordinarily"], k=4)),
                importance=rng.randint(1, 100),
            )
        )
    return found
