"""Losses: transducer, CTC, frame targets, and distillation between subnets."""

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
    """In-place distillation from the teacher of the same step, over the lattice's nodes (paper 2)."""

    kd_weight: NonNegativeFloat = 1.0
    """Weight of the divergence from the teacher relative to the transducer loss; 0 = the students have no teacher."""

    divergence: Literal["kl", "alpha"] = "alpha"
    """Divergence between teacher and student: Kullback-Leibler, or the adaptive alpha-divergence (Wang et al. 2021)."""

    classes: Literal["top", "target_blank"] = "top"
    """Classes that are distinguished at a node: the ``num_kd_tokens`` likeliest tokens of the teacher, or the next
    reference token and blank; all other tokens form one more class."""

    num_kd_tokens: Positive = 10
    """Number of tokens that ``classes: top`` distinguishes; at the size of the vocabulary or above, all."""

    include_target_blank: bool = False
    """Whether ``classes: top`` always includes the next reference token and blank, in place of its least
    likely tokens."""

    alpha_min: Alpha = -1.0
    """Lower alpha of the adaptive alpha-divergence, which takes the larger of its two divergences at each node; at most
    ``alpha_max``."""

    alpha_max: Alpha = 1.0
    """Upper alpha of the adaptive alpha-divergence; 1 = KL(teacher || student), 0 = KL(student || teacher)."""

    iw_clip: PositiveFloat = 5.0
    """Upper limit of the importance ratios (teacher / student) ** alpha in the adaptive alpha-divergence."""

    lattice: Literal["teacher", "own", "full"] = "teacher"
    """Nodes of the comparison and of a student's transducer loss: ``teacher`` uses the teacher's pruned nodes for both,
    ``own`` compares there but uses the student's own pruned nodes for its loss, and ``full`` compares at all nodes."""

    per: Literal["node", "utterance"] = "node"
    """Normalisation: ``node`` averages the divergence over nodes, and transducer and CTC losses over tokens;
    ``utterance`` averages the sums of all three over utterances (Panchapagesan et al. 2021) and needs another
    ``kd_weight``."""

    @model_validator(mode="after")
    def _alphas_in_order(self) -> DistillationConfig:
        if self.alpha_min > self.alpha_max:
            raise ValueError("alpha_min: must not exceed alpha_max")
        return self


class AuxiliaryConfig(Section):
    """Cross-entropy of frame targets at the hidden states of some layers (paper 2, baseline A2)."""

    layers: list[Positive] = [8, 12, 16]
    """Numbers of layers after which frames are classified, at least one, rising, at most ``model.encoder.num_layers``;
    a subnet without such a layer has no loss there."""

    aux_weight: PositiveFloat = 0.3
    """Weight of this loss relative to the transducer loss; it is a mean over frames, summed over the layers."""

    hidden_dim: Positive = 64
    """Hidden channels of the classifier at each layer, which exists in training only; at the paper's sizes, 82 channels
    give its 1.15 million parameters."""

    alignments: Location
    """Folder that slimasr-align wrote (``exp/<name>/alignments``); every frame belongs to the token emitted nearest to
    it."""

    @model_validator(mode="after")
    def _rising(self) -> AuxiliaryConfig:
        # The set also refuses a layer that is given twice.
        if not self.layers or self.layers != sorted(set(self.layers)):
            raise ValueError("layers: needs at least one, each after more layers than the one before")
        return self


class LossConfig(Section):
    """Transducer loss, CTC and frame targets."""

    transducer: Literal["full", "pruned"] = "pruned"
    """Transducer loss over the full lattice, or over the nodes that a simple joiner finds likely (Kuang et al. 2022),
    which takes less memory."""

    rnnt_type: Literal["regular", "modified", "constrained"] = "regular"
    """Topology of the lattice: any number of symbols per frame, at most one, or at most one that also pays for a blank
    on its frame."""

    backend: Literal["auto", "k2", "torch"] = "auto"
    """Implementation of the lattice recursion; auto = k2 if it can be imported, otherwise plain PyTorch."""

    prune_range: PruneRange = 5
    """Number of label positions that the pruned loss keeps per frame."""

    simple_scale: Fraction = 0.5
    """Weight of the simple loss relative to the pruned loss after ``warmup``; before, it falls from 1 to this value
    while the weight of the pruned loss rises from 0.1 to 1."""

    lm_scale: Fraction = 0.25
    """Weight of the predictor alone in the smoothed simple loss; the simple joiner keeps 1 - lm_scale - am_scale."""

    am_scale: Fraction = 0.0
    """Weight of the encoder alone in the smoothed simple loss."""

    warmup: Fraction = 0.1
    """Fraction of all optimiser steps over which the weights of simple and pruned loss change; 0 = none."""

    delay_penalty: Penalty = 0.0
    """Nats per encoder frame by which earlier symbols are favoured (Kang et al. 2023); 0 and below = off."""

    ctc_weight: NonNegativeFloat = 0.0
    """Weight of a CTC loss on the encoder output, for training only; 0 = no CTC loss."""

    distillation: DistillationConfig | None = None
    """Distillation from the max subnet to the smaller ones, with ``method.kind: todm`` only; null = no distillation."""

    auxiliary: AuxiliaryConfig | None = None
    """Frame targets at inner layers; null = none."""

    def check(self, config: Config) -> None:
        num_layers = config.model.encoder.num_layers
        if self.auxiliary is not None and max(self.auxiliary.layers) > num_layers:
            raise ValueError(f"loss.auxiliary.layers: the encoder has {num_layers} layers (model.encoder.num_layers)")
