"""A pathway from its supernet's folder to a stand-alone one, through the commands that a user calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.extract import run as run_extract
from slimasr.cli.profile import run as run_profile
from slimasr.config.method import SlimmableConfig
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.subnet import Subnet
from tests.models.pathway_kit import CONFORMER, PREDICTOR
from tests.results.kit import results_json
from tests.search.untrained import make_data, make_experiment

FR = Subnet(pathway="fr")
SPACE: dict[str, object] = {"kind": "pathways", "languages": ["en", "fr"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``data/`` and ``exp/``, an untrained supernet with two pathways."""
    root = tmp_path_factory.mktemp("pathways")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlimmableConfig, "trains_pathways", True)
        method: dict[str, object] = {"share_predictor": False}
        data = make_data(root)
        make_experiment(root / "exp", data, [1.0], space=SPACE, method=method, encoder=CONFORMER, predictor=PREDICTOR)
        yield root


def test_an_extracted_pathway_is_the_pathway(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "fr"
    result = CliRunner().invoke(command_app(run_extract), [str(place / "exp"), "--subnet", "fr", "--out", str(out)])
    assert result.exit_code == 0, result.output
    supernet = Experiment.open(place / "exp")
    alone = Experiment.open(out)
    expected = supernet.model.extract(FR).state_dict()
    found = alone.model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].numpy().tobytes() == value.numpy().tobytes(), name
    # Its costs are those of what is stored, also after it was read.
    assert alone.model.count() == supernet.model.count(FR)
    assert f"fr, {alone.model.count().params:,} parameters" in result.output
    assert results_json(out)["extracted_from"]["subnet"] == {"width": 1.0, "pathway": "fr"}
    assert alone.config.name == "exp-fr" and alone.model.pathways is None
    dense = sum(weight.numel() for weight in prunable_matrices(alone.model).values())
    saved = (place / "exp" / "final.pt").stat().st_size - (out / "final.pt").stat().st_size
    assert saved > 0.1 * dense
    # It can be extracted once more.
    again = CliRunner().invoke(command_app(run_extract), [str(out), "--subnet", "max", "--out", str(tmp_path / "b")])
    assert again.exit_code == 0, again.output
    copied = Experiment.open(tmp_path / "b").model
    assert copied.count() == alone.model.count()
    for name, value in copied.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_costs_of_pathways_are_printed(place: Path) -> None:
    result = CliRunner().invoke(command_app(run_profile), [str(place / "exp"), "--no-rtf", "--json"])
    assert result.exit_code == 0, result.output
    model = Experiment.open(place / "exp").model
    for name in ("en", "fr"):
        assert f'"params": {model.count(Subnet(pathway=name)).params}' in result.output
        assert model.count(Subnet(pathway=name)).params < 0.5 * model.count().params


def test_bytes_of_stored_pathways_are_compared(place: Path) -> None:
    result = CliRunner().invoke(command_app(run_profile), [str(place / "exp"), "--no-rtf", "--storage"])
    assert result.exit_code == 0, result.output
    table = result.output.split("Storage, exp\n")[1].splitlines()
    assert [line.split("  ")[0] for line in table[1:5]] == ["en", "fr", "all in one", "one each"]
    refused = CliRunner().invoke(command_app(run_profile), ["--config", str(place / "exp/config.yaml"), "--storage"])
    assert refused.exit_code == 1
    assert "--storage compares the files of pathways: name an experiment" in refused.output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("space.block=[512,1]", "space.block: no matrix of the model holds a block of 512 outputs and 1 inputs"),
        ("space.block=[8]", "space.block"),
        ("space.languages=[fr,fr]", "space.languages: needs at least one, all different"),
        ("space.languages=[fr,all]", "space.languages: all is one pathway for every language"),
        ("model.encoder.conv_norm=batch", "model.encoder.conv_norm: statistics of a batch norm"),
        ("method.share_predictor=null", "method.share_predictor: each pathway has a predictor of its own"),
        ("method={kind: separate}", "space.kind: pathways needs a method that trains pathways"),
    ],
)
def test_recipes_that_cannot_work(place: Path, override: str, message: str) -> None:
    arguments = ["--config", str(place / "exp/config.yaml"), "--no-rtf", "--set", override]
    result = CliRunner().invoke(command_app(run_profile), arguments)
    assert message in result.output and result.exit_code == 1, result.output


def test_weights_of_other_pathways_are_refused(place: Path, tmp_path: Path) -> None:
    """Their masks may have equal shapes, but belong to other languages."""
    (tmp_path / "exp").mkdir()
    for file in (place / "exp").iterdir():
        if file.is_dir():
            (tmp_path / "exp" / file.name).symlink_to(file)
        else:
            (tmp_path / "exp" / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "exp" / "config.yaml"
    text = config.read_text()
    assert text.count("- en\n") == 1
    config.write_text(text.replace("- en\n", "- nl\n"))
    with pytest.raises(UserError, match="another space .pathways en, fr of 8 x 1 blocks. than the recipe's"):
        Experiment.open(tmp_path / "exp")
