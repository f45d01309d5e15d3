"""Losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    Location,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
)

if TYPE_CHECKING:
    from slimasr.config.schema import Config

Alpha = Annotated[float, Bounds(-100.0, 100.0)]
Penalty = Annotated[float, Bounds(-1000.0, 1000.0)]
PruneRange = Annotated[int, Bounds(2, LARGEST_INT)]


class DistillationConfig(Section):
    """In-place distillation from the teacher of the same step, over the lattice's nodes (paper 2).

    Classes per node: the ``num_kd_tokens`` likeliest ones of the teacher and the rest together (``classes: top``), or
    next reference token, blank and rest (``classes: target_blank``); ``include_target_blank`` forces these two among
    the top ones. ``lattice``: student's transducer loss and distillation both on the teacher's pruned lattice
    (``teacher``), its transducer loss on its own one (``own``), or everything on the ``full`` lattice.
    ``alpha`` is the adaptive alpha-divergence: of ``alpha_min`` and ``alpha_max`` whichever is larger at a node, its
    importance ratios clipped at ``iw_clip``. ``per: node`` averages over nodes, next to losses per token;
    ``per: utterance`` takes sums over nodes and labels, averaged over utterances (Panchapagesan et al. 2021), for which
    ``kd_weight`` must be chosen anew.
    """

    kd_weight: NonNegativeFloat = 1.0
    divergence: Literal["kl", "alpha"] = "alpha"
    classes: Literal["top", "target_blank"] = "top"
    num_kd_tokens: Positive = 10
    include_target_blank: bool = False
    alpha_min: Alpha = -1.0
    alpha_max: Alpha = 1.0
    iw_clip: PositiveFloat = 5.0
    lattice: Literal["teacher", "own", "full"] = "teacher"
    per: Literal["node", "utterance"] = "node"

    @model_validator(mode="after")
    def _alphas_in_order(self) -> DistillationConfig:
        if self.alpha_min > self.alpha_max:
            raise ValueError("alpha_min: must not exceed alpha_max")
        return self


class AuxiliaryConfig(Section):
    """Cross-entropy of frame targets at the hidden states of some layers (paper 2, baseline A2).

    ``layers``: after how many layers; each has a small network of one hidden layer of ``hidden_dim`` channels, for
    training only, and its mean per frame weighs ``aux_weight``. Targets follow from the ``alignments`` folder of an
    experiment (``slimasr-align``): every frame belongs to the token emitted nearest to it. At the paper's sizes,
    ``hidden_dim: 82`` gives its 1.15 million parameters.
    """

    layers: list[Positive] = [8, 12, 16]
    aux_weight: PositiveFloat = 0.3
    hidden_dim: Positive = 64
    alignments: Location

    @model_validator(mode="after")
    def _rising(self) -> AuxiliaryConfig:
        if not self.layers or self.layers != sorted(set(self.layers)):
            raise ValueError("layers: needs at least one, each after more layers than the one before")
        return self


class LossConfig(Section):
    """Transducer loss, CTC and frame targets.

    ``pruned`` sums ``simple_scale`` times the smoothed simple loss and the pruned loss; over the first
    ``warmup`` share of steps the simple loss fades from 1 to ``simple_scale`` and the pruned one from 0.1 to 1.
    """

    transducer: Literal["full", "pruned"] = "pruned"
    rnnt_type: Literal["regular", "modified", "constrained"] = "regular"
    backend: Literal["auto", "k2", "torch"] = "auto"
    prune_range: PruneRange = 5
    simple_scale: Fraction = 0.5
    lm_scale: Fraction = 0.25
    am_scale: Fraction = 0.0
    warmup: Fraction = 0.1
    delay_penalty: Penalty = 0.0
    ctc_weight: NonNegativeFloat = 0.0
    distillation: DistillationConfig | None = None
    auxiliary: AuxiliaryConfig | None = None

    def check(self, config: Config) -> None:
        num_layers = config.model.encoder.num_layers
        if self.auxiliary is not None and max(self.auxiliary.layers) > num_layers:
            raise ValueError(f"loss.auxiliary.layers: the encoder has {num_layers} layers (model.encoder.num_layers)")
