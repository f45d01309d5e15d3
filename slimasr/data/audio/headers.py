"""The number of bytes of samples that the headers of uncompressed audio files claim.

libsndfile silently reduces its number of samples to the bytes that it finds. These functions read what it does not
report, the size that the header claims, so that a truncated file is noticed.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

# Sizes that programs write when they cannot seek back to fill in the right one (mostly into a pipe), besides 0:
# sox into AIFF, sox into WAV, arecord, and nearly everybody else. Some round them down to whole blocks of samples.
_PIPE_SIZES = (0x7F000000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
_ROUNDING = 4096
_UNKNOWN_64 = 2**62
# Wave64 names chunks by GUIDs of 16 bytes, and counts 16 + 8 bytes of name and size in the length of a chunk.
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_W64_HEADER = 24
# A line such as ``sample_count -i 48000`` or ``sample_coding -s3 pcm``.
_NIST_FIELD = re.compile(rb"^(\w+) -(?:i|s\d+) (\S+)\s*$", re.MULTILINE)


class IncompleteError(Exception):
    """Some samples of a file cannot be read; the message says why."""


@dataclass(frozen=True)
class Splice:
    """Bytes that replace the first ``start`` bytes of a file.

    libsndfile does not read all samples of some files whose header does not give their number; with this replacement
    header it does.
    """

    head: bytes
    start: int


def inspect_wav(file: BinaryIO, size: int) -> Splice | None:
    """Check that a RIFF, RIFX or RF64 file of ``size`` bytes holds its whole ``data`` chunk.

    Returns:
        A header with the true size if the header of the file says 0 (never closed, or written to a pipe).

    Raises:
        IncompleteError: the chunk is truncated.
    """
    order = ">" if _read(file, 0, 4) == b"RIFX" else "<"
    # Chunks follow "RIFF", the size of the file and "WAVE", 4 bytes each.
    position = 12
    ds64: int | None = None
    while position + 8 <= size:
        name, length = _chunk(file, position, order)
        if name == b"data":
            # RF64 has the size of the samples in its ds64 chunk, in 64 bits; the one of the data chunk is not valid.
            if ds64 is not None:
                return _inspect_data(file, size, position + 8, order, ds64, "Q")
            return _inspect_data(file, size, position + 8, order, position + 4, "I")
        # Anything else than a chunk is left to libsndfile, which reports it.
        if not _is_chunk_name(name):
            return None
        if name == b"ds64":
            # The size of the samples follows that of the file.
            ds64 = position + 16
        # Chunks are padded to an even number of bytes, which their length does not include.
        position += 8 + length + length % 2
    return None


def _inspect_data(file: BinaryIO, size: int, start: int, order: str, field: int, code: str) -> Splice | None:
    """The samples of a RIFF or RF64 file, whose number of bytes stands at ``field``."""
    width = struct.calcsize(code)
    (claimed,) = struct.unpack(order + code, _read(file, field, width))
    if not _is_unknown(claimed, width):
        _check_size(claimed, size - start)
        return None
    # A size of 0 is true of an empty file, and otherwise says that the writer never closed the file.
    if claimed == 0 and _has_only_chunks(file, start, size, order):
        return None
    # libsndfile reads a RIFF file of any other unknown size to its end.
    if claimed != 0 and code == "I":
        return None
    return _with_size(file, start, field, struct.pack(order + code, size - start))


def inspect_w64(file: BinaryIO, size: int) -> Splice | None:
    """As `inspect_wav`, for Sony Wave64; libsndfile reads those of unknown size."""
    # The GUID of the file (16 bytes), its size (8) and the GUID of the format (16) come first.
    position = 40
    while position + _W64_HEADER <= size:
        name = _read(file, position, 16)
        (length,) = struct.unpack("<Q", _read(file, position + 16, 8))
        if name == _W64_DATA:
            claimed = max(length - _W64_HEADER, 0)
            if not _is_unknown(claimed, 8):
                _check_size(claimed, size - position - _W64_HEADER)
            return None
        if length < _W64_HEADER:
            return None
        # Chunks start at multiples of 8 bytes.
        position += length + -length % 8
    return None


def inspect_form(file: BinaryIO, size: int) -> Splice | None:
    """As `inspect_wav`, for AIFF, AIFF-C and 8SVX; libsndfile reads those of unknown size."""
    position = 12
    while position + 8 <= size:
        name, length = _chunk(file, position, ">")
        if name in (b"SSND", b"BODY"):
            if not _is_unknown(length, 4):
                _check_size(length, size - position - 8)
            return None
        if not _is_chunk_name(name):
            return None
        position += 8 + length + length % 2
    return None


def inspect_au(file: BinaryIO, size: int) -> Splice | None:
    """As `inspect_wav`, for Sun's AU; a file that was never closed also gets a replacement header."""
    order = ">" if _read(file, 0, 4) == b".snd" else "<"
    # Bytes 4 to 7: where the samples start; 8 to 11: their number of bytes, all ones if it is unknown.
    start, claimed = struct.unpack(f"{order}II", _read(file, 4, 8).ljust(8, b"\0"))
    if not _is_unknown(claimed, 4):
        _check_size(claimed, size - start)
        return None
    return _with_size(file, start, 8, b"\xff" * 4) if claimed == 0 and size > start else None


