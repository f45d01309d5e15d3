"""Streams against whole utterances: for any cut, rate, company and search; what they refuse; what they keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.streaming.growing_text import GrowingText
from slimasr.decoding.streaming.stream import Stream, StreamRecognizer, StreamResult, accept
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.recognizer import Recognizer
from tests.decoding.made_up import RATE, config, noise, write_data, write_experiment
from tests.decoding.streaming import EMFORMER, MH_SSM, whole, write_streaming

MODELS = {"emformer": EMFORMER, "mh_ssm": MH_SSM}
BEAM = DecodingConfig(kind="modified_beam", beam=3)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Experiment]:
    return {name: Experiment.open(write_streaming(tmp_path_factory.mktemp(name), MODELS[name])) for name in MODELS}


def assert_equal(found: StreamResult, expected: StreamResult) -> None:
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
    assert found.seconds == pytest.approx(expected.seconds)


def feed(stream: Stream, samples: np.ndarray, longest: int, rate: int = RATE) -> StreamResult:
    """Pass samples in pieces of random lengths, and end the stream."""
    rng = np.random.default_rng(longest)
    start = 0
    while start < len(samples):
        length = int(rng.integers(0, longest + 1))
        partial = stream.accept(samples[start : start + length], rate)
        assert not partial.final
        start += length
    return stream.finish()


@pytest.mark.parametrize("decoding", [None, BEAM], ids=["greedy", "beam"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_whole_for_any_cut(
    experiments: dict[str, Experiment], name: str, decoding: DecodingConfig | None
) -> None:
    experiment = experiments[name]
    small = experiment.space.parse("0.5")
    lengths = []
    for seconds in (1 / RATE, 0.0099, 0.01, 0.015, 0.04, 0.055, 0.07, 0.16, 0.2, 0.213, 0.9, 2.44):
        samples = noise(seconds, seed=round(1000 * seconds))
        for subnet in (None, small):
            recognizer = StreamRecognizer.of(experiment, subnet, decoding)
            expected = whole(experiment, samples, RATE, subnet, decoding)
            lengths.append(len(expected.tokens))
            for longest in (len(samples), 4001, 700):
                assert_equal(feed(recognizer.open(), samples, longest), expected)
    assert sum(lengths) > 20


@pytest.mark.parametrize("rate", [8000, 44100, 11025])
def test_other_sampling_rates(experiments: dict[str, Experiment], rate: int) -> None:
    experiment = experiments["emformer"]
    samples = noise(1.3, seed=5, rate=rate)
    recognizer = StreamRecognizer.of(experiment, None)
    for longest in (len(samples), 999):
        assert_equal(feed(recognizer.open(), samples, longest, rate), whole(experiment, samples, rate))


@pytest.mark.parametrize("name", MODELS)
def test_an4_is_recognised_as_a_whole(
    experiments: dict[str, Experiment], name: str, corpus: Callable[[str], Path]
) -> None:
    experiment = experiments[name]
    recognizer = StreamRecognizer.of(experiment, None, BEAM)
    files = sorted(corpus("an4").rglob("an4test_clstk/**/*.flac"))
    emitted = 0
    # All utterances differ in speaker or text; some of every speaker keep the test short.
    for number, file in enumerate(files[::12]):
        samples, rate = soundfile.read(file, dtype="float32")
        found = feed(recognizer.open(), samples, 500 * (number % 20 + 1), rate)
        assert_equal(found, whole(experiment, samples, rate, None, BEAM))
        emitted += len(found.tokens)
    assert len(files) == 130
    assert emitted > 50


@pytest.mark.parametrize("decoding", [None, BEAM], ids=["greedy", "beam"])
@pytest.mark.parametrize("name", MODELS)
def test_streams_in_one_batch_equal_streams_alone(
    experiments: dict[str, Experiment], name: str, decoding: DecodingConfig | None
) -> None:
    """Streams of several rates begin and end at other times, and one of them pauses."""
    experiment = experiments[name]
    recognizer = StreamRecognizer.of(experiment, None, decoding)
    rates = [RATE, 8000, RATE, RATE]
    sounds = [noise(1.1 + 0.4 * i, seed=i, rate=rate) for i, rate in enumerate(rates)]
    streams = [recognizer.open() for _ in sounds]
    places = [0] * len(sounds)
    rng = np.random.default_rng(1)
    # The last stream starts three rounds later, the third one pauses for two rounds.
    for turn in range(60):
        rows = [i for i in range(4) if (i < 3 or turn >= 3) and not (i == 2 and turn in (4, 5))]
        pieces = []
        for i in rows:
            length = int(rng.integers(0, 3000))
            pieces.append(sounds[i][places[i] : places[i] + length])
            places[i] += length
        accept([streams[i] for i in rows], pieces, [rates[i] for i in rows])
    assert all(place >= len(sound) for place, sound in zip(places, sounds, strict=True))
    found = [*recognizer.finish(streams[:3]), streams[3].finish()]
    for result, sound, rate in zip(found, sounds, rates, strict=True):
        assert_equal(result, whole(experiment, sound, rate, None, decoding))


def test_text_appears_while_audio_arrives(experiments: dict[str, Experiment]) -> None:
    """Greedy text only grows, and a label is there once its segment and the look-ahead behind it have arrived."""
    experiment = experiments["emformer"]
    samples = noise(3.0, seed=8)
    expected = whole(experiment, samples)
    stream = StreamRecognizer.of(experiment, None).open()
    assert len(expected.tokens) > 5
    # 10 ms at a time; the window of a frame reaches 17.5 ms from its start.
    for frame in range(1, 301):
        result = stream.accept(samples[160 * (frame - 1) : 160 * frame])
        segments = max(0, (frame - 1 - 4) // 16)
        known = sum(time < 0.16 * segments for time in expected.times)
        assert (result.tokens, result.times) == (expected.tokens[:known], expected.times[:known])
        assert result.seconds == pytest.approx(0.01 * frame)
    assert_equal(stream.finish(), expected)


def test_from_python(experiments: dict[str, Experiment]) -> None:
    recognizer = Recognizer(experiments["emformer"])
    samples = noise(1.5, seed=2, rate=44100)
    stream = recognizer.open_stream("0.5")
    stream.accept(samples[:20000], 44100)
    stream.accept((32768 * samples[20000:]).astype(np.int16), 44100)
    small = recognizer.choose("0.5")
    rounded = np.concatenate([samples[:20000], (32768 * samples[20000:]).astype(np.int16) / np.float32(32768)])
    assert stream.finish().text == whole(recognizer.experiment, rounded, 44100, small).text
    # Streams of two subnets share a call.
    streams = [recognizer.open_stream(name) for name in ("0.5", "max", "0.5")]
    sounds = [noise(1.0, seed=i) for i in range(3)]
    recognizer.accept(streams, sounds)
    for one, sound, subnet in zip(streams, sounds, (small, None, small), strict=True):
        assert_equal(one.finish(), whole(recognizer.experiment, sound, RATE, subnet))
    assert streams[0].recognizer is streams[2].recognizer


def test_what_a_stream_refuses(experiments: dict[str, Experiment]) -> None:
    experiment = experiments["emformer"]
    recognizer = StreamRecognizer.of(experiment, None)
    samples = noise(1.0, seed=4)
    stream, other = recognizer.open(), recognizer.open()
    stream.accept(samples[:5000])
    bad = np.array([0.1, np.nan], np.float32)
    for rejected, message in (
        (lambda: stream.accept(bad), "holds samples that are not finite"),
        (lambda: stream.accept(32768 * samples), "divide its samples by 32768"),
        (lambda: stream.accept(samples[np.newaxis]), r"shape \(T,\), got \(1, 16000\)"),
        (lambda: stream.accept(np.arange(5)), "floating-point numbers in .* got int64"),
        (lambda: stream.accept(samples, 8000), "a stream of 16000 Hz cannot go on with 8000 Hz"),
        (lambda: stream.accept(samples, 0), "whole number of Hz from 1000 to 768000, got 0"),
        (lambda: stream.accept(samples, float("nan")), "whole number of Hz from 1000 to 768000, got nan"),
        (lambda: stream.accept(samples, "16000"), "whole number of Hz from 1000 to 768000, got '16000'"),
        (lambda: accept([other], [samples], [16000, 8000]), "1 streams need one sampling rate or one each, got 2"),
        (lambda: accept([stream, stream], [samples, samples]), "named twice"),
        (lambda: accept([other, stream], [samples]), "2 streams need samples"),
        # The first of two streams has taken nothing if the second one cannot.
        (lambda: accept([other, stream], [samples, bad]), "not finite"),
    ):
        with pytest.raises(UserError, match=message):
            rejected()
    assert other.result == StreamResult()
    # Nothing of this has changed the stream.
    stream.accept(samples[5000:])
    expected = whole(experiment, samples)
    assert_equal(stream.finish(), expected)
    assert stream.finish() == stream.result
    with pytest.raises(UserError, match="the stream has ended: open a new one"):
        stream.accept(samples)
    assert recognizer.open().finish() == StreamResult(final=True)
    assert recognizer.open().accept([]) == StreamResult()


def test_encoders_that_need_whole_utterances_do_not_stream(tmp_path: Path) -> None:
    recipe = config()
    experiment = Experiment.open(write_experiment(tmp_path, recipe, write_data(tmp_path, recipe)))
    with pytest.raises(UserError, match=r"kind conformer needs whole utterances; to stream, train .*emformer"):
        StreamRecognizer.of(experiment, None)


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_keeps_no_more_with_time(experiments: dict[str, Experiment], name: str) -> None:
    stream = StreamRecognizer.of(experiments[name], None).open()
    loud = noise(4.0, seed=6)
    sizes = []
    # A minute of silence between two times the same speech.
    for second in (*np.split(loud, 4), *[np.zeros(RATE, np.float32)] * 60, *np.split(loud, 4)):
        stream.accept(second)
        state = stream.encoder_state
        tensors = [state.frames, *(tensor for layer in state.layers for tensor in layer)]
        sizes.append((*(tensor.numel() for tensor in tensors), len(stream.waiting) < 20))
    assert len(set(sizes)) == 1


def test_text_that_grows_equals_the_text_of_all_tokens(experiments: dict[str, Experiment]) -> None:
    tokenizer: Tokenizer = experiments["emformer"].tokenizer
    rng = np.random.default_rng(0)
    marks = [i for i, piece in enumerate(tokenizer.tokens) if piece.startswith("▁")]
    assert marks
    for _ in range(50):
        text = GrowingText(tokenizer)
        settled: list[int] = []
        for _ in range(12):
            # Marks of words alone and in a row are among them.
            new = [int(i) for i in rng.choice([*range(3, tokenizer.vocab_size), *marks * 3], size=rng.integers(0, 4))]
            text.settle(new)
            settled += new
            end = [int(i) for i in rng.integers(3, tokenizer.vocab_size, size=rng.integers(0, 3))]
            assert text.with_end(end) == tokenizer.decode([*settled, *end]).strip()


def test_a_stream_needs_no_gradients(experiments: dict[str, Experiment]) -> None:
    stream = StreamRecognizer.of(experiments["emformer"], None).open()
    stream.accept(noise(1.0, seed=1))
    assert all(not tensor.requires_grad for layer in stream.encoder_state.layers for tensor in layer)
    assert torch.is_grad_enabled()
