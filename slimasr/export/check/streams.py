"""What our own search finds in streams, of the very chunks that sherpa-onnx computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slimasr.config.search import DecodingConfig
from slimasr.data.features.frames import extract_frames
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.streaming.stream import StreamRecognizer
from slimasr.experiment import Experiment
from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method
from slimasr.export.check.searches import Found, found_of, label_searches
from slimasr.export.manifest import StreamingNote
from slimasr.models.prepared import runnable
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class StreamReference:
    """A subnet in torch that recognises streams, searched as devices search them.

    Attributes:
        tokenizer: turns token ids into text.
        streaming: how the encoders of the bundle are fed.
        recognizers: sherpa-onnx's name of a search -> ours.
    """

    tokenizer: Tokenizer
    streaming: StreamingNote
    recognizers: Mapping[Method, StreamRecognizer]

    @classmethod
    def of(
        cls, experiment: Experiment, subnet: Subnet, streaming: StreamingNote, context_size: int | None, paths: int
    ) -> StreamReference:
        """Prepare a subnet of an experiment; arguments are those of `Reference.of`.

        Raises:
            UserError: the encoder needs whole utterances.
        """
        model, active = runnable(experiment.model.cpu(), subnet)
        rate = experiment.config.data.sampling_rate
        tokenizer = experiment.tokenizer
        recognizers = {
            method: StreamRecognizer(model, active, tokenizer, DecodingConfig(), rate, search)
            for method, search in label_searches(model, context_size, paths).items()
        }
        return cls(tokenizer, streaming, recognizers)

    def recognize(self, audio: Sequence[Heard]) -> dict[Method, list[Found]]:
        """Recognise utterances as streams, one by one; by the name of the search."""
        return {method: [self._found(by, heard) for heard in audio] for method, by in self.recognizers.items()}

    def _found(self, recognizer: StreamRecognizer, heard: Heard) -> Found:
        rate = recognizer.sampling_rate
        tail = np.zeros(round(self.streaming.tail_seconds * rate), dtype=np.float32)
        sound = np.concatenate([heard.samples, tail])
        features = extract_frames(recognizer.extractor, sound[np.newaxis], rate)
        stream = recognizer.open()
        # The stream is not ended: what does not fill a chunk is lost in sherpa-onnx.
        (result,) = recognizer.accept_features([stream], [features[: computed_frames(len(features), self.streaming)]])
        return found_of(result.tokens, self.tokenizer)


def computed_frames(frames: int, streaming: StreamingNote) -> int:
    """Return how many of the feature frames of a stream sherpa-onnx gives to the encoder.

    It computes a chunk when more frames than the window are left, and then advances by the chunk.
    """
    chunks = max(0, -(-(frames - streaming.window_frames) // streaming.chunk_frames))
    return 0 if not chunks else (chunks - 1) * streaming.chunk_frames + streaming.window_frames
