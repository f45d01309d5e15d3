"""Synthesise one recording: speech by espeak-ng in a simulated room with noise.

This is separate from the corpus's listing because the synthesising processes import only this module.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import fftconvolve, lfilter, resample_poly

from slimasr.data.synthesis.espeak import Espeak, Voice
from slimasr.files import writing

SAMPLING_RATE = 16000


@dataclass(frozen=True)
class Recording:
    """How one utterance is synthesised.

    Attributes:
        set: the name of the set in the corpus's list.
        language: code of the language of the text.
        pauses: whether the digits are read as a list, with commas.
        snr: signal-to-noise ratio in dB.
        reverberation: seconds in which the echo falls by 60 dB; 0 = none.
        direct_ratio: energy of the direct sound over that of the echo, in dB.
        lead, tail: seconds of noise before and after the speech.
        peak: largest absolute sample.
    """

    id: str
    set: str
    language: str
    text: str
    voice: Voice
    pauses: bool
    snr: float
    reverberation: float
    direct_ratio: float
    lead: float
    tail: float
    peak: float
    seed: int


def record_all(chunk: tuple[Sequence[Recording], Path]) -> None:
    """Write all recordings of a chunk into a folder; each process runs one chunk."""
    plan, folder = chunk
    with Espeak() as espeak:
        for item in plan:
            # espeak-ng pauses at commas.
            text = item.text.replace(" ", ", ") if item.pauses else item.text
            clean = espeak.say(text, item.voice, item.seed)
            samples = make_audio(clean, espeak.sampling_rate, item)
            content = io.BytesIO()
            soundfile.write(content, samples, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
            path = folder / f"{item.id}.flac"
            with writing(path):
                path.write_bytes(content.getbuffer())


def make_audio(speech: np.ndarray, sampling_rate: int, item: Recording) -> np.ndarray:
    """Clean speech (num_samples,) at any rate -> the recording at 16 kHz: in a room, in noise, scaled."""
    rng = np.random.default_rng(item.seed)
    # Resampling by a ratio in lowest terms.
    divisor = np.gcd(SAMPLING_RATE, sampling_rate)
    audio = resample_poly(speech, SAMPLING_RATE // divisor, sampling_rate // divisor)
    audio = np.pad(audio, [int(seconds * SAMPLING_RATE) for seconds in (item.lead, item.tail)])
    if item.reverberation > 0:
        room = impulse_response(item.reverberation, item.direct_ratio, rng)
        # The echo after the last sample is cut off.
        audio = fftconvolve(audio, room)[: len(audio)]
    # One random pole makes noise between white and low-pass.
    noise = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.95)], rng.standard_normal(len(audio)))
    # The gain that brings the noise to the power of the speech; its SNR is then set in dB.
    power_ratio = np.mean(np.square(audio)) / max(np.mean(np.square(noise)), 1e-12)
    audio = audio + noise * np.sqrt(power_ratio * 10 ** (-item.snr / 10))
    scaled: np.ndarray = (audio * (item.peak / np.abs(audio).max())).astype(np.float32)
    return scaled


def impulse_response(reverberation: float, direct_ratio: float, rng: np.random.Generator) -> np.ndarray:
    """A room's response: the direct sound, then noise that falls by 60 dB in ``reverberation`` seconds."""
    times = np.arange(int(reverberation * SAMPLING_RATE)) / SAMPLING_RATE
    # An amplitude of 10 ** -3 is -60 dB.
    echo = rng.standard_normal(len(times)) * 10 ** (-3 * times / reverberation)
    # The direct sound has energy 1 and is set last, so that only the echo is scaled to the ratio.
    echo[0] = 0.0
    echo *= np.sqrt(10 ** (-direct_ratio / 10) / np.sum(np.square(echo)))
    echo[0] = 1.0
    return echo
