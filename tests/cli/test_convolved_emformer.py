"""An Emformer with half-step feed-forward modules and convolution through the commands: trained, decoded, streamed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import decode, train
from slimasr.cli.common import command_app
from slimasr.config.load import save_config
from slimasr.scoring.icefall import read_recogs
from tests.decoding.made_up import config, write_data
from tests.decoding.streaming import EMFORMER

SETTINGS = {
    "num_epochs": 8,
    "optimizer": {"lr": 1e-2},
    "spec_augment": None,
    "average_period": 1,
    "scan_worst_batches": False,
    "num_threads": 1,
}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """``exp/`` after training on a few utterances of noise, and ``data/``."""
    model = {**EMFORMER, "encoder": {**EMFORMER["encoder"], "macaron": True, "conv_kernel": 9}}
    recipe = config(model=model, training=SETTINGS, loss={"transducer": "full", "ctc_weight": 0.3})
    data = write_data(tmp_path, recipe)
    save_config(recipe, tmp_path / "recipe.yaml")
    options = ["--config", tmp_path / "recipe.yaml", "--exp", tmp_path / "exp", "--data", data]
    result = CliRunner().invoke(command_app(train.run), list(map(str, options)))
    assert result.exit_code == 0, result.output
    return tmp_path / "exp"


def emit_more(checkpoint: Path) -> None:
    """Make the blank less likely, which after a few steps is the best symbol of all frames."""
    saved = torch.load(checkpoint, weights_only=True)
    saved["model"]["joiner.output.bias"][0] -= 5.0
    torch.save(saved, checkpoint)


def test_what_is_trained_is_decoded_alike_whole_and_in_streams(experiment: Path) -> None:
    emit_more(experiment / "final.pt")
    log = [json.loads(line)["train"] for line in (experiment / "train_log.jsonl").read_text().splitlines()]
    assert all(log[-1][f"{name}/transducer"] < 0.8 * log[0][f"{name}/transducer"] for name in ("w0.5", "w1"))
    found = []
    for option in ([], ["--stream"]):
        options = [experiment, "--data", experiment.parent / "data", "--set-name", "test", *option]
        result = CliRunner().invoke(command_app(decode.run), list(map(str, options)))
        assert result.exit_code == 0, result.output
        found.append([read_recogs(experiment / "decode" / name / "test" / "recogs") for name in ("w0.5", "w1")])
    assert found[0] == found[1]
    assert all(any(utterance.hyp for utterance in utterances) for utterances in found[0])
