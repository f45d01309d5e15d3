"""Training that begins with a model of another kind: a transducer's encoder for CTC, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import train as cli_train
from slimasr.cli.common import command_app
from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.training.trainer import train
from tests.data.corpus import make_an4
from tests.data.languages import speak_languages, stages
from tests.training.test_initial import tiny

DENSE = tiny({"speeds": [1.0], "max_cuts": 20}, {"checkpoint_minutes": 60})
TREE = DENSE.model_dump(mode="json")
MODEL = {key: TREE["model"][key] for key in ("num_mel_bins", "frontend", "encoder")}
KINDS: dict[str, Config] = {
    "transducer": DENSE,
    "ctc": parse_config({**TREE, "model": {"kind": "ctc", **MODEL}, "loss": {}}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/`` and a trained experiment of each kind."""
    root = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        stages(DENSE, root / "data", make_an4(root / "an4"))
    for name, config in KINDS.items():
        train(config, root / "data", root / name)
    return root


def run(config: Config, trained: Path, exp: Path, start: str, weights: str) -> tuple[int, str]:
    """Exit status and messages of slimasr-train that begins with one of the experiments."""
    save_config(config, exp.with_suffix(".yaml"))
    init = f"training.init={{from: {trained / start}, weights: {weights}, freeze: ['encoder.*']}}"
    folders = ["--data", str(trained / "data"), "--exp", str(exp)]
    arguments = ["--config", str(exp.with_suffix(".yaml")), *folders, "--set", init]
    result = CliRunner().invoke(command_app(cli_train.run), arguments)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(("start", "kind"), [("transducer", "ctc"), ("ctc", "transducer")])
def test_all_weights_of_another_kind_are_refused(start: str, kind: str, trained: Path, tmp_path: Path) -> None:
    status, messages = run(KINDS[kind], trained, tmp_path / "exp", start, "all")
    assert status == 1
    (error,) = [line for line in messages.splitlines() if line.startswith("error: ")]
    assert f"model.kind: {start!r} against {kind!r}" in error
    assert "unforeseen" not in error
    assert not (tmp_path / "exp" / "final.pt").exists()


@pytest.mark.parametrize(("start", "kind"), [("transducer", "ctc"), ("ctc", "transducer")])
def test_matching_takes_the_encoder_and_lists_the_rest(start: str, kind: str, trained: Path, tmp_path: Path) -> None:
    status, messages = run(KINDS[kind], trained, tmp_path / "exp", start, "matching")
    assert status == 0, messages
    before = load_checkpoint(trained / start / "final.pt")["model"]
    after = load_checkpoint(tmp_path / "exp" / "final.pt")["model"]
    record = json.loads((tmp_path / "exp" / "init.json").read_text())
    encoder = [name for name in after if name.startswith("encoder.")]
    # Frozen, so that the end of the run shows what its beginning has taken.
    assert encoder and all(torch.equal(after[name], before[name]) for name in encoder)
    outputs = {name for name in after if not name.startswith(("encoder.", "feature_"))}
    assert set(record["left"]) == outputs
    assert set(record["unused"]) == {name for name in before if not name.startswith(("encoder.", "feature_"))}
    for found in ("not taken, as it is not among the weights that were read", "not used, as this model has no such"):
        assert f"note: {found}" in messages
