"""Sets decoded as streams, against the same sets decoded as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.decode import run
from slimasr.data.batches.batch import Batch
from slimasr.data.identity.experiment import checked_identity
from slimasr.data.memory.dataloading import eval_batches
from slimasr.data.timelines.folder import Origin, alignment_file, read_alignments, write_alignments, write_facts
from slimasr.data.timelines.timeline import from_spans
from slimasr.decoding.streaming.sets import decode_streams
from slimasr.decoding.streaming.stream import StreamRecognizer, StreamResult
from slimasr.experiment import Experiment
from slimasr.measure.emission import DecodedBy, set_delays
from slimasr.measure.latency import available_times, emitted_words
from slimasr.results.store import read_results
from slimasr.scoring.icefall import read_recogs
from tests.decoding.made_up import config, write_data, write_experiment
from tests.decoding.streaming import EMFORMER, MH_SSM, write_streaming


def decode(exp: Path, *options: str) -> Result:
    data = str(exp.parent / "data")
    return CliRunner().invoke(command_app(run), [str(exp), "--data", data, "--set-name", "test", *options])


@pytest.mark.parametrize("model", [EMFORMER, MH_SSM], ids=["emformer", "mh_ssm"])
def test_sets_decoded_as_streams_equal_those_decoded_whole(model: dict[str, object], tmp_path: Path) -> None:
    exp = write_streaming(tmp_path, model)
    for search in ([], ["--method", "modified_beam", "--beam", "3"]):
        found = []
        for option in ([], ["--stream"]):
            result = decode(exp, *search, *option)
            assert result.exit_code == 0, result.output
            found.append([read_recogs(exp / "decode" / name / "test" / "recogs") for name in ("w0.5", "w1")])
        assert found[0] == found[1]
        assert all(any(utterance.hyp for utterance in utterances) for utterances in found[1])
    how = json.loads((exp / "decode" / "w1" / "test" / "decode.json").read_text())
    assert how["decoding"] == "modified beam search, beam 3, streaming"


def test_an_encoder_that_does_not_stream(tmp_path: Path) -> None:
    recipe = config()
    exp = write_experiment(tmp_path, recipe, write_data(tmp_path, recipe))
    result = decode(exp, "--stream")
    assert result.exit_code == 1 and "needs whole utterances; to stream, train" in result.stderr


def test_an_utterance_without_audio_has_no_words(tmp_path: Path) -> None:
    experiment = Experiment.open(write_streaming(tmp_path, EMFORMER))
    recognizer = StreamRecognizer.of(experiment, None)
    (batch,) = eval_batches(experiment.config, tmp_path / "data", "test", experiment.tokenizer, 100.0)
    silent = Batch(**{**batch.__dict__, "unheard": frozenset({batch.ids[1]})})
    streamed = list(decode_streams(recognizer, [silent]))
    assert [utterance.words.id for utterance in streamed] == list(batch.ids)
    assert streamed[1].result == StreamResult(final=True) and streamed[1].words.hyp == ()
    assert streamed[0].words.hyp == tuple(streamed[0].result.text.split())
    # The others are not disturbed, nor by padding.
    noisy = batch.x + 9 * (torch.arange(batch.x.shape[1]) >= batch.x_lens.unsqueeze(1)).unsqueeze(-1)
    again = list(decode_streams(recognizer, [Batch(**{**batch.__dict__, "x": noisy})]))
    assert [utterance.result for utterance in again[2:]] == [utterance.result for utterance in streamed[2:]]
    lengths = np.array([utterance.result.seconds for utterance in again])
    np.testing.assert_allclose(lengths, batch.x_lens.numpy() / 100)


def test_delays_of_words_are_noted(tmp_path: Path) -> None:
    exp = write_streaming(tmp_path, EMFORMER)
    folder = tmp_path / "alignments"
    refused = decode(exp, "--alignments", str(folder))
    assert refused.exit_code == 1 and "--alignments needs --stream" in refused.stderr
    missing = decode(exp, "--stream", "--alignments", str(folder))
    assert missing.exit_code == 1 and "alignments" in missing.stderr and "slimasr-align" in missing.stderr
    experiment = Experiment.open(exp)
    data = tmp_path / "data"
    batches = eval_batches(experiment.config, data, "test", experiment.tokenizer, 100.0)
    # The made-up model recognises no word of the references, so its words become the references: each ends 0.2 s
    # before its last token could be known.
    recognizer = StreamRecognizer.of(experiment, None)
    timelines = {}
    with_words = 0
    utterances = []
    for streamed in decode_streams(recognizer, batches):
        times = available_times(streamed.result, experiment.model.encoder)
        words = emitted_words(streamed.result.tokens, times, experiment.tokenizer)
        text = " ".join(word for word, _ in words)
        ends = [round(100 * seconds) - 20 for _, seconds in words]
        counts = [len(word) + 1 for word, _ in words]
        frames = round(100 * streamed.result.seconds)
        timelines[streamed.words.id] = from_spans(text, counts, [(max(0, end - 2), end) for end in ends], frames)
        utterances.append(streamed)
        with_words += len(words)
    assert with_words >= 4
    write_alignments(alignment_file(folder, "test"), timelines)
    fingerprint = checked_identity(experiment.config, data, "test").fingerprint
    write_facts(folder, Origin("ctm", "made up"), {"test": fingerprint})
    found = set_delays(recognizer, utterances, read_alignments(folder, ["test"]), DecodedBy("final", "greedy", None))
    assert (found.words, found.p50, found.p90) == (with_words, pytest.approx(200), pytest.approx(200))
    # The command notes them beside other measurements, of every subnet.
    result = decode(exp, "--stream", "--alignments", str(folder))
    assert result.exit_code == 0, result.output
    noted = read_results(exp).subnets["w1"].latency
    assert noted is not None
    assert noted.delays["test"] == found.model_copy(
        update={"data": fingerprint, "decoding": "greedy, at most 1 per frame, streaming"}
    )
    assert "w0.5" in read_results(exp).subnets
    # Alignments of other audio or transcripts are refused.
    write_facts(folder, Origin("ctm", "made up"), {"test": "0" * 12})
    stale = decode(exp, "--stream", "--alignments", str(folder))
    assert stale.exit_code == 1 and "was made from other transcripts or audio of test" in stale.stderr
