"""Recognises speech while it arrives: several streams at once, each with the result that the whole audio would have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.features.frames import FRAME_SHIFT, no_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.data.features.stream import FeatureStream
from slimasr.decoding.searches.label_search import Hypothesis, LabelSearch
from slimasr.decoding.searches.label_searches import label_input, label_search
from slimasr.decoding.searches.tabulated import tabulated
from slimasr.decoding.streaming.growing_text import Detokenizer, GrowingText
from slimasr.decoding.streaming.samples import checked_samples
from slimasr.encoders.base import EncoderState
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.models.base import SpeechModel
from slimasr.models.prepared import runnable
from slimasr.supernet.subnet import Subnet

FRAMES_AT_ONCE = 1000
"""Most feature frames that are encoded at once, which bounds memory if much audio arrives in one piece."""


@dataclass(frozen=True)
class StreamResult:
    """What is known of a stream.

    Attributes:
        seconds: length of the audio that has arrived.
        text: what has been recognised of it; later audio may still change its end.
        tokens: ids of the tokens of the text.
        times: for each token, the start of the encoder frame that emitted it, in seconds from the start of the stream.
        final: whether the stream has ended.
    """

    seconds: float = 0.0
    text: str = ""
    tokens: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    final: bool = False


class Stream:
    """One stream of speech; `StreamRecognizer.open` starts it."""

    def __init__(self, recognizer: StreamRecognizer) -> None:
        """Start before the first sample."""
        self.recognizer = recognizer
        self.result = StreamResult()
        self._features = FeatureStream(recognizer.extractor, recognizer.sampling_rate)
        # Features (F, M) that the encoder has not received yet, and their number since the start.
        self._waiting = no_frames(recognizer.model.config.num_mel_bins)
        self._num_frames = 0
        self._encoder = recognizer.start_encoder()
        self._search: Any = recognizer.start_search()
        # Labels that later audio does not change, and their times
        self._settled = Hypothesis()
        self._times: tuple[float, ...] = ()
        self._rest = Hypothesis()
        self._text = GrowingText(recognizer.tokenizer)

    def accept(self, samples: Any, sampling_rate: int | None = None) -> StreamResult:
        """Take the next samples, and return what is known; see `accept`.

        Raises:
            UserError: the stream has ended, the rate has changed, or the samples are unusable.
        """
        return accept([self], [samples], sampling_rate)[0]

    def finish(self) -> StreamResult:
        """End the stream, and return its final result; a stream that has ended already returns it again."""
        return self.recognizer.finish([self])[0]

    @property
    def started(self) -> bool:
        """Whether the encoder has received a chunk."""
        return self.num_encoded > 0

    @property
    def num_encoded(self) -> int:
        """Number of feature frames that the encoder has received."""
        return self._num_frames - len(self._waiting)

    @property
    def waiting(self) -> np.ndarray:
        """The (F, M) features that the encoder has not received."""
        return self._waiting

    @property
    def encoder_state(self) -> EncoderState:
        """The state of the encoder, of one stream."""
        return self._encoder

    @property
    def search_state(self) -> Any:
        """The state of the search, of one stream."""
        return self._search

    def check_rate(self, sampling_rate: int) -> None:
        """Raise `UserError` if samples of this rate cannot follow those before."""
        self._features.check_rate(sampling_rate)

    def take(self, features: np.ndarray, seconds: float) -> None:
        """Queue the next (F, M) features of so many seconds of audio."""
        self._waiting = np.concatenate([self._waiting, features])
        self._num_frames += len(features)
        self.result = replace(self.result, seconds=self.result.seconds + seconds)

    def take_samples(self, samples: np.ndarray, sampling_rate: int) -> None:
        """Queue the features of the next (T,) samples."""
        self.take(self._features.accept(samples, sampling_rate), len(samples) / sampling_rate)

    def take_end(self) -> None:
        """Queue the last features; audio too short for the front end is padded with silence, as in a file."""
        # A stream of features has had no samples, so that this adds none.
        self.take(self._features.finish(), 0.0)
        if self._num_frames:
            missing = self.recognizer.model.config.frontend.min_frames - self._num_frames
            self._waiting = pad_with_silence(self._waiting, len(self._waiting) + missing)

    def hand_over(self, frames: int) -> np.ndarray:
        """Return the next (frames, M) features, which wait no longer."""
        chunk, self._waiting = self._waiting[:frames], self._waiting[frames:]
        return chunk

    def move(self, encoder: EncoderState, search: Any, settled: Hypothesis, rest: Hypothesis) -> None:
        """Set the states after a chunk and what it has brought: labels that are settled, and those behind them."""
        self._encoder = encoder
        self._search = search
        # Most chunks change nothing.
        if not settled and rest == self._rest:
            return
        self._text.settle(settled.tokens)
        self._settled += settled
        self._times += self._times_of(settled)
        self._rest = rest
        text = self._text.with_end(rest.tokens)
        tokens = self._settled.tokens + rest.tokens
        # Only those of new labels are computed: the cost of a chunk must not grow with the text.
        self.result = replace(self.result, text=text, tokens=tokens, times=self._times + self._times_of(rest))

    def _times_of(self, labels: Hypothesis) -> tuple[float, ...]:
        """Return the start of the frame of each label in seconds."""
        seconds = self.recognizer.frame_seconds
        return tuple(round(frame * seconds, 3) for frame in labels.frames)

    def end(self) -> None:
        """Note that the stream has ended."""
        self.result = replace(self.result, final=True)


class StreamRecognizer:
    """Recognises streams with one subnet; streams that advance together are computed in one batch."""

    def __init__(
        self,
        model: SpeechModel,
        subnet: Subnet | None,
        tokenizer: Detokenizer,
        config: DecodingConfig,
        sampling_rate: int,
        search: LabelSearch[Any] | None = None,
    ) -> None:
        """Prepare the search.

        Args:
            model: in evaluation mode.
            subnet: the subnet that recognises, None = the max subnet.
            tokenizer: turns labels into text.
            config: the search for the best labels.
            sampling_rate: of the model's features, in Hz.
            search: the search itself, in place of the one that ``config`` names.

        Raises:
            UserError: the encoder needs whole utterances, or the search is none for this configuration.
        """
        self.model = model
        self.subnet = subnet
        self.tokenizer = tokenizer
        self.sampling_rate = sampling_rate
        self.extractor = make_extractor(model.config.num_mel_bins, sampling_rate)
        self._chunk = model.encoder.chunk_frames
        self._look_ahead = model.encoder.look_ahead_frames
        self._label_search = search or label_search(tabulated(model), config)

    @classmethod
    def of(
        cls, experiment: Experiment, subnet: Subnet | None, config: DecodingConfig | None = None
    ) -> StreamRecognizer:
        """Recognise with the model of an experiment; ``config`` is another search than that of its configuration.

        Raises:
            UserError: as the constructor, or the tokens are phonemes, whose words only a graph knows.
        """
        if not experiment.tokenizer.spells:
            raise UserError(f"{experiment.dir}: the tokens are phonemes (tokenizer.kind), which cannot be streamed")
        settings = experiment.config
        rate = settings.data.sampling_rate
        model, active = runnable(experiment.model, subnet)
        return cls(model, active, experiment.tokenizer, config or settings.decoding, rate)

    @property
    def chunk_frames(self) -> int:
        """Feature frames in a chunk of the encoder."""
        return self._chunk

    @property
    def chunk_seconds(self) -> float:
        """Seconds of audio in a chunk of the encoder."""
        return self._chunk * FRAME_SHIFT

    @property
    def frame_seconds(self) -> float:
        """Seconds between two encoder frames."""
        return self.model.subsampling_factor * FRAME_SHIFT

    def open(self) -> Stream:
        """Open a stream, which knows nothing of others."""
        return Stream(self)

    def accept(
        self, streams: Sequence[Stream], samples: Sequence[Any], sampling_rate: int | Sequence[int] | None = None
    ) -> list[StreamResult]:
        """Take the next samples of several streams; the function `accept` describes it."""
        return accept(streams, samples, sampling_rate)

    def accept_features(self, streams: Sequence[Stream], features: Sequence[np.ndarray]) -> list[StreamResult]:
        """Take the next (F, M) log-mel features of several streams instead of their samples."""
        for stream, frames in zip(streams, features, strict=True):
            _check_open(stream)
            stream.take(frames, len(frames) * FRAME_SHIFT)
        self.advance(streams)
        return [stream.result for stream in streams]

    def finish(self, streams: Sequence[Stream]) -> list[StreamResult]:
        """End several streams, and return their final results; those that have ended already return them again."""
        ending = [stream for stream in streams if not stream.result.final]
        for stream in ending:
            stream.take_end()
        self.advance(ending)
        # A stream without a feature frame has nothing to encode.
        self._encode_groups([stream for stream in ending if stream.started or len(stream.waiting)], final=True)
        for stream in ending:
            stream.end()
        return [stream.result for stream in streams]

    def start_encoder(self) -> EncoderState:
        """Create the encoder's state of one stream."""
        return self.model.encoder.init_state(1, self.model.feature_mean.device, self.subnet)

    def start_search(self) -> Any:
        """Create the search's state of one stream."""
        return self._label_search.start(1, self.model.feature_mean.device)

    def advance(self, streams: Sequence[Stream]) -> None:
        """Encode and search all chunks that are complete."""
        while ready := [stream for stream in streams if self._chunks(stream)]:
            # As many chunks at once as all of them have, so that they stay together.
            chunks = min(min(map(self._chunks, ready)), max(1, FRAMES_AT_ONCE // self._chunk))
            self._encode_groups(ready, chunks=chunks)

    def _chunks(self, stream: Stream) -> int:
        """Return the number of chunks that can be computed: the first one needs its look-ahead too."""
        return max(0, len(stream.waiting) - self._first_look_ahead(stream)) // self._chunk

    def _first_look_ahead(self, stream: Stream) -> int:
        """Return the frames of look-ahead that the encoder lacks; later it keeps those of the last chunk."""
        return 0 if stream.started else self._look_ahead

    def _encode_groups(self, streams: Iterable[Stream], chunks: int = 0, final: bool = False) -> None:
        """Run some chunks of streams, or with ``final`` all that is left, in batches of equal shape."""
        groups: dict[tuple[int, int], list[Stream]] = {}
        for stream in streams:
            frames = len(stream.waiting) if final else self._first_look_ahead(stream) + chunks * self._chunk
            kept = stream.encoder_state.frames.shape[1]
            groups.setdefault((frames, kept), []).append(stream)
        for (frames, _), group in groups.items():
            self._encode(group, frames, final)

    @torch.inference_mode()
    def _encode(self, streams: Sequence[Stream], frames: int, final: bool) -> None:
        """Run the next frames of streams as one batch."""
        features = np.stack([stream.hand_over(frames) for stream in streams])
        # (n, frames, M)
        x = torch.from_numpy(features).to(self.model.feature_mean.device)
        state = EncoderState.stack([stream.encoder_state for stream in streams])
        out, state = self.model.encoder.stream(self.model.normalize(x), state, self.subnet, final)
        settled, found = self._searched(streams, label_input(self.model, out, self.subnet))
        rests = self._label_search.finish(found)
        for row, stream in enumerate(streams):
            alone = (
                (state, found) if len(streams) == 1 else (state.select([row]), self._label_search.select(found, [row]))
            )
            stream.move(*alone, settled[row], rests[row])

    def _searched(self, streams: Sequence[Stream], am: Tensor) -> tuple[list[Hypothesis], Any]:
        """Search (n, T, J) frames, and return the labels that they settle and the next state of the streams."""
        state = self._label_search.stack([stream.search_state for stream in streams])
        # All streams of a batch have equally many frames.
        lens = torch.full((len(streams),), am.shape[1], dtype=torch.int64)
        return self._label_search.advance(state, am, lens)


def accept(
    streams: Sequence[Stream], samples: Sequence[Any], sampling_rate: int | Sequence[int] | None = None
) -> list[StreamResult]:
    """Take the next samples of several streams; those of one recogniser are computed in one batch.

    Args:
        streams: open streams, each at most once.
        samples: for each stream, (T,) mono samples with any T: floating-point numbers in [-1, 1], or int16.
        sampling_rate: in Hz, one for all streams or one for each; None = that of the model's features.

    Returns:
        What is known of each stream.

    Raises:
        UserError: a stream has ended, its rate has changed, or samples are unusable. No stream has then taken any.
    """
    for stream, (sound, rate) in zip(streams, _checked(streams, samples, sampling_rate), strict=True):
        stream.take_samples(sound, rate)
    by_recognizer: dict[int, list[Stream]] = {}
    for stream in streams:
        by_recognizer.setdefault(id(stream.recognizer), []).append(stream)
    for together in by_recognizer.values():
        together[0].recognizer.advance(together)
    return [stream.result for stream in streams]


def _checked(
    streams: Sequence[Stream], samples: Sequence[Any], sampling_rate: int | Sequence[int] | None
) -> list[tuple[np.ndarray, int]]:
    """Return samples and sampling rate of every stream, or raise an error before any stream has taken some."""
    if len({id(stream) for stream in streams}) < len(streams):
        raise UserError("a stream is named twice: give it all its samples at once")
    if len(streams) != len(samples):
        raise UserError(f"{len(streams)} streams need samples for each of them, got {len(samples)}")
    rates = _rates(streams, sampling_rate)
    checked = []
    for stream, sound, rate in zip(streams, samples, rates, strict=True):
        _check_open(stream)
        stream.check_rate(rate)
        checked.append((checked_samples(sound), rate))
    return checked


def _rates(streams: Sequence[Stream], given: Any) -> list[Any]:
    """Return the sampling rate of every stream, still unchecked: that of the model, one for all, or one for each."""
    if given is None:
        return [stream.recognizer.sampling_rate for stream in streams]
    # Text has a length too, but is no list of rates.
    if isinstance(given, str) or not hasattr(given, "__len__"):
        return [given] * len(streams)
    if len(given) != len(streams):
        raise UserError(f"{len(streams)} streams need one sampling rate or one each, got {len(given)}")
    return list(given)


def _check_open(stream: Stream) -> None:
    if stream.result.final:
        raise UserError("the stream has ended: open a new one for further audio")
