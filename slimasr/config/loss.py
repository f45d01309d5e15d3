"""Losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slimasr.config.section import Positive, Section, Share


class DistillationConfig(Section):
    """In-place distillation from the teacher of the same step, over the lattice's nodes (paper 2).

    Classes per node: the ``tokens`` likeliest ones of the teacher and the rest together (``classes: top``), or next
    reference token, blank and rest (``classes: target_blank``); ``include_target_blank`` forces these two among the
    top ones. ``lattice``: student's transducer loss and distillation both on the teacher's pruned lattice
    (``teacher``), its transducer loss on its own one (``own``), or everything on the ``full`` lattice.
    ``alpha`` is the adaptive alpha-divergence: of ``alpha_min`` and ``alpha_max`` whichever is larger at a node, its
    importance ratios clipped at ``clip``. ``per: node`` averages over nodes, ``per: utterance`` sums over them.
    """

    weight: Annotated[float, Field(ge=0.0)] = 1.0
    divergence: Literal["kl", "alpha"] = "alpha"
    classes: Literal["top", "target_blank"] = "top"
    tokens: Positive = 10
    include_target_blank: bool = False
    alpha_min: float = -1.0
    alpha_max: float = 1.0
    clip: Annotated[float, Field(gt=0.0)] = 5.0
    lattice: Literal["teacher", "own", "full"] = "teacher"
    per: Literal["node", "utterance"] = "node"


class LossConfig(Section):
    """Transducer loss and auxiliary CTC.

    ``pruned`` sums ``simple_scale`` times the smoothed simple loss and the pruned loss; over the first
    ``warmup`` share of steps the simple loss fades from 1 to ``simple_scale`` and the pruned one from 0.1 to 1.
    """

    transducer: Literal["full", "pruned"] = "pruned"
    rnnt_type: Literal["regular", "modified", "constrained"] = "regular"
    backend: Literal["auto", "k2", "torch"] = "auto"
    prune_range: Annotated[int, Field(ge=2)] = 5
    simple_scale: Share = 0.5
    lm_scale: Share = 0.25
    am_scale: Share = 0.0
    warmup: Share = 0.1
    delay_penalty: float = 0.0
    ctc_weight: Annotated[float, Field(ge=0.0)] = 0.0
    distillation: DistillationConfig | None = None
