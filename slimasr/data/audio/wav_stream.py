"""Reads wav from a pipe, whose header may leave its length open, and headerless 16-bit samples."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from slimasr.data.audio.file import AudioError, check_sampling_rate

Read = Callable[[int], bytes]
"""Returns the next bytes, at most so many; no byte at the end."""

_PCM = 1
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
# Programs that write to a pipe do not know the length, and claim that of the longest possible file, or 0.
_LONGEST_KNOWN = 0x7FFF0000


@dataclass(frozen=True)
class SampleFormat:
    """How samples are stored.

    Attributes:
        sampling_rate: in Hz.
        num_channels: channels, sample by sample.
        num_bytes: of one sample.
        is_float: whether samples are floating-point numbers; else they are integers, unsigned if they have one byte.
        length: bytes of all samples; None = until the stream ends.
    """

    sampling_rate: int
    num_channels: int = 1
    num_bytes: int = 2
    is_float: bool = False
    length: int | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.num_channels * self.num_bytes

    def decode(self, content: bytes) -> np.ndarray:
        """Return the mean of the channels, (T,) float32; full scale of integers is 1."""
        if self.is_float:
            values = np.frombuffer(content, f"<f{self.num_bytes}")
        elif self.num_bytes == 1:
            values = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
        elif self.num_bytes == 3:
            # Three bytes become the upper ones of four.
            wide = np.zeros((len(content) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            values = wide.view("<i4")[:, 0] / 2.0**31
        else:
            values = np.frombuffer(content, f"<i{self.num_bytes}") / 2.0 ** (8 * self.num_bytes - 1)
        mono: np.ndarray = values.astype(np.float32).reshape(-1, self.num_channels).mean(axis=1)
        return mono


def is_wav(start: bytes) -> bool:
    """Return whether a stream that starts with these 12 bytes is wav."""
    return start[:4] == b"RIFF" and start[8:12] == b"WAVE"


def read_ahead(read: Read, num_bytes: int) -> tuple[Read, bytes]:
    """Read the first bytes of a stream.

    Returns:
        A function that reads the stream from its start, and the bytes, fewer only if the stream ends before.
    """
    start = _exactly(read, num_bytes)
    left = start

    def again(most: int) -> bytes:
        nonlocal left
        if not left:
            return read(most)
        part, left = left[:most], left[most:]
        return part

    return again, start


def read_wav_header(read: Read, name: str) -> SampleFormat:
    """Read the header of a wav stream up to its first sample.

    Args:
        read: returns the next bytes of the stream.
        name: of the stream, for errors.

    Raises:
        AudioError: the stream is empty, no wav, or wav of an encoding that only a decoder reads.
    """
    start = _exactly(read, 12)
    if not start:
        raise AudioError(f"{name}: holds no samples")
    if not is_wav(start):
        raise AudioError(f"{name}: is not a wav stream; for headerless 16-bit mono samples, give their rate by --raw")
    found: SampleFormat | None = None
    while True:
        mark, size = struct.unpack("<4sI", _part_of_header(read, 8, name))
        if mark == b"data":
            break
        # Chunks have an even number of bytes.
        content = _part_of_header(read, size + size % 2, name)
        if mark == b"fmt ":
            found = _format(content, name)
    if found is None:
        raise AudioError(f"{name}: is a damaged wav stream, which does not say how its samples are stored")
    length = size if 0 < size < _LONGEST_KNOWN else None
    return SampleFormat(found.sampling_rate, found.num_channels, found.num_bytes, found.is_float, length)


def _format(content: bytes, name: str) -> SampleFormat:
    """Read the chunk of a wav header that describes the samples."""
    if len(content) < 16:
        raise AudioError(f"{name}: is a damaged wav stream, which does not say how its samples are stored")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == _EXTENSIBLE and len(content) >= 26:
        # The encoding is the start of a longer identifier.
        (tag,) = struct.unpack("<H", content[24:26])
    allowed = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(tag, ())
    if bits not in allowed or channels < 1:
        raise AudioError(
            f"{name}: is wav of encoding {tag} with {bits} bits and {channels} channels; write samples of 16 bits "
            "(ffmpeg -f wav -acodec pcm_s16le)"
        )
    check_sampling_rate(rate, name)
    return SampleFormat(rate, channels, bits // 8, tag == _FLOAT)


def read_samples(read: Read, form: SampleFormat, num_samples: int) -> Iterator[np.ndarray]:
    """Yield the samples of a stream as they arrive.

    Args:
        read: returns the next bytes; it need not return as many as it is asked for.
        form: how samples are stored.
        num_samples: most samples in one piece.

    Yields:
        (T,) float32, never empty. Bytes at the end that are not a whole sample are dropped.
    """
    left = form.length
    kept = b""
    while left is None or left > 0:
        wanted = num_samples * form.frame_bytes - len(kept)
        content = read(wanted if left is None else min(wanted, left))
        if not content:
            return
        if left is not None:
            left -= len(content)
        kept += content
        whole = len(kept) - len(kept) % form.frame_bytes
        if whole:
            yield form.decode(kept[:whole])
            kept = kept[whole:]


def _part_of_header(read: Read, num_bytes: int, name: str) -> bytes:
    """Return so many bytes, or raise an error if the stream ends before them."""
    content = _exactly(read, num_bytes)
    if len(content) < num_bytes:
        raise AudioError(f"{name}: ends within the header of a wav stream")
    return content


def _exactly(read: Read, num_bytes: int) -> bytes:
    """Return so many bytes, fewer only at the end of the stream."""
    parts: list[bytes] = []
    missing = num_bytes
    while missing > 0:
        # A damaged header may claim any size, which must not be allocated.
        part = read(min(missing, 1 << 16))
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
