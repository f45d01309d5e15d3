"""A predictor that sees few labels, as a table of all that it can say.

A search decodes one set with subnet after subnet, and the predictor is the same in all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.config.model import ModelConfig
from slimasr.decoding.searchable import Searchable
from slimasr.models.joiner import Joiner
from slimasr.models.predictor import PredictorState, StatelessPredictor
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

MOST_ROWS = 10_000
"""Longer tables take longer to make than a search over a dev set to decode."""


class TabulatedPredictor:
    """Stands in for a stateless predictor and for the joiner's projection of its output.

    The state is the row: the history as a number, whose digits are the labels, plus one.
    """

    def __init__(self, predictor: StatelessPredictor, joiner: Joiner, vocab_size: int) -> None:
        self._base = vocab_size + 1
        self._rows = (vocab_size + 1) ** predictor.context_size
        device = predictor.embedding.weight.device
        digits = [torch.arange(-1, vocab_size, device=device)] * predictor.context_size
        histories = torch.cartesian_prod(*digits).view(self._rows, predictor.context_size)
        self._table = joiner.project_predictor(predictor.over_history(histories).squeeze(1))

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        """Nothing but -1: row 0."""
        return PredictorState((torch.zeros(n, dtype=torch.int64, device=device),))

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(n,) labels and a state -> (n, J), projected, and the next state."""
        rows = (state.tensors[0] * self._base + labels + 1) % self._rows
        return self._table[rows], PredictorState((rows,))


class TabulatedJoiner:
    """A joiner whose predictor output is projected already."""

    def __init__(self, joiner: Joiner) -> None:
        self._joiner = joiner

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        """(..., J), as it is."""
        return predictor_out

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        """Shapes that broadcast to (..., J) -> (..., V) logits."""
        return self._joiner.forward(am, lm)


class Tabulated:
    """A model for `slimasr.decoding.greedy.greedy_search`: equal to the transducer's own results, in less time."""

    def __init__(self, model: Transducer, predictor: StatelessPredictor) -> None:
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config: ModelConfig = model.config
        self._model = model
        self.predictor = TabulatedPredictor(predictor, model.joiner, model.vocab_size)
        self.joiner = TabulatedJoiner(model.joiner)

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """As the model itself."""
        return self._model.project_encoder(encoder_out, subnet)


@torch.no_grad()
def tabulated(model: Transducer) -> Searchable:
    """The model with its predictor as a table; the model itself where there is no table or a long one."""
    predictor = model.predictor
    if not isinstance(predictor, StatelessPredictor):
        return model
    rows = (model.vocab_size + 1) ** predictor.context_size
    return Tabulated(model, predictor) if rows <= MOST_ROWS else model
