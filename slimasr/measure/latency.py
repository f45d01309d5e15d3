"""How late a streaming model is: from its windows, from computing, and against the times at which words were spoken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.decoding.streaming.growing_text import Detokenizer
from slimasr.decoding.streaming.live import StreamTimes, recognize_source
from slimasr.decoding.streaming.sources import SamplesSource
from slimasr.decoding.streaming.stream import StreamRecognizer, StreamResult
from slimasr.encoders.base import Encoder
from slimasr.models.base import SpeechModel
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.scoring import Utterance, align

_WORD_MARK = "▁"


class TimedWord(NamedTuple):
    """A word and a time in seconds from the start of the utterance: when it ends, or when it is recognised."""

    word: str
    seconds: float


@dataclass(frozen=True)
class AlgorithmicLatency:
    """How long a frame waits for audio behind it, in seconds; time for computing comes on top.

    Attributes:
        mean: of the frames of a segment: half a segment and the look-ahead.
        worst: of the first frame of a segment: the whole segment and the look-ahead.
    """

    mean: float
    worst: float


def algorithmic_latency(encoder: Encoder) -> AlgorithmicLatency:
    """Return how long the frames of an encoder wait.

    Raises:
        UserError: the encoder needs whole utterances.
    """
    segment = encoder.chunk_frames * FRAME_SHIFT
    look_ahead = encoder.look_ahead_frames * FRAME_SHIFT
    return AlgorithmicLatency(segment / 2 + look_ahead, segment + look_ahead)


def available_times(result: StreamResult, encoder: Encoder) -> list[float]:
    """Return when each token of a stream could be known: once its segment and the look-ahead have arrived, in seconds.

    Args:
        result: final result of the stream; its end lets out what still waits.
        encoder: the encoder that has recognised it.
    """
    segment = encoder.chunk_frames * FRAME_SHIFT
    look_ahead = encoder.look_ahead_frames * FRAME_SHIFT
    # Times of tokens are rounded; half a frame keeps them in their segment.
    segments = [int((time + FRAME_SHIFT / 2) / segment) + 1 for time in result.times]
    return [min(number * segment + look_ahead, result.seconds) for number in segments]


def emitted_words(tokens: Sequence[int], times: Sequence[float], tokenizer: Detokenizer) -> list[TimedWord]:
    """Return the words of a token sequence, each with the time of its last token.

    Args:
        tokens: ids.
        times: of each token, such as `available_times`.
        tokenizer: turns them into text.
    """
    words: list[TimedWord] = []
    starts = [i for i, token in enumerate(tokens) if i == 0 or tokenizer.tokens[token].startswith(_WORD_MARK)]
    # Each word ends where the next one begins, and the last one with the tokens.
    for start, end in pairwise([*starts, len(tokens)]):
        text = tokenizer.decode(tokens[start:end]).strip()
        # A mark alone is no word.
        words += [TimedWord(word, times[end - 1]) for word in text.split()]
    return words


def word_delays(spoken: Sequence[TimedWord], emitted: Sequence[TimedWord]) -> list[float | None]:
    """Return for every spoken word how many seconds after its end it was recognised; None = it was not.

    Words are matched by the alignment with the fewest edits, as for the word error rate.

    Args:
        spoken: the words of the reference and when they end.
        emitted: the words of the hypothesis and when they were known.
    """
    pairs = align(Utterance("", tuple(w.word for w in spoken), tuple(w.word for w in emitted))).pairs
    rest = iter(emitted)
    references = iter(spoken)
    delays: list[float | None] = []
    for reference, hypothesis in pairs:
        found = None if hypothesis is None else next(rest)
        if reference is None:
            continue
        word = next(references)
        matches = found is not None and reference == hypothesis
        delays.append(found.seconds - word.seconds if found is not None and matches else None)
    return delays


@dataclass(frozen=True)
class TimedUtterance:
    """An utterance whose words have times; one of the two lists may be empty.

    Attributes:
        spoken: the words of the reference and when they end.
        emitted: the words of the hypothesis and when they were known.
        first_token: when the first token was known, in seconds; None = the hypothesis is empty.
    """

    spoken: Sequence[TimedWord]
    emitted: Sequence[TimedWord]
    first_token: float | None = None


def emission_delays(utterances: Iterable[TimedUtterance]) -> DelayEntry:
    """Summarise how late the words of a set were recognised; only correct words have a delay."""
    delays: list[float] = []
    last: list[float] = []
    first: list[float] = []
    for utterance in utterances:
        found = word_delays(utterance.spoken, utterance.emitted)
        delays += [delay for delay in found if delay is not None]
        if found and found[-1] is not None:
            last.append(found[-1])
        if utterance.first_token is not None:
            first.append(utterance.first_token)
    return DelayEntry(
        words=len(delays),
        p50=_quantile(delays, 0.5),
        p90=_quantile(delays, 0.9),
        last_word=_quantile(last, 0.5),
        first_partial=_quantile(first, 0.5),
    )


def _quantile(seconds: Sequence[float], share: float) -> float | None:
    """Return a quantile in milliseconds; None without values."""
    return round(1000 * float(np.quantile(seconds, share)), 1) if seconds else None


def measure_latency(
    model: SpeechModel, decoding: DecodingConfig, sampling_rate: int, seconds: float, threads: int = 1
) -> LatencyEntry:
    """Measure the latency of a stand-alone model on noise: features, encoder and search.

    Args:
        model: a result of `SpeechModel.extract`, in evaluation mode.
        decoding: the search.
        sampling_rate: of the audio, in Hz.
        seconds: length of the audio.
        threads: processor threads that compute.

    Raises:
        UserError: the encoder needs whole utterances.
    """
    recognizer = StreamRecognizer(model, None, NoText(model.vocab_size), decoding, sampling_rate)
    algorithmic = algorithmic_latency(model.encoder)
    rng = np.random.default_rng(0)
    samples = (0.05 * rng.standard_normal(round(seconds * sampling_rate))).astype(np.float32)
    source = SamplesSource(samples, sampling_rate)
    with _threads(threads):
        # The first stream, which is not timed, loads what the others use.
        for _ in range(2):
            times = StreamTimes(recognizer.chunk_seconds)
            for _ in recognize_source(recognizer, source, lambda: False, times):
                pass
    return LatencyEntry(
        algorithmic=_milliseconds(algorithmic.mean),
        worst=_milliseconds(algorithmic.worst),
        chunk=_milliseconds(recognizer.chunk_seconds),
        chunk_p50=_quantile(times.chunks, 0.5),
        chunk_p95=_quantile(times.chunks, 0.95),
        rtf=times.computing / times.audio,
    )


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)


class NoText:
    """A tokenizer of a model that has none, whose tokens have no text."""

    def __init__(self, vocab_size: int) -> None:
        """Name no token."""
        self.tokens: Sequence[str] = ("",) * vocab_size

    def decode(self, ids: Sequence[int]) -> str:
        """Return no text."""
        return ""


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
