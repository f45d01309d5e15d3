"""Room impulse responses: random ones, and the reverberation of speech by any.

lhotse has a generator of random responses too, but it needs a compiled torchaudio that fits torch, and draws from the
global generator of torch, so that a resumed run would differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lhotse.augmentation import ReverbWithImpulseResponse

GAP_SECONDS = 0.002
"""Time between the direct sound and the first reflection."""


@dataclass(frozen=True)
class FixedResponse:
    """A source of impulse responses, as lhotse calls them, that has a single one, (1, num_samples) float32."""

    samples: np.ndarray

    def __call__(self, nsource: int = 1) -> np.ndarray:
        """Return the response."""
        return self.samples


def random_response(seconds: float, direct_db: float, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make the response of a simple room: direct sound, then noise that decays exponentially (Moorer 1979).

    Args:
        seconds: time in which the reverberation decays by 60 dB; the response ends there.
        direct_db: level of the direct sound above the reverberation in dB.
        sampling_rate: of the response in Hz.
        rng: draws the noise.

    Returns:
        (1, num_samples) float32; the first sample is the direct sound and has the value 1.
    """
    num_samples = max(2, round(seconds * sampling_rate))
    times = np.arange(num_samples) / sampling_rate
    # 60 dB are a factor of 1000 in amplitude.
    tail = rng.standard_normal(num_samples) * 10.0 ** (-3.0 * times / seconds)
    tail[: min(num_samples - 1, max(1, round(GAP_SECONDS * sampling_rate)))] = 0.0
    tail *= 10.0 ** (-direct_db / 20.0) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)[np.newaxis]


def reverberation(response: np.ndarray) -> ReverbWithImpulseResponse:
    """Return lhotse's transform by a (1, num_samples) response: energy and times of the speech stay what they are."""
    return ReverbWithImpulseResponse(rir_generator=FixedResponse(response))
