"""Telephone lines: a band of 300 to 3400 Hz at 8 kHz, and a codec for speech."""

from __future__ import annotations

import io
from math import gcd

import numpy as np
import soundfile
from lhotse.augmentation import Compress

from slimasr.config.augmentation import TELEPHONE_RATE, Codec

BAND = (300.0, 3400.0)
"""Edges of the band in Hz, at which a filter of second order at either side takes 6 dB."""

FRAME = 320
"""Samples at 8 kHz of which whole frames of all codecs are made; those of GSM come in pairs of 20 ms."""

_G711 = {"mulaw": "ULAW", "alaw": "ALAW"}
# lhotse's scale of 0 to 1; about 16 kbit/s of Opus.
_COMPRESSION = 0.95


def over_telephone(samples: np.ndarray, sampling_rate: int, codec: Codec) -> np.ndarray:
    """Return (1, num_samples) float32 audio as it arrives over a telephone, at the rate and length of the original.

    Samples beyond full scale are clipped by the codec.

    Args:
        samples: (1, num_samples) float32, full scale [-1, 1].
        sampling_rate: of the samples in Hz, at least that of the telephone.
        codec: how the line codes speech.
    """
    # Imported here, because most commands need none of it.
    from scipy.signal import butter, resample_poly, sosfiltfilt

    if not samples.any():
        return samples
    common = gcd(sampling_rate, TELEPHONE_RATE)
    up, down = TELEPHONE_RATE // common, sampling_rate // common
    narrow = resample_poly(samples, up, down, axis=1)
    band = butter(1, BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    # Run forwards and backwards, so that speech is not delayed: alignments remain valid.
    filtered = sosfiltfilt(band, narrow, axis=1, padlen=0).astype(np.float32)
    missing = -filtered.shape[1] % FRAME
    coded = _coded(np.pad(filtered, ((0, 0), (0, missing))), codec)
    wide = resample_poly(coded, down, up, axis=1)
    length = samples.shape[1]
    fitted: np.ndarray = np.pad(wide, ((0, 0), (0, max(0, length - wide.shape[1]))))[:, :length]
    return np.ascontiguousarray(fitted, dtype=np.float32)


def _coded(samples: np.ndarray, codec: Codec) -> np.ndarray:
    """Code (1, num_samples) audio at 8 kHz and decode it again."""
    if codec == "none":
        return samples
    if codec in _G711:
        return _g711(samples, _G711[codec])
    found: np.ndarray = Compress(codec, _COMPRESSION)(samples, TELEPHONE_RATE)
    return found


def _g711(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Code each sample by the 8 bits of G.711; lhotse's own code for it needs torchaudio."""
    with io.BytesIO() as buffer:
        soundfile.write(buffer, samples.T, TELEPHONE_RATE, format="WAV", subtype=subtype)
        buffer.seek(0)
        found, _ = soundfile.read(buffer, dtype="float32", always_2d=True)
    coded: np.ndarray = found.T
    return coded
