"""The transducer: encoder, predictor, joiner, and training-only heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig, TransducerConfig
from slimasr.elastic.linear import ElasticLinear
from slimasr.models.base import SpeechModel, shrink_common
from slimasr.models.heads import CtcHead, all_names, head_of, module_dict
from slimasr.models.joiner import GatedProjection, Joiner, Projection
from slimasr.models.predictor import build_predictor
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Subnet, refuse_pathway

if TYPE_CHECKING:
    from typing_extensions import Self


class Transducer(SpeechModel):
    """An RNN-T whose subnets share predictor and joiner (paper 1). A head is a projection of the encoder's output."""

    config: TransducerConfig

    def __init__(
        self,
        config: TransducerConfig,
        vocab_size: int,
        widths: Sequence[float] = (1.0,),
        loss: LossConfig | None = None,
        heads: Sequence[str] = (),
    ) -> None:
        """Build a model with random weights.

        Args:
            config: sizes of the max subnet.
            vocab_size: number of tokens, blank included.
            widths: fractions that get their own norms.
            loss: decides which training-only heads exist; None = no such heads.
            heads: names of projections besides the joiner's own; those of ``config.exits`` are added.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__(config, vocab_size, widths)
        self.predictor = build_predictor(config.predictor, vocab_size)
        encoder_dim = config.encoder.d_model
        self.joiner = Joiner(config.joiner, encoder_dim, self.predictor.dim, vocab_size)
        names = all_names(config, heads)
        self.heads = module_dict({name: GatedProjection(encoder_dim, config.joiner.dim) for name in names})
        if loss is not None and loss.transducer == "pruned":
            self.simple_am_head = ElasticLinear(encoder_dim, vocab_size)
            self.simple_lm_head = ElasticLinear(self.predictor.dim, vocab_size)
        if loss is not None and loss.ctc_weight > 0:
            self.ctc_head = CtcHead(encoder_dim, vocab_size)
        self._add_frame_heads(loss)

    def predictor_out(self, y: Tensor) -> Tensor:
        return cast(Tensor, self.predictor(y))

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(..., C) encoder output of a subnet -> (..., J), the joiner's encoder side."""
        refuse_pathway(subnet)
        return cast(Tensor, self.projection_of(subnet)(encoder_out, inp=self.width_of(subnet)))

    def projection_of(self, subnet: Subnet | None) -> Projection:
        """Return the projection of a subnet's encoder output: the head that it names, or the joiner's own."""
        named = head_of(self.heads, subnet)
        return self.joiner.encoder_proj if named is None else cast(GatedProjection, named)

    def simple_am(self, encoder_out: Tensor, width: int) -> Tensor:
        """(N, T, width) -> (N, T, V): the encoder's side of the simple (additive) joiner."""
        return cast(Tensor, self.simple_am_head(encoder_out, inp=width))

    def simple_lm(self, predictor_out: Tensor) -> Tensor:
        """(N, U + 1, P) -> (N, U + 1, V): the predictor's side of the simple joiner."""
        return cast(Tensor, self.simple_lm_head(predictor_out))

    def ctc_head_of(self, subnet: Subnet | None) -> CtcHead | None:
        """Return the auxiliary CTC head, which all subnets share and only some losses need; None without it."""
        return cast(CtcHead | None, self._modules.get("ctc_head"))

    def count_output(self, subnet: Subnet | None, frames: int) -> Count:
        return self.joiner.count(self.width_of(subnet), frames, self.projection_of(subnet))

    def count_per_token(self) -> Count:
        # The joiner's count has the parameters of its projection of the predictor's output, which runs once per token.
        return self.predictor.count() + Count(macs=self.joiner.predictor_proj.weight.numel())

    @classmethod
    def shrink(cls, config: ModelConfig, subnet: Subnet) -> ModelConfig:
        assert isinstance(config, TransducerConfig)
        changes = shrink_common(config, subnet)
        # A stand-alone model has one output, so the head's projection becomes that of the joiner.
        if subnet.head is not None:
            changes["joiner"] = config.joiner.model_copy(update={"projection": "gated"})
        return config.model_copy(update=changes)

    def _extract_output(self, model: Self, subnet: Subnet) -> None:
        model.joiner = self.joiner.extract(model.config.joiner, self.width_of(subnet), self.projection_of(subnet))
        model.predictor = copy.deepcopy(self.predictor)
