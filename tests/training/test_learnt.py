"""Subnets that a method chooses in the middle of a run, through the trainer and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.method import TodmConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.experiment.folder import space_of
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective
from slimasr.results.learnt import LearntSubnets
from slimasr.supernet.groups import Group
from slimasr.supernet.list_space import LearntSubnet, learnt_space
from slimasr.supernet.subnet import Subnet
from tests.training.kit import make_trainer, tiny_config

LEARNT = Subnet(units=(("0.ffn1", ((8, 16), (24, 32))), ("1.heads", 1)))


class Chooser(Method):
    """Trains max, and a subnet beside it from its switch on."""

    switched: torch.Tensor

    def __init__(self, switch_step: int) -> None:
        super().__init__(learnt_space(()), {"transducer": 1.0, "ctc": 0.5})
        self.switch_step = switch_step
        self.register_buffer("switched", torch.tensor(False))

    def learnt(self) -> tuple[LearntSubnet, ...]:
        if not self.switched:
            return ()
        groups = (Group(0, "ffn1", 8, 16), Group(0, "ffn1", 24, 32))
        return LearntSubnet("max", Subnet()), LearntSubnet("0.63", LEARNT, 1e5, 9e4, groups)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(subnet, self.losses) for subnet in self.space]

    def after_step(self, objective: Objective, context: StepContext) -> dict[str, torch.Tensor]:
        if context.step + 1 == self.switch_step:
            self.switched.fill_(True)
            self.space = learnt_space(self.learnt())
        return {}


@pytest.fixture(autouse=True)
def todm_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A section for the method above: that of TODM, as if it chose subnets halfway."""
    monkeypatch.setattr(TodmConfig, "switch_share", 0.5)


def config(**training: Any) -> Config:
    chooses = {"space": {"kind": "learnt"}, "method": {"kind": "todm"}}
    return tiny_config(**chooses, training={"average_start": 0.5, "average_period": 1, **training})


def spaces(exp: Path) -> dict[str, list[Subnet]]:
    """The subnets of every checkpoint."""
    found = {}
    for path in [*(exp / "checkpoints").glob("*.pt"), exp / "final.pt"]:
        found[path.stem] = list(space_of(config(), load_checkpoint(path), path))
    return found


def test_every_checkpoint_has_the_subnets_known_by_then(tmp_path: Path) -> None:
    # Six steps in each of three epochs; the switch is the eighth.
    make_trainer(config(num_epochs=3, keep_last=3), tmp_path, Chooser(8)).run()
    both = [Subnet(), LEARNT]
    late = {"epoch-002": both, "epoch-003": both, "best": both, "final": both}
    assert spaces(tmp_path) == {"epoch-001": [Subnet()], **late}
    early = tmp_path / "checkpoints" / "epoch-001.pt"
    with pytest.raises(UserError, match="epoch-001.pt is from before the training chose its subnets; use a later"):
        space_of(config(), load_checkpoint(early), early).parse("0.63")


def test_only_weights_with_subnets_are_averaged_and_best(tmp_path: Path) -> None:
    """Steps at or after ``average_start`` are skipped as long as the method has not switched."""
    trainer = make_trainer(config(num_epochs=2), tmp_path / "late", Chooser(10))
    trainer.run()
    assert trainer.average.count == 3
    assert load_checkpoint(tmp_path / "late" / "checkpoints" / "best.pt")["epoch"] == 2
    trainer = make_trainer(config(num_epochs=2), tmp_path / "never", Chooser(99))
    trainer.run()
    assert not (tmp_path / "never" / "checkpoints" / "best.pt").exists()
    assert trainer.average.count == 0 and spaces(tmp_path / "never")["final"] == [Subnet()]


def test_the_record_can_be_read(tmp_path: Path) -> None:
    trainer = make_trainer(config(num_epochs=2), tmp_path, Chooser(8))
    trainer.run()
    alone = trainer.objective.model.extract(LEARNT)
    whole, entry = json.loads((tmp_path / "subnets.json").read_text(encoding="utf-8"))["subnets"]
    assert (whole["name"], whole["budget"], whole["groups"]) == ("max", None, [])
    assert (entry["name"], entry["budget"], entry["cost"], entry["id"]) == ("0.63", 1e5, 9e4, LEARNT.id)
    assert entry["groups"] == ["0.ffn1[8:16]", "0.ffn1[24:32]"]
    assert entry["subnet"]["units"] == {"0.ffn1": [[8, 16], [24, 32]], "1.heads": 1}
    assert entry["costs"]["params"] == sum(parameter.numel() for parameter in alone.parameters())
    found = LearntSubnets.read(tmp_path)
    assert found is not None and found.subnets[1].subnet == LEARNT


def test_damaged_subnets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "final.pt"
    for subnets in ([{"name": "0.63"}], [{"name": "a", "subnet": {"width": 3}, "budget": 1.0}], [7], 7):
        with pytest.raises(UserError, match=r"final.pt: damaged checkpoint \(its subnets: "):
            space_of(config(), {"subnets": subnets}, path)


def test_the_average_may_not_begin_before_the_choice() -> None:
    with pytest.raises(ValueError, match="training.average_start: must be at least 0.5"):
        config(average_start=0.4)
    with pytest.raises(ValueError, match="space.kind: method todm chooses its subnets; set learnt, not widths"):
        tiny_config(method={"kind": "todm"}, training={"average_start": 0.5})
