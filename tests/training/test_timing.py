"""The time of a run by its parts, with made-up clocks."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.training.checkpoint import RunState
from slimasr.training.timing import PARTS, Clock, describe_seconds
from slimasr.training.trainer import Trainer
from tests.results.kit import results_json
from tests.training.kit import make_trainer, tiny_config


class Hands:
    """A clock's time, which the test sets."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def spent(clock: Clock) -> dict[str, float]:
    """The parts that took any time."""
    return {part: seconds for part, seconds in clock.take().items() if seconds}


def test_every_moment_counts_for_the_innermost_part() -> None:
    hands = Hands()
    clock = Clock(hands)
    hands.time += 1
    with clock.part("forward"):
        hands.time += 2
        with clock.part("backward"):
            hands.time += 4
        hands.time += 8
    hands.time += 16
    assert spent(clock) == {"rest": 17, "forward": 10, "backward": 4}
    assert spent(clock) == {}


def test_a_part_that_fails_is_left() -> None:
    hands = Hands()
    clock = Clock(hands)
    with suppress(ValueError), clock.part("validation"):
        hands.time += 1
        raise ValueError
    hands.time += 2
    assert spent(clock) == {"validation": 1, "rest": 2}


def test_a_whole_part_keeps_what_is_inside() -> None:
    hands = Hands()
    clock = Clock(hands)
    with clock.part("rest", whole=True):
        with clock.part("forward"), clock.part("backward"):
            hands.time += 1
        hands.time += 2
    with clock.part("forward"):
        hands.time += 4
    assert spent(clock) == {"rest": 3, "forward": 4}


def test_time_taken_within_a_part_is_split_there() -> None:
    hands = Hands()
    clock = Clock(hands)
    with clock.part("checkpoint"):
        hands.time += 1
        assert spent(clock) == {"checkpoint": 1}
        hands.time += 2
    assert spent(clock) == {"checkpoint": 2}


def with_ticks(trainer: Trainer) -> Trainer:
    """Give a trainer a clock on which a second passes whenever it is read."""
    ticks = count()
    trainer.clock = trainer.stepper.clock = Clock(lambda: float(next(ticks)))
    return trainer


def test_a_resumed_run_adds_to_the_time_of_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(training={"num_epochs": 2, "scan_worst_batches": True})
    whole = with_ticks(make_trainer(config, tmp_path / "whole"))
    whole.run()
    seconds = results_json(tmp_path / "whole")["train_seconds"]
    assert list(seconds) == list(PARTS)
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) == pytest.approx(60 * whole.state.minutes)
    assert results_json(tmp_path / "whole")["train_minutes"] == pytest.approx(whole.state.minutes, abs=1e-3)
    assert describe_seconds(seconds) in capsys.readouterr().err

    first = with_ticks(make_trainer(config, tmp_path / "parts"))
    first.run_epoch()  # and killed
    again = with_ticks(make_trainer(config, tmp_path / "parts"))
    again.run()
    parts = results_json(tmp_path / "parts")["train_seconds"]
    for part in ("data", "forward", "backward", "optimiser", "validation"):
        assert parts[part] == seconds[part], part


@pytest.mark.parametrize("shared", [False, True])
def test_every_backward_pass_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> None:
    """Also that of a predictor that all passes share, which runs after them."""
    trainer = make_trainer(tiny_config(), tmp_path)
    trainer.method.share_predictor = shared
    running = []
    backward = torch.autograd.backward

    def noted(*args: Any, **options: Any) -> None:
        running.append(trainer.clock._running)
        backward(*args, **options)

    monkeypatch.setattr(torch.autograd, "backward", noted)
    trainer.objective.train()
    trainer.stepper.step(trainer.take(trainer.data.train.train_batches(1)), trainer.context())
    assert len(running) >= 1 + shared
    assert set(running) == {"backward"}


def test_the_scan_of_the_largest_batches_is_no_step(tmp_path: Path) -> None:
    trainer = with_ticks(make_trainer(tiny_config(), tmp_path))
    trainer.scan_worst_batches()
    assert spent(trainer.clock).keys() == {"rest"}


def test_checkpoints_of_earlier_versions_hold_the_total_alone() -> None:
    state = RunState.of({"epoch": 1, "seconds": 90.0})
    state.add_seconds({"data": 30.0})
    assert state.seconds == {"rest": 90.0, "data": 30.0}
    assert state.minutes == 2.0


def test_one_line_says_where_the_time_went() -> None:
    assert describe_seconds({"data": 1.0, "rest": 3.0}) == "4.0 s of training: data 1.0 s (25.0 %), rest 3.0 s (75.0 %)"
