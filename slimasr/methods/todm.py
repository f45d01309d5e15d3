"""Train once, deploy many: a sandwich of subnets in every step, the smaller ones taught by the largest (paper 2).

Y. Shangguan et al., "TODM: train once deploy many. Efficient supernet-based RNN-T compression for on-device ASR
models" (2024), section 3.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from slimasr.config.loss import DistillationConfig
from slimasr.config.method import TodmConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.phases import Phase
from slimasr.objective.objective import loss_weights
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


class Todm(Method):
    """Runs the max subnet on the whole batch, and the min subnet and random ones, taught by it, on disjoint parts.

    Every subnet's loss is a mean over its own utterances, all weigh the same, and one optimiser step takes the sum
    of their gradients.
    """

    def __init__(
        self,
        space: SearchSpace,
        losses: Mapping[str, float],
        config: TodmConfig,
        distillation: DistillationConfig | None,
    ) -> None:
        """Create the method.

        Args:
            distillation: how students are compared with the max subnet; None = no subnet is taught (models B0, B1, C).

        Raises:
            UserError: a subnet to validate is not in the space.
        """
        super().__init__(space, losses, config.share_predictor is not False, share_kernels=True)
        self.config = config
        self.distillation = distillation
        self.validated = list(dict.fromkeys(space.parse(text) for text in config.validated))

    @classmethod
    def from_config(cls, config: Config, space: SearchSpace) -> Todm:
        assert isinstance(config.method, TodmConfig)
        loss = config.loss
        return cls(space, loss_weights(config), config.method, loss.distillation)

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        weight = self.kd_weight(context.epoch)
        teacher = None
        losses = self.losses
        if weight > 0:
            # The max subnet is pass 0 of the plan.
            teacher = 0
            losses = losses | {"distillation": weight}
        drawn = [self.space.sample(context.rng) for _ in range(self.config.num_random)]
        # A generator of its own: processes whose batches differ in size must go on to draw the same subnets.
        shuffle = random.Random(context.rng.getrandbits(64))
        parts = split(len(batch), 1 + len(drawn), self.config.share, shuffle)
        plan = [Pass(self.space.max, self.losses), Pass(self.space.min, losses, parts[0], teacher)]
        for subnet, rows in zip(drawn, parts[1:], strict=True):
            plan.append(Pass(subnet, losses, rows, teacher, role="random"))
        return plan

    def evaluated(self) -> list[Pass]:
        return [Pass(subnet, {}) for subnet in self.validated]

    def calibrated(self) -> list[Subnet]:
        """Return the subnets of a typical step, because training has adapted all subnets to such statistics."""
        # The seed is constant, so that every calibration of a model uses the same subnets.
        rng = random.Random(0)
        return [self.space.max, self.space.min, *(self.space.sample(rng) for _ in range(self.config.num_random))]

    def kd_weight(self, epoch: int) -> float:
        """Return the weight of the divergence from the teacher in an epoch; 0 = no teacher."""
        if self.distillation is None:
            return 0.0
        # Phases are in the order of their epochs; one without a weight keeps the weight of the phase before.
        weights = [p.kd_weight for p in self.config.phases if p.epoch <= epoch]
        given = [weight for weight in weights if weight is not None]
        return given[-1] if given else self.distillation.kd_weight

    def phase(self, epoch: int) -> Phase:
        # Settings accumulate over the phases begun so far. A new optimiser gets an id that no other phase has.
        phase = Phase(optimizer_id=optimizer_since(1))
        for begun in self.config.phases:
            if begun.epoch > epoch:
                break
            if begun.optimizer is not None:
                phase = replace(phase, optimizer=begun.optimizer, optimizer_id=optimizer_since(begun.epoch))
            if begun.schedule is not None:
                phase = replace(phase, schedule=begun.schedule)
        return phase


def optimizer_since(epoch: int) -> str:
    """Return the id of the optimiser that trains from an epoch on; phases that name no optimiser keep the last one."""
    return f"from epoch {epoch}"


def split(size: int, parts: int, share: float, rng: random.Random) -> list[tuple[int, ...]]:
    """Draw random, disjoint parts of ``size`` utterances, each a fraction ``share`` of them and at least one.

    Parts overlap only if there are too few utterances for all of them.
    """
    order = list(range(size))
    rng.shuffle(order)
    each = max(1, int(share * size))
    chosen = []
    for part in range(parts):
        # Behind the last utterance, the parts continue with the first one.
        places = [(part * each + offset) % size for offset in range(each)]
        chosen.append(tuple(sorted({order[place] for place in places})))
    return chosen
