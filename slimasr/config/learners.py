"""Mask learning (paper 4): budgets of subnets, and the learners that choose which groups of parameters these keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from slimasr.config.section import (
    Bounds,
    Called,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    PositiveFraction,
    Section,
)

SHARE = Bounds(0.0, 1.0, above=True, below=True)
AMOUNT = Bounds(0.0, above=True)
BLOCKS = Bounds(1)


def budget_name(value: Any) -> str:
    """Return the name of a budget that YAML gives as ``0.63``, ``{macs: 2.5e8}``, ``{params: 2e6}`` or ``{blocks: 4}``.

    The names are ``0.63``, ``2.5e8 macs``, ``2e6 params`` and ``4 blocks``; a name stands for itself.

    Raises:
        PydanticCustomError: the value is no budget.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, number),) = value.items()
    else:
        number, _, kind = str(value).strip().partition(" ")
    bounds = {"": SHARE, "macs": AMOUNT, "params": AMOUNT, "blocks": BLOCKS, "block": BLOCKS}.get(kind)
    amount = number_of(number)
    whole = bounds is BLOCKS
    if bounds is None or amount is None or not bounds.holds(amount) or (whole and amount != int(amount)):
        raise PydanticCustomError(
            "budget",
            "must be a share of the whole between 0 and 1 such as 0.63, {macs: 2.5e8}, {params: 2e6} or {blocks: 4}",
        )
    if whole:
        return f"{int(amount)} {'block' if amount == 1 else 'blocks'}"
    written = number.strip() if isinstance(number, str) else repr(number).removesuffix(".0")
    return f"{written} {kind}" if kind else written


def budget_value(name: str) -> str | dict[str, str]:
    """Return what YAML gives for the budget of this name, which `budget_name` has returned."""
    number, _, kind = name.partition(" ")
    if not kind:
        return number
    return {"blocks" if kind == "block" else kind: number}


def number_of(value: object) -> float | None:
    """Return the number that YAML wrote, also as text such as ``2.5e8``; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _focal_or_number(value: Any) -> float | str:
    """Return the value if it is ``focal`` or a factor; one message names both."""
    if value == "focal":
        return "focal"
    try:
        return float(AMOUNT.check(value, whole=False))
    except PydanticCustomError as error:
        raise PydanticCustomError(error.type, f"{error.message()}, or focal") from None


BudgetName = Annotated[str, BeforeValidator(budget_name), Called("budget")]
SubnetScale = Annotated[PositiveFloat | Literal["focal"], PlainValidator(_focal_or_number)]
InnerFraction = Annotated[float, SHARE]
Score = Annotated[float, Bounds(-100.0, 100.0)]


class OrthoSoftmaxConfig(Section):
    """OrthoSoftmax (paper 4): rows of softmaxes, of which a budget adds up the first ones to a soft mask; a penalty
    makes the rows orthogonal, so that each chooses a group of its own."""

    kind: Literal["orthosoftmax"] = "orthosoftmax"
    """Selects OrthoSoftmax."""

    rounding: Literal["below", "nearest"] = "below"
    """Number of rows that a budget adds up: the largest number whose cost is below it (paper 4, equation 4), or the one
    whose cost is nearest to it (the authors' code)."""

    temperature: PositiveFloat = 1.0
    """Temperature of the softmaxes at the beginning of step 1."""

    temperature_min: PositiveFloat = 0.1
    """Lowest temperature; at ``temperature``, there is no annealing."""

    temperature_decay: InnerFraction | None = None
    """Factor on the temperature in every step, 0.999992 in paper 4; null = the one with which ``temperature_min`` is
    reached at the end of step 1."""

    orthogonality_start: NonNegativeFloat = 0.0
    """Weight of the orthogonality penalty at the beginning of step 1."""

    orthogonality_end: NonNegativeFloat = 1.0
    """Weight of the orthogonality penalty at the end of step 1, to which it changes linearly."""

    score_init_std: NonNegativeFloat = 0.01
    """Standard deviation of the initial scores; at 0, the value of paper 4, rounding errors alone tell rows apart,
    which takes many steps."""

    score_lr_scale: PositiveFloat = 1.0
    """Factor on the learning rate of the scores; runs of a few thousand steps need about 10."""

    score_eps: PositiveFloat = 1e-16
    """Added to the root of the mean square gradient of the scores, as ``training.optimizer.eps`` is for weights."""

    side: Literal["both", "output"] = "both"
    """Weights that a gate multiplies: all of its group, or those at the output of the module only."""

    @model_validator(mode="after")
    def _cools_down(self) -> OrthoSoftmaxConfig:
        if self.temperature_min > self.temperature:
            raise ValueError("temperature_min: must not exceed temperature")
        return self


class TopKConfig(Section):
    """Simple-Top-k (Xu et al. 2024): one score per group, of which the highest are kept while the budget falls in equal
    steps; gates multiply the output of a module only."""

    kind: Literal["top_k"] = "top_k"
    """Selects Simple-Top-k."""

    relax: Literal["ste", "soft"] = "ste"
    """Gates of 0 and 1 whose gradient is passed straight through to the scores, or a sum of successive softmaxes."""

    stages: Positive = 6
    """Number of equal steps in which the budget falls from the whole encoder to its final value, over step 1."""

    temperature: PositiveFloat = 1.0
    """Temperature of the softmaxes of ``relax: soft``."""

    score_init: Score = 0.5
    """Initial value of all scores."""

    score_lr_scale: PositiveFloat = 1.0
    """Factor on the learning rate of the scores; runs of a few thousand steps need about 10."""

    score_eps: PositiveFloat = 1e-16
    """Added to the root of the mean square gradient of the scores, as ``training.optimizer.eps`` is for weights."""


class L0Config(Section):
    """L0 regularisation by hard concrete gates (Louizos et al. 2018), with Lagrange multipliers for one budget (Xia et
    al. 2022); gates multiply the output of a module only."""

    kind: Literal["l0"] = "l0"
    """Selects L0 regularisation, which learns one subnet."""

    score_init: Score = 0.0
    """Initial value of all scores, log alpha; 0 keeps a group with a probability of 0.83."""

    warmup: PositiveFraction = 0.5
    """Fraction of step 1 over which the wanted sparsity rises from 0 to that of the budget."""

    score_lr_scale: PositiveFloat = 50.0
    """Factor on the learning rate of the scores, for which Xia et al. 2022 use a rate of 0.1."""

    multiplier_lr_scale: PositiveFloat = 50.0
    """Factor on the learning rate of the two multipliers, which ascend, for which Xia et al. 2022 use a rate of 0.1."""

    score_eps: PositiveFloat = 1e-8
    """Added to the root of the mean square gradient of scores and multipliers, as ``training.optimizer.eps`` is for
    weights."""


LearnerConfig = Annotated[OrthoSoftmaxConfig | TopKConfig | L0Config, Field(discriminator="kind")]
