"""The choice of threads, with made-up times, and runs that begin with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.training import threads
from slimasr.training.distributed import World
from slimasr.training.threads import SHARE, choose_threads, counts_up_to, fastest_that_pays, measure, most_threads
from slimasr.training.trainer import Trainer
from tests.results.kit import results_json
from tests.training.kit import TinyBatches, assert_equal, make_trainer, tiny_config, tiny_tokenizer

QUIET = {1: 1.0, 2: 0.8, 4: 0.5, 8: 0.45}
LOADED = {1: 1.0, 2: 2.2, 4: 5.0, 8: 9.0}


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Steps:
    """Steps that take a given time with each number of threads; only the first one takes longer."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.run: list[int] = []

    def __call__(self, number: int) -> float:
        self.run.append(number)
        return self.seconds[number] if len(self.run) > 1 else 100.0


def test_powers_of_two_and_the_largest_number() -> None:
    assert [counts_up_to(most) for most in (1, 2, 3, 4, 6, 8)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4],
        [1, 2, 4, 6],
        [1, 2, 4, 8],
    ]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.8}, 1),  # 1.25 times as fast
        ({1: 1.0, 2: 0.7}, 2),
        ({1: 1.0, 2: 0.8, 4: 0.5}, 4),  # twice as fast with four times as many
        ({1: 1.0, 2: 0.6, 4: 0.5}, 2),
        ({1: 1.0, 2: 0.6, 4: 0.5, 8: 0.3}, 8),
        ({1: 1.0, 3: 0.7}, 1),
        (QUIET, 4),
        (LOADED, 1),
    ],
)
def test_more_threads_must_pay(seconds: dict[int, float], best: int) -> None:
    assert fastest_that_pays(seconds) == best


def test_numbers_take_turns() -> None:
    steps = Steps(QUIET)
    assert measure(steps, [1, 2, 4, 8], planned=10_000) == QUIET
    assert steps.run == [1, *[1, 2, 4, 8] * 5]


