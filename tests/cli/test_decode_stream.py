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
from slimasr.data.batch import Batch
from slimasr.data.dataloading import eval_batches
from slimasr.decoding.stream import StreamRecognizer, StreamResult
from slimasr.decoding.stream_sets import decode_streams
from slimasr.experiment import Experiment
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
