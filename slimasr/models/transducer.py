"""The transducer: encoder, predictor, joiner, and training-only heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig
from slimasr.elastic.linear import ElasticLinear
from slimasr.encoders.base import EncoderOutput, Known
from slimasr.encoders.build import build_encoder, shrink_encoder
from slimasr.encoders.frontend import shrink_frontend
from slimasr.models.frame_head import FrameHeads
from slimasr.models.joiner import GatedProjection, Joiner, Projection
from slimasr.models.predictor import build_predictor
from slimasr.supernet.cost import Cost
from slimasr.supernet.subnet import Subnet

COST_SECONDS = 10
"""Length of the utterance on which MACs are counted; attention's grow faster than the length."""

FRAMES_PER_SECOND = 100
"""Feature frames per second of audio."""

TRAINING_HEADS = ("simple_am_head", "simple_lm_head", "ctc_head", "frame_heads")
"""Names of the modules that only losses use; a model has those that its losses need."""


class Transducer(nn.Module):
    """An RNN-T whose encoder runs any subnet of the space. All subnets share predictor and joiner (paper 1).

    Global mean and variance normalisation of the features is part of the model, so that its input is plain log-mel
    filter banks.
    """

    blank_id = 0
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        widths: Sequence[float] = (1.0,),
        loss: LossConfig | None = None,
    ) -> None:
        """Build a model with random weights.

        Args:
            vocab_size: number of tokens, blank included.
            widths: fractions that get their own norms.
            loss: decides which training-only heads exist; None = no such heads.

        Raises:
            ValueError: a number of channels is not whole at some width.
        """
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.widths = tuple(widths)
        # Buffers, so that they are saved with the weights; see `set_feature_stats`.
        self.register_buffer("feature_mean", torch.zeros(config.num_mel_bins))
        self.register_buffer("feature_std", torch.ones(config.num_mel_bins))
        self.encoder = build_encoder(config.encoder, config.frontend, config.num_mel_bins, widths)
        self.predictor = build_predictor(config.predictor, vocab_size)
        encoder_dim = config.encoder.d_model
        self.joiner = Joiner(config.joiner, encoder_dim, self.predictor.dim, vocab_size)
        exits = {str(depth): GatedProjection(encoder_dim, config.joiner.dim) for depth in config.exits}
        self.exits = nn.ModuleDict(exits)
        if loss is not None and loss.transducer == "pruned":
            self.simple_am_head = ElasticLinear(encoder_dim, vocab_size)
            self.simple_lm_head = ElasticLinear(self.predictor.dim, vocab_size)
        if loss is not None and loss.ctc_weight > 0:
            self.ctc_head = ElasticLinear(encoder_dim, vocab_size)
        if loss is not None and loss.auxiliary is not None:
            self.frame_heads = FrameHeads(loss.auxiliary, encoder_dim, vocab_size)

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
        """Encode (N, T, F) log-mel features of (N,) frames with a subnet; see `Encoder.run_layers`."""
        return cast(EncoderOutput, self.encoder(self.normalize(x), x_lens, subnet, taps, known))

    forward = encode

    def normalize(self, x: Tensor) -> Tensor:
        """Scale features to zero mean and unit variance over the training set."""
        return (x - self.feature_mean) / self.feature_std

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(..., C) encoder output of a subnet -> (..., J), the joiner's encoder side."""
        return cast(Tensor, self.projection_of(subnet)(encoder_out, inp=self.width_of(subnet)))

    def projection_of(self, subnet: Subnet | None) -> Projection:
        """Return the projection of a subnet's encoder output: that of its exit (see `exit_of`) or the joiner's own."""
        depth = exit_of(self.config, subnet)
        return self.joiner.encoder_proj if depth is None else cast(GatedProjection, self.exits[str(depth)])

    def simple_am(self, encoder_out: Tensor, width: int) -> Tensor:
        """(N, T, width) -> (N, T, V): the encoder's side of the simple (additive) joiner."""
        return cast(Tensor, self.simple_am_head(encoder_out, inp=width))

    def simple_lm(self, predictor_out: Tensor) -> Tensor:
        """(N, U + 1, P) -> (N, U + 1, V): the predictor's side of the simple joiner."""
        return cast(Tensor, self.simple_lm_head(predictor_out))

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """(N, T, C) -> (N, T, V) scores of the auxiliary CTC head."""
        return cast(Tensor, self.ctc_head(encoder_out, inp=self.width_of(subnet)))

    def frame_logits(self, hidden: Tensor, num_layers: int | None, subnet: Subnet | None = None) -> Tensor:
        """(N, T, C) hidden states after some number of layers, None = the output -> (N, T, S) scores of targets."""
        return cast(Tensor, self.frame_heads(hidden, num_layers, self.width_of(subnet)))

    def count(self, subnet: Subnet | None = None, seconds: float = COST_SECONDS) -> Cost:
        """Count the cost of the stand-alone subnet, without training-only heads.

        Args:
            subnet: the subnet, None = max.
            seconds: length of the utterance on which MACs are counted, which are given per second.
        """
        frames = round(seconds * FRAMES_PER_SECOND)
        encoder_frames = self.encoder.output_frames(frames)
        predictor = self.predictor.count()
        work = self.encoder.count(subnet, frames)
        work += self.joiner.count(self.width_of(subnet), encoder_frames, self.projection_of(subnet))
        # Runs once per emitted token, as the predictor does.
        projection = self.joiner.predictor_proj.weight.numel()
        return Cost(
            params=work.params + predictor.params,
            int8_bytes=work.int8_bytes + predictor.int8_bytes,
            paper_size=work.params + predictor.params,
            macs=work.macs / seconds,
            predictor_macs=predictor.macs + projection,
        )

    def extract(self, subnet: Subnet) -> Transducer:
        """Copy one subnet into a stand-alone model with equal output, without training-only heads."""
        # The parts of the new model are replaced one by one; its own random weights are never used.
        model = Transducer(shrink_model_config(self.config, subnet), self.vocab_size)
        model.encoder = self.encoder.extract(subnet)
        model.joiner = self.joiner.extract(model.config.joiner, self.width_of(subnet), self.projection_of(subnet))
        model.predictor = copy.deepcopy(self.predictor)
        model.set_feature_stats(self.feature_mean, self.feature_std)
        return model.to(self.feature_mean.device).train(self.training)


def exit_of(config: ModelConfig, subnet: Subnet | None) -> int | None:
    """Return the exit at which a subnet ends: its depth, if its path is a prefix of the layers and has an exit.

    A subnet without a path is the full depth with the joiner's own projection; an exit after the last layer belongs to
    the path that lists all layers.
    """
    path = None if subnet is None else subnet.path
    if path is None:
        return None
    depth = len(path)
    is_prefix = path == tuple(range(depth))
    return depth if is_prefix and depth in config.exits else None


def shrink_model_config(config: ModelConfig, subnet: Subnet) -> ModelConfig:
    """Return the configuration of a subnet's stand-alone model."""
    # A stand-alone model ends where its exit was, so the projection of the exit becomes that of the joiner.
    gated = exit_of(config, subnet) is not None
    changes = {
        "joiner": config.joiner.model_copy(update={"projection": "gated"}) if gated else config.joiner,
        "exits": [],
        "frontend": shrink_frontend(config.frontend, subnet.width),
        "encoder": shrink_encoder(config.encoder, subnet),
    }
    return config.model_copy(update=changes)
