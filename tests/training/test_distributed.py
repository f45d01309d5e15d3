"""Two real processes over gloo against one: the same gradient, the same statistics, the same weights everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.training.distributed import process_group
from slimasr.training.trainer import Trainer
from tests.methods.mask_kit import train_two_epochs
from tests.methods.pathway_kit import train_pathways
from tests.training.ddp_worker import state_of
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
UNUSED = "model.encoder.layers.0.norms.out.affine.8.weight"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes ended with."""
    out = tmp_path_factory.mktemp("ddp")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.training.ddp_worker", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def single_process(exp: Path) -> Trainer:
    """The same run in this process, with batches as large as both ranks' together."""
    config, tokenizer = tiny_config(dropout=0.0, training={"spec_augment": None}), tiny_tokenizer()
    batches = TinyBatches(tokenizer, batch_size=8, num_batches=3)
    return make_trainer(config, exp, batches=batches, objective=make_objective(config, tokenizer).double())


def test_gradients_equal_one_process(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    """Per-token normalisation over both processes, batch norm sums over both, each with its own padding."""
    trainer = single_process(tmp_path)
    batch = next(TinyBatches(tiny_tokenizer(), batch_size=8, num_batches=3).train_batches(1))
    trainer.objective.train()
    report = trainer.stepper.gradients([batch], trainer.context())
    expected = {name: p.grad for name, p in trainer.objective.named_parameters() if name != UNUSED}
    for name, gradient in expected.items():
        assert gradient is not None
        for rank in ranks:
            torch.testing.assert_close(rank["first"][name], gradient, rtol=0.0, atol=1e-10, msg=name)
    for rank in ranks:
        assert rank["losses"] == pytest.approx(report.losses, rel=1e-9)


def test_what_no_process_used_stays_without_gradient(ranks: list[dict[str, Any]]) -> None:
    assert [rank["first"][UNUSED] for rank in ranks] == [None, None]


def test_a_failure_anywhere_is_known_everywhere(ranks: list[dict[str, Any]]) -> None:
    assert [rank["failures"] for rank in ranks] == [1, 1]


def test_an_epoch_ends_equal_on_all_processes_and_as_in_one(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    trainer = single_process(tmp_path)
    trainer.run_epoch()
    alone = trainer.objective.state_dict()
    first, second = (rank["weights"] for rank in ranks)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0.0, atol=1e-6, msg=name)
    assert ranks[0]["dev"] == pytest.approx(ranks[1]["dev"])
    assert ranks[0]["dev"] == pytest.approx(trainer.validate(1), rel=1e-6)


@pytest.mark.parametrize("learner", ["orthosoftmax", "l0"])
def test_masks_are_learnt_as_in_one_process(ranks: list[dict[str, Any]], tmp_path: Path, learner: str) -> None:
    """Both processes train the same budget with the same noise, add the penalty once, and choose the same subnets."""
    expected = state_of(train_two_epochs(tmp_path, learner))
    first, second = (rank["masks"][learner] for rank in ranks)
    for part, tensors in expected.items():
        for name, value in tensors.items():
            assert torch.equal(first[part][name], second[part][name]), name
            torch.testing.assert_close(first[part][name], value, rtol=0.0, atol=1e-6, msg=name)
    assert expected["method"]["kept"].any()


def test_masks_of_pathways_are_those_of_one_process(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    """Prunings, adaptations and the pull of the lasso: every mask and every weight."""
    expected = train_pathways(tmp_path)
    assert [step for _, step in expected["history"]["levels"]] == [3, 5]
    assert any(share > 0.0 for choices in expected["history"]["adaptations"].values() for _, share in choices)
    first, second = (rank["pathways"] for rank in ranks)
    assert first["history"] == second["history"] == expected["history"]
    for name, value in expected["model"].items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        if value.dtype == torch.bool:
            assert torch.equal(first["model"][name], value), name
        torch.testing.assert_close(first["model"][name], value, rtol=0.0, atol=1e-6, msg=name)


def test_all_processes_choose_the_same_threads(ranks: list[dict[str, Any]]) -> None:
    """They agree on the times as well, which are those of the slowest process."""
    first, second = (rank["choice"] for rank in ranks)
    assert first == second
    assert "s with 1," in first and "s with 4;" in first


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with process_group() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert world.sum(2.5) == 2.5
        assert world.gather("a") == ["a"]
