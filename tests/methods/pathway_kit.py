"""A tiny transducer with pathways, its runs, and made-up masks to begin with."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import StepContext
from slimasr.methods.pathways import PathwayTraining
from slimasr.models.mask_files import SavedMasks, level_file
from slimasr.models.pathways import Pathways, prunable_matrices
from slimasr.objective.objective import Objective
from slimasr.training.distributed import World
from slimasr.training.step import StepResult
from slimasr.training.trainer import Trainer
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

PREDICTOR = {"kind": "lstm", "dim": 12, "num_layers": 1, "embedding_dim": 8, "dropout": 0.0}


def recipe(languages: Sequence[str] = ("fr",), training: dict[str, Any] | None = None, **method: Any) -> Config:
    """A recipe of 24 steps in 4 epochs; some matrices have blocks that are shorter than the others."""
    plain = tiny_config(dropout=0.0)
    encoder = {**plain.model.encoder.model_dump(), "conv_norm": "layer"}
    running = {"num_epochs": 4, "spec_augment": None, "average_start": 0.8, "average_period": 1, **(training or {})}
    return tiny_config(
        dropout=0.0,
        training=running,
        model={**plain.model.model_dump(), "encoder": encoder, "predictor": PREDICTOR},
        space={"kind": "pathways", "languages": list(languages), "block": [8, 1]},
        method={"kind": "pathways", "adapt_interval": 1000, **method},
    )


class Run:
    """A trainer whose steps are done one by one."""

    def __init__(self, config: Config, exp: Path, world: World | None = None, **batches: Any) -> None:
        self.exp = exp
        tokenizer = tiny_tokenizer()
        languages = () if config.space.languages == ["all"] else config.space.languages
        self.batches = TinyBatches(tokenizer, languages=languages, world=world or World(), **batches)
        objective = make_objective(config, tokenizer)
        if world is not None:
            objective = objective.double()
        # What `training.init` would be read from
        self.start = copy.deepcopy(objective.model.state_dict())
        self.trainer: Trainer = make_trainer(config, exp, batches=self.batches, objective=objective, world=world)
        # The matrices after the optimiser, before the method changes them
        self.before: dict[str, Tensor] = {}
        self.watches()
        self.reads_start()

    def watches(self) -> None:
        """Keep the matrices as the method's `after_step` finds them."""
        after_step = self.method.after_step

        def watched(objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
            self.before = {name: weight.clone() for name, weight in self.weights.items()}
            return after_step(objective, context)

        self.method.after_step = watched  # type: ignore[method-assign]

    def reads_start(self) -> None:
        """Let rewinding read the weights before training, without masks, as from ``training.init``."""
        given = self.trainer.context
        weights = {name: value for name, value in self.start.items() if value.dtype != torch.bool}
        self.trainer.context = lambda: replace(given(), initial=lambda: weights)  # type: ignore[method-assign]

    @property
    def method(self) -> PathwayTraining:
        method = self.trainer.method
        assert isinstance(method, PathwayTraining)
        return method

    @property
    def pathways(self) -> Pathways:
        pathways = self.trainer.objective.model.pathways
        assert pathways is not None
        return pathways

    @property
    def weights(self) -> dict[str, Tensor]:
        """The matrices that masks cover, in the model itself."""
        return {name: weight.detach() for name, weight in prunable_matrices(self.trainer.objective.model).items()}

    def masks(self, name: str) -> dict[str, Tensor]:
        """The entries of every matrix that a pathway keeps."""
        return self.pathways.expanded(name)

    def state(self, key: str) -> dict[str, Tensor]:
        """A state of the optimiser for every matrix."""
        states = self.trainer.stepper.optimizer.state
        return {name: states[p][key] for name, p in prunable_matrices(self.trainer.objective.model).items()}

    def step(self, batch: Batch | None = None) -> StepResult:
        """One step, as in the trainer's epoch."""
        trainer = self.trainer
        epoch = trainer.state.epoch + 1
        trainer.stepper.enter_phase(epoch)
        used = [batch] if batch is not None else trainer.take(self.batches.train_batches(epoch, trainer.state.batch))
        trainer.objective.train()
        result = trainer.stepper.step(used, trainer.context())
        trainer.note(result, used)
        if trainer.state.batch == trainer.state.num_batches:
            trainer.state.epoch += 1
            trainer.course.begin_epoch(trainer.state)
        return result

    def steps(self, number: int) -> Run:
        """Some steps."""
        for _ in range(number):
            self.step()
        return self


class Stop(Exception):
    """The run ends here."""


def train(run: Run, last_step: int | None = None) -> Trainer:
    """Train through the trainer's own loop, to the end or until ``last_step`` steps are done."""

    def watching(items: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        for item in items:
            yield item
            if run.trainer.state.step == last_step:
                raise Stop

    run.trainer.progress = watching
    # Only the training is of interest here.
    run.trainer.validate = lambda epoch: {"fr/wer": 100.0}  # type: ignore[method-assign]
    run.trainer.run()
    return run.trainer


def made_up_masks(exp: Path, config: Config, sparsity: float = 0.5, seed: int = 0) -> Path:
    """An experiment folder with a random mask for every language of a recipe."""
    generator = torch.Generator().manual_seed(seed)
    pathways = make_objective(config, tiny_tokenizer()).model.pathways
    masks = {}
    for matrix in pathways.matrices:
        rows = torch.rand(pathways.masks(matrix).flatten(1).shape, generator=generator)
        kept = round((1.0 - sparsity) * rows.shape[1])
        found = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows.topk(kept).indices, True)
        masks[matrix] = found.view_as(pathways.masks(matrix))
    shapes = {matrix: pathways.shape(matrix) for matrix in pathways.matrices}
    names = tuple(config.space.languages)
    saved = SavedMasks(names, pathways.block, sparsity, masks, shapes, rewind=True, adaptive=False, step=7, steps=9)
    (exp / "masks").mkdir(parents=True)
    torch.save(saved.to_dict(), exp / level_file(sparsity))
    return exp


def train_pathways(exp: Path, world: World | None = None) -> dict[str, Any]:
    """Two languages with adaptive masks and two levels, for two epochs in float64; what the run ends with."""
    config = recipe(
        ("fr", "nl"),
        {"num_epochs": 2, "optimizer": {"lr": 0.1}},
        levels=[0.2, 0.5],
        prune_interval=0.2,
        adapt_interval=3,
        adapt_until=0.8,
        group_lasso=1e-3,
    )
    torch.set_num_threads(1)
    run = Run(config, exp, world or World(), batch_size=4).steps(12)
    run.method.finish(run.trainer.objective, run.trainer.context())
    return {"model": run.trainer.objective.model.state_dict(), "history": run.method.get_extra_state()}
