"""One step of a method on a tiny model, and the gradients that it leaves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, StepContext
from slimasr.methods.figures import StepReport
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.objective.objective import Objective, loss_weights
from tests.tiny import MODEL, VOCAB_SIZE, randomize


def make_objective(loss: LossConfig, widths: Sequence[float] = (1.0,), model: ModelConfig = MODEL) -> Objective:
    """A model with random weights and norms, the same ones every time, without dropout."""
    torch.manual_seed(0)
    made = randomize(build_model(model, loss, VOCAB_SIZE, widths)).eval()
    assert isinstance(made, SpeechModel)
    return Objective(made, loss)


def weights_of(loss: LossConfig, model: ModelConfig = MODEL) -> dict[str, float]:
    """Names and weights of a recipe's losses, without the checks of a whole recipe."""
    return loss_weights(Config.model_construct(model=model, loss=loss))


def aligned(data: Batch) -> Batch:
    """The batch with each token ending somewhere, in order; its last utterance has no alignment."""
    rng, rows, targets = random.Random(0), [], []
    lens = MODEL.frontend.output_frames
    width = max(map(lens, data.x_lens.tolist()))
    for frames, tokens, y in zip(map(lens, data.x_lens.tolist()), data.y_lens.tolist(), data.y.tolist(), strict=True):
        chosen = sorted(rng.choices(range(frames), k=tokens))
        rows.append(chosen + [-1] * (data.y.shape[1] - tokens))
        # A frame belongs to the first token that ends on it or later; what comes behind the last token is silence, 0.
        labels = [next((y[u] for u in range(tokens) if chosen[u] >= t), 0) for t in range(frames)]
        targets.append(labels + [-1] * (width - frames))
    rows[-1] = [-1] * data.y.shape[1]
    targets[-1] = [-1] * width
    return replace(data, ends=torch.tensor(rows), targets=torch.tensor(targets))


def context(epoch: int = 1) -> StepContext:
    """A step early in a run, with random numbers of its own."""
    return StepContext(step=5, epoch=epoch, total_steps=100, rng=random.Random(0))


def run(method: Method, target: Objective, data: Batch) -> StepReport:
    """One step's passes; gradients are those of this step alone."""
    target.zero_grad(set_to_none=True)
    return method.run(target, data, context(), method.normalizer(target, data), torch.autograd.backward)


def gradients(target: Objective) -> dict[str, Tensor]:
    """Parameter name -> gradient, zeros where there is none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in target.named_parameters()}
