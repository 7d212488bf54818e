"""Soft-TIFA, the score of GenEval 2 (arXiv 2512.16853), beside SDG-Eval: how surely an image has what its prompt asks.

A prompt is parted into atoms (an object, its colour, a count, a relation), each a question with an expected answer. A
VLM's probability of that answer is the atom's score. An image's score is the arithmetic mean over its atoms, or the
geometric mean, which one atom that is surely wrong takes to 0. Asking is the caller's business: here are the means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isnan, log
from statistics import fmean


@dataclass(frozen=True)
class SoftTifa:
    """Scores of images, on average.

    Attributes:
        images: How many images were scored.
        unanswered: Atoms without a probability; they count 0.
        arithmetic: The mean of the images' arithmetic means; None without an image.
        geometric: The mean of their geometric means; None without an image.
    """

    images: int
    unanswered: int
    arithmetic: float | None
    geometric: float | None


def arithmetic_mean(atoms: Sequence[float | None]) -> float:
    """An image's score, by how many of its atoms hold: the mean of their probabilities.

    `ValueError` is raised where there is no atom, or a probability is outside 0..1.

    Args:
        atoms: P(expected answer) of each atom, 0..1; None or NaN where the question was not answered, which counts 0.

    Returns:
        The score, 0..1.
    """
    return fmean(_checked(atoms))


def geometric_mean(atoms: Sequence[float | None]) -> float:
    """An image's score, by whether all of its atoms hold: the geometric mean of their probabilities.

    `ValueError` is raised as by `arithmetic_mean`.

    Args:
        atoms: As of `arithmetic_mean`.

    Returns:
        The score, 0..1; 0 where an atom is 0.
    """
    values = _checked(atoms)
    return exp(fmean(map(log, values))) if all(values) else 0.0


def soft_tifa(images: Mapping[str, Sequence[float | None]]) -> SoftTifa:
    """The scores of a set of images. `ValueError` is raised as by `arithmetic_mean`.

    Args:
        images: Image -> P(expected answer) of each of its prompt's atoms.

    Returns:
        The means over the images.
    """
    values = [list(atoms) for atoms in images.values()]
    return SoftTifa(
        images=len(values),
        unanswered=sum(atom is None or isnan(atom) for atoms in values for atom in atoms),
        arithmetic=fmean(map(arithmetic_mean, values)) if values else None,
        geometric=fmean(map(geometric_mean, values)) if values else None,
    )


def _checked(atoms: Sequence[float | None]) -> list[float]:
    values = [0.0 if atom is None or isnan(atom) else float(atom) for atom in atoms]
    if not values:
        raise ValueError("an image without atoms has no score")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"a probability is 0..1, not {next(value for value in values if not 0 <= value <= 1)}")
    return values
