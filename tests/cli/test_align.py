"""Alignments through the command line, against paths found by plain dynamic programming, one utterance at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

from slimasr.cli.align import run
from slimasr.cli.common import command_app
from slimasr.cli.extract import run as extract
from slimasr.cli.train import run as train
from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.shards import make_extractor
from slimasr.data.training_cuts import read_cuts_at
from slimasr.decoding import align
from slimasr.experiment import Experiment
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import config, write_data, write_experiment

RECIPES = {
    "regular": {"loss": {"transducer": "full"}, "data": {"corpus": "an4", "speeds": [0.9, 1.0]}},
    "modified": {
        "loss": {"transducer": "full", "rnnt_type": "modified"},
        "data": {"corpus": "an4", "speeds": [0.9, 1.0], "storage": "on_the_fly"},
    },
}


@pytest.fixture(scope="module", params=RECIPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Experiment and data folder."""
    root, recipe = tmp_path_factory.mktemp("align"), config(**RECIPES[request.param])
    data = write_data(root, recipe)
    return write_experiment(root, recipe, data), data


def call(exp: Path, data: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), "--data", str(data), *options])


def read(path: Path) -> dict[str, list[int]]:
    return {item["id"]: item["frames"] for item in map(json.loads, path.read_text().splitlines())}


@torch.no_grad()
def log_probs(experiment: Experiment, features: Tensor, tokens: list[int], subnet: Subnet) -> Tensor:
    """(T, U + 1, V) of one utterance."""
    model, y = experiment.model, torch.tensor([tokens])
    encoder = model.encode(features.unsqueeze(0), torch.tensor([len(features)]), subnet)
    am = torch.nn.functional.linear(
        encoder.out, model.joiner.encoder_proj.weight[:, : encoder.out.shape[-1]], model.joiner.encoder_proj.bias
    )
    lm = model.joiner.project_predictor(model.predictor(y))
    return model.joiner(am.unsqueeze(2), lm.unsqueeze(1))[0].log_softmax(dim=-1).double()


def best_score(scores: Tensor, tokens: list[int], stays: bool) -> float:
    """Score of the best path."""
    best = {(0, 0): 0.0}
    for t in range(scores.shape[0]):
        for u in range(len(tokens) + 1):
            if (t, u) not in best:
                continue
            arcs = [((t + 1, u), 0)]
            if u < len(tokens):
                arcs.append(((t if stays else t + 1, u + 1), tokens[u]))
            for node, unit in arcs:
                best[node] = max(best.get(node, -torch.inf), best[t, u] + float(scores[t, u, unit]))
    return best[scores.shape[0], len(tokens)]


def score_of(scores: Tensor, tokens: list[int], frames: list[int], stays: bool) -> float:
    """Score of the path that emits each token at its frame."""
    total, u = 0.0, 0
    for t in range(scores.shape[0]):
        while stays and u < len(tokens) and frames[u] == t:
            total, u = total + float(scores[t, u, tokens[u]]), u + 1
        if not stays and u < len(tokens) and frames[u] == t:
            total, u = total + float(scores[t, u, tokens[u]]), u + 1
        else:
            total += float(scores[t, u, 0])
    assert u == len(tokens)
    return total


def features_of(recipe: Config, data: Path, set_name: str, speed: float) -> dict[str, tuple[Tensor, str]]:
    extractor, found = make_extractor(recipe.features.num_mel_bins, recipe.data.sampling_rate), {}
    for cut in read_cuts_at(recipe, DataFolder(data), set_name, speed):
        computed = recipe.data.storage == "precomputed"
        features = cut.load_features() if computed else extractor.extract(cut.load_audio()[0], cut.sampling_rate)
        found[cut.id] = torch.as_tensor(features), cut.supervisions[0].text
    return found


