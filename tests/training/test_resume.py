"""Kill -9 in mid-epoch, run the same command again: the result is that of an uninterrupted run, bit for bit."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import time
import wave
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import train as cli_train
from slimasr.cli.common import command_app
from slimasr.config.load import load_config, parse_config, save_config
from slimasr.data.features.stage import compute_features
from slimasr.data.manifests.stage import prepare
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.progress import silent
from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.subnet import Subnet
from slimasr.training.checkpoint import list_checkpoints
from slimasr.training.trainer import train
from tests.methods import mask_kit
from tests.training.kit import assert_equal, tiny_config

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, "-c", "from slimasr.cli.train import main; main()"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``config.yaml`` and ``data/``, made by stages 1 to 3 from tones."""
    folder = tmp_path_factory.mktemp("recipe")
    write_tones(folder, range(5, 14), 3)
    config = tiny_config(
        data={"corpus": "fsdd", "test": ["dev"], "sampling_rate": 8000, "speeds": [0.9, 1.0], "batch_seconds": 2.0},
        tokenizer={"kind": "char", "vocab_size": 20},
        training={"num_epochs": 2, "checkpoint_minutes": 1e-9, "num_threads": 1, "scan_worst_batches": True},
    )
    save_config(config, folder / "config.yaml")
    data = folder / "data"
    prepare(config.data, data, folder / "fsdd", download=False, progress=silent)
    compute_features(config, data, num_jobs=1, progress=silent)
    train_tokenizer(config, data)
    return folder


def write_tones(folder: Path, indices: Iterable[int], digits: int) -> None:
    """Write recordings of a corpus fsdd, a tone of its own for each digit; indices below 5 would be the test set."""
    for index in indices:
        for digit in range(digits):
            write_tone(folder / "fsdd" / "recordings" / f"{digit}_tone_{index}.wav", 300 + 200 * digit, seed=index)