def test_what_is_much_slower_is_tried_once() -> None:
    steps = Steps(LOADED)
    assert measure(steps, [1, 2, 4, 8], planned=10_000) == {1: 1.0, 2: 2.2}
    assert steps.run == [1, 1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("planned", [150, 200, 300, 450, 700, 1000, 2000, 5000])
@pytest.mark.parametrize("seconds", [QUIET, {1: 0.5, 2: 0.5, 4: 0.5, 8: 0.5}])
def test_timing_takes_a_small_part_of_the_run(seconds: dict[int, float], planned: int) -> None:
    """The shortest step bounds the length of the run from below; the first timed step is the shortest at first."""
    steps = Steps(seconds)
    found = measure(steps, [1, 2, 4, 8], planned)
    taken = sum(seconds[number] for number in steps.run)
    assert taken <= SHARE * planned * seconds[1]
    assert list(found) == list(seconds)[: len(found)], "smaller numbers come first"


def test_the_median_counts() -> None:
    times = iter([9.0, 1.0, 0.5, 1.0, 0.5, 1.0, 1.9, 1.0, 0.5, 1.0, 1.9])
    assert measure(lambda _: next(times), [1, 2], planned=10_000) == {1: 1.0, 2: 0.5}


def never() -> None:
    raise AssertionError("a batch was run")


def with_processors(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(threads, "usable_processors", lambda: number)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_a_short_run_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_processors(monkeypatch, 8)
    choice = choose_threads(never, 120, World())
    assert str(choice) == "1 thread: timing steps does not pay, as only 120 batches are left to train"


def test_one_processor_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_processors(monkeypatch, 1)
    choice = choose_threads(never, 10_000, World())
    assert str(choice) == "1 thread: a process may use no more here (processors, OMP_NUM_THREADS)"


def test_the_number_before_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with_processors(monkeypatch, 2)
    before = torch.get_num_threads()
    used: list[int] = []
    choose_threads(lambda: used.append(torch.get_num_threads()), 10_000, World())
    assert set(used) == {1, 2}
    assert torch.get_num_threads() == before


class Worlds(World):
    """One of two processes; of the other one, the value of ``gather`` is known."""

    def gather(self, value: Any) -> list[Any]:
        return [value, type(value)(3)]


def test_processes_share_the_processors_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with_processors(monkeypatch, 16)
    assert most_threads(World()) == 16
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert most_threads(World()) == 4
    # torchrun sets it to 1 for several processes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert most_threads(Worlds(size=16)) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert most_threads(Worlds(size=16)) == 3, "the other process can have no more"


def test_all_processes_take_what_the_slowest_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with_processors(monkeypatch, 8)
    choice = choose_threads(lambda: None, 10_000, Worlds(size=2))
    # Every step takes the other process 3 seconds.
    assert str(choice).startswith("1 thread: a batch takes 3.000 s with 1, 3.000 s with 2, 3.000 s with 3;")


def auto_trainer(exp: Path, named: int | str = "auto") -> Trainer:
    config = tiny_config(training={"num_epochs": 2, "num_threads": named, "calibration_batches": 1})
    return make_trainer(config, exp, batches=TinyBatches(tiny_tokenizer(), num_batches=2))


def choosing(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> list[Sequence[int]]:
    """Let runs of any length time steps, which take the given time; return what was timed."""
    timed = []

    def measured(step: Callable[[int], float], counts: Sequence[int], planned: int) -> dict[int, float]:
        timed.append(counts)
        for number in counts:
            step(number)
        return seconds

    with_processors(monkeypatch, 2)
    monkeypatch.setattr(threads, "SHARE", 1.0)
    monkeypatch.setattr(threads, "measure", measured)
    return timed


def test_the_choice_changes_nothing_else_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that chooses one thread is the run whose recipe names one, bit for bit."""
    timed = choosing(monkeypatch, {1: 0.1, 2: 0.09})
    torch.set_num_threads(2)
    auto_trainer(tmp_path / "auto").run()
    assert timed == [[1, 2]]
    assert (
        "training.num_threads: auto takes 1 thread: a batch takes 0.100 s with 1, 0.090 s with 2; each doubling must "
        "be 1.3 times as fast" in capsys.readouterr().err
    )
    auto_trainer(tmp_path / "named", 1).run()
    assert len(timed) == 1
    ends = [load_checkpoint(tmp_path / name / "checkpoints" / "epoch-002.pt") for name in ("auto", "named")]
    for end, name in zip(ends, ("auto", "named"), strict=True):
        assert end["state"].pop("seconds")
        assert end["state"]["num_threads"] == results_json(tmp_path / name)["train_threads"] == 1
    assert_equal(*ends)
    assert_equal(*(load_checkpoint(tmp_path / name / "final.pt") for name in ("auto", "named")))


def test_a_resumed_run_keeps_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine where more threads pay by now; its bits are those of a run that was not interrupted."""
    choosing(monkeypatch, {1: 0.1, 2: 0.22})
    auto_trainer(tmp_path / "whole").run()
    first = auto_trainer(tmp_path / "parts")
    first.settle_threads()
    first.run_epoch()  # and killed
    timed = choosing(monkeypatch, {1: 0.1, 2: 0.05})
    torch.set_num_threads(2)
    auto_trainer(tmp_path / "parts").run()
    assert timed == []
    assert results_json(tmp_path / "parts")["train_threads"] == torch.get_num_threads() == 1
    assert_equal(*(load_checkpoint(tmp_path / name / "final.pt") for name in ("whole", "parts")))


def test_a_recipe_may_name_another_number_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = auto_trainer(tmp_path, 2)
    first.settle_threads()
    first.save()
    again = auto_trainer(tmp_path, 1)
    again.resume()
    again.settle_threads()
    note = "resuming with 1 thread, the checkpoint is from 2: sums may be rounded differently"
    assert note in capsys.readouterr().err
    assert again.state.num_threads == torch.get_num_threads() == 1


def test_another_number_of_processes_chooses_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = auto_trainer(tmp_path, 2)
    first.settle_threads()
    first.state.world_size = 4
    first.save()
    timed = choosing(monkeypatch, {1: 0.1, 2: 0.09})
    again = auto_trainer(tmp_path)
    again.resume()
    again.settle_threads()
    assert timed == [[1, 2]]
    assert again.state.num_threads == 1


def test_nothing_is_timed_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = choosing(monkeypatch, {1: 0.1, 2: 0.06})
    trainer = auto_trainer(tmp_path)
    trainer.world = World(device=torch.device("cuda"))
    trainer.settle_threads()
    assert timed == []
    assert trainer.state.num_threads == torch.get_num_threads()
