"""Recognises one source after the other as a stream, and measures how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from slimasr.decoding.streaming.sources import AudioSource, Stopped
from slimasr.decoding.streaming.stream import StreamRecognizer, StreamResult


@dataclass
class StreamTimes:
    """How long the recognition of streams has taken; all times are wall-clock seconds.

    Attributes:
        chunk_seconds: audio in a chunk of the encoder.
        audio: of all streams.
        computing: features, encoder and search of all streams.
        chunks: computing of every piece of audio that has completed a chunk.
        lag: longest time from when audio was spoken to its result; None = no source was live.
    """

    chunk_seconds: float
    audio: float = 0.0
    computing: float = 0.0
    chunks: list[float] = field(default_factory=list)
    lag: float | None = None

    def summary(self) -> str:
        """Describe the times in one line."""
        if not self.audio:
            return "no audio"
        parts = [f"{self.audio:.1f} s of audio", f"RTF {self.computing / self.audio:.3f}"]
        if self.chunks:
            p50, p95, highest = (1000 * float(np.quantile(self.chunks, share)) for share in (0.5, 0.95, 1.0))
            length = f"{1000 * self.chunk_seconds:.0f} ms"
            parts.append(f"computing per chunk of {length}: p50 {p50:.1f}, p95 {p95:.1f}, max {highest:.1f} ms")
        if self.lag is not None:
            parts.append(f"largest lag {self.lag:.2f} s")
        return ", ".join(parts)


def recognize_source(
    recognizer: StreamRecognizer, source: AudioSource, stopped: Stopped, times: StreamTimes
) -> Iterator[StreamResult]:
    """Recognise a source until it ends or is stopped.

    Args:
        recognizer: opens the stream.
        source: the audio.
        stopped: says whether the user has ended the stream.
        times: receives the times of this stream.

    Yields:
        What is known after every piece of audio; the last one is final.

    Raises:
        UserError: the source holds no samples or damaged ones.
    """
    stream = recognizer.open()
    chunks = 0
    begun: float | None = None
    for piece in source.pieces(recognizer.chunk_seconds, stopped):
        start = time.perf_counter()
        seconds = len(piece) / source.sampling_rate
        # The first piece was spoken just before it has arrived.
        begun = start - seconds if begun is None else begun
        result = stream.accept(piece, source.sampling_rate)
        end = time.perf_counter()
        times.audio += seconds
        times.computing += end - start
        if stream.num_encoded > chunks:
            chunks = stream.num_encoded
            times.chunks.append(end - start)
        if source.is_live:
            times.lag = max(times.lag or 0.0, end - begun - result.seconds)
        yield result
    start = time.perf_counter()
    result = stream.finish()
    times.computing += time.perf_counter() - start
    yield result
