"""Fast lengths against scipy's."""

from __future__ import annotations

import random

from scipy.fft import next_fast_len

from slimasr.elastic.fft import fast_length


def test_fast_lengths_are_those_of_scipy() -> None:
    rng = random.Random(0)
    for length in [*range(1, 5000), *(rng.randrange(1, 10**7) for _ in range(1000))]:
        assert fast_length(length) == next_fast_len(length, real=True), length
