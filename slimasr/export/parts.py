"""The parts of a model that a device's runtime loads, with the inputs and outputs that sherpa-onnx expects.

A transducer has three parts, a CTC model one::

    encoder     x (N, T, F) float, x_lens (N,) int64          -> encoder_out (N, T', J), encoder_out_lens (N,)
    decoder     y (N, context) int64, -1 = no label yet       -> decoder_out (N, J)
    joiner      encoder_out (N, J), decoder_out (N, J)        -> logit (N, V)
    ctc         x (N, T, F) float, x_lens (N,) int64          -> log_probs (N, T', V), log_probs_lens (N,)

Projections belong to encoder and decoder, normalisation of features to the encoder. Decoder and joiner are the same
for all subnets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from slimasr.config.search import GraphDecodingConfig
from slimasr.data.features.frames import SILENCE
from slimasr.decoding.searches.graph import label_prior, label_scores
from slimasr.export.context import context_decoder
from slimasr.export.packages import needed
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

if TYPE_CHECKING:
    from onnx import ModelProto

EXAMPLE_FRAMES = 203
"""Length of the longer of the two utterances with which the encoder is traced; files accept any length."""


@dataclass(frozen=True)
class Part:
    """A module that becomes one file.

    Attributes:
        module: takes the inputs in their order.
        inputs: name -> an example with which the module is traced.
        dynamic: name of an input -> its dimensions of any size.
        outputs: names of the outputs.
        metadata: what the file says of itself; the runtime reads some of the keys.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]

    def about(self, subnet: Subnet, params: int) -> Part:
        """Return a part whose file says which subnet it is and how many parameters that has."""
        note = {"comment": f"subnet {subnet.id}", "subnet": json.dumps(subnet.to_dict()), "params": str(params)}
        return replace(self, metadata={**self.metadata, **note})

    def described(self, proto: ModelProto) -> ModelProto:
        """Return a graph with the part's metadata; it is changed in place."""
        needed("onnx.helper").set_model_props(proto, dict(self.metadata))
        return proto

    @property
    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """The free dimensions as `torch.export` takes them."""
        return {name: dict.fromkeys(self.dynamic.get(name, ()), Dim.DYNAMIC) for name in self.inputs}


def encoder_part(model: SpeechModel, subnet: Subnet, scales: GraphDecodingConfig | None = None) -> Part:
    """Return the encoder of a subnet: of a transducer with its projection, of a CTC model with its output layer.

    Args:
        model: the supernet, in the form that `deployable` returns, or a stand-alone model with ``Subnet()``.
        subnet: the subnet that runs.
        scales: of CTC scores in a search graph, to which a runtime adds no scales of its own; None = the output is
            plain log-probabilities.
    """
    ctc = isinstance(model, CtcModel)
    # Unequal lengths, so that the example has padding to mask.
    lens = torch.tensor([EXAMPLE_FRAMES, EXAMPLE_FRAMES - 60])
    name = "log_probs" if ctc else "encoder_out"
    return Part(
        module=WholeUtterances(model, subnet, scales),
        inputs={"x": torch.zeros(2, EXAMPLE_FRAMES, model.config.num_mel_bins), "x_lens": lens},
        # Batch and length stay free, so that one file serves any number of utterances and frames.
        dynamic={"x": (0, 1), "x_lens": (0,)},
        outputs=(name, f"{name}_lens"),
        metadata=encoder_metadata("zipformer2_ctc" if ctc else "conformer"),
    )


def encoder_metadata(model_type: str) -> dict[str, str]:
    """Return what every encoder says of itself; sherpa-onnx chooses the code that runs it by ``model_type``."""
    return {"model_type": model_type, "version": "1", "model_author": "slimasr"}


def joiner_part(model: Transducer) -> Part:
    """Return the joiner without the projections, which the other two files have."""
    dim = model.config.joiner.dim
    return Part(
        module=_Joiner(model),
        inputs={"encoder_out": torch.zeros(2, dim), "decoder_out": torch.zeros(2, dim)},
        dynamic={"encoder_out": (0,), "decoder_out": (0,)},
        outputs=("logit",),
        metadata={"joiner_dim": str(dim), "vocab_size": str(model.vocab_size)},
    )


class WholeUtterances(nn.Module):
    """Features of whole utterances of any length -> what the search reads, at least one frame for each of them."""

    def __init__(self, model: SpeechModel, subnet: Subnet, scales: GraphDecodingConfig | None) -> None:
        super().__init__()
        self.model = model
        self.subnet = subnet
        self.scales = scales
        if isinstance(model, CtcModel) and scales is not None:
            self.prior = label_prior(model, subnet, scales.prior_scale)

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F) features and (N,) lengths -> (N, T', J or V) and (N,) lengths of 1 or more."""
        shortest = self.model.config.frontend.min_frames
        # An utterance that is too short for one frame of the encoder continues with silence, as everywhere.
        x = F.pad(x, (0, 0, 0, torch.sym_max(shortest - x.shape[1], 0)))
        behind = torch.arange(x.shape[1], device=x.device) >= x_lens.unsqueeze(1)
        # Whatever the client puts behind the end of an utterance, a batch gives what the utterance gives alone.
        x = x.masked_fill(behind.unsqueeze(-1), SILENCE)
        encoded = self.model.encode(x, x_lens.clamp(min=shortest), self.subnet)
        return self._scores(encoded.out), encoded.lens

    def _scores(self, encoder_out: Tensor) -> Tensor:
        if isinstance(self.model, CtcModel):
            logits = self.model.ctc_logits(encoder_out, self.subnet)
            if self.scales is None:
                return logits.log_softmax(-1)
            return label_scores(logits, self.prior, self.scales)
        return cast(Transducer, self.model).project_encoder(encoder_out, self.subnet)


class _Joiner(nn.Module):
    """The joiner over projected inputs."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.joiner = model.joiner

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        logit: Tensor = self.joiner(encoder_out, decoder_out)
        return logit


def decoder_part(model: Transducer, context: int) -> Part:
    """Return the predictor over the last labels, with its projection.

    Args:
        model: the model; all its subnets share the predictor.
        context: number of labels that an LSTM predictor sees; see `context_decoder`.

    Raises:
        UserError: the context is smaller than 1.
    """
    module = context_decoder(model, context)
    size = module.context_size
    return Part(
        module=module,
        inputs={"y": torch.zeros(2, size, dtype=torch.int64)},
        dynamic={"y": (0,)},
        outputs=("decoder_out",),
        metadata={"vocab_size": str(model.vocab_size), "context_size": str(size)},
    )
