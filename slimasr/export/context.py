"""The decoder of a transducer as device runtimes call it: its last labels in, one output, no state.

::

    y (N, K) int64, -1 = no label yet   -> decoder_out (N, J), the predictor's output as the joiner adds it

A stateless predictor sees K labels by itself. An LSTM predictor, which sees all labels, is run over the last K alone:
its output is exact until more than K tokens have been emitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from slimasr.errors import UserError
from slimasr.models.joiner import Joiner
from slimasr.models.predictor import LstmPredictor, PredictorState, StatelessPredictor
from slimasr.models.transducer import Transducer

DEFAULT_CONTEXT = 16
"""Labels that the decoder of an LSTM predictor sees."""


class ContextDecoder(nn.Module):
    """The predictor over a finite context, and its projection.

    Attributes:
        context_size: K, the number of labels.
    """

    def __init__(self, predictor: FiniteContext, joiner: Joiner) -> None:
        super().__init__()
        self.predictor = predictor
        self.joiner = joiner
        self.context_size = predictor.context_size

    def forward(self, y: Tensor) -> Tensor:
        """(N, K) labels, -1 for none -> (N, J)."""
        return self.joiner.project_predictor(self.predictor(y))


class StatelessContext(nn.Module):
    """A stateless predictor over its own context."""

    def __init__(self, predictor: StatelessPredictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.context_size = predictor.context_size

    def forward(self, y: Tensor) -> Tensor:
        """(N, K) labels, -1 for none -> (N, P)."""
        return self.predictor.over_history(y).squeeze(1)


class LstmContext(nn.Module):
    """An LSTM predictor that begins at the first of the last K labels, as at the beginning of an utterance.

    In training every label sequence begins with blank, so the first label meets the state after blank, not the zero
    state: also where labels before it were left out. A blank in the context, which runtimes put at its end before the
    first token, has been seen thereby.
    """

    def __init__(self, predictor: LstmPredictor, context_size: int) -> None:
        super().__init__()
        self.predictor = predictor
        self.context_size = context_size

    def forward(self, y: Tensor) -> Tensor:
        """(N, K) labels, -1 for none -> (N, P)."""
        # (N, K, 1): which labels are tokens; the others, blank and none, leave the state as it is
        tokens = (y > 0).unsqueeze(-1)
        # A runtime would take -1 for the last row of the table.
        out = self.predictor.embedding(y.clamp(min=0))
        begin = torch.zeros(1, dtype=torch.int64, device=y.device)
        _, start = self.predictor.step(begin, self.predictor.init_state(1, y.device))
        for layer, before in enumerate(zip(*(state.unbind(1) for state in start.tensors), strict=True)):
            hidden, cell = (tensor.expand(y.shape[0], -1) for tensor in before)
            out = self._layer(layer, out, tokens, hidden, cell)
        return out[:, -1]

    def _layer(self, layer: int, x: Tensor, tokens: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """Run a layer over (N, K, C) inputs, and return its (N, K, P) hidden states.

        Args:
            layer: its number.
            x: its input.
            tokens: (N, K, 1) bool, the steps that count.
            hidden: (N, P) hidden state before the first step.
            cell: (N, P) cell state before the first step.
        """
        of_input, of_hidden, bias_of_input, bias_of_hidden = self.predictor.layer_weights(layer)
        # One product for all steps; only the recurrent one must wait for the step before.
        inputs = linear(x, of_input, bias_of_input + bias_of_hidden)
        states = []
        for projected, token in zip(inputs.unbind(1), tokens.unbind(1), strict=True):
            gates = projected + linear(hidden, of_hidden)
            enter, keep, new, show = gates.chunk(4, dim=1)
            cell_after = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden_after = show.sigmoid() * cell_after.tanh()
            cell = torch.where(token, cell_after, cell)
            hidden = torch.where(token, hidden_after, hidden)
            states.append(hidden)
        return torch.stack(states, dim=1)


FiniteContext = StatelessContext | LstmContext


def context_decoder(model: Transducer, context: int = DEFAULT_CONTEXT) -> ContextDecoder:
    """Make the decoder of a transducer; it shares the model's weights.

    Args:
        model: in evaluation mode.
        context: number of labels that an LSTM predictor sees; a stateless one has its own.

    Raises:
        UserError: the context is smaller than 1.
    """
    if context < 1:
        raise UserError(f"--context {context}: the decoder needs at least the last label, so it must be 1 or more")
    predictor = model.predictor
    if isinstance(predictor, StatelessPredictor):
        return ContextDecoder(StatelessContext(predictor), model.joiner)
    return ContextDecoder(LstmContext(cast(LstmPredictor, predictor), context), model.joiner)


@dataclass(frozen=True)
class HistoryPredictor:
    """A decoder for the searches (`SearchablePredictor`), in torch or in another runtime.

    Its state is the history, and its output is projected already.

    Attributes:
        decode: (n, K) labels -> (n, J).
        context_size: K.
    """

    decode: Callable[[Tensor], Tensor]
    context_size: int

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        """Create the state before any label, for ``n`` hypotheses."""
        return PredictorState((torch.full((n, self.context_size), -1, dtype=torch.int64, device=device),))

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(n,) labels and a state -> (n, J) and the next state."""
        history = torch.cat([state.tensors[0][:, 1:], labels.unsqueeze(1)], dim=1)
        return self.decode(history), PredictorState((history,))
