"""Label priors: the mean posterior of every output layer, over all frames but padding."""

from __future__ import annotations

import random

import torch

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig
from slimasr.methods import build_method
from slimasr.methods.base import StepContext
from slimasr.models.build import build_model, head_names
from slimasr.objective.objective import Objective
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import ALONE
from slimasr.training.priors import estimate_priors
from tests.tiny import VOCAB_SIZE, batch, randomize
from tests.training.kit import tiny_config

BATCHES = [batch(seed=0), batch((35, 80), (2, 3), seed=3)]


def estimated(subnets: list[Subnet], exits: tuple[int, ...] = ()) -> Objective:
    """A tiny CTC model whose priors were estimated over some subnets."""
    config = tiny_config(dropout=0.2)
    shared = {"num_mel_bins": config.model.num_mel_bins, "frontend": config.model.frontend}
    model = CtcConfig(**shared, encoder=config.model.encoder, exits=list(exits))
    config = config.model_copy(update={"model": model, "loss": LossConfig()})
    space = build_space(config)
    torch.manual_seed(2)
    objective = Objective(
        build_model(model, config.loss, VOCAB_SIZE, space.widths, head_names(config)), config.loss
    ).train()
    randomize(objective.model)
    method = build_method(config, space).train()
    method.calibrated = lambda: subnets  # type: ignore[method-assign]
    estimate_priors(objective, method, lambda: BATCHES, StepContext(0, 1, 1, random.Random(0)), ALONE)
    assert objective.training and objective.model.encoder.training and method.training
    return objective


@torch.no_grad()
def mean_posterior(objective: Objective, subnets: list[Subnet]) -> list[float]:
    """Sum posteriors utterance by utterance, each alone and so without padding."""
    model = objective.model.eval()
    total, frames = torch.zeros(VOCAB_SIZE, dtype=torch.float64), 0
    for one in BATCHES:
        for row, length in zip(one.x, one.x_lens.tolist(), strict=True):
            for subnet in subnets:
                out = model.encode(row[None, :length], torch.tensor([length]), subnet)
                posterior = model.ctc_logits(out.out, subnet)[0].double().exp()
                for frame in posterior:
                    total += frame / frame.sum()
                    frames += 1
    return (total / frames).tolist()


def test_a_prior_is_the_mean_posterior_of_all_subnets_of_its_head() -> None:
    by_head = {None: [Subnet(1.0), Subnet(0.5)], "exit1": [Subnet(1.0, path=(0,), head="exit1")]}
    objective = estimated([*by_head[None], *by_head["exit1"]], exits=(1, 2))
    for subnets in by_head.values():
        prior = objective.model.ctc_head_of(subnets[0]).log_prior
        torch.testing.assert_close(prior.exp(), torch.tensor(mean_posterior(objective, subnets)), rtol=1e-5, atol=1e-7)
    # No subnet uses this output, so that nothing is known of it.
    assert not objective.model.ctc_head_of(Subnet(head="exit2")).log_prior.any()
    assert objective.model.extract(Subnet(0.5)).output.log_prior.tolist() == prior_of(objective, None)


def prior_of(objective: Objective, subnet: Subnet | None) -> list[float]:
    return objective.model.ctc_head_of(subnet).log_prior.tolist()


def test_a_transducer_has_none() -> None:
    config = tiny_config()
    space = build_space(config)
    model = build_model(config.model, config.loss, VOCAB_SIZE, space.widths)
    context = StepContext(0, 1, 1, random.Random(0))
    estimate_priors(Objective(model, config.loss), build_method(config, space), lambda: BATCHES, context, ALONE)
    assert not model.ctc_head_of(None).log_prior.any()