@pytest.mark.parametrize("subnet", ["max", "0.5"])
def test_paths_are_the_best_ones_of_every_set_at_every_speed(
    made: tuple[Path, Path], subnet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp, data = made
    monkeypatch.setattr(align, "LOGITS_AT_ONCE", 1000)
    result = call(exp, data, "--subnet", subnet)
    assert result.exit_code == 0, result.output
    experiment = Experiment.open(exp)
    stays = experiment.config.loss.rnnt_type == "regular"
    chosen = experiment.space.parse(subnet)
    several = 0
    for stem, place in {"train": ("train", 1.0), "train_sp0.9": ("train", 0.9), "dev": ("dev", 1.0)}.items():
        found, utterances = read(exp / "alignments" / f"{stem}.jsonl"), features_of(experiment.config, data, *place)
        assert found.keys() == utterances.keys()
        for name, (features, text) in utterances.items():
            tokens = experiment.tokenizer.encode(text)
            scores = log_probs(experiment, features, tokens, chosen)
            score = score_of(scores, tokens, found[name], stays)
            assert score == pytest.approx(best_score(scores, tokens, stays), abs=1e-3)
            several += len(set(found[name])) > 1
    assert several, "all tokens on one frame would say little"
    facts = json.loads((exp / "alignments" / "alignments.json").read_text())
    assert sorted(facts.pop("sets")) == ["dev", "train"]
    made_by = {"subsampling_factor": 4, "subnet": chosen.id, "checkpoint": "final"}
    assert facts == {**made_by, "tokenizer": experiment.tokenizer.fingerprint}


def test_chosen_sets_and_speeds(made: tuple[Path, Path], tmp_path: Path) -> None:
    exp, data = made
    for path in (exp / "alignments").glob("*"):
        path.unlink()
    result = call(exp, data, "--set-name", "train", "--set-name", "test", "--speed", "1.0")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (exp / "alignments").glob("*.jsonl")} == {"train.jsonl", "test.jsonl"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subnet", "0.3"], "subnet '0.3' is not in the search space"),
        (["--set-name", "eval"], "cuts_eval.jsonl.gz is missing: run stage 2"),
        (["--checkpoint", "epoch-007"], "epoch-007.pt is missing: run stage 4"),
    ],
)
def test_wrong_requests(made: tuple[Path, Path], options: list[str], message: str) -> None:
    result = call(*made, *options)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_training_on_what_was_written(made: tuple[Path, Path], tmp_path: Path) -> None:
    """The separate model of baseline A2, from the command line: it trains, and its stand-alone form opens."""
    exp, data = made
    assert call(exp, data).exit_code == 0
    tree = yaml.safe_load((exp / "config.yaml").read_text())
    auxiliary = {"layers": [1], "hidden_dim": 4, "alignments": str(exp / "alignments")}
    tree["loss"] |= {"auxiliary": auxiliary}
    tree["method"] = {"kind": "separate", "subnet": "1.0"}
    tree["data"] |= {"max_bad_share": 1.0}
    tree["training"] |= {"num_epochs": 1, "calibration_batches": 1, "scan_worst_batches": True}
    (tmp_path / "a2.yaml").write_text(yaml.safe_dump(tree))
    options = ["--config", str(tmp_path / "a2.yaml"), "--data", str(data), "--exp", str(tmp_path / "a2")]
    result = CliRunner().invoke(command_app(train), options)
    assert result.exit_code == 0, result.output
    (epoch,) = [json.loads(line) for line in (tmp_path / "a2" / "train_log.jsonl").read_text().splitlines()][-1:]
    for part in ("train", "dev"):
        assert 0.0 < epoch[part]["w1/auxiliary"] < 10.0, "nats per frame"
    model = Experiment.open(tmp_path / "a2").model
    assert model.has_training_heads
    result = CliRunner().invoke(
        command_app(extract), [str(tmp_path / "a2"), "--subnet", "max", "--out", str(tmp_path / "small")]
    )
    assert result.exit_code == 0, result.output
    small = Experiment.open(tmp_path / "small").model
    assert not small.has_training_heads
    assert sum(p.numel() for p in small.parameters()) == model.count().params

    (exp / "alignments" / "train.jsonl").unlink()
    result = CliRunner().invoke(command_app(train), [*options[:-1], str(tmp_path / "again")])
    assert result.exit_code == 1
    assert "train.jsonl is missing: run slimasr-align" in result.stderr
