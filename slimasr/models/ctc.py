"""The CTC model: an encoder, and a linear layer that scores the labels at each of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig, ModelConfig
from slimasr.models.base import SpeechModel, shrink_common
from slimasr.models.heads import CtcHead, all_names, head_of, module_dict
from slimasr.supernet.cost import Count
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from typing_extensions import Self


class CtcModel(SpeechModel):
    """A model whose labels are classes of the encoder's frames (paper 4). Subnets may have output layers of their own.

    Attributes:
        output: the main output layer.
    """

    config: CtcConfig

    def __init__(
        self,
        config: CtcConfig,
        vocab_size: int,
        widths: Sequence[float] = (1.0,),
        loss: LossConfig | None = None,
        heads: Sequence[str] = (),
    ) -> None:
        """Build a model with random weights.

        Args:
            config: sizes of the max subnet.
            vocab_size: number of labels, blank included.
            widths: fractions that get their own norms.
            loss: decides which training-only heads exist; None = no such heads.
            heads: names of output layers besides the main one; those of ``config.exits`` are added.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__(config, vocab_size, widths)
        names = all_names(config, heads)
        self.output = self._new_head()
        self.heads = module_dict({name: self._new_head() for name in names})
        self._add_frame_heads(loss)

    def _new_head(self) -> CtcHead:
        return CtcHead(self.config.encoder.d_model, self.vocab_size, self.config.dropout)

    def ctc_head_of(self, subnet: Subnet | None) -> CtcHead:
        """Return the output layer of a subnet: the one that it names, or the main one."""
        named = head_of(self.heads, subnet)
        return self.output if named is None else cast(CtcHead, named)

    def count_output(self, subnet: Subnet | None, frames: int) -> Count:
        return self.ctc_head_of(subnet).count(self.vocab_size, self.width_of(subnet), frames)

    @classmethod
    def shrink(cls, config: ModelConfig, subnet: Subnet) -> ModelConfig:
        return config.model_copy(update=shrink_common(config, subnet))

    def _extract_output(self, model: Self, subnet: Subnet) -> None:
        model.output = self.ctc_head_of(subnet).extract(inp=self.width_of(subnet))
