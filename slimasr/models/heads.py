"""Outputs of models: the linear layer that CTC trains, and the names of a model's outputs besides the main one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from slimasr.config.model import ModelSection
from slimasr.elastic.dropout import Dropout
from slimasr.elastic.index import Index
from slimasr.elastic.linear import ElasticLinear
from slimasr.supernet.subnet import Subnet, exit_name

Head = TypeVar("Head", bound=nn.Module)

LOG_PRIOR = "log_prior"
"""Name of the buffer of label priors, which checkpoints of earlier versions lack."""


class CtcHead(ElasticLinear):
    """``W dropout(x) + b``: scores of the labels at each frame. Only its input is elastic.

    It is the output of a CTC model, and the auxiliary head of a transducer, which exists in training only.

    Attributes:
        log_prior: (V,) logarithm of the labels' mean posterior; zeros as long as no prior is known.
    """

    log_prior: Tensor

    def __init__(self, input_dim: int, vocab_size: int, dropout: float = 0.0) -> None:
        super().__init__(input_dim, vocab_size)
        self.dropout = Dropout(dropout)
        self.register_buffer(LOG_PRIOR, torch.zeros(vocab_size))

    def forward(self, input: Tensor, out: Index | None = None, inp: Index | None = None) -> Tensor:
        """(..., inp) -> (..., V)."""
        return super().forward(self.dropout(input), out, inp)

    def extract(self, out: Index | None = None, inp: Index | None = None) -> CtcHead:
        """Copy the head of the channels that run into a stand-alone one with all labels."""
        assert out is None, "a head has all labels at every size"
        linear = super().extract(inp=inp)
        head = CtcHead(linear.in_features, linear.out_features, self.dropout.p)
        head.weight = linear.weight
        head.bias = linear.bias
        head.log_prior.copy_(self.log_prior)
        return head


def all_names(config: ModelSection, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of a model's heads besides the main one: its exits, then others, each once."""
    return tuple(dict.fromkeys([*map(exit_name, config.exits), *more]))


def module_dict(heads: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Return heads as a module, from which `head_of` finds them by their names.

    Raises:
        ValueError: two names differ only in points and underscores.
    """
    modules = {_key(name): head for name, head in heads.items()}
    if len(modules) < len(heads):
        raise ValueError(f"heads {', '.join(heads)}: their names must differ in more than points")
    return nn.ModuleDict(modules)


def head_of(heads: nn.ModuleDict, subnet: Subnet | None) -> nn.Module | None:
    """Return the head that a subnet names, None for the main output."""
    if subnet is None or subnet.head is None:
        return None
    return heads[_key(subnet.head)]


def _key(name: str) -> str:
    # The names of modules must not hold points, which budgets such as 0.63 do.
    return name.replace(".", "_")
