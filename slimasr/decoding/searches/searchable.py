"""The interfaces of models for the searches: the models have them, and so has a model in another runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from slimasr.config.model import ModelConfig, TransducerConfig
from slimasr.models.predictor import PredictorState
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class SearchablePredictor(Protocol):
    """See `slimasr.models.predictor.Predictor`."""

    def init_state(self, n: int, device: torch.device) -> PredictorState:
        """Create the state before any label, for ``n`` hypotheses."""

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(n,) labels and a state -> (n, P) and the next state."""


class SearchableJoiner(Protocol):
    """See `slimasr.models.joiner.Joiner`."""

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        """(..., P) -> (..., J)."""

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        """Shapes that broadcast to (..., J) -> (..., V) logits."""


class SearchableTransducer(Protocol):
    """A transducer whose encoder output can be searched for the best label sequence."""

    @property
    def blank_id(self) -> int:
        """The label that emits nothing."""

    @property
    def vocab_size(self) -> int:
        """Number of labels, blank included."""

    @property
    def config(self) -> TransducerConfig:
        """The configuration of the model, which has its sizes."""

    @property
    def predictor(self) -> SearchablePredictor:
        """The network over labels."""

    @property
    def joiner(self) -> SearchableJoiner:
        """The network over encoder and predictor output."""

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(..., C) encoder output of a subnet -> (..., J), the input of the joiner."""


class OutputLayer(Protocol):
    """See `slimasr.models.heads.CtcHead`."""

    @property
    def log_prior(self) -> Tensor:
        """(V,) logarithm of the labels' mean posterior; zeros = not known."""


class SearchableCtc(Protocol):
    """A CTC model whose encoder output can be searched for labels or words."""

    @property
    def blank_id(self) -> int:
        """The label of frames without a token."""

    @property
    def vocab_size(self) -> int:
        """Number of labels, blank included."""

    @property
    def config(self) -> ModelConfig:
        """The configuration of the model, which has its sizes."""

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(N, T, C) encoder output of a subnet -> (N, T, V) scores of labels."""

    def ctc_head_of(self, subnet: Subnet | None) -> OutputLayer | None:
        """Return the output layer of a subnet, which every CTC model has."""


Searchable = SearchableTransducer | SearchableCtc


def is_ctc(model: Searchable) -> TypeIs[SearchableCtc]:
    """Whether a model is a CTC model; the others are transducers."""
    return model.config.kind == "ctc"
