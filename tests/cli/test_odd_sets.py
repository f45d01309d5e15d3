"""All stages on dev and test sets that hold what training data may not: one note each, strict JSON everywhere."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.scoring.icefall import read_recogs
from slimasr.training.trainer import train
from tests.data.corpus import audio_path, make_an4, run_stages, set_text
from tests.results.kit import results_json

MODEL = {
    "num_mel_bins": 20,
    "frontend": {"channels": 4},
    "encoder": {"d_model": 16, "num_layers": 1, "num_heads": 4, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3},
    "predictor": {"kind": "stateless", "dim": 8},
    "joiner": {"dim": 16},
}


SIZES = {"max_cuts": 4, "num_buckets": 2, "max_cut_seconds": 3.0, "max_bad_share": 0.1}


def recipe(storage: str) -> Config:
    return parse_config(
        {
            "name": "odd",
            "data": {"corpus": "an4", "storage": storage, **SIZES},
            "features": {"num_mel_bins": 20},
            "tokenizer": {"kind": "char", "vocab_size": 20},
            "model": MODEL,
            "space": {"widths": [0.5, 1.0]},
            "loss": {"transducer": "pruned", "rnnt_type": "modified", "ctc_weight": 0.5, "backend": "torch"},
            "training": {"num_epochs": 1, "calibration_batches": 1, "num_threads": 1},
            "search": {"rtf_seconds": 0.5},
        }
    )


def odd_corpus(root: Path) -> Path:
    """Of five dev utterances one is 1 sample long, one 40 ms, one too short for its text, and one lasts 8 s."""
    corpus = make_an4(root / "an4", utterances_per_speaker=5)
    rng = np.random.default_rng(0)
    for speaker in ("speakere", "tester"):
        for number, samples in enumerate((1, 640, 16000, 8 * 16000)):
            soundfile.write(audio_path(corpus, f"{speaker}-{number}"), 0.1 * rng.standard_normal(samples), 16000)
    set_text(corpus, "train", "speakere-2", f"<s> {'NINE STOP ' * 9} </s>")
    return corpus


def strict(path: Path) -> list[Any]:
    """The values of a JSON file, or of each line of one."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}")

    text = path.read_text(encoding="utf-8")
    parts = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [json.loads(part, parse_constant=refuse) for part in parts]


def call(stage: str, *arguments: object) -> str:
    """Output of a command that succeeds."""
    app = command_app(import_module(f"slimasr.cli.{stage}").run)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize("storage", ["precomputed", "on_the_fly"])
def test_every_stage_runs_and_names_each_kind_once(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data, exp = recipe(storage), tmp_path / "data", tmp_path / "exp"
    run_stages(config, data, odd_corpus(tmp_path))
    train(config, data, exp)
    said = {"train": capsys.readouterr().err, "search": call("search", exp, "--data", data)}
    said["decode"] = call("decode", exp, "--data", data)
    notes = {
        "dev: 1 of 5 utterances is shorter than one feature frame": "speakere-0",
        "dev: 1 of 5 utterances is longer than 6 s": "speakere-3",
        "dev: 2 of 5 utterances are left out of the losses": "speakere-2",
    }
    for stage, text in said.items():
        for note, name in notes.items():
            lines = [line for line in text.splitlines() if line.startswith(f"note: {note}")]
            assert len(lines) == (0 if stage == "decode" and "losses" in note else 1), (stage, note)
            assert all(name in line for line in lines)
    (epoch,) = strict(exp / "train_log.jsonl")
    assert all(math.isfinite(value) for value in epoch["dev"].values())
    for path in [*exp.rglob("*.json"), *exp.rglob("*.jsonl"), *data.rglob("*.json")]:
        strict(path)
    subnets = results_json(exp)["subnets"]
    for name, entry in subnets.items():
        assert math.isfinite(entry["dev_loss"])
        assert entry["wer"]["dev"]["sentences"] == 5
        for part, speaker in (("dev", "speakere"), ("test", "tester")):
            found = {u.id: u.hyp for u in read_recogs(exp / "decode" / name / part / "recogs")}
            assert found.keys() == {f"{speaker}-{n}" for n in range(5)}
            assert found[f"{speaker}-0"] == ()


def test_a_diverged_model_writes_strict_json(tmp_path: Path) -> None:
    config, data, exp = recipe("precomputed"), tmp_path / "data", tmp_path / "exp"
    run_stages(config, data, make_an4(tmp_path / "an4"))
    train(config, data, exp)
    saved = torch.load(exp / "final.pt", weights_only=True)
    saved["model"]["joiner.output.weight"] *= 1e38
    saved["model"]["joiner.output.bias"] += 1e38
    torch.save(saved, exp / "final.pt")
    call("search", exp, "--data", data)
    for path in exp.rglob("*.json"):
        strict(path)
    assert [entry["dev_loss"] for entry in results_json(exp)["subnets"].values()] == [None, None]
