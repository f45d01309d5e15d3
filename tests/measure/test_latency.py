"""Latency: from windows, of words against their spoken ends, of computing, and in tables and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.profile import run
from slimasr.decoding.streaming.stream import StreamRecognizer
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.measure.latency import (
    TimedUtterance,
    TimedWord,
    algorithmic_latency,
    available_times,
    emission_delays,
    emitted_words,
    measure_latency,
    word_delays,
)
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.store import read_results, update_results
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import RATE, config, noise, write_data, write_experiment
from tests.decoding.streaming import EMFORMER, MH_SSM, write_streaming


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streaming(tmp_path_factory.mktemp("latency"), EMFORMER)


def test_frames_wait_for_their_segment_and_the_look_ahead(exp: Path, tmp_path: Path) -> None:
    # The paper's figures: a segment of four frames of 40 ms, and one frame behind it.
    latency = algorithmic_latency(Experiment.open(exp).model.encoder)
    assert (latency.mean, latency.worst) == (pytest.approx(0.12), pytest.approx(0.2))
    # A frame of the convolutional front end begins four frames after the last one, and needs seven.
    latency = algorithmic_latency(Experiment.open(write_streaming(tmp_path, MH_SSM)).model.encoder)
    assert (latency.mean, latency.worst) == (pytest.approx(0.05), pytest.approx(0.07))


def test_tokens_are_available_when_a_stream_first_shows_them(exp: Path) -> None:
    """Against a stream of features that is watched after every 10 ms."""
    experiment = Experiment.open(exp)
    recognizer = StreamRecognizer.of(experiment, None)
    stream = recognizer.open()
    features = recognizer.extractor.extract(noise(3.03, seed=8)[np.newaxis], RATE)
    shown: list[float] = []
    for frame in range(len(features)):
        known = len(recognizer.accept_features([stream], [features[frame : frame + 1]])[0].tokens)
        shown += [0.01 * (frame + 1)] * (known - len(shown))
    result = stream.finish()
    # Tokens that wait for look-ahead come with the end.
    shown += [result.seconds] * (len(result.tokens) - len(shown))
    assert len(shown) > 10
    assert available_times(result, experiment.model.encoder) == pytest.approx(shown)


def test_words_end_with_their_last_token(exp: Path) -> None:
    tokenizer = Experiment.open(exp).tokenizer
    tokens = tokenizer.encode("YES NO TEN")
    times = [0.1 * i for i in range(len(tokens))]
    words = emitted_words(tokens, times, tokenizer)
    assert [word for word, _ in words] == ["YES", "NO", "TEN"]
    # Every letter is a token, and so is the mark before a word.
    assert [seconds for _, seconds in words] == pytest.approx([0.3, 0.6, 1.0])
    assert emitted_words([], [], tokenizer) == []


def test_only_correct_words_have_a_delay() -> None:
    spoken = [TimedWord("A", 0.5), TimedWord("B", 1.0), TimedWord("C", 1.5), TimedWord("D", 2.0)]
    emitted = [TimedWord("A", 0.7), TimedWord("X", 1.1), TimedWord("Y", 1.3), TimedWord("D", 1.9)]
    assert word_delays(spoken, emitted) == [pytest.approx(0.2), None, None, pytest.approx(-0.1)]
    # An inserted word shifts none, a deleted one neither.
    more = [TimedWord("A", 0.7), TimedWord("Z", 0.8), TimedWord("C", 1.75), TimedWord("D", 2.1)]
    assert word_delays(spoken, [*more, TimedWord("E", 3.0)]) == [
        pytest.approx(0.2),
        None,
        pytest.approx(0.25),
        pytest.approx(0.1),
    ]
    assert word_delays(spoken, []) == [None] * 4 and word_delays([], emitted) == []


def test_delays_of_a_set() -> None:
    rng = np.random.default_rng(0)
    utterances, all_delays, last, first = [], [], [], []
    for _ in range(20):
        ends = np.cumsum(rng.uniform(0.2, 0.6, size=5))
        delays = rng.uniform(0.1, 0.5, size=5)
        spoken = [TimedWord(f"w{i}", end) for i, end in enumerate(ends)]
        emitted = [TimedWord(f"w{i}", end + delay) for i, (end, delay) in enumerate(zip(ends, delays, strict=True))]
        first.append(rng.uniform(0.2, 0.4))
        # The last word of every other utterance is wrong.
        wrong = len(utterances) % 2
        utterances.append(TimedUtterance(spoken, emitted[: 5 - wrong], first[-1]))
        all_delays += list(delays[: 5 - wrong])
        last += [] if wrong else [delays[-1]]
    found = emission_delays([*utterances, TimedUtterance([TimedWord("w", 1.0)], [])])
    assert found.words == 90
    assert found.p50 == pytest.approx(1000 * np.median(all_delays), abs=0.1)
    assert found.p90 == pytest.approx(1000 * np.quantile(all_delays, 0.9), abs=0.1)
    assert found.last_word == pytest.approx(1000 * np.median(last), abs=0.1)
    assert found.first_partial == pytest.approx(1000 * np.median(first), abs=0.1)
    assert emission_delays([]) == DelayEntry(words=0, p50=None, p90=None, last_word=None, first_partial=None)


def test_computing_is_measured_on_chunks(exp: Path, tmp_path: Path) -> None:
    experiment = Experiment.open(exp)
    found = measure_latency(experiment.model.extract(Subnet(0.5)).eval(), experiment.config.decoding, RATE, 0.7)
    assert (found.algorithmic, found.worst, found.chunk) == (120.0, 200.0, 160.0)
    assert found.chunk_p50 and found.chunk_p95 and found.rtf
    assert 0 < found.chunk_p50 <= found.chunk_p95
    recipe = config()
    conformer = Experiment.open(write_experiment(tmp_path, recipe, write_data(tmp_path, recipe)))
    with pytest.raises(UserError, match="needs whole utterances"):
        measure_latency(conformer.model, recipe.decoding, RATE, 0.7)


def test_profile_prints_and_notes_the_latency(exp: Path, tmp_path: Path) -> None:
    exp = Path(shutil.copytree(exp, tmp_path / "exp"))
    delay = DelayEntry(words=4, p50=210.0, p90=300.0, last_word=250.0, first_partial=400.0)
    update_results(
        exp, Results(subnets={"w1": SubnetEntry(subnet=Subnet(), latency=LatencyEntry(delays={"test": delay}))})
    )
    invoke = CliRunner().invoke
    result = invoke(command_app(run), [str(exp), "--no-rtf", "--latency", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["w0.5"]["latency"]["worst"] == 200.0
    noted = read_results(exp).subnets
    assert noted["w0.5"].latency is not None and noted["w0.5"].latency.to_dict() == shown["w0.5"]["latency"]
    # What another command has measured stays.
    assert noted["w1"].latency is not None and noted["w1"].latency.delays == {"test": delay}
    table = invoke(command_app(run), [str(exp), "--no-rtf", "--latency"]).stdout
    assert "computing p95 ms" in table and "Latency of streams, tiny" in table
    assert "latency" not in invoke(command_app(run), [str(exp), "--no-rtf", "--json"]).stdout
