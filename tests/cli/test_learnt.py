"""Learnt subnets through the commands: found by the names of their budgets in the checkpoint, and missing from an early
one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from slimasr.cli import decode, extract, profile, transcribe
from slimasr.cli.common import command_app
from slimasr.config.method import TodmConfig
from slimasr.experiment import Experiment
from slimasr.supernet.list_space import LearntSubnet
from slimasr.supernet.subnet import Subnet
from tests.decoding import made_up

HALF = Subnet(units=(("0.ffn1", ((4, 8), (12, 16))), ("0.heads", ((1, 2),))))
SMALL = Subnet(units=(("0.conv", 0), ("0.ffn1", 0), ("0.heads", ((1, 2),))))
LEARNT = [LearntSubnet("max", Subnet()), LearntSubnet("0.63", HALF, 2e4, 1.9e4), LearntSubnet("1 block", SMALL, 1e4)]


def call(run: Callable[..., None], *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def done(run: Callable[..., None], *arguments: object) -> str:
    """The output of a command that succeeds."""
    result = call(run, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``exp/`` after a training that has learnt subnets, with a checkpoint from before; not to be written into."""
    with pytest.MonkeyPatch.context() as patch:
        # A section of a method that chooses subnets: that of TODM, as if it did.
        patch.setattr(TodmConfig, "switch_share", 0.5)
        recipe = made_up.config(space={"kind": "learnt"}, method={"kind": "todm"})
        root = tmp_path_factory.mktemp("learnt")
        data = made_up.write_data(root, recipe)
        exp = made_up.write_experiment(root, recipe, data)
        saved = torch.load(exp / "final.pt", weights_only=True)
        (exp / "checkpoints").mkdir()
        torch.save({**saved, "subnets": []}, exp / "checkpoints" / "epoch-001.pt")
        torch.save({**saved, "subnets": [item.to_dict() for item in LEARNT]}, exp / "final.pt")
        yield root


def test_commands_find_them_by_the_names_of_their_budgets(made: Path) -> None:
    exp, data = made / "exp", made / "data"
    for name in ("0.63", "1 block"):
        done(decode.run, exp, "--data", data, "--subnet", name, "--set-name", "test")
    for subnet in (HALF, SMALL):
        assert (exp / "decode" / subnet.id / "test" / "recogs").exists()
    costs = json.loads(call(profile.run, exp, "--json", "--no-rtf").stdout)
    model = Experiment.open(exp).model
    assert costs.keys() == {"w1", HALF.id, SMALL.id}
    for subnet in (Subnet(), HALF, SMALL):
        number = sum(parameter.numel() for parameter in model.extract(subnet).parameters())
        assert costs[subnet.id]["costs"]["params"] == number
    text = done(transcribe.run, exp, made / "audio" / "test0.wav", "--subnet", "min")
    assert text == done(transcribe.run, exp, made / "audio" / "test0.wav", "--subnet", "1 block")


def test_an_extracted_one_is_an_experiment_of_its_own(made: Path, tmp_path: Path) -> None:
    done(extract.run, made / "exp", "--subnet", "0.63", "--out", tmp_path / "small")
    small, whole = Experiment.open(tmp_path / "small"), Experiment.open(made / "exp")
    assert small.config.space.kind == "widths" and list(small.space) == [Subnet()]
    x, x_lens = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([60, 41])
    with torch.no_grad():
        expected, got = whole.model(x, x_lens, HALF), small.model(x, x_lens)
    torch.testing.assert_close(got.out, expected.out, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["min", "0.63", "all"])
def test_a_checkpoint_without_subnets_says_so(made: Path, name: str) -> None:
    arguments = (made / "exp", made / "audio" / "test0.wav", "--checkpoint", "epoch-001")
    assert "epoch-001.pt is from before the training chose its subnets" in done(transcribe.run, *arguments)
    result = call(transcribe.run, *arguments, "--subnet", name)
    assert result.exit_code == 1
    assert "epoch-001.pt is from before the training chose its subnets; use a later checkpoint" in result.output


def test_other_names_list_those_that_exist(made: Path) -> None:
    result = call(transcribe.run, made / "exp", made / "audio" / "test0.wav", "--subnet", "0.5")
    assert result.exit_code == 1 and "choose one of: max, min, 0.63, 1 block" in result.output
