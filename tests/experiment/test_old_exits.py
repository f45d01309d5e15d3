"""Experiments with exits as earlier versions left them: no kind of model, heads called by depths, subnets without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates, read_front
from slimasr.experiment.checkpoints import fingerprint
from slimasr.experiment.record import write_record
from slimasr.experiment.subnets import find_subnet
from slimasr.results.schema import Results
from slimasr.results.search import Candidates, FoundEntry, Front
from slimasr.supernet.subnet import Subnet
from slimasr.training.average import RunningAverage
from slimasr.training.checkpoint import save_checkpoint
from tests.tiny import features
from tests.training.kit import make_objective, tiny_config, tiny_tokenizer

OLD = Subnet(1.0, (0,))
PRESENT = Subnet(1.0, (0,), head="exit1")


def old_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("heads.exit", "exits."): w for name, w in weights.items() if "log_prior" not in name}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    config, tokenizer = (
        tiny_config(
            model={"exits": [1, 2]},
            space={"kind": "layers", "widths": [1.0], "depths": [2, 1]},
            method={"kind": "multi_exit"},
        ),
        tiny_tokenizer(),
    )
    lang = tmp_path / "lang_char"
    lang.mkdir()
    (lang / "bpe.model").write_bytes(tokenizer.processor.serialized_model_proto())
    exp = tmp_path / "exp"
    write_record(exp, config, lang, Results())
    recorded = yaml.safe_load((exp / "config.yaml").read_text())
    del recorded["model"]["kind"]
    (exp / "config.yaml").write_text(yaml.safe_dump(recorded))
    weights = old_names(make_objective(config, tokenizer).model.state_dict())
    assert {"exits.1.linear.weight", "exits.2.norm.affine.16.bias", "ctc_head.weight"} <= weights.keys()
    save_checkpoint(exp / "final.pt", {"model": weights})
    found = FoundEntry(id="w1-l1", subnet=OLD, wer=10.0, dev_loss=1.0, costs={})
    searched = {"set_name": "dev", "cost": "params", "weights": fingerprint(exp / "final.pt")}
    Front(**searched, front=(found,)).write(exp)
    Candidates(**searched, candidates=(found,), stopped=()).write(exp)
    return exp


def test_a_prefix_that_ends_at_an_exit_has_its_output(old: Path) -> None:
    experiment = Experiment.open(old)
    space = experiment.space
    assert list(space) == [Subnet(), PRESENT]
    for name in ("w1-l1", "w1-l1-exit1", "min", OLD.to_json(), PRESENT.to_json()):
        assert find_subnet(experiment, name) == PRESENT
    assert read_front(experiment) == [PRESENT]
    assert [found.subnet for found in read_candidates(experiment)] == [PRESENT]
    assert find_subnet(experiment, Subnet(1.0, (0, 1)).to_json()) == Subnet()
    for other in (Subnet(1.0, (0,), head="exit2"), Subnet(head="exit1"), Subnet(1.0, (0, 1), head="exit2")):
        with pytest.raises(UserError, match="not in the search space"):
            find_subnet(experiment, other.to_json())


def test_its_scores_are_the_same_as_before(old: Path) -> None:
    weights = torch.load(old / "final.pt", weights_only=True)["model"]
    model = Experiment.open(old).model
    x, x_lens = features((60, 41))
    with torch.no_grad():
        out = model.encode(x, x_lens, OLD).out
        linear = F.linear(out, weights["exits.1.linear.weight"], weights["exits.1.linear.bias"])
        norm = weights["exits.1.norm.affine.16.weight"], weights["exits.1.norm.affine.16.bias"]
        torch.testing.assert_close(model.project_encoder(out, PRESENT), F.layer_norm(F.relu(linear), (16,), *norm))


def test_a_run_goes_on_averaging(old: Path) -> None:
    model = Experiment.open(old).model
    earlier, average = RunningAverage(), RunningAverage()
    earlier.update(model)
    state = earlier.state_dict()
    average.load_state_dict({**state, "parameters": old_names(state["parameters"])}, torch.device("cpu"))
    average.update(model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(average.parameters[name], parameter.detach(), msg=name)
