"""Predictors, the networks over the labels emitted so far. They are never slimmed, and all subnets share them, except
that a pathway keeps only a part of an LSTM's matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimasr.config.model import LstmPredictorConfig, StatelessPredictorConfig
from slimasr.elastic.dropout import Dropout
from slimasr.elastic.linear import count_kept
from slimasr.supernet.cost import Count, Kept


@dataclass(frozen=True)
class PredictorState:
    """The state of a predictor for ``n`` hypotheses: tensors of shape (n, ...)."""

    tensors: tuple[Tensor, ...]

    def select(self, index: Tensor) -> PredictorState:
        """Return the states of the hypotheses with these (m,) indices, which may repeat."""
        return PredictorState(tuple(tensor.index_select(0, index) for tensor in self.tensors))

    @staticmethod
    def stack(states: Sequence[PredictorState]) -> PredictorState:
        """Return the hypotheses of all states as one state, in this order."""
        same = zip(*(state.tensors for state in states), strict=True)
        return PredictorState(tuple(torch.cat(tensors) for tensors in same))

    @staticmethod
    def where(mask: Tensor, new: PredictorState, old: PredictorState) -> PredictorState:
        """Return ``new`` where the (n,) mask is True, and ``old`` elsewhere."""

        def pick(a: Tensor, b: Tensor) -> Tensor:
            # The mask gets as many dimensions as the state: (n,) -> (n, 1, ...).
            return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

        return PredictorState(tuple(map(pick, new.tensors, old.tensors)))


class Predictor(nn.Module, ABC):
    """A predictor: `forward` over whole label sequences and `step`, one label at a time, have equal results."""

    dim: int
    """Number of output channels."""

    @abstractmethod
    def forward(self, y: Tensor) -> Tensor:
        """(N, U) labels -> (N, U + 1, dim); row u has seen blank and the first u labels."""

    @abstractmethod
    def init_state(self, n: int, device: torch.device) -> PredictorState:
        """Create the initial state for ``n`` hypotheses. The first `step` takes blank (0)."""

    @abstractmethod
    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(n,) labels and a state -> (n, dim) and the next state."""

    @abstractmethod
    def count(self) -> Count:
        """Count the parameters, and the MACs of one step."""


class StatelessPredictor(Predictor):
    """Embedding, then a grouped convolution over the last ``context_size`` labels and a ReLU.

    It sees a finite history, as device runtimes require. A label of -1 means that there is none yet; its embedding is
    zero.
    """

    def __init__(self, config: StatelessPredictorConfig, vocab_size: int) -> None:
        super().__init__()
        self.dim = config.dim
        self.context_size = config.context_size
        self.embedding = nn.Embedding(vocab_size, config.dim)
        # Groups of 4 channels keep the convolution small; a dimension that does not divide gets a full one.
        groups = config.dim // 4 if config.dim % 4 == 0 else 1
        self.conv = nn.Conv1d(config.dim, config.dim, config.context_size, groups=groups, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, y: Tensor) -> Tensor:
        # Blank comes first, as in `step`; before it there are no labels (-1), as in `init_state`.
        labels = F.pad(y, (1, 0), value=0)
        history = F.pad(labels, (self.context_size - 1, 0), value=-1)
        return self.over_history(history)

    def over_history(self, history: Tensor) -> Tensor:
        """(N, L) labels, -1 for none -> (N, L - context_size + 1, dim)."""
        # -1 is no row of the table: look up row 0 instead, and multiply it by 0.
        embedded = self.embedding(history.clamp(min=0)) * (history >= 0).unsqueeze(-1)
        # A product of windows and filters, because a search feeds one window per hypothesis, for which the
        # convolution's own kernels take several times as long.
        windows = self.dropout(embedded).unfold(1, self.context_size, 1).unflatten(2, (self.conv.groups, -1))
        # n utterance, l position, g group, i and o input and output channel of the group, k label of the window
        filters = self.conv.weight.unflatten(0, (self.conv.groups, -1))
        return F.relu(torch.einsum("nlgik,goik->nlgo", windows, filters).flatten(2))

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        return PredictorState((torch.full((n, self.context_size), -1, dtype=torch.int64, device=device),))

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        history = torch.cat([state.tensors[0][:, 1:], labels.unsqueeze(1)], dim=1)
        return self.over_history(history).squeeze(1), PredictorState((history,))

    def count(self) -> Count:
        table = self.embedding.weight.numel()
        filters = self.conv.weight.numel()
        # The embedding is quantised with one scale per row; looking it up takes no MACs.
        return Count(params=table + filters, quantized=table, scales=self.embedding.num_embeddings, macs=filters)


