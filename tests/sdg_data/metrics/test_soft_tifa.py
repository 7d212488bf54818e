"""Soft-TIFA by hand, and against the definition."""

from math import nan, prod, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.metrics.soft_tifa import arithmetic_mean, geometric_mean, soft_tifa

ATOMS = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=6)


def test_by_hand() -> None:
    figures = soft_tifa({"a": [0.9, 0.4], "b": [1.0, 0.0, 0.5], "c": [None, nan, 0.6]})
    assert (figures.images, figures.unanswered) == (3, 2)
    assert figures.arithmetic == pytest.approx((0.65 + 0.5 + 0.2) / 3)
    assert figures.geometric == pytest.approx((sqrt(0.36) + 0 + 0) / 3)
    assert soft_tifa({}).arithmetic is None


@given(ATOMS)
def test_means_are_the_definitions_and_silence_never_pays(atoms: list[float | None]) -> None:
    values = [atom or 0.0 for atom in atoms]
    assert arithmetic_mean(atoms) == pytest.approx(sum(values) / len(values))
    assert geometric_mean(atoms) == pytest.approx(prod(values) ** (1 / len(values)), abs=1e-6)
    assert geometric_mean(atoms) <= arithmetic_mean(atoms) + 1e-12
    silent = [None, *atoms[1:]]
    assert arithmetic_mean(silent) <= arithmetic_mean(atoms)
    assert geometric_mean(silent) <= geometric_mean(atoms)


@pytest.mark.parametrize("atoms", [[], [1.5], [-0.1]])
def test_what_is_no_probability_is_refused(atoms: list[float | None]) -> None:
    for mean in (arithmetic_mean, geometric_mean):
        with pytest.raises(ValueError):
            mean(atoms)
