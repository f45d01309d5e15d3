"""Losses: transducer, CTC, frame targets, and distillation between subnets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    Location,
    Natural,
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

    @model_validator(mode="after")
    def _alphas_in_order(self) -> DistillationConfig:
        if self.alpha_min > self.alpha_max:
            raise ValueError("alpha_min: must not exceed alpha_max")
        return self


class AuxiliaryConfig(Section):
    """Cross-entropy of frame targets at the hidden states of some layers (paper 2, baseline A2) or at the encoder's
    output, where smaller subnets may also learn from the posteriors of the largest (paper 3)."""

    layers: list[Positive] = [8, 12, 16]
    """Numbers of layers of a subnet after which frames are classified, rising, at most ``model.encoder.num_layers``; a
    subnet with fewer layers has no loss there, and [] = only at the output."""

    output: bool = False
    """Whether frames are also classified at the output of the encoder, which every subnet has."""

    shared: bool = False
    """Whether one classifier serves all these places; otherwise each has its own."""

    targets: Literal["tokens", "states"] = "tokens"
    """Classes of the frames: the tokens of the transducer, or tied grapheme states, whose ``states.json`` is in the
    folder of ``loss.alignments``."""

    num_states: Positive | None = None
    """Number of states with ``targets: states``, which training takes from ``states.json`` and records; null = not yet
    known, or ``targets: tokens``."""

    hidden_dim: Positive = 64
    """Hidden channels of a classifier, which exists in training only; at paper 2's sizes, 82 channels give its 1.15
    million parameters."""

    aux_weight: PositiveFloat = 0.3
    """Weight of the cross-entropy relative to the transducer loss; it is summed over all these places."""

    kl_weight: NonNegativeFloat | None = None
    """Weight of the divergence KL(teacher || student) of the posteriors at the output, with ``method.kind:
    collaborative`` only; null = ``aux_weight``, 0 = no teacher."""

    @model_validator(mode="after")
    def _places_and_classes(self) -> AuxiliaryConfig:
        # The set also refuses a layer that is given twice.
        if self.layers != sorted(set(self.layers)):
            raise ValueError("layers: each must be after more layers than the one before")
        if not self.layers and not self.output:
            raise ValueError("layers: needs at least one, or output: true")
        if self.kl_weight and not self.output:
            raise ValueError("kl_weight: compares posteriors at the output; give output: true, or leave it out")
        if self.targets == "tokens" and self.num_states is not None:
            raise ValueError("num_states: has no meaning with targets: tokens; leave it out")
        return self

    @property
    def teaching_weight(self) -> float:
        """Weight of the divergence between posteriors, 0 without a classifier at the output."""
        if not self.output:
            return 0.0
        return self.aux_weight if self.kl_weight is None else self.kl_weight


class LossConfig(Section):
    """Transducer loss, CTC and frame targets."""

    transducer: Literal["full", "pruned", "restricted"] = "pruned"
    """Transducer loss over the full lattice, over the nodes that a simple joiner finds likely (Kuang et al. 2022), or
    over the paths near an alignment (Mahadeokar et al. 2021); the last two take less memory."""

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

    left_buffer: Natural = 5
    """Encoder frames by which the restricted loss lets a token be emitted before its last frame in the alignment."""

    right_buffer: Natural = 15
    """Encoder frames by which the restricted loss lets a token be emitted after its last frame in the alignment."""

    delay_penalty: Penalty = 0.0
    """Nats per encoder frame by which earlier symbols are favoured (Kang et al. 2023); 0 and below = off."""

    ctc_weight: NonNegativeFloat = 0.0
    """Weight of a CTC loss on the encoder output, for training only; 0 = no CTC loss."""

    distillation: DistillationConfig | None = None
    """Distillation from the max subnet to the smaller ones, with ``method.kind: todm`` only; null = no distillation."""

    auxiliary: AuxiliaryConfig | None = None
    """Frame targets at layers or at the output of the encoder; null = none."""

    alignments: Location | None = None
    """Folder that slimasr-align wrote (``exp/<name>/alignments``), for the restricted loss and frame targets; null =
    none, without these losses."""

    per: Literal["unit", "token", "utterance", "frame"] = "unit"
    """Normalisation of all losses: ``unit`` averages each over what it sums, which are tokens, frames or nodes of the
    lattice; ``token``, ``utterance`` and ``frame`` divide the sums of all by the number of tokens, of utterances or of
    frames of the encoder, so that weights are those of sums over an utterance."""

    def check(self, config: Config) -> None:
        num_layers = config.model.encoder.num_layers
        if self.auxiliary is not None and max(self.auxiliary.layers, default=0) > num_layers:
            raise ValueError(f"loss.auxiliary.layers: the encoder has {num_layers} layers (model.encoder.num_layers)")
        restricted = self.transducer == "restricted"
        if restricted and self.distillation is not None:
            raise ValueError("loss.distillation: needs transducer: full or pruned, not restricted")
        if self.alignments is None and (restricted or self.auxiliary is not None):
            what = "transducer: restricted" if restricted else "auxiliary"
            raise ValueError(f"loss.alignments: {what} needs the folder that slimasr-align wrote")
        if self.alignments is not None and not restricted and self.auxiliary is None:
            raise ValueError("loss.alignments: no loss needs them; give transducer: restricted or auxiliary, or null")


def needs_states(config: LossConfig) -> bool:
    """Whether the frame targets of a loss are tied states."""
    return config.auxiliary is not None and config.auxiliary.targets == "states"


def standalone_loss(config: LossConfig) -> LossConfig:
    """Return the loss of a stand-alone model, which is computed without alignments, teachers and training-only heads.

    The pruned loss stays, because a model that is trained on may need it; `slimasr.measure.quality.loss_objective`
    replaces it for models that lack its heads.
    """
    changes: dict[str, object] = {"auxiliary": None, "alignments": None, "distillation": None}
    if config.transducer == "restricted":
        changes["transducer"] = "full"
    return config.model_copy(update=changes)
