"""Recognises batches of utterances chunk by chunk, as a device would hear them, many streams at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.decoding.decode import describe
from slimasr.decoding.recognize import paired
from slimasr.decoding.streaming.stream import StreamRecognizer, StreamResult
from slimasr.errors import UserError
from slimasr.results.decoded import STREAMING
from slimasr.scoring import Utterance


@dataclass(frozen=True)
class StreamedUtterance:
    """An utterance that was recognised as a stream.

    Attributes:
        words: its reference and hypothesis.
        result: the final result of the stream.
    """

    words: Utterance
    result: StreamResult


def decode_streams(recognizer: StreamRecognizer, batches: Iterable[Batch]) -> Iterator[StreamedUtterance]:
    """Recognise the utterances of batches as streams, and yield them in the order of the batches.

    An utterance of any length is one stream: nothing is cut at pauses.

    Args:
        recognizer: recognises the streams.
        batches: features and references.
    """
    for batch in batches:
        results = _results(recognizer, batch)
        for words, result in zip(paired(batch, [result.text for result in results]), results, strict=True):
            yield StreamedUtterance(words, result)


def describe_streams(config: DecodingConfig) -> str:
    """Describe the search in words, for ``results.json``.

    Raises:
        UserError: the search needs whole utterances.
    """
    if config.kind == "graph":
        raise UserError("decoding.kind: graph is searched for whole utterances only; streams need another kind")
    return describe(config) + STREAMING


def _results(recognizer: StreamRecognizer, batch: Batch) -> list[StreamResult]:
    """Recognise the utterances of a batch, all of them at once."""
    streams = [recognizer.open() for _ in batch.ids]
    lengths = batch.x_lens.tolist()
    features = batch.x.numpy()
    # The model must not hear the silence that stands for an utterance without a frame.
    heard = [0 if name in batch.unheard else length for name, length in zip(batch.ids, lengths, strict=True)]
    step = recognizer.chunk_frames
    for start in range(0, max(heard, default=0), step):
        running = [row for row, length in enumerate(heard) if length > start]
        chunks = [features[row, start : min(start + step, heard[row])] for row in running]
        recognizer.accept_features([streams[row] for row in running], chunks)
        # Those that end here, so that they leave the batch.
        recognizer.finish([streams[row] for row in running if heard[row] <= start + step])
    return recognizer.finish(streams)
