"""Find where Ogg and MP3 streams end, and whether they are truncated."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from slimasr.data.audio.headers import IncompleteError, Splice

# The header of a page: byte 5 has flags, bytes 14 to 17 the serial number of the stream, byte 26 the number of
# segments, whose lengths follow the header, one byte each.
_OGG_HEADER = 27
_OGG_SERIAL = slice(14, 18)
_OGG_FIRST_PAGE = 2
_OGG_LAST_PAGE = 4
# The longest Ogg page has 65307 bytes; twice as many are searched, so that some junk may follow.
_OGG_TAIL = 1 << 17

# Codes in the header of an MPEG frame: versions are 3 (MPEG 1), 2 (MPEG 2) and 0 (MPEG 2.5); layer 3 is 1.
_MPEG1 = 3
_LAYER_3 = 1
# Bit rates by code, from code 1 on, for MPEG 1 (True) and the others; sampling rates by version and code.
_KBPS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
# Longest stretch of tags or damaged bytes that is searched for the next frame.
_RESYNC_BYTES = 1 << 16
# A VBRI header stands at a fixed place; a Xing (or Info) header follows the side information, whose length varies.
_VBRI_OFFSET = 36
# Flags of a Xing header: the fields that follow them, 4 bytes each.
_HAS_COUNT = 1
_HAS_BYTES = 2


@dataclass(frozen=True)
class Frame:
    """What the four bytes at the start of an MPEG layer 3 frame say.

    Attributes:
        length: bytes of the frame.
        samples: samples per channel that it decodes to.
        stream: what is equal in all frames of a stream: version, layer, sampling rate.
        side_info: bytes between the header and the data.
    """

    length: int
    samples: int
    stream: tuple[int, int]
    side_info: int


def inspect_ogg(file: BinaryIO, size: int) -> None:
    """Check that an Ogg file (Vorbis, Opus, FLAC) of ``size`` bytes ends with the last page of its stream.

    Raises:
        IncompleteError: the last page is truncated, pages after it are missing, or it belongs to another stream than
            the first, which is the only one that libsndfile would read.
    """
    file.seek(max(0, size - _OGG_TAIL))
    tail = file.read(_OGG_TAIL)
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    if len(page) < _ogg_length(page):
        raise IncompleteError("is truncated: its last page is cut off")
    if not page[5] & _OGG_LAST_PAGE:
        raise IncompleteError("is truncated: the page that ends its stream is missing")
    if page[_OGG_SERIAL] not in _ogg_streams(file, size):
        raise IncompleteError("holds several streams in a row; write them as one stream, or into a file each")


def inspect_mp3(file: BinaryIO, size: int) -> Splice | None:
    """Check that an MP3 file of ``size`` bytes holds the frames that it claims, and that the last one is whole.

    A file without a Xing header does not give its number of frames: one that was cut between two frames cannot be
    distinguished from a complete one.

    Returns:
        For a file without a Xing header, or with more frames than its header counts (files joined by ``cat``), a
        header with the number of samples. libsndfile would otherwise estimate that number and stop there.

    Raises:
        IncompleteError: bytes or frames are missing.
    """
    start = _resync(file, _skip_tags(file, 0), size, None)
    if start is None:
        return None
    header, frame = _frame_at(file, start)
    assert frame is not None
    file.seek(start)
    content = file.read(frame.length)
    mark = max(content.find(b"Xing", 0, 64), content.find(b"Info", 0, 64))
    if mark > 0:
        behind = _check_xing(file, content[mark + 4 :], start, size)
        # libsndfile reads what the header counts, which is all of the file unless another one was appended.
        if behind is None or not _continues(file, behind, size, frame):
            return None
        # The frame of the header holds no samples and is replaced.
        start += frame.length
    elif content[_VBRI_OFFSET : _VBRI_OFFSET + 4] == b"VBRI":
        _check_bytes(_big_endian(content, _VBRI_OFFSET + 10), size - start)
        start += frame.length
    head = _xing_frame(header, frame, _count_frames(file, start, size))
    return None if head is None else Splice(head, start)


def parse_frame(header: bytes) -> Frame | None:
    """The frame that starts with these bytes; None if no layer 3 frame does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    # Bits: 11 sync, 2 version, 2 layer, 1 no checksum; 4 bit rate, 2 sampling rate, 1 padding, 1 private; 2 channel
    # mode.
    version = header[1] >> 3 & 3
    layer = header[1] >> 1 & 3
    bit_rate = header[2] >> 4
    rate = header[2] >> 2 & 3
    padding = header[2] >> 1 & 1
    # Reserved codes, and bit rate 0 (free), whose frames have no known length.
    if version not in _RATES or layer != _LAYER_3 or bit_rate in (0, 15) or rate == 3:
        return None
    is_mpeg1 = version == _MPEG1
    samples = 1152 if is_mpeg1 else 576
    # Bytes of the frame: samples / 8 * bits per second / samples per second, plus a byte of padding.
    length = samples // 8 * _KBPS[is_mpeg1][bit_rate - 1] * 1000 // _RATES[version][rate] + padding
    is_mono = header[3] >> 6 == 3
    side_info = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[is_mpeg1, is_mono]
    return Frame(length, samples, (version, rate), side_info)


