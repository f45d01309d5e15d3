"""Training-only heads that classify each frame from a hidden state of the encoder."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.loss import AuxiliaryConfig
from slimasr.elastic.linear import ElasticLinear


class FrameHead(nn.Module):
    """``W2 relu(W1 x)`` (paper 2, baseline A2; paper 3, equation 5). Only its input is elastic.

    No stand-alone model contains it, so it has neither `count` nor `extract`.
    """

    def __init__(self, input_dim: int, hidden_dim: int, num_classes: int) -> None:
        super().__init__()
        self.inner = ElasticLinear(input_dim, hidden_dim)
        self.outer = ElasticLinear(hidden_dim, num_classes)

    def forward(self, x: Tensor, width: int) -> Tensor:
        """(N, T, width) -> (N, T, S) scores; ``width`` is the residual width of the subnet."""
        return cast(Tensor, self.outer(F.relu(self.inner(x, inp=width))))


class FrameHeads(nn.ModuleDict):
    """The heads of all places at which frames are classified: after some number of layers, or at the output.

    A subnet's layers are counted along its path, so that a head serves all subnets of at least this depth.
    """

    def __init__(self, config: AuxiliaryConfig, input_dim: int, vocab_size: int) -> None:
        """Build one head for each place, or one for all of them.

        Args:
            config: the places, and what their classes are.
            input_dim: channels of the hidden states at full width.
            vocab_size: number of tokens, the classes with ``targets: tokens``.
        """
        num_classes = vocab_size if config.targets == "tokens" else config.num_states
        assert num_classes is not None, "training takes the number of states from the alignments' folder"
        places = [*config.layers, None] if config.output else config.layers
        # A set of one name if the head is shared; the order is that of the places.
        names = dict.fromkeys(_name(config, place) for place in places)
        super().__init__({name: FrameHead(input_dim, config.hidden_dim, num_classes) for name in names})
        self.config = config

    def forward(self, hidden: Tensor, num_layers: int | None, width: int) -> Tensor:
        """(N, T, width) hidden states after ``num_layers`` layers, None = the output -> (N, T, S) scores."""
        return cast(Tensor, self[_name(self.config, num_layers)](hidden, width))


def _name(config: AuxiliaryConfig, num_layers: int | None) -> str:
    """Return the name of the head of a place."""
    if config.shared:
        return "shared"
    # The name is the id of the last layer in a network without branches, from 0, as in earlier checkpoints.
    return "output" if num_layers is None else str(num_layers - 1)
