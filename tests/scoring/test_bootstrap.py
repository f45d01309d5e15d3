"""The interval of a difference against the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest

from slimasr.scoring.bootstrap import difference_interval


def test_interval_agrees_with_the_normal_law() -> None:
    rng = np.random.default_rng(7)
    words = np.full(4000, 10)
    more_errors = rng.poisson(3.0, 4000) - rng.poisson(2.0, 4000)
    low, high = difference_interval(more_errors, words, replications=2000)
    # The difference of two Poisson variables has mean 1 and variance 5; in percent of 10 words per utterance.
    half = 1.96 * 100 * np.sqrt(5 / 4000) / 10
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert (high + low) / 2 == pytest.approx(100 * more_errors.mean() / 10, abs=0.1)
