"""One process of a distributed run: ``torchrun -m tests.training.ddp_worker OUT``.

Writes ``OUT/rank<n>.pt``: the gradient of the first step as reduced, weights and statistics after an epoch, and the
choice of threads. All in float64, where nothing but an error can tell two processes from one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from slimasr.training import threads
from slimasr.training.distributed import process_group, reduce_gradients
from slimasr.training.trainer import Trainer
from tests.methods.mask_kit import train_two_epochs
from tests.methods.pathway_kit import train_pathways
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """What a run of mask learning ends with."""
    return {"model": trainer.objective.state_dict(), "method": trainer.method.state_dict()}


def main(out: Path) -> None:
    """Run this process's share."""
    torch.set_num_threads(1)
    config = tiny_config(dropout=0.0, training={"spec_augment": None})
    with process_group() as world:
        tokenizer = tiny_tokenizer()
        batches = TinyBatches(tokenizer, world=world, batch_size=8, num_batches=3)
        objective = make_objective(config, tokenizer).double()
        trainer = make_trainer(config, out / "exp", batches=batches, objective=objective, world=world)
        trainer.objective.train()
        report = trainer.stepper.gradients([next(batches.train_batches(1))], trainer.context())
        parameters = dict(trainer.objective.named_parameters())
        unused = parameters["model.encoder.layers.0.norms.out.affine.8.weight"]
        unused.grad = None
        failures = reduce_gradients(list(parameters.values()), world.rank, world)
        first = {name: p.grad for name, p in parameters.items()}
        losses = world.sum_by_key(report.losses)
        objective = make_objective(config, tokenizer).double()
        trainer = make_trainer(config, out / "exp", batches=batches, objective=objective, world=world)
        trainer.run_epoch()
        content = {"first": first, "failures": failures, "losses": losses, "dev": trainer.validate(1)}
        # The processes see different times, and different numbers of processors.
        threads.usable_processors = lambda: 8 + 8 * world.rank
        choice = threads.choose_threads(lambda: time.sleep(0.002 * world.rank), 10_000, world)
        content["choice"] = str(choice)
        masks = {learner: train_two_epochs(out / "masks", learner, world) for learner in ("orthosoftmax", "l0")}
        content["masks"] = {name: state_of(trainer) for name, trainer in masks.items()}
        content["pathways"] = train_pathways(out / "pathways", world)
        torch.save({**content, "weights": trainer.objective.state_dict()}, out / f"rank{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
