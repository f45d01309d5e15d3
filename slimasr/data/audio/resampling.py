"""Changes the sampling rate of audio that arrives in pieces, with the result of `scipy.signal.resample_poly`."""

from __future__ import annotations

from math import gcd

import numpy as np

_ZERO_CROSSINGS = 10
"""The filter spans so many samples of the lower rate to either side, as that of `resample_poly` does."""


class StreamResampler:
    """Resamples one stream; what it returns does not depend on how the samples are cut into pieces.

    With ``up / down`` the ratio of the rates, output sample m is ``sum_k h[m down - k up] x[k]``, where h is the
    low-pass filter at ``up`` times the rate of the source, centred at 0.
    """

    def __init__(self, source: int, target: int) -> None:
        """Design the filter.

        Args:
            source: sampling rate of the samples in Hz.
            target: sampling rate of the result in Hz.
        """
        common = gcd(source, target)
        self._up = target // common
        self._down = source // common
        self._half = _ZERO_CROSSINGS * max(self._up, self._down)
        self._taps = np.zeros(0, np.float32) if source == target else _low_pass(self._up, self._down, self._half)
        # The samples from number `_first` on, which later output depends on.
        self._kept = np.zeros(0, dtype=np.float32)
        self._first = 0
        self._num_out = 0

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Resample the next (T,) float32 samples; the last of them wait for those that follow."""
        if self._up == self._down:
            return samples
        self._kept = np.concatenate([self._kept, samples])
        known = self._first + len(self._kept)
        # Output m needs the input samples k with k * up <= m * down + half.
        return self._until(max(self._num_out, -(-(known * self._up - self._half) // self._down)))

    def finish(self) -> np.ndarray:
        """Return the end of the stream, which silence follows."""
        if self._up == self._down:
            return np.zeros(0, dtype=np.float32)
        known = self._first + len(self._kept)
        return self._until(-(-known * self._up // self._down))

    def _until(self, end: int) -> np.ndarray:
        """Return the output samples from the next one up to ``end``, and forget what no later one needs."""
        if end <= self._num_out:
            return np.zeros(0, dtype=np.float32)
        # Imported here, because it takes longer than the rest of a short transcription at the model's own rate.
        from scipy.signal import upfirdn

        # The filter is delayed until its output number `skipped` is at the position of sample `_num_out`.
        delay = (self._first * self._up - self._half) % self._down
        taps = np.concatenate([np.zeros(delay, np.float32), self._taps])
        # Output of the filter number j is sample j - offset of the result.
        offset = (self._half + delay - self._first * self._up) // self._down
        # Zeros behind the last sample make the filter run to its end.
        padded = np.pad(self._kept, (0, 2 * self._half // self._up + 1))
        found: np.ndarray = upfirdn(taps, padded, self._up, self._down)
        out = found[self._num_out + offset : end + offset]
        self._num_out = end
        # The next output begins with the first sample k with k * up >= m * down - half.
        first = max(self._first, -(-(end * self._down - self._half) // self._up))
        self._kept = self._kept[first - self._first :]
        self._first = first
        return out.astype(np.float32, copy=False)


def _low_pass(up: int, down: int, half: int) -> np.ndarray:
    """Return the (2 half + 1,) float32 filter of `resample_poly`."""
    from scipy.signal import firwin

    taps: np.ndarray = firwin(2 * half + 1, 1.0 / max(up, down), window=("kaiser", 5.0))
    # Rounded before it is scaled, as there.
    return taps.astype(np.float32) * np.float32(up)
