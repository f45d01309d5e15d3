"""The table of contexts, called as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.decode import decode_batches
from slimasr.experiment import Experiment
from slimasr.scoring import score
from tests.decoding.made_up import config, write_data, write_experiment

ROOT = Path(__file__).resolve().parents[2]


def made(root: Path, predictor: dict[str, object]) -> tuple[Path, Path, Config]:
    """An experiment with this predictor, its data and its recipe."""
    tree = config().model_dump(mode="json")
    tree["model"]["predictor"] = predictor
    recipe = parse_config(tree)
    data = write_data(root, recipe)
    exp = write_experiment(root, recipe, data)
    save_config(recipe, exp / "config.yaml")
    return exp, data, recipe


def called(exp: Path, data: Path, *options: object) -> subprocess.CompletedProcess[str]:
    tool = ROOT / "tools/context_table.py"
    command = [sys.executable, str(tool), str(exp), "--data", str(data), "--set-name", "test", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_last_row_is_what_decoding_gives(tmp_path: Path) -> None:
    exp, data, recipe = made(tmp_path, {"kind": "lstm", "dim": 8, "embedding_dim": 8})
    done = called(exp, data, "--context", 1, 60, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    experiment = Experiment.open(exp)
    batches = eval_batches(recipe, data, "test", experiment.tokenizer, 200.0)
    wer = score(decode_batches(experiment.model, batches, experiment.tokenizer, None, recipe.decoding)).wer
    short, long, full = json.loads((tmp_path / "rows.json").read_text())["test"]
    assert full == {"context": None, "wer": wer, "same": 4, "utterances": 4}
    assert long == {**full, "context": 60}
    assert short["context"] == 1
    assert f"| full history | {wer:.2f} | 4 of 4 |" in done.stdout.splitlines()


def test_a_stateless_predictor_has_no_context_to_choose(tmp_path: Path) -> None:
    exp, data, _ = made(tmp_path, {"kind": "stateless", "dim": 8})
    done = called(exp, data)
    assert done.returncode == 1
    assert done.stderr == f"error: {exp}: only a transducer with model.predictor.kind: lstm has a context to choose\n"
