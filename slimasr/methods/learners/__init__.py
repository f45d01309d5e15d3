"""Learners of masks, one module each: from scores of groups to soft gates, penalties and the groups that are kept."""

from __future__ import annotations

from slimasr.config.learners import LearnerConfig
from slimasr.methods.learners.base import GroupCosts, Learner, Place, TrueCosts
from slimasr.methods.learners.l0 import L0
from slimasr.methods.learners.orthosoftmax import OrthoSoftmax
from slimasr.methods.learners.top_k import TopK

__all__ = ["GroupCosts", "Learner", "Place", "TrueCosts", "build_learner"]


def build_learner(costs: GroupCosts, config: LearnerConfig) -> Learner:
    """Build the learner that a recipe names under ``method.learner.kind``."""
    if config.kind == "orthosoftmax":
        return OrthoSoftmax(costs, config)
    if config.kind == "top_k":
        return TopK(costs, config)
    return L0(costs, config)