def write_tone(path: Path, hertz: float, seed: int) -> None:
    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = int(8000 * rng.uniform(0.6, 0.9))
    samples = [8000 * math.sin(2 * math.pi * hertz * n / 8000) + rng.gauss(0, 500) for n in range(frames)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(array("h", [int(s) for s in samples]).tobytes())


def command(recipe: Path, exp: Path) -> list[str]:
    return [*TRAIN, "--config", str(recipe / "config.yaml"), "--data", str(recipe / "data"), "--exp", str(exp)]


def kill_training(recipe: Path, exp: Path, checkpoint: str) -> None:
    """Start a training in a process of its own, and kill it when there is a checkpoint with such a name."""
    process = subprocess.Popen(command(recipe, exp), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((exp / "checkpoints").glob(checkpoint)) and time.monotonic() < deadline:
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_in_mid_epoch(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(load_config(recipe / "config.yaml"), recipe / "data", whole)

    kill_training(recipe, parts, "epoch-000-step-*.pt")
    stopped = load_checkpoint(list_checkpoints(parts / "checkpoints")[-1])["state"]
    assert not (parts / "final.pt").exists()
    assert stopped["epoch"] == 0
    assert stopped["batch"] > 0

    again = subprocess.run(command(recipe, parts), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on from epoch-000-step-" in again.stderr
    assert_equal(load_checkpoint(whole / "final.pt"), load_checkpoint(parts / "final.pt"))
    last, last_of_parts = (load_checkpoint(exp / "checkpoints" / "epoch-002.pt") for exp in (whole, parts))
    for checkpoint in (last, last_of_parts):
        assert sum(checkpoint["state"].pop("seconds").values()) > 0
    assert_equal(last, last_of_parts)
    assert log_lines(whole) == log_lines(parts)

    experiment = Experiment.open(parts)
    assert not experiment.model.training
    assert experiment.tokenizer.vocab_size == experiment.model.vocab_size
    best = load_checkpoint(parts / "checkpoints" / "best.pt")["model"]
    assert_equal(Experiment.open(parts, "best").model.state_dict(), best)
    capsys.readouterr()
    train(load_config(recipe / "config.yaml"), recipe / "data", parts)
    assert "training is complete" in capsys.readouterr().err


def log_lines(exp: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    assert all(line.pop("minutes") > 0 for line in lines)
    return lines


def test_two_processes_then_one_then_three(recipe: Path, tmp_path: Path) -> None:
    """Stopped twice in the same epoch: every utterance is trained once in it, and the learning rate goes on falling."""
    exp = tmp_path / "exp"
    for processes, steps in ((2, 2), (1, 1), (3, 0)):
        run_processes(recipe, exp, processes, steps)
    entries = [json.loads(line) for line in (exp / "trained.jsonl").read_text().splitlines()]
    ids = [name for entry in entries if entry["epoch"] == 1 for name in entry["ids"]]
    assert set(ids) == {name for entry in entries if entry["epoch"] == 2 for name in entry["ids"]}
    assert len(ids) <= len(set(ids)) + 2, "but for a last round that fills up"
    rates = {entry["step"]: entry["lr"] for entry in entries}
    assert list(rates) == sorted(rates), "no step is taken twice"
    falling = [rates[step] for step in sorted(rates)][1:]
    assert falling == sorted(falling, reverse=True)
    said = (exp / "train.log").read_text()
    assert "resuming with 1 process, the checkpoint is from 2 processes" in said
    assert "resuming with 3 processes, the checkpoint is from 1 process" in said
    assert [(line["epoch"], line["processes"]) for line in log_lines(exp)] == [(1, 3), (2, 3)]
    last = load_checkpoint(exp / "checkpoints" / "epoch-002.pt")
    assert last["plan"]["world_size"] == 2
    planned = last["plan"]["steps"]
    half = planned[1] / (len(rates) - first_of(entries, 2)) / 2
    assert falling[-1] == pytest.approx(2e-3 * half / (0.95 * sum(planned))), "in the middle of the last step"
    assert last["state"]["origin"] == sum(last["plan"]["steps"])
    assert Experiment.open(exp).tokenizer.vocab_size > 0


def first_of(entries: list[dict[str, Any]], epoch: int) -> int:
    """The number of the first step of an epoch."""
    return min(int(entry["step"]) for entry in entries if entry["epoch"] == epoch)


def run_processes(recipe: Path, exp: Path, processes: int, steps: int) -> None:
    """Train with so many processes, each of which stops after ``steps`` steps, or not at all if that is 0."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = [str(recipe / "config.yaml"), str(recipe / "data"), str(exp), str(steps)]
    command = [*torchrun, "-m", "tests.training.elastic_worker", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_another_configuration_is_refused_by_its_key(recipe: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    (exp / "checkpoints").mkdir(parents=True)
    (exp / "checkpoints" / "epoch-001.pt").touch()
    save_config(load_config(recipe / "config.yaml"), exp / "config.yaml")
    overridden = [*command(recipe, exp)[len(TRAIN) :], "--set", "optimizer.lr=0.1"]
    done = CliRunner().invoke(command_app(cli_train.run), overridden)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "training.optimizer.lr: 0.002 against 0.1" in done.stderr


def test_a_stage_before_its_input_names_the_stage(recipe: Path, tmp_path: Path) -> None:
    arguments = [
        "--config",
        str(recipe / "config.yaml"),
        "--data",
        str(tmp_path / "no"),
        "--exp",
        str(tmp_path / "exp"),
    ]
    done = CliRunner().invoke(command_app(cli_train.run), arguments)
    assert done.exit_code == 1
    assert "run stage 3 (slimasr-bpe) first" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(UserError, match=r"config.yaml is missing: run stage 4 \(slimasr-train\) first"):
        Experiment.open(tmp_path / "exp")


def test_subnets_that_a_training_has_learnt_are_found_again(recipe: Path, tmp_path: Path) -> None:
    """From the configuration to extracted models; the first epoch ends before the subnets are chosen."""
    encoder = {**mask_kit.CONFORMER, "dropout": 0.1}
    changes: dict[str, Any] = {
        "model": {**mask_kit.ctc_model(), "encoder": encoder},
        "space": {"kind": "learnt"},
        "method": {"kind": "mask_learning", "budgets": [0.8, {"blocks": 1}]},
        "loss": {"per": "frame"},
    }
    before = load_config(recipe / "config.yaml").model_dump(mode="json")
    changes["training"] = {**before["training"], "checkpoint_minutes": 10.0}
    config = parse_config({**before, **changes})
    train(config, recipe / "data", tmp_path / "exp")
    experiment = Experiment.open(tmp_path / "exp")
    space, model = experiment.space, experiment.model
    assert isinstance(space, ListSpace)
    assert space.names == ("max", "0.8", "1 block")
    assert space.parse("min") == space.parse("1 block") == space.parse(space.min.id)
    costs = [model.count(subnet).macs for subnet in space]
    assert costs[0] > costs[1] >= costs[2]
    assert costs[1] < 0.8 * costs[0]
    assert costs[2] < model.count(Subnet(path=(0,))).macs
    batch = tiny_batch()
    for subnet in space:
        alone = model.extract(subnet)
        assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params
        expected = model.ctc_logits(model.encode(*batch, subnet).out, subnet)
        torch.testing.assert_close(alone.ctc_logits(alone.encode(*batch).out), expected, rtol=0.0, atol=1e-5)
    record = json.loads((tmp_path / "exp" / "subnets.json").read_text())["subnets"]
    assert [entry["name"] for entry in record] == list(space.names)
    assert [entry["costs"]["macs"] for entry in record] == pytest.approx(costs)
    early = Experiment.open(tmp_path / "exp", "epoch-001")
    assert early.space.parse("max") == Subnet()
    with pytest.raises(UserError, match="from before the training chose its subnets"):
        early.space.parse("0.8")


def tiny_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and its lengths."""
    return torch.randn(2, 60, mask_kit.MEL_BINS, generator=torch.Generator().manual_seed(0)), torch.tensor([60, 41])
