"""Audio files of many formats, and bytes of theirs changed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
NUM_SAMPLES = 12001


@dataclass(frozen=True)
class Kind:
    """What soundfile writes: container, coding, byte order."""

    format: str
    subtype: str
    endian: str = "FILE"

    def __str__(self) -> str:
        return f"{self.format}-{self.subtype}-{self.endian}"


HEADERED = [
    Kind("WAV", "PCM_16"),
    Kind("WAV", "PCM_U8"),
    Kind("WAV", "PCM_24"),
    Kind("WAV", "FLOAT"),
    Kind("WAV", "DOUBLE"),
    Kind("WAV", "ALAW"),
    Kind("WAV", "IMA_ADPCM"),
    Kind("WAV", "PCM_16", "BIG"),
    Kind("WAVEX", "PCM_24"),
    Kind("RF64", "PCM_16"),
    Kind("W64", "PCM_16"),
    Kind("AIFF", "PCM_16"),
    Kind("AIFF", "ULAW"),
    Kind("AU", "PCM_16"),
    Kind("AU", "PCM_16", "LITTLE"),
    Kind("CAF", "PCM_16"),
    Kind("SVX", "PCM_16"),
    Kind("NIST", "PCM_16"),
    Kind("NIST", "ULAW"),
    Kind("OGG", "VORBIS"),
    Kind("OGG", "OPUS"),
    Kind("MP3", "MPEG_LAYER_III"),
]
ALL = [*HEADERED, Kind("FLAC", "PCM_16")]


def speech(num_samples: int = NUM_SAMPLES, peak: float = 0.5) -> np.ndarray:
    """Noise of a known peak."""
    samples = np.random.default_rng(0).standard_normal(num_samples)
    return peak * samples / np.abs(samples).max() if num_samples else samples


def write(path: Path, kind: Kind, samples: np.ndarray | None = None) -> bytes:
    """Write noise (or ``samples``); returns the bytes of the file."""
    content = speech() if samples is None else samples
    soundfile.write(path, content, RATE, format=kind.format, subtype=kind.subtype, endian=kind.endian)
    return path.read_bytes()


def patched(content: bytes, position: int, value: bytes) -> bytes:
    """The bytes with some of them replaced."""
    return content[:position] + value + content[position + len(value) :]


def wav_with_size(content: bytes, claimed: int) -> bytes:
    """A WAV file whose header claims so many bytes, of the file and of its samples."""
    size = struct.pack("<I", claimed)
    return patched(patched(content, 4, size), content.index(b"data") + 4, size)


def flac_without_length(content: bytes) -> bytes:
    """A FLAC file whose total number of samples, 36 bits of STREAMINFO, is 0: unknown."""
    return patched(content, 21, bytes([content[21] & 0xF0, 0, 0, 0, 0]))