def _ogg_length(page: bytes) -> int:
    """Length of a page in bytes, as far as its (possibly truncated) header gives it."""
    if len(page) < _OGG_HEADER or len(page) < _OGG_HEADER + page[26]:
        # Any number above the bytes that are there: the header itself is cut off.
        return len(page) + 1
    return _OGG_HEADER + page[26] + sum(page[_OGG_HEADER : _OGG_HEADER + page[26]])


def _ogg_streams(file: BinaryIO, size: int) -> set[bytes]:
    """The serial numbers of the streams that begin at the start of the file."""
    serials: set[bytes] = set()
    position = 0
    while position < size:
        file.seek(position)
        # A header with the longest possible list of segments.
        page = file.read(_OGG_HEADER + 255)
        # All streams that are read together begin before the first page of data.
        if page[:4] != b"OggS" or len(page) < _OGG_HEADER or not page[5] & _OGG_FIRST_PAGE:
            break
        serials.add(page[_OGG_SERIAL])
        position += _ogg_length(page)
    return serials


def _frame_at(file: BinaryIO, position: int) -> tuple[bytes, Frame | None]:
    file.seek(position)
    header = file.read(4)
    return header, parse_frame(header)


def _skip_tags(file: BinaryIO, position: int) -> int:
    """The position after the ID3 tags that start here."""
    while True:
        file.seek(position)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            return position
        # Seven bits of each of the last four bytes; a tag with a footer has ten bytes more.
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
        position += 10 + length + (10 if tag[5] & 0x10 else 0)


def _resync(file: BinaryIO, position: int, size: int, stream: tuple[int, int] | None) -> int | None:
    """The next position of a frame of ``stream`` (None = any) that is followed by another one or by the file's end."""
    file.seek(position)
    window = file.read(_RESYNC_BYTES)
    offset = window.find(b"\xff")
    while offset >= 0:
        frame = parse_frame(window[offset : offset + 4])
        if frame is not None and stream in (None, frame.stream):
            behind = position + offset + frame.length
            follower = _frame_at(file, behind)[1]
            # Sync bits also occur by chance within data: a true frame is followed by another one.
            if behind == size or (follower is not None and follower.stream == frame.stream):
                return position + offset
        offset = window.find(b"\xff", offset + 1)
    return None


def _frames(file: BinaryIO, start: int, size: int) -> Iterator[tuple[int, Frame]]:
    """Yield position and header of each frame of a stream; tags and damaged bytes between frames are skipped."""
    position: int | None = start
    stream = None
    while position is not None and position < size:
        frame = _frame_at(file, position)[1]
        if frame is None or stream not in (None, frame.stream):
            # Neither a frame nor one of this stream: search for the next one.
            position = _resync(file, position + 1, size, stream)
            continue
        yield position, frame
        stream = frame.stream
        position += frame.length


def _count_frames(file: BinaryIO, start: int, size: int) -> int:
    count = 0
    end = start
    for position, frame in _frames(file, start, size):
        count += 1
        end = position + frame.length
    file.seek(end)
    rest = file.read(4)
    # The last frame exceeds the file, or only a part of the next one's header is there.
    if end > size or (len(rest) < 4 and rest.startswith(b"\xff")):
        raise IncompleteError("is truncated: its last frame is cut off")
    return count


def _check_xing(file: BinaryIO, fields: bytes, start: int, size: int) -> int | None:
    """Compare the number of bytes (else of frames) in a Xing header with the file.

    Returns:
        Where the stream ends; None if the header does not say.
    """
    flags = _big_endian(fields, 0)
    if flags & _HAS_BYTES:
        claimed = _big_endian(fields, 8 if flags & _HAS_COUNT else 4)
        _check_bytes(claimed, size - start)
        return start + claimed
    if flags & _HAS_COUNT:
        claimed = _big_endian(fields, 4)
        # The frame of the header itself is among those counted here; some encoders count it too.
        present = _count_frames(file, start, size)
        if present < claimed:
            raise IncompleteError(f"is truncated: its header claims {claimed} frames, the file holds {present}")
    return None


def _continues(file: BinaryIO, position: int, size: int, like: Frame) -> bool:
    """Whether two more frames of a stream start here, possibly after an ID3 tag."""
    start = _skip_tags(file, position)
    # `zip` with the range first stops after two frames without reading a third one.
    frames = [frame for _, (_, frame) in zip(range(2), _frames(file, start, size), strict=False)]
    return len(frames) == 2 and all(frame.stream == like.stream for frame in frames)


def _check_bytes(claimed: int, present: int) -> None:
    if present < claimed:
        raise IncompleteError(f"is truncated: its header claims {claimed} bytes, the file holds {present}")


def _xing_frame(header: bytes, frame: Frame, count: int) -> bytes | None:
    """A frame to precede the others, which gives their number; None if frames are too short for that."""
    # The bit says that there is no checksum, which would have to be computed.
    without_checksum = bytes([header[0], header[1] | 1, header[2], header[3]])
    content = without_checksum + bytes(frame.side_info) + b"Xing" + struct.pack(">II", _HAS_COUNT, count)
    return content.ljust(frame.length, b"\0") if len(content) <= frame.length else None


def _big_endian(content: bytes, offset: int) -> int:
    return int.from_bytes(content[offset : offset + 4], "big")
