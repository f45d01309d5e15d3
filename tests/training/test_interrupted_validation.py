"""A validation that fails or is killed costs nothing: the next run does it first and ends the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.load import load_config
from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods.slimmable import Slimmable
from slimasr.results.schema import Results
from slimasr.supernet.space import WidthSpace
from slimasr.training.distributed import World
from slimasr.training.timing import PARTS
from slimasr.training.trainer import Trainer, begin_record
from tests.results.kit import results_json
from tests.training.kit import TinyBatches, assert_equal, make_trainer, tiny_config, tiny_tokenizer

TRAINING = {"num_epochs": 3, "validate_every": 2, "keep_last": 10}
CHECKPOINTS = ["best", "epoch-001", "epoch-002", "epoch-003"]


class Killed(BaseException):
    """The process ends here, as by a signal: nothing catches it."""


def trainer_at(exp: Path) -> Trainer:
    return make_trainer(tiny_config(training=TRAINING), exp)


def log_lines(exp: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    assert all(line.pop("minutes") > 0 for line in lines)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp = tmp_path_factory.mktemp("whole")
    trainer_at(exp).run()
    return exp


def assert_as_uninterrupted(whole: Path, exp: Path) -> None:
    for name in (*(f"checkpoints/{name}.pt" for name in CHECKPOINTS), "final.pt"):
        ends = [load_checkpoint(folder / name) for folder in (whole, exp)]
        for end in ends:
            end.get("state", {}).pop("seconds", None)
        assert_equal(*ends)
    assert log_lines(exp) == log_lines(whole)
    assert [line["epoch"] for line in log_lines(exp)] == [1, 2, 3]
    results = [results_json(folder) for folder in (whole, exp)]
    for result in results:
        assert result.pop("train_minutes") > 0
        assert result.pop("train_seconds").keys() == set(PARTS)
    assert results[0] == results[1]


@pytest.mark.parametrize("epoch", [2, 3])
@pytest.mark.parametrize("times", [1, 3])
def test_killed_in_validation(whole: Path, tmp_path: Path, epoch: int, times: int) -> None:
    """In the second batch of an epoch's validation, once or again and again."""
    for _ in range(times):
        trainer = trainer_at(tmp_path)
        original = trainer.validate
        steps = trainer.stepper.step
        trained: list[int] = []

        def validate(number: int, original: Any = original, trainer: Trainer = trainer) -> dict[str, float]:
            if number == epoch:
                next(iter(trainer.data.dev()))
                raise Killed
            return original(number)

        def step(batches: Any, context: Any, steps: Any = steps, trained: list[int] = trained) -> Any:
            trained.append(context.step)
            return steps(batches, context)

        trainer.validate = validate  # type: ignore[method-assign]
        trainer.stepper.step = step  # type: ignore[method-assign]
        with pytest.raises(Killed):
            trainer.run()
    assert trained == (list(range(6 * epoch)) if times == 1 else []), "no step is taken twice"
    assert load_checkpoint(tmp_path / "checkpoints" / f"epoch-00{epoch}.pt")["state"]["unvalidated"]["epoch"] == epoch
    assert not (tmp_path / "final.pt").exists()
    trainer_at(tmp_path).run()
    assert_as_uninterrupted(whole, tmp_path)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_between_the_log_and_the_checkpoint(whole: Path, tmp_path: Path, epoch: int) -> None:
    """The epoch's line is there already, also that of an epoch without validation: it is written once."""
    trainer = trainer_at(tmp_path)
    log = trainer.log.epoch

    def killed(record: Any) -> None:
        log(record)
        if record["epoch"] == epoch:
            raise Killed

    trainer.log.epoch = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.run()
    trainer_at(tmp_path).run()
    assert_as_uninterrupted(whole, tmp_path)


@pytest.mark.parametrize("name", ["best.pt", "final.pt"])
def test_killed_before_weights_are_written(whole: Path, tmp_path: Path, name: str) -> None:
    trainer = trainer_at(tmp_path)
    save = trainer.save_weights

    def killed(path: Path) -> None:
        if path.name == name:
            raise Killed
        save(path)

    trainer.save_weights = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.run()
    trainer_at(tmp_path).run()
    assert_as_uninterrupted(whole, tmp_path)


def test_killed_in_the_final_validation(whole: Path, tmp_path: Path) -> None:
    """Averaged and calibrated weights are made again from the last epoch's checkpoint."""
    trainer = trainer_at(tmp_path)
    original = trainer.validate
    calls: list[int] = []

    def validate(number: int) -> dict[str, float]:
        calls.append(number)
        if calls == [2, 3, 3]:
            raise Killed
        return original(number)

    trainer.validate = validate  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.run()
    assert not (tmp_path / "final.pt").exists()
    trainer_at(tmp_path).run()
    assert_as_uninterrupted(whole, tmp_path)


def test_too_little_memory_names_utterances_and_what_to_lower(tmp_path: Path) -> None:
    """The allocator itself refuses: 4 PB."""

    class Greedy(Slimmable):
        def forward_pass(self, objective: Any, *args: Any, **options: Any) -> Any:
            if not objective.training:
                torch.empty(10**15)
            return super().forward_pass(objective, *args, **options)

    class WideDev(TinyBatches):
        def dev(self) -> Iterator[Batch]:
            return iter([self.make([f"dev-{i}" for i in range(5)])])

    batches = WideDev(tiny_tokenizer())
    config = tiny_config()
    trainer = make_trainer(config, tmp_path, Greedy(WidthSpace((1.0, 0.5)), {"transducer": 1.0, "ctc": 0.5}), batches)
    seconds = float(next(batches.dev()).x_lens.max()) / 100
    with pytest.raises(UserError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message.startswith(f"validation of dev-0, dev-1, dev-2 and 2 more (the longest has {seconds:.1f} s): out of")
    assert message.endswith("lower decoding.batch_seconds and run the same command again")
    assert "\n" not in message
    assert load_checkpoint(tmp_path / "checkpoints" / "epoch-001.pt")["state"]["step"] == 6


def test_batches_of_decoding_and_threads_may_change_in_a_run_and_nothing_else(tmp_path: Path) -> None:
    config = tiny_config()
    lang, exp = tmp_path / "lang", tmp_path / "exp"
    lang.mkdir()
    begin_record(exp, config, lang, Results(), World())
    (exp / "checkpoints").mkdir()
    (exp / "checkpoints" / "epoch-001.pt").touch()
    lowered = tiny_config(decoding={"batch_seconds": 20.0}, training={"num_threads": 2})
    begin_record(exp, lowered, lang, Results(), World())
    assert load_config(exp / "config.yaml") == lowered, "later stages need the smaller batches too"
    decoding = {"batch_seconds": 20.0, "max_symbols_per_frame": 3}
    other = tiny_config(decoding=decoding, training={"num_threads": 2})
    with pytest.raises(UserError, match=r"decoding\.max_symbols_per_frame"):
        begin_record(exp, other, lang, Results(), World())
    assert load_config(exp / "config.yaml") == lowered
