"""Label priors of a CTC model: how probable each label is on average, which graph decoding divides by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import World

Heads = Mapping[str | None, list[Subnet]]
"""Name of a head, None for the main output -> the subnets that use it."""


@torch.no_grad()
def estimate_priors(
    objective: Objective,
    method: Method,
    batches: Callable[[], Iterable[Batch]],
    context: StepContext,
    world: World,
) -> None:
    """Set the prior of every output layer of a CTC model to the log of its mean posterior.

    The mean is taken over all frames of these batches and all subnets of `Method.calibrated` that use the layer; the
    prior of a layer that none of them uses stays unknown. Other kinds of models have no priors. Training and evaluation
    modes are restored.

    Args:
        objective: model and losses.
        method: the training method, whose substitutes also apply here.
        batches: starts an iteration over this process's batches.
        context: the position of the run.
        world: this process among all of the run's.
    """
    model = objective.model
    if model.main_loss != "ctc":
        return
    modes = [(module, module.training) for module in (objective, method)]
    objective.eval()
    method.eval()
    users = users_of_heads(method.calibrated())
    totals: dict[str | None, Tensor] = {}
    for batch in batches():
        for head, subnets in users.items():
            for subnet in subnets:
                posterior = _sum_of_posteriors(objective, method, batch, subnet, context)
                totals[head] = totals[head] + posterior if head in totals else posterior
    for head, subnets in users.items():
        # Plain numbers are summed, since a process without any batch has no tensor to sum.
        own = totals[head].tolist() if head in totals else [0.0] * model.vocab_size
        total = torch.tensor(world.gather(own), dtype=torch.float64).sum(dim=0)
        layer = model.ctc_head_of(subnets[0])
        assert layer is not None, "every subnet of a CTC model has an output layer"
        layer.log_prior.copy_((total / total.sum()).log())
    for module, training in modes:
        module.train(training)


def users_of_heads(subnets: Iterable[Subnet]) -> Heads:
    """Group subnets by the head that they use."""
    users: dict[str | None, list[Subnet]] = {}
    for subnet in subnets:
        users.setdefault(subnet.head, []).append(subnet)
    return users


def _sum_of_posteriors(
    objective: Objective, method: Method, batch: Batch, subnet: Subnet, context: StepContext
) -> Tensor:
    """Return the (V,) sum of posteriors over all frames of a batch, in float64."""
    # A pass without losses runs the encoder alone.
    encoder = method.forward_pass(objective, Pass(subnet, {}), batch, context).encoder
    assert encoder is not None, "an objective's output carries the encoder's"
    posteriors = objective.model.ctc_logits(encoder.out, subnet).double().softmax(-1)
    inside = torch.arange(posteriors.shape[1], device=posteriors.device) < encoder.lens.to(posteriors.device)[:, None]
    return posteriors[inside].sum(dim=0)