class LstmPredictor(Predictor):
    """Embedding, then an LSTM over the whole label history (paper 1).

    Attributes:
        kept: how much of a matrix of the LSTM is stored, by its name there; the others are stored as a whole.
    """

    def __init__(self, config: LstmPredictorConfig, vocab_size: int) -> None:
        super().__init__()
        self.kept: dict[str, Kept] = {}
        self.dim = config.dim
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim)
        self.dropout = Dropout(config.dropout)
        # torch applies this dropout between layers only and warns about a single layer.
        between = config.dropout if config.num_layers > 1 else 0.0
        self.lstm = nn.LSTM(config.embedding_dim, config.dim, config.num_layers, batch_first=True, dropout=between)

    def forward(self, y: Tensor) -> Tensor:
        labels = F.pad(y, (1, 0), value=0)
        embedded = self.dropout(self.embedding(labels))
        # Not `self.lstm(...)`, which reads a list of its own, so that tensors that stand in for the weights
        # (`functional_call`) would not reach it.
        weights = [tensor for layer in range(self.lstm.num_layers) for tensor in self.layer_weights(layer)]
        before = embedded.new_zeros(self.lstm.num_layers, len(y), self.dim)
        out, _, _ = torch.lstm(
            embedded,
            (before, before),
            weights,
            has_biases=True,
            num_layers=self.lstm.num_layers,
            dropout=self.lstm.dropout,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )
        return self.dropout(out)

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        # Hidden and cell states, with hypotheses first as in every state; torch has the layers first.
        shape = (n, self.lstm.num_layers, self.dim)
        return PredictorState((torch.zeros(shape, device=device), torch.zeros(shape, device=device)))

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        # Cell by cell, because nn.LSTM takes over ten times as long for a single step on a CPU.
        out = self.embedding(labels)
        hidden_before, cell_before = (tensor.unbind(1) for tensor in state.tensors)
        hidden = []
        cell = []
        for layer, before in enumerate(zip(hidden_before, cell_before, strict=True)):
            # The hidden state of a layer is the input of the next one, and of the last one the output.
            out, cell_after = torch.lstm_cell(out, before, *self.layer_weights(layer))
            hidden.append(out)
            cell.append(cell_after)
        return out, PredictorState((torch.stack(hidden, dim=1), torch.stack(cell, dim=1)))

    def layer_weights(self, layer: int) -> tuple[Tensor, ...]:
        """Return the weights and biases of a layer, as they are now."""
        names = (f"weight_ih_l{layer}", f"weight_hh_l{layer}", f"bias_ih_l{layer}", f"bias_hh_l{layer}")
        return tuple(getattr(self.lstm, name) for name in names)

    def count(self) -> Count:
        table = self.embedding.weight.numel()
        total = Count(params=table, quantized=table, scales=self.embedding.num_embeddings)
        for name, parameter in self.lstm.named_parameters():
            size = parameter.numel()
            if not name.startswith("weight"):
                total += Count(params=size)
                continue
            kept = self.kept.get(name)
            total += Count(size, size, macs=size) if kept is None else count_kept(kept, size, calls=1)
            # One scale per row of the input and recurrent matrices of each layer, which have the rows of four gates.
            total += Count(scales=4 * self.dim)
        return total


def build_predictor(config: StatelessPredictorConfig | LstmPredictorConfig, vocab_size: int) -> Predictor:
    """Build the predictor that a recipe names under ``model.predictor.kind``."""
    builders: dict[str, Callable[..., Predictor]] = {"stateless": StatelessPredictor, "lstm": LstmPredictor}
    return builders[config.kind](config, vocab_size)
