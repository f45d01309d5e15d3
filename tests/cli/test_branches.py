"""A tree through the commands: its branches are searched, decoded, reported and extracted by their depths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from slimasr.cli import decode, extract, report, score, search
from slimasr.cli.common import command_app
from slimasr.config.schema import Config
from slimasr.experiment import Experiment
from slimasr.supernet.subnet import Subnet
from tests.decoding import made_up
from tests.results.kit import results_json

BRANCH = Subnet(1.0, (0, 3))


def recipe(shared: int = 1, depths: tuple[int, ...] = (3, 2)) -> Config:
    """A streaming encoder with two branches, and losses that need alignments, which nothing here has."""
    tree = {"shared": shared, "depths": list(depths)}
    encoder = {"kind": "emformer", "d_model": 16, "num_layers": depths[0], "num_heads": 2, "ffn_dim": 16, "tree": tree}
    model = made_up.config().model.model_dump(mode="json") | {"frontend": {"kind": "stack", "factor": 4}}
    auxiliary = {"layers": [], "output": True, "shared": True, "hidden_dim": 4}
    return made_up.config(
        model=model | {"encoder": encoder},
        space={"kind": "branches"},
        method={"kind": "collaborative"},
        loss={"transducer": "restricted", "alignments": "nowhere", "auxiliary": auxiliary},
        search={"rtf_seconds": 0.5},
    )


def call(run: Callable[..., None], *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def done(run: Callable[..., None], *arguments: object) -> str:
    """The output of a command that succeeds."""
    result = call(run, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``exp/`` after stages 4 to 7, and ``data/``; not to be written into."""
    root = tmp_path_factory.mktemp("branches")
    data = made_up.write_data(root, recipe())
    exp = made_up.write_experiment(root, recipe(), data)
    done(search.run, exp, "--data", data)
    for name in ("max", "l2"):
        done(decode.run, exp, "--data", data, "--subnet", name)
    done(score.run, exp)
    return root


def test_all_branches_are_searched_decoded_and_scored(made: Path) -> None:
    subnets = results_json(made / "exp")["subnets"]
    assert subnets.keys() == {"w1", BRANCH.id}
    model = Experiment.open(made / "exp").model
    for subnet in (Subnet(), BRANCH):
        entry = subnets[subnet.id]
        assert entry["costs"]["params"] == model.count(subnet).params
        assert entry["dev_loss"] > 0 and entry["wer"].keys() == {"dev", "test"}
        assert (made / "exp" / "decode" / subnet.id / "test" / "recogs").exists()


def test_a_report_has_every_branch(made: Path, tmp_path: Path) -> None:
    merged = tmp_path / "results.json"
    done(report.run, made / "exp", "--out", tmp_path / "report.html", "--json", merged)
    (run,) = json.loads(merged.read_text(encoding="utf-8"))["experiments"].values()
    assert run["subnets"].keys() == {"w1", BRANCH.id}


def test_an_extracted_branch_computes_the_same_whole_and_streaming(made: Path, tmp_path: Path) -> None:
    output = done(extract.run, made / "exp", "--subnet", "l2", "--out", tmp_path / "small")
    whole, small = Experiment.open(made / "exp").model, Experiment.open(tmp_path / "small")
    assert small.config.model.encoder.tree is None and small.config.model.encoder.num_layers == 2
    assert not small.model.has_training_heads and small.config.loss.transducer == "full"
    number = sum(parameter.numel() for parameter in small.model.parameters())
    assert number == whole.count(BRANCH).params and f"{number:,} parameters" in output
    x, x_lens = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([60, 41])
    with torch.no_grad():
        expected, got = whole(x, x_lens, BRANCH), small.model(x, x_lens)
        streamed = [stream(model, x, subnet) for model, subnet in ((whole, BRANCH), (small.model, None))]
    for row, frames in enumerate(expected.lens.tolist()):
        torch.testing.assert_close(got.out[row, :frames], expected.out[row, :frames], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(streamed[1], streamed[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(streamed[1][:1], got.out[:1], atol=1e-5, rtol=1e-5)
    # What was extracted is an experiment like any other.
    done(search.run, tmp_path / "small", "--data", made / "data")
    assert results_json(tmp_path / "small")["subnets"]["w1"]["search"]["wer"] == pytest.approx(
        results_json(made / "exp")["subnets"][BRANCH.id]["search"]["wer"]
    )


def stream(model: Any, x: torch.Tensor, subnet: Subnet | None) -> torch.Tensor:
    """The output in chunks, put together."""
    state = model.encoder.init_state(len(x), x.device, subnet)
    outputs = []
    pieces = model.normalize(x).split(16, dim=1)
    for number, piece in enumerate(pieces):
        out, state = model.encoder.stream(piece, state, subnet, final=number == len(pieces) - 1)
        outputs.append(out)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", ["l4", "0.5", "w1-l2"])
def test_a_depth_that_no_branch_has_names_those_that_exist(made: Path, tmp_path: Path, name: str) -> None:
    result = call(extract.run, made / "exp", "--subnet", name, "--out", tmp_path / "small")
    assert result.exit_code == 1
    assert "choose one of: max, min, l3, l2" in result.output


@pytest.mark.parametrize("change", [{"shared": 0, "depths": [3, 1]}, {"shared": 0, "depths": [3, 2]}])
def test_a_checkpoint_of_another_tree_is_refused(made: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """The first of these trees has as many layers, so that its weights have equal shapes."""
    exp = Path(shutil.copytree(made / "exp", tmp_path / "exp"))
    config = yaml.safe_load((exp / "config.yaml").read_text(encoding="utf-8"))
    config["model"]["encoder"]["tree"] = change
    (exp / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = call(extract.run, exp, "--subnet", "max", "--out", tmp_path / "small")
    assert result.exit_code == 1
    assert "final.pt: was trained with another model.encoder.tree (depths 3, 2 with 1 layer shared)" in result.output