def inspect_caf(file: BinaryIO, size: int) -> Splice | None:
    """As `inspect_wav`, for Apple's CAF, whose size -1 means "to the end of the file"."""
    position = 8
    while position + 12 <= size:
        name = _read(file, position, 4)
        (length,) = struct.unpack(">q", _read(file, position + 4, 8))
        start = position + 12
        if name == b"data":
            if length == -1:
                return _with_size(file, start, position + 4, struct.pack(">q", size - start))
            _check_size(length, size - start)
            return None
        if length < 0 or not _is_chunk_name(name):
            return None
        position = start + length
    return None


def inspect_nist(file: BinaryIO, size: int) -> Splice | None:
    """As `inspect_wav`, for NIST SPHERE; libsndfile reads all bytes whatever ``sample_count`` says."""
    # The second line is the size of the header in bytes, right-aligned in 8 columns.
    length = _number(_read(file, 8, 8).strip())
    if length is None:
        return None
    header = _read(file, 0, min(length, size)).partition(b"end_head")[0]
    fields = dict(_NIST_FIELD.findall(header))
    counts = [_number(fields.get(name, b"")) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    samples, channels, width = counts
    # Samples that are packed (shorten) take another number of bytes.
    if not samples or not channels or not width or b"," in fields.get(b"sample_coding", b""):
        return None
    _check_size(samples * channels * width, size - length)
    return None


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _chunk(file: BinaryIO, position: int, order: str) -> tuple[bytes, int]:
    """Name and length of a RIFF or IFF chunk."""
    name, length = struct.unpack(f"{order}4sI", _read(file, position, 8))
    return name, length


def _is_chunk_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _is_unknown(claimed: int, width: int) -> bool:
    """Whether a size of ``width`` bytes is one of those that writers use when they do not know it."""
    if claimed == 0:
        return True
    if width == 8:
        return claimed >= _UNKNOWN_64
    return any(abs(claimed - known) <= _ROUNDING for known in _PIPE_SIZES)


def _has_only_chunks(file: BinaryIO, start: int, size: int, order: str) -> bool:
    """Whether a ``data`` chunk of 0 bytes is really empty: other chunks follow up to the file's end, or nothing."""
    position = start
    while position + 8 <= size:
        name, length = _chunk(file, position, order)
        if not _is_chunk_name(name):
            return False
        position += 8 + length + length % 2
    # The padding of the last chunk may be missing.
    return start == size or position in (size, size + 1)


def _check_size(claimed: int, present: int) -> None:
    present = max(present, 0)
    if present < claimed:
        raise IncompleteError(f"is truncated: its header claims {claimed} bytes of samples, the file holds {present}")


def _with_size(file: BinaryIO, start: int, field: int, value: bytes) -> Splice:
    head = bytearray(_read(file, 0, start))
    head[field : field + len(value)] = value
    return Splice(bytes(head), start)


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None
