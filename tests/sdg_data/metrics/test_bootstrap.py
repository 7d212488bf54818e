"""Resampling against a loop, and against what the theory of means says."""

import numpy as np
import pytest

from sdg_data.metrics.bootstrap import interval, intervals, resampled_sums, statistic_interval


def test_sums_equal_a_loop_over_the_same_draws() -> None:
    values = np.random.default_rng(1).random((37, 3))
    rng = np.random.default_rng(5)
    expected = [values[rng.integers(0, 37, size=37)].sum(axis=0) for _ in range(20)]
    assert np.allclose(resampled_sums(values, resamples=20, seed=5), expected)


def test_sums_of_whole_numbers_are_exact() -> None:
    """A sum that should be 0 and is 1e-9 would turn 0/0 into a number."""
    values = np.random.default_rng(1).integers(0, 3, size=(500, 4)).astype(np.float64) * [1, 1000, 0, 1]
    values[1:, 3] = 0
    rng = np.random.default_rng(5)
    expected = [values[rng.integers(0, 500, size=500)].sum(axis=0) for _ in range(50)]
    assert np.array_equal(resampled_sums(values, resamples=50, seed=5), expected)
    assert (np.array(expected)[:, 3] == 0).any()


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((50, 2))
    whole = resampled_sums(values, resamples=33, seed=1)
    monkeypatch.setattr("sdg_data.metrics.bootstrap._CHUNK", 100)
    monkeypatch.setattr("sdg_data.metrics.bootstrap._DRAWS", 1)
    assert np.allclose(resampled_sums(values, resamples=33, seed=1), whole)


def test_the_interval_of_a_mean_has_the_width_that_theory_says() -> None:
    values = np.random.default_rng(3).normal(10, 2, size=(400, 1))
    figures = statistic_interval(values, lambda sums: sums[:, 0] / 400, resamples=4000, seed=0)
    assert figures is not None
    low, high = figures
    half = 1.96 * values.std() / 400**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_undefined_resamples_are_left_out() -> None:
    assert interval(np.array([np.nan, 1.0, 3.0]), level=1.0) == [1.0, 3.0]
    assert interval(np.array([np.nan])) is None
    assert interval(np.empty(0)) is None
    tree = intervals({"a": {"f1": np.array([1.0, 2.0]), "tp": np.array([1.0])}}, level=1.0, leave_out=frozenset({"tp"}))
    assert tree == {"a": {"f1": [1.0, 2.0]}}


def test_no_images() -> None:
    assert np.array_equal(resampled_sums(np.empty((0, 2)), resamples=3), np.zeros((3, 2)))
