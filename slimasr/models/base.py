"""What all kinds of models have in common: normalised features, an encoder that runs any subnet, and named outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig
from slimasr.encoders.base import Encoder, EncoderOutput, Known
from slimasr.encoders.build import build_encoder, shrink_encoder
from slimasr.encoders.frontend import shrink_frontend
from slimasr.models.frame_head import FrameHeads
from slimasr.models.heads import CtcHead
from slimasr.models.pathways import Pathways, check_pathway, cut_out, prunable_matrices
from slimasr.supernet.cost import Cost, Count
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.subnet import Subnet, refuse_pathway

if TYPE_CHECKING:
    from typing_extensions import Self


COST_SECONDS = 10
"""Length of the utterance on which MACs are counted; attention's grow faster than the length."""

FRAMES_PER_SECOND = 100
"""Feature frames per second of audio."""

TRAINING_HEADS = ("simple_am_head", "simple_lm_head", "ctc_head", "frame_heads")
"""Names of the modules that only losses use; a model has those that its losses need."""


class SpeechModel(nn.Module, ABC):
    """An encoder that runs any subnet of the space, and outputs that turn what it returns into labels.

    Global mean and variance normalisation of the features is part of the model, so that its input is plain log-mel
    filter banks.

    Attributes:
        config: sizes of the max subnet.
        encoder: the elastic network over the audio.
        heads: outputs besides the main one, which subnets choose by name (`slimasr.models.heads.head_of`).
        pathways: masks of the model's pathways; None = it has none (`add_pathways`).
    """

    blank_id = 0
    config: ModelConfig
    encoder: Encoder
    heads: nn.ModuleDict
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: ModelConfig, vocab_size: int, widths: Sequence[float] = (1.0,)) -> None:
        """Build normalisation and encoder; the subclass builds the outputs.

        Args:
            config: sizes of the max subnet.
            vocab_size: number of tokens, blank included.
            widths: fractions that get their own norms.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.widths = tuple(widths)
        self.pathways: Pathways | None = None
        # Buffers, so that they are saved with the weights; see `set_feature_stats`.
        self.register_buffer("feature_mean", torch.zeros(config.num_mel_bins))
        self.register_buffer("feature_std", torch.ones(config.num_mel_bins))
        self.encoder = build_encoder(config.encoder, config.frontend, config.num_mel_bins, widths)

    def _add_frame_heads(self, loss: LossConfig | None) -> None:
        """Add the classifiers of frame targets if a loss needs them."""
        if loss is not None and loss.auxiliary is not None:
            self.frame_heads = FrameHeads(loss.auxiliary, self.config.encoder.d_model, self.vocab_size)

    def add_pathways(self, spec: PathwaySpec) -> None:
        """Add masks that keep everything, for some pathways.

        Raises:
            ValueError: no matrix of the model is as large as a block.
        """
        self.pathways = Pathways(spec, prunable_matrices(self))

    @property
    def main_loss(self) -> str:
        """Name of the loss that the model is trained for (`ModelSection.main_loss`)."""
        return self.config.main_loss

    @property
    def subsampling_factor(self) -> int:
        """Number of feature frames per encoder frame."""
        return self.encoder.frontend.subsampling_factor

    @property
    def has_training_heads(self) -> bool:
        """Whether the model has training-only heads."""
        return any(name in self._modules for name in TRAINING_HEADS)

    def set_feature_stats(self, mean: Tensor, std: Tensor) -> None:
        """Set the (F,) mean and standard deviation of training features."""
        self.feature_mean.copy_(mean)
        # A bin that never varies (digital silence, band-limited audio) must not divide by 0.
        self.feature_std.copy_(std.clamp(min=1e-5))

    def width_of(self, subnet: Subnet | None) -> int:
        """Return the number of channels of the encoder output at a subnet."""
        return self.encoder.width_of(subnet)

    def encode(
        self,
        x: Tensor,
        x_lens: Tensor,
        subnet: Subnet | None = None,
        taps: Sequence[int] = (),
        known: Known | None = None,
    ) -> EncoderOutput:
        """Encode (N, T, F) log-mel features of (N,) frames with a subnet; see `Encoder.run_layers`.

        Raises:
            ValueError: the subnet is a pathway, which is cut out first (`slimasr.models.prepared`).
        """
        return cast(EncoderOutput, self.encoder(self.normalize(x), x_lens, subnet, taps, known))

    forward = encode

    def normalize(self, x: Tensor) -> Tensor:
        """Scale features to zero mean and unit variance over the training set."""
        return (x - self.feature_mean) / self.feature_std

    def predictor_out(self, y: Tensor) -> Tensor | None:
        """(N, U) labels -> what the model computes from labels alone, for all subnets; None if there is no such part.

        Of a transducer, this is the predictor's (N, U + 1, P) output.
        """
        return None

    @abstractmethod
    def ctc_head_of(self, subnet: Subnet | None) -> CtcHead | None:
        """Return the layer that scores labels for CTC at a subnet; None if the model has no such layer."""

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(N, T, C) encoder output of a subnet -> (N, T, V) scores of the labels."""
        refuse_pathway(subnet)
        head = self.ctc_head_of(subnet)
        assert head is not None, "the model has no CTC head"
        return cast(Tensor, head(encoder_out, inp=self.width_of(subnet)))

    def frame_logits(self, hidden: Tensor, num_layers: int | None, subnet: Subnet | None = None) -> Tensor:
        """(N, T, C) hidden states after some number of layers, None = the output -> (N, T, S) scores of targets."""
        return cast(Tensor, self.frame_heads(hidden, num_layers, self.width_of(subnet)))

    def count(self, subnet: Subnet | None = None, seconds: float = COST_SECONDS) -> Cost:
        """Count the cost of the stand-alone subnet, without training-only heads.

        Args:
            subnet: the subnet, None = the max subnet.
            seconds: length of the utterance on which MACs are counted.

        Raises:
            ValueError: the subnet is a pathway that the model does not have.
        """
        if subnet is not None and subnet.pathway:
            return self.extract(subnet).count(seconds=seconds)
        frames = round(seconds * FRAMES_PER_SECOND)
        work = self.encoder.count(subnet, frames)
        work += self.count_output(subnet, self.encoder.output_frames(frames))
        per_token = self.count_per_token()
        size = work + per_token
        return Cost(
            params=size.params,
            int8_bytes=size.int8_bytes,
            paper_size=size.params + size.pruned,
            macs=work.macs / seconds,
            predictor_macs=per_token.macs,
        )

    @abstractmethod
    def count_output(self, subnet: Subnet | None, frames: int) -> Count:
        """Count what runs on every encoder frame behind the encoder: parameters, and MACs on so many frames."""

    def count_per_token(self) -> Count:
        """Count what runs once per emitted token: parameters, and MACs of one token; default: nothing."""
        return Count()

    @classmethod
    @abstractmethod
    def shrink(cls, config: ModelConfig, subnet: Subnet) -> ModelConfig:
        """Return the configuration of a subnet's stand-alone model."""

    def extract(self, subnet: Subnet) -> Self:
        """Copy one subnet into a stand-alone model with equal output, without training-only heads.

        Of a pathway, the copy has the layers of the whole model, with zeros in place of the weights that it prunes.

        Raises:
            ValueError: the subnet is a pathway that the model does not have.
        """
        if subnet.pathway:
            pathways = check_pathway(subnet, self.pathways)
            dense = self.extract(replace(subnet, pathway=""))
            cut_out(dense, pathways, subnet.pathway)
            return dense
        # The parts of the new model are replaced one by one; its own random weights are never used.
        model = type(self)(self.shrink(self.config, subnet), self.vocab_size)
        model.encoder = self.encoder.extract(subnet)
        self._extract_output(model, subnet)
        model.set_feature_stats(self.feature_mean, self.feature_std)
        return model.to(self.feature_mean.device).train(self.training)

    @abstractmethod
    def _extract_output(self, model: Self, subnet: Subnet) -> None:
        """Replace the outputs of a stand-alone model by copies of those that a subnet uses."""


def shrink_common(config: ModelConfig, subnet: Subnet) -> dict[str, object]:
    """Return what changes in the configuration of every kind of model when a subnet is extracted."""
    return {
        # The head that the subnet names becomes the main output of its stand-alone model.
        "exits": [],
        "frontend": shrink_frontend(config.frontend, subnet.width),
        "encoder": shrink_encoder(config.encoder, subnet),
    }
