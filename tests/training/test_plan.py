"""A run that goes on with other processes or data follows the plan it began with: no schedule jumps."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.base import StepContext
from slimasr.methods.figures import StepReport
from slimasr.training.checkpoint import list_checkpoints
from slimasr.training.distributed import World
from slimasr.training.plan import Stretch, passes_multiple
from slimasr.training.step import StepResult
from slimasr.training.trainer import Trainer
from tests.training.kit import SampledBatches, TinyBatches, assert_equal, make_trainer, tiny_config, tiny_tokenizer

EPOCHS = 3
LR = 2e-3
UTTERANCES = {f"utt-{i}" for i in range(60)}


class Stop(Exception):
    """The run ends here."""


class SameEverywhere(World):
    """One of several processes, of which the others do and hold the same."""

    def sum(self, value: float) -> float:
        return value * self.size

    def gather(self, value: Any) -> list[Any]:
        return [value] * self.size

    def barrier(self) -> None:
        pass


@dataclass
class Journal:
    """What the steps of a run saw, over all its processes."""

    rates: list[float] = field(default_factory=list)
    contexts: list[StepContext] = field(default_factory=list)
    snapshots: list[float] = field(default_factory=list)
    trained: dict[int, Counter[str]] = field(default_factory=dict)


def config(**training: Any) -> Config:
    return tiny_config(training={"num_epochs": EPOCHS, "keep_last": 50, "calibration_batches": 1, **training})


def run(
    exp: Path,
    recipe: Config,
    world_size: int = 1,
    last_step: int | None = None,
    journal: Journal | None = None,
    batches: TinyBatches | None = None,
) -> Trainer:
    """Train with steps that only set the learning rate, to the end or until ``last_step`` steps are done in all."""
    journal = journal or Journal()
    world = SameEverywhere(0, world_size)
    source = batches or SampledBatches(tiny_tokenizer(), world=world)
    trainer = make_trainer(recipe, exp, batches=source, world=world)
    others = [SampledBatches(tiny_tokenizer(), world=World(rank, world_size)) for rank in range(1, world_size)]
    rivals: list[Iterator[Batch]] = []

    def step(group: list[Batch], context: StepContext) -> StepResult:
        rate = trainer.stepper.set_rate(context)
        journal.rates.append(rate)
        journal.contexts.append(context)
        heard = [*group, *(batch for rival in rivals for batch in islice(rival, len(group)))]
        for batch in heard:
            journal.trained.setdefault(context.epoch, Counter()).update(batch.ids)
        return StepResult(StepReport(), rate, torch.tensor(1.0))

    def until(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        if label.startswith("epoch"):
            state = trainer.state
            rivals[:] = [other.train_batches(state.epoch + 1, state.batch, state.parts) for other in others]
        for item in items:
            yield item
            if label.startswith("epoch") and trainer.state.step == last_step:
                trainer.save()
                raise Stop

    trainer.stepper.step = step  # type: ignore[assignment, method-assign]
    trainer.average.update = lambda module: journal.snapshots.append(trainer.course.position(trainer.state))  # type: ignore[method-assign]
    trainer.validate = lambda epoch: {"loss": 1.0}  # type: ignore[method-assign]
    trainer.progress = until
    try:
        trainer.run()
    except Stop:
        assert not (exp / "final.pt").exists()
    return trainer


def run_through(exp: Path, recipe: Config, legs: Iterable[tuple[int, int | None]]) -> tuple[Journal, Trainer]:
    """One run in several legs, each of (number of processes, steps done in all when it stops)."""
    journal = Journal()
    for world_size, last_step in legs:
        trainer = run(exp, recipe, world_size, last_step, journal)
    return journal, trainer


def linear(position: float, total: int, warmup: float) -> float:
    """The linear law by its corner points."""
    return LR * float(np.interp(position / total, [0.0, warmup, 1.0], [0.0, 1.0, 0.0]))


LEGS: Mapping[str, list[tuple[int, int | None]]] = {
    "fewer, in mid-epoch": [(2, 20), (1, None)],
    "fewer, in the warm-up": [(2, 2), (1, None)],
    "more, in mid-epoch": [(1, 20), (3, None)],
    "twice in an epoch": [(2, 18), (1, 22), (3, None)],
    "in the last epoch": [(2, 40), (1, None)],
    "one step before the end": [(2, 47), (1, None)],
    "at the end of an epoch": [(2, 16), (1, None)],
    "back to where it began": [(1, 7), (2, 12), (1, None)],
}


@pytest.mark.parametrize("legs", LEGS.values(), ids=LEGS.keys())
def test_the_schedule_goes_on_where_it_was_and_ends_where_it_should(
    tmp_path: Path, legs: list[tuple[int, int | None]]
) -> None:
    warmup = 0.15
    journal, trainer = run_through(tmp_path, config(schedule={"kind": "linear", "warmup": warmup}), legs)
    planned = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[0])["plan"]
    total = sum(planned["steps"])
    assert (planned["world_size"], trainer.course.plan.total) == (legs[0][0], total)
    contexts = journal.contexts
    assert [context.step for context in contexts] == list(range(len(contexts))), "seeds use the real step counter"
    ends = [context.planned + context.stride for context in contexts]
    # Each step begins where the one before ended, also across epochs and resumes.
    assert contexts[0].planned == 0.0
    assert [c.planned for c in contexts[1:]] == pytest.approx(ends[:-1], abs=1e-9)
    assert ends[-1] == pytest.approx(total, abs=1e-9)
    for context, rate in zip(contexts, journal.rates, strict=True):
        assert rate == pytest.approx(linear(context.planned + context.stride / 2, total, warmup), rel=1e-6)
    steepest = LR / (warmup * total)
    for (a, b), (rate, after) in zip(pairwise(contexts), pairwise(journal.rates), strict=True):
        assert abs(after - rate) <= steepest * max(a.stride, b.stride) + 1e-12, "continuous to one step"
        assert after < rate or a.planned < warmup * total, "it never rises again"
    assert 0 < journal.rates[-1] <= LR * 0.06


@pytest.mark.parametrize("legs", LEGS.values(), ids=LEGS.keys())
def test_every_epoch_trains_every_utterance_once(tmp_path: Path, legs: list[tuple[int, int | None]]) -> None:
    journal, _ = run_through(tmp_path, config(), legs)
    for epoch in range(1, EPOCHS + 1):
        assert set(journal.trained[epoch]) == UTTERANCES
        assert sum(journal.trained[epoch].values()) <= len(UTTERANCES) + 2, "but for a last round that fills up"


@pytest.mark.parametrize("legs", LEGS.values(), ids=LEGS.keys())
@pytest.mark.parametrize("period", [1, 4])
def test_snapshots_are_taken_where_they_were_planned(
    tmp_path: Path, legs: list[tuple[int, int | None]], period: int
) -> None:
    """In the step that passes a multiple of the period, once each."""
    journal, trainer = run_through(tmp_path, config(average_start=0.5, average_period=period), legs)
    total = trainer.course.plan.total
    reached = [min(c.planned + c.stride, total) for c in journal.contexts]
    starts = [c.planned for c in journal.contexts]
    due = [
        after
        for before, after in zip(starts, reached, strict=True)
        if after >= 0.5 * total - 1e-9 and any(before < n <= after + 1e-9 for n in range(period, total + 1, period))
    ]
    assert journal.snapshots == pytest.approx(due)
    assert len(journal.snapshots) >= 0.4 * total / period / 3


@pytest.mark.parametrize(
    ("schedule", "law"),
    [
        (
            {"kind": "force_anneal", "warmup_steps": 24, "anneal_epoch": 2, "factor": 0.5},
            lambda start, stride, epoch: min(1.0, (start + stride) / 24) * 0.5 ** (epoch - 1),
        ),
        (
            {"kind": "eden", "steps": 10.0, "epochs": 2.0, "warmup_steps": 0},
            lambda start, stride, epoch: ((1 + (start / 10) ** 2) * (1 + ((epoch - 1) / 2) ** 2)) ** -0.25,
        ),
    ],
)
def test_what_is_given_in_steps_means_planned_steps(tmp_path: Path, schedule: dict[str, Any], law: Any) -> None:
    journal, _ = run_through(tmp_path, config(schedule=schedule), [(2, 10), (1, None)])
    starts = np.cumsum([0.0, *(context.stride for context in journal.contexts)])
    for start, context, rate in zip(starts, journal.contexts, journal.rates, strict=False):
        assert rate == pytest.approx(LR * law(start, context.stride, context.epoch), rel=1e-6)


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    journal, trainer = run_through(tmp_path, config(accumulate=3), [(2, 7), (1, None)])
    last = journal.contexts[-1]
    assert last.planned + last.stride == pytest.approx(trainer.course.plan.total)
    assert all(set(trained) == UTTERANCES for trained in journal.trained.values())


def test_it_is_said_how_many_processes_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, config(), 2, 20)
    assert "process" not in capsys.readouterr().err
    run(tmp_path, config(), 2, 24)
    assert "process" not in capsys.readouterr().err
    run(tmp_path, config(), 1, 30)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "process" in line]
    assert line in (tmp_path / "train.log").read_text()
    for part in ("with 1 process,", "from 2 processes", "continues at 50.0 % of the run", "0.5 times as many"):
        assert part in line
    run(tmp_path, config(), 1, None)
    assert "process" not in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["processes"]) for line in lines] == [(1, 2), (2, 1), (3, 1)]


@pytest.mark.parametrize("now", [2, 5, 6, 7, 11, 24])
@pytest.mark.parametrize("stop", [3, 6, 8, 17])
def test_changed_data_keep_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], now: int, stop: int) -> None:
    """Six batches an epoch became ``now``: the schedule goes on in proportion and ends with the run."""
    journal = Journal()
    run(tmp_path, config(), 1, stop, journal, SampledBatches(tiny_tokenizer(), num_utterances=12, max_cuts=2))
    planned = [context.total_steps for context in journal.contexts]
    capsys.readouterr()
    trainer = run(tmp_path, config(), 1, None, journal, SampledBatches(tiny_tokenizer(), num_utterances=2 * now))
    said = "the plan stays" in capsys.readouterr().err
    assert said == ([trainer.course.steps_of(n) for n in trainer.course.num_batches] != list(trainer.course.plan.steps))
    assert {context.total_steps for context in journal.contexts} == set(planned)
    ends = [context.planned + context.stride for context in journal.contexts]
    assert [c.planned for c in journal.contexts[1:]] == pytest.approx(ends[:-1], abs=1e-9)
    assert ends[-1] == pytest.approx(trainer.course.plan.total)
    peak = journal.rates.index(max(journal.rates))
    assert all(b < a for a, b in pairwise(journal.rates[peak:]))


def test_a_checkpoint_without_plan_goes_on_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As an earlier version wrote it, in mid-epoch and at the end of one."""
    run(tmp_path / "whole", config())
    newer = ("num_batches", "world_size", "parts", "origin", "unvalidated")
    for stop in (10, 30):
        exp = tmp_path / f"parts-{stop}"
        run(exp, config(), 1, stop)
        for path in list_checkpoints(exp / "checkpoints"):
            saved = load_checkpoint(path)
            del saved["plan"]
            saved["state"] = {key: value for key, value in saved["state"].items() if key not in newer}
            torch.save(saved, path)
        capsys.readouterr()
        run(exp, config())
        notes = [line for line in capsys.readouterr().err.splitlines() if "holds no plan" in line]
        assert len(notes) == 1
        ends = [load_checkpoint(folder / "checkpoints" / "epoch-003.pt") for folder in (tmp_path / "whole", exp)]
        for end in ends:
            end["state"].pop("seconds")
        assert_equal(*ends)


def test_without_a_change_the_position_is_the_step_counter_to_the_bit() -> None:
    for start, steps in ((0, 7), (21, 49), (10**6, 99991)):
        stretch = Stretch(float(start), start + steps, steps)
        assert stretch.stride == 1.0
        assert all(stretch.position(done) == start + done for done in range(steps + 1))


def test_every_multiple_is_passed_once_however_steps_lie() -> None:
    rng = random.Random(1)
    for _ in range(200):
        period, start, passed = rng.randint(1, 9), 0.0, 0
        for _ in range(rng.randint(1, 5)):
            stretch = Stretch(start, start + rng.choice([3, 10, rng.uniform(1, 30)]), rng.randint(1, 40))
            for done in range(stretch.steps):
                before, after = stretch.position(done), stretch.position(done + 1)
                assert before <= after
                passed += passes_multiple(before, after, period) if stretch.stride <= period else 0
            passed += int(stretch.end // period - start // period) if stretch.stride > period else 0
            start = stretch.end
        assert passed == int(start // period)
