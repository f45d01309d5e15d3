"""Features of audio that arrives in pieces: equal to those of the whole, for any cut and any sampling rate."""

from __future__ import annotations

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from slimasr.data.audio.file import SAMPLING_RATES
from slimasr.data.audio.resampling import StreamResampler
from slimasr.data.features.frames import extract_frames, no_frames
from slimasr.errors import UserError


class FeatureStream:
    """The log-mel features of one stream.

    A frame is computed as soon as its window is complete. lhotse mirrors the signal at both ends, so that the last one
    or two frames exist only when the stream has ended.
    """

    def __init__(self, extractor: Fbank, sampling_rate: int) -> None:
        """Start before the first sample.

        Args:
            extractor: computes features of whole audio (`slimasr.data.features.shards.make_extractor`).
            sampling_rate: the extractor's, in Hz; audio of other rates is resampled.
        """
        self._extractor = extractor
        self._sampling_rate = sampling_rate
        config = extractor.config
        # In samples, rounded as lhotse rounds them.
        self._window = int(config.frame_length * sampling_rate)
        self._shift = int(config.frame_shift * sampling_rate)
        self._source_rate: int | None = None
        self._resampler: StreamResampler | None = None
        # Samples that have not been used yet; until the first frame, they are all samples.
        self._waiting = torch.zeros(1, 0)
        self._started = False
        self._num_samples = 0
        self._num_frames = 0

    @property
    def num_frames(self) -> int:
        """Number of frames so far."""
        return self._num_frames

    def check_rate(self, sampling_rate: int) -> None:
        """Check that samples of this rate can follow those before.

        Raises:
            UserError: it is not their rate, or no rate.
        """
        # A range holds whole numbers, of any type; True is the whole number 1.
        if sampling_rate not in SAMPLING_RATES:
            low, high = SAMPLING_RATES[0], SAMPLING_RATES[-1]
            raise UserError(f"a sampling rate is a whole number of Hz from {low} to {high}, got {sampling_rate!r}")
        if self._source_rate not in (None, sampling_rate):
            raise UserError(
                f"a stream of {self._source_rate} Hz cannot go on with {sampling_rate} Hz: open a stream for each rate"
            )

    def accept(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Take the next (T,) float32 samples, and return the (F, M) features that are complete.

        Raises:
            UserError: the sampling rate is not that of the samples before.
        """
        self.check_rate(sampling_rate)
        if self._resampler is None:
            self._resampler = StreamResampler(int(sampling_rate), self._sampling_rate)
            self._source_rate = sampling_rate
        return self._take(self._resampler.accept(samples))

    def finish(self) -> np.ndarray:
        """Return the (F, M) features that are left; the stream has ended."""
        ready = no_frames(self._extractor.config.num_filters)
        if self._resampler is not None:
            ready = self._take(self._resampler.finish())
        if not self._started:
            # So short that no frame has been computed.
            rest = extract_frames(self._extractor, self._waiting.numpy(), self._sampling_rate)
        else:
            rest = self._mirrored_end()
        self._num_frames += len(rest)
        return np.concatenate([ready, rest])

    def _take(self, samples: np.ndarray) -> np.ndarray:
        """Take samples of the extractor's rate."""
        self._num_samples += len(samples)
        new = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).unsqueeze(0)
        # lhotse computes no fewer frames than one; the window of the first one begins with mirrored samples.
        mirrored = 0 if self._started else (self._window - self._shift) // 2
        if mirrored + self._waiting.shape[1] + new.shape[1] < self._window:
            self._waiting = torch.cat([self._waiting, new], dim=1)
            return no_frames(self._extractor.config.num_filters)
        if self._started:
            features = self._computed(new, self._waiting)
        else:
            features = self._computed(torch.cat([self._waiting, new], dim=1), None)
        self._started = True
        self._num_frames += len(features)
        return features

    def _computed(self, samples: Tensor, before: Tensor | None) -> np.ndarray:
        """Compute the frames of (1, T) samples behind those that were left over, and keep what is left over now."""
        features, rest = self._extractor.extractor.online_inference(samples, context=before)
        # A copy, because the rest would keep all samples in memory.
        self._waiting = rest.clone()
        found: np.ndarray = features[0].numpy()
        return found

    def _mirrored_end(self) -> np.ndarray:
        """Return the last frames, whose windows reach beyond the last sample, where the signal is mirrored."""
        # Frames are rounded, halves up.
        total = (self._num_samples + self._shift // 2) // self._shift
        left = total - self._num_frames
        if left <= 0:
            return no_frames(self._extractor.config.num_filters)
        missing = (left - 1) * self._shift + self._window - self._waiting.shape[1]
        mirrored = torch.flip(self._waiting[:, -missing:], (1,))
        return self._computed(mirrored, self._waiting)
