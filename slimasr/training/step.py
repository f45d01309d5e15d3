"""One optimiser step turns batches into gradients, and gradients into new weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from slimasr.config.training import TrainingConfig
from slimasr.data.batches.batch import Batch
from slimasr.elastic.norm import norm_parameters
from slimasr.methods.base import Method, StepContext
from slimasr.methods.figures import StepReport, scalar_figures
from slimasr.methods.phases import Phase
from slimasr.objective.objective import Objective
from slimasr.training.compilation import compile_feed_forward
from slimasr.training.distributed import World, reduce_gradients
from slimasr.training.guards import BufferSnapshot
from slimasr.training.optimizer import (
    build_optimizer,
    fill_missing_gradients,
    mask_gradients,
    protected,
    restart_entries,
    set_learning_rate,
)
from slimasr.training.scaled_adam import ScaledAdam
from slimasr.training.schedule import learning_rate_scale
from slimasr.training.seeding import derive_seed, seed_all
from slimasr.training.spec_augment import spec_augment
from slimasr.training.timing import Clock

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """The result of one step.

    Attributes:
        report: losses of this process's batches.
        lr: learning rate of groups with scale 1.
        norm: norm of the gradients of the objective's parameters, before clipping, still on the device; NaN when not
            finite.
        skipped: whether nothing was updated, because a loss or gradient is non-finite.
        overflow: whether the step was skipped because fp16 overflowed; its loss scale has been lowered, and nothing is
            wrong.
    """

    report: StepReport
    lr: float
    norm: Tensor
    skipped: bool = False
    overflow: bool = False

    @property
    def grad_norm(self) -> float:
        """The norm as a number; to read it, wait for all work queued on the device."""
        return float(self.norm)


class Stepper:
    """Runs a method's steps on an objective. Owns the optimiser, and the loss scale of fp16."""

    def __init__(
        self,
        objective: Objective,
        method: Method,
        config: TrainingConfig,
        seed: int,
        world: World,
        clock: Clock | None = None,
    ) -> None:
        self.objective = objective
        self.method = method
        self.config = config
        self.seed = seed
        self.world = world
        self.clock = clock or Clock()
        # Trainable parameters by name: those of the model, and those that belong to the method.
        self.weights = {n: p for n, p in objective.named_parameters() if p.requires_grad}
        self.own = {f"method.{n}": p for n, p in method.named_parameters() if p.requires_grad}
        self.norms = norm_parameters(objective)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "fp16")
        self.phase = method.phase(1)
        self.optimizer = self.new_optimizer(self.phase)
        if config.compile:
            compile_feed_forward(objective.model.encoder)

    def enter_phase(self, epoch: int) -> None:
        """Follow the method into its phase, with a new optimiser if the phase names another one."""
        phase = self.method.phase(epoch)
        if phase.optimizer_id != self.phase.optimizer_id:
            self.optimizer = self.new_optimizer(phase)
        self.phase = phase

    def new_optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """Build an optimiser without history."""
        config = phase.optimizer or self.config.optimizer
        return build_optimizer(self.objective, self.method.parameter_groups(), config)

    def step(self, batches: Sequence[Batch], context: StepContext) -> StepResult:
        """Update the weights from the gradient of all these batches, and those of the other processes, together."""
        # Forward passes update running statistics, which a skipped step must not do.
        before = BufferSnapshot(self.objective, self.method)
        context = replace(context, key=batches[0].key)
        lr = self.set_rate(context)
        report = self.gradients(batches, context)
        with self.clock.part("optimiser"):
            return self.apply(report, before, lr, context)

    def apply(self, report: StepReport, before: BufferSnapshot, lr: float, context: StepContext) -> StepResult:
        """Update the weights from the gradients, or skip the step if any loss or gradient is non-finite.

        Args:
            report: losses of the step.
            before: buffers before the step.
            lr: learning rate of the step.
            context: the position of the run.
        """
        everything = {**self.weights, **self.own}
        failures = reduce_gradients(list(everything.values()), len(report.nonfinite), self.world)
        # The method's own parameters that a step did not use stay as they are, as norms do.
        fill_missing_gradients(self.weights, keep=self.norms)
        # Unscaled before anything reads the gradients; an overflow of fp16 stays inf. After the reduction, all
        # processes have the same gradients, so they all decide alike whether to skip.
        self.scaler.unscale_(self.optimizer)
        if failures or not gradients_are_finite(everything.values()):
            before.restore()
            # All losses are finite and the scale can still be lowered, so the scaled gradient has overflowed.
            overflow = not failures and self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
            self.scaler.update()
            return StepResult(report, lr, torch.tensor(math.nan), skipped=True, overflow=overflow)
        self.method.after_backward(self.objective, context)
        norm = self.update(context)
        restart_entries(self.optimizer, self.weights, self.method.after_step(self.objective, context))
        return StepResult(report, lr, norm)

    def gradients(self, batches: Sequence[Batch], context: StepContext) -> StepReport:
        """Run all passes and accumulate their gradients, divided by one normaliser over batches and processes."""
        # Dropout differs between processes, and does not depend on anything before this step.
        seed_all(derive_seed(self.seed, "step", context.step, self.world.rank))
        for parameter in (*self.weights.values(), *self.own.values()):
            parameter.grad = None
        normalizer = self.world.sum(sum(self.method.normalizer(self.objective, batch) for batch in batches))
        total = StepReport()
        for index, batch in enumerate(batches):
            with self.clock.part("data"):
                prepared = self.prepare(batch, index, context)
            with self.autocast(enabled=self.config.precision != "float32"), self.clock.part("forward"):
                part = self.method.run(self.objective, prepared, context, normalizer, self.backward)
            # A method with a `run` of its own may have left figures on the device.
            add_report(total, part.read())
        self.penalize(total, context)
        return total.read()

    def penalize(self, report: StepReport, context: StepContext) -> None:
        """Accumulate the gradients of the method's penalties, and add these to the report.

        One process does so for all, because gradients and reports are summed over the processes.
        """
        if not self.world.is_main:
            return
        with self.clock.part("forward"):
            penalties = self.method.penalties(self.objective, context)
        if not penalties:
            return
        report.waiting.append(scalar_figures("penalty", penalties))
        self.backward(torch.stack([value.to(torch.float32) for value in penalties.values()]).sum())

    def prepare(self, batch: Batch, index: int, context: StepContext) -> Batch:
        """Move the batch to its device and apply SpecAugment; masks depend on seed, step, process and index alone."""
        batch = batch.to(self.world.device)
        if self.config.spec_augment is None:
            return batch
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self.seed, "spec_augment", context.step, self.world.rank, index))
        return spec_augment(batch, self.config.spec_augment, self.objective.model.feature_mean, generator)

    def backward(self, tensors: Tensor | Sequence[Tensor], grads: Sequence[Tensor] | None = None) -> None:
        """Accumulate gradients, outside autocast: backward operations take their types from forward.

        Args:
            tensors: the loss of a pass, or the shared tensors of several passes.
            grads: gradients of the shared tensors, which are scaled as the losses were; None for a loss.
        """
        scaled = self.scaler.scale(tensors) if isinstance(tensors, Tensor) else tensors
        with self.autocast(enabled=False), self.clock.part("backward"):
            torch.autograd.backward(scaled, grads)

    def autocast(self, *, enabled: bool) -> torch.autocast:
        """Return the context of mixed precision for forward passes."""
        return torch.autocast(self.world.device.type, DTYPES[self.config.precision], enabled=enabled)

    def update(self, context: StepContext) -> Tensor:
        """Clip, unless the optimiser does, and take a step; return the gradient norm before clipping."""
        # Masked gradients must not count in the norm, so they are zeroed first.
        masks = self.method.update_masks(self.objective, context)
        mask_gradients(self.weights, masks)
        clips_itself = isinstance(self.optimizer, ScaledAdam) and self.optimizer.clip_scale is not None
        # With an infinite limit, the norm is measured and nothing is clipped.
        limit = math.inf if clips_itself or self.config.clip_norm is None else self.config.clip_norm
        norm = nn.utils.clip_grad_norm_(self.weights.values(), limit)
        with protected(self.optimizer, self.weights, masks):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def set_rate(self, context: StepContext) -> float:
        """Set the learning rate of a step, and return it."""
        config = self.phase.optimizer or self.config.optimizer
        schedule = self.phase.schedule or self.config.schedule
        scale = learning_rate_scale(schedule, context.planned, context.total_steps, context.epoch, context.stride)
        lr = config.lr * self.phase.lr_scale * scale
        set_learning_rate(self.optimizer, lr)
        return lr

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state, its id and the loss scale, for the checkpoint."""
        return {
            "phase": self.phase.optimizer_id,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; call `enter_phase` first. An earlier optimiser's state is not loaded."""
        if state["phase"] == self.phase.optimizer_id:
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def gradients_are_finite(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether the norm of all gradients is a finite number."""
    return bool(torch.isfinite(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])))


def add_report(total: StepReport, part: StepReport) -> None:
    """Add one batch's report to the step's."""
    for name, value in part.losses.items():
        total.losses[name] = total.losses.get(name, 0.0) + value
    for name, value in part.units.items():
        total.units[name] = total.units.get(name, 0.0) + value
    total.nonfinite.extend(part.nonfinite)
    total.unrestricted += part.unrestricted
