"""A subnet extracted through the command line is an experiment like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from slimasr.cli.common import command_app
from slimasr.cli.extract import run
from slimasr.config.load import load_config
from slimasr.decoding.transcription.transcribe import reading_of
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import fingerprint
from slimasr.results.schema import Results
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet
from tests.decoding import made_up
from tests.results.kit import results_json
from tests.search.untrained import copy_of, make_data, make_experiment

PARAMS = {"w1": 2000.0, "w0.5": 1000.0}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained supernet with made-up search results: the wide subnet has the lower WER."""
    root = tmp_path_factory.mktemp("extract")
    folder = make_experiment(root / "supernet", make_data(root), [0.5, 1.0])
    weights = fingerprint(folder / "final.pt")
    entries = {
        subnet: {
            "subnet": {"width": float(subnet[1:])},
            "costs": {"params": params},
            "search": {"wer": 3000.0 / params, "dev_loss": 1.0, "weights": weights},
        }
        for subnet, params in PARAMS.items()
    }
    update_results(folder, Results.model_validate({"subnets": entries}))
    return folder


def extract(experiment: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(experiment), "--out", str(out), *options])


def test_extracted_experiment_opens_and_computes_the_same(experiment: Path, tmp_path: Path) -> None:
    result = extract(experiment, tmp_path / "half", "--subnet", "0.5")
    assert result.exit_code == 0, result.output
    supernet, half = Experiment.open(experiment), Experiment.open(tmp_path / "half")
    assert half.space.count() == 1
    assert half.tokenizer.tokens == supernet.tokenizer.tokens
    x, x_lens = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([60, 41])
    with torch.no_grad():
        expected, got = supernet.model(x, x_lens, Subnet(0.5)), half.model(x, x_lens)
    torch.testing.assert_close(got.out[0], expected.out[0], atol=1e-5, rtol=1e-5)
    valid = int(expected.lens[1])
    torch.testing.assert_close(got.out[1, :valid], expected.out[1, :valid], atol=1e-5, rtol=1e-5)
    number = sum(p.numel() for p in half.model.parameters())
    assert number == supernet.model.count(Subnet(0.5)).params
    assert f"{number:,} parameters" in result.output


@pytest.mark.parametrize(("longest", "window"), [(None, 30.0), (6.22, 6.22), (1.5, 5.0), (47.0, 30.0)])
def test_long_recordings_are_cut_as_long_as_training_utterances(
    experiment: Path, tmp_path: Path, longest: float | None, window: float
) -> None:
    supernet = copy_of(experiment, tmp_path / "supernet")
    update_results(supernet, Results(longest_seconds=longest))
    assert extract(supernet, tmp_path / "half", "--subnet", "0.5").exit_code == 0
    for folder in (supernet, tmp_path / "half"):
        assert reading_of(Experiment.open(folder)).window_seconds == window
        assert reading_of(Experiment.open(folder), 12.0).window_seconds == 12.0


def test_extracted_sizes_are_written_out(experiment: Path, tmp_path: Path) -> None:
    assert extract(experiment, tmp_path / "half", "--subnet", "w0.5").exit_code == 0
    config = load_config(tmp_path / "half" / "config.yaml")
    assert config.model.encoder.d_model == 8
    assert config.space.widths == [1.0]
    assert results_json(tmp_path / "half")["extracted_from"]["subnet"] == {"width": 0.5}


@pytest.mark.parametrize(("limit", "d_model"), [("1500", 8), ("2e6", 16)])
def test_limits_choose(experiment: Path, tmp_path: Path, limit: str, d_model: int) -> None:
    result = extract(experiment, tmp_path / "best", "--max-params", limit)
    assert result.exit_code == 0, result.output
    assert load_config(tmp_path / "best" / "config.yaml").model.encoder.d_model == d_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subnet", "0.3"], "choose one of: w1, w0.5"),
        (["--max-params", "10"], "nearest is w0.5 with 1,000 parameters"),
        ([], "name either --subnet or limits"),
        (["--subnet", "0.5", "--max-params", "10"], "name either --subnet or limits"),
    ],
)
def test_impossible_wishes(experiment: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = extract(experiment, tmp_path / "out", *options)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_another_experiment_is_not_overwritten(experiment: Path) -> None:
    before = (experiment / "final.pt").read_bytes()
    result = extract(experiment, experiment, "--subnet", "0.5")
    assert result.exit_code == 1
    assert "holds an experiment already" in result.output
    assert (experiment / "final.pt").read_bytes() == before


def test_an_exit_keeps_its_own_projection(tmp_path: Path) -> None:
    tree = made_up.config().model.model_dump(mode="json")
    tree |= {"encoder": tree["encoder"] | {"num_layers": 2}, "exits": [1, 2]}
    space = {"kind": "layers", "depths": [2, 1]}
    recipe = made_up.config(model=tree, space=space, method={"kind": "multi_exit"})
    exp = made_up.write_experiment(tmp_path, recipe, made_up.write_data(tmp_path, recipe))
    result = extract(exp, tmp_path / "small", "--subnet", "w1-l1")
    assert result.exit_code == 0, result.output
    whole, small = Experiment.open(exp).model, Experiment.open(tmp_path / "small").model
    x, x_lens, subnet = torch.randn(2, 60, 80), torch.tensor([60, 41]), Subnet(1.0, (0,), head="exit1")
    with torch.no_grad():
        expected = whole.project_encoder(whole(x, x_lens, subnet).out, subnet)
        got = small.project_encoder(small(x, x_lens).out)
    torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in small.parameters()) == whole.count(subnet).params
    with_own = whole.joiner.encoder_proj(whole(x, x_lens, subnet).out)
    assert not torch.allclose(with_own[0], expected[0], atol=1e-2)


def test_a_subnet_of_a_taught_supernet_has_no_teacher(tmp_path: Path) -> None:
    space = {"kind": "layers", "depths": [1]}
    loss = {"transducer": "pruned", "distillation": {}, "backend": "torch"}
    recipe = made_up.config(space=space, method={"kind": "todm"}, loss=loss)
    exp = made_up.write_experiment(tmp_path, recipe, made_up.write_data(tmp_path, recipe))
    result = extract(exp, tmp_path / "small", "--subnet", "max")
    assert result.exit_code == 0, result.output
    assert Experiment.open(tmp_path / "small").config.loss.distillation is None
