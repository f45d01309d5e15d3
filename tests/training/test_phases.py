"""A method whose phases switch optimiser and schedule: it trains on, and a stopped run goes on bit for bit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.schema import Config
from slimasr.config.training import EdenScheduleConfig, ScaledAdamConfig
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.phases import Phase
from slimasr.methods.slimmable import Slimmable
from slimasr.supernet.space import WidthSpace
from slimasr.training.scaled_adam import ScaledAdam
from slimasr.training.trainer import Trainer
from tests.training.kit import assert_equal, make_trainer, tiny_config

SCALED = ScaledAdamConfig(lr=0.02, clip_window=4)
EDEN = EdenScheduleConfig(steps=20.0, epochs=2.0, warmup_steps=0)
BATCHES = 6


class TwoPhases(Slimmable):
    """The recipe's optimiser for one epoch, then another with a law of its own."""

    def phase(self, epoch: int) -> Phase:
        return Phase() if epoch == 1 else Phase("scaled", optimizer=SCALED, schedule=EDEN)


class Stop(Exception):
    """The run ends here."""


def config() -> Config:
    schedule = {"kind": "force_anneal", "anneal_epoch": 5, "warmup_steps": 4}
    return tiny_config(training={"num_epochs": 3, "checkpoint_minutes": 1e-9, "schedule": schedule, "log_every": 1})


@dataclass(frozen=True)
class Run:
    """A run's folder and trainer, and by step the optimiser and its rate."""

    exp: Path
    trainer: Trainer
    steps: dict[int, tuple[torch.optim.Optimizer, float]]


def run(exp: Path, last_step: int | None = None) -> Run:
    """Train, to the end or until ``last_step`` steps are done."""
    method = TwoPhases(WidthSpace((1.0, 0.5)), {"transducer": 1.0, "ctc": 0.5})
    done = Run(exp, make_trainer(config(), exp, method), {})

    def watching(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        for item in items:
            yield item
            step, optimizer = done.trainer.state.step, done.trainer.stepper.optimizer
            done.steps.setdefault(step, (optimizer, optimizer.param_groups[0]["lr"]))
            if step == last_step:
                raise Stop

    done.trainer.progress = watching
    done.trainer.run()
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("whole"))


def test_the_switch_brings_a_new_optimiser_and_its_own_rates(whole: Run) -> None:
    kinds = [type(whole.steps[step][0]) for step in range(1, 3 * BATCHES + 1)]
    assert kinds == [torch.optim.AdamW] * BATCHES + [ScaledAdam] * 2 * BATCHES
    assert [whole.steps[step][1] for step in (1, 2, 4, 6)] == pytest.approx([5e-4, 1e-3, 2e-3, 2e-3])
    for step in range(BATCHES, 3 * BATCHES):
        eden = math.sqrt(math.hypot(1.0, step / 20.0) * math.hypot(1.0, (step // BATCHES) / 2.0))
        assert whole.steps[step + 1][1] == pytest.approx(0.02 / eden)
    stepper = whole.trainer.stepper
    assert {stepper.optimizer.state[p]["step"] for p in stepper.weights.values()} == {2 * BATCHES}
    lines = [json.loads(line) for line in (whole.exp / "train_log.jsonl").read_text().splitlines()]
    losses = [line["train"]["w1/transducer"] for line in lines]
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("stop_at", [3, 6, 7, 11])
def test_a_stopped_run_goes_on_exactly_where_it_was(whole: Run, tmp_path: Path, stop_at: int) -> None:
    """Before, at and after the switch, inside a period of the scales and inside the clipping window."""
    with pytest.raises(Stop):
        run(tmp_path, stop_at)
    assert not (tmp_path / "final.pt").exists()
    run(tmp_path)
    ends = [load_checkpoint(exp / "checkpoints" / "epoch-003.pt") for exp in (whole.exp, tmp_path)]
    for end in ends:
        assert sum(end["state"].pop("seconds").values()) > 0
        assert len(end["optimizer"]["state"]["clipping"]["norms"]) == 4
    assert_equal(*ends)
    assert_equal(*(load_checkpoint(exp / "final.pt") for exp in (whole.exp, tmp_path)))
