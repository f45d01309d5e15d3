"""Replaces a predictor that sees few labels by a table of all its outputs.

A search decodes one set with many subnets, and the predictor is the same in all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.config.model import TransducerConfig
from slimasr.decoding.searches.searchable import Searchable
from slimasr.models.joiner import Joiner
from slimasr.models.predictor import PredictorState, StatelessPredictor
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

MOST_ROWS = 10_000
"""A longer table takes more time to compute than it saves on a dev set."""


class TabulatedPredictor:
    """Replaces a stateless predictor and the joiner's projection of its output.

    A row of the table is a history, read as a number: its digits are the labels plus one, so that -1, no label, is 0.
    The oldest label is the first digit. The state of a hypothesis is its row.
    """

    def __init__(self, predictor: StatelessPredictor, joiner: Joiner, vocab_size: int) -> None:
        self._base = vocab_size + 1
        self._rows = self._base**predictor.context_size
        device = predictor.embedding.weight.device
        digits = [torch.arange(-1, vocab_size, device=device)] * predictor.context_size
        # The last label varies fastest, as the last digit of a number does. `view` is for a context of one label, for
        # which the product is (rows,).
        histories = torch.cartesian_prod(*digits).view(self._rows, predictor.context_size)
        # (rows, J)
        self._table = joiner.project_predictor(predictor.over_history(histories).squeeze(1))

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        """Create the state before any label, a history of -1 only: row 0."""
        return PredictorState((torch.zeros(n, dtype=torch.int64, device=device),))

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(n,) labels and a state -> (n, J), projected, and the next state."""
        # Append a digit on the right; the remainder drops the oldest one on the left.
        rows = (state.tensors[0] * self._base + labels + 1) % self._rows
        return self._table[rows], PredictorState((rows,))


class TabulatedJoiner:
    """A joiner for predictor output that is already projected."""

    def __init__(self, joiner: Joiner) -> None:
        self._joiner = joiner

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        """Return it unchanged: (..., J)."""
        return predictor_out

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        """Shapes that broadcast to (..., J) -> (..., V) logits."""
        return self._joiner.forward(am, lm)


class Tabulated:
    """A transducer whose predictor is a table; searches return the same labels as with the transducer, in less time."""

    def __init__(self, model: Transducer, predictor: StatelessPredictor) -> None:
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config: TransducerConfig = model.config
        self._model = model
        self.predictor = TabulatedPredictor(predictor, model.joiner, model.vocab_size)
        self.joiner = TabulatedJoiner(model.joiner)

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Project encoder output as the transducer does: (..., C) -> (..., J)."""
        return self._model.project_encoder(encoder_out, subnet)


@torch.no_grad()
def tabulated(model: Searchable) -> Searchable:
    """Return the model with its predictor as a table, or the model itself if there is no table or it is too long."""
    if not isinstance(model, Transducer):
        return model
    predictor = model.predictor
    if not isinstance(predictor, StatelessPredictor):
        return model
    rows = (model.vocab_size + 1) ** predictor.context_size
    return Tabulated(model, predictor) if rows <= MOST_ROWS else model
