"""Pathways (paper 5): how the masks of a model's weights are found, and trained, one for every language."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from slimasr.config.method_section import MethodSection
from slimasr.config.section import (
    Bounds,
    Called,
    NonNegativeFloat,
    Positive,
    PositiveFraction,
)

if TYPE_CHECKING:
    from slimasr.config.schema import Config

Sparsity = Annotated[float, Bounds(0.0, 1.0, above=True, below=True)]
IntervalShare = Annotated[float, Bounds(0.0, 1.0, above=True, below=True)]


class MaskPlace(NamedTuple):
    """The masks that an experiment had at a sparsity."""

    exp: Path
    level: float


def mask_place(text: str) -> MaskPlace | None:
    """Read ``exp/lth_fr@0.5``, an experiment folder and a sparsity above 0 and below 1; None for any other text."""
    folder, _, level = text.rpartition("@")
    try:
        sparsity = float(level)
    except ValueError:
        return None
    return MaskPlace(Path(folder), sparsity) if folder and 0.0 < sparsity < 1.0 else None


def _places(value: Any) -> Any:
    """Return the value if it names masks, for all or for each language; else raise one error."""
    texts = value.values() if isinstance(value, Mapping) else [value]
    if value is None or all(isinstance(text, str) and mask_place(text) for text in texts):
        return value
    raise PydanticCustomError(
        "masks", "must be an experiment folder and a sparsity such as exp/lap@0.5, or {fr: exp/lth_fr@0.5} and so on"
    )


MaskText = Annotated[str, Called("EXP@SPARSITY")]


class PathwaysConfig(MethodSection):
    """Block-sparse pathways, one per language of ``space.languages`` (paper 5): IMP, LTH and LAP, which find masks, ASR
    Pathways, which trains several ones on shared weights, and Dynamic ASR Pathways, whose masks adapt as well."""

    trains_pathways: ClassVar[bool] = True

    kind: Literal["pathways"] = "pathways"
    """Selects the training of pathways."""

    masks: Literal["fixed", "adaptive"] = "adaptive"
    """Whether pruned weights stay pruned (fixed), or are still trained and may return when a mask adapts (adaptive)."""

    levels: list[Sparsity] = [0.2, 0.4, 0.6, 0.7]
    """Sparsities to which every matrix is pruned one after the other, as shares of all its blocks, rising; those up to
    the sparsity of ``masks_from`` are left out; [] = nothing is pruned."""

    prune_interval: IntervalShare = 0.08
    """Fraction of the run from one pruning to the next, and before the first one."""

    rewind: bool = False
    """Whether weights, statistics and optimiser go back to the beginning (``training.init``) after every pruning, and
    only the masks stay (LTH); false = training goes on with the weights that are left (IMP)."""

    adapt_interval: Positive = 100
    """Optimiser steps of a language between two adaptations of its mask, at the same sparsity; steps of other languages
    do not count, and the first adaptations of the languages are evenly spread over the interval; a number as large as
    the run = never."""

    adapt_until: PositiveFraction = 0.8
    """Fraction of the run after which masks stay as they are and averaging may begin, with fixed masks as well, so that
    both have equal windows; 1 = masks adapt to the very end, and no average is taken."""

    residual: bool = True
    """Whether an adaptive mask may gain weights that no other pathway keeps, which its language then trains as well;
    false = a language trains the weights of its mask alone, which loses some at the next pruning and gains none."""

    zeroing: bool = True
    """Whether weights that no mask keeps are set to 0 each time a mask adapts; false = they keep their values until the
    masks are final."""

    keep_moments: bool = False
    """Whether the optimiser keeps its state of weights that are set to 0 and may return; false = it is reset."""

    masks_from: Annotated[MaskText | dict[str, MaskText] | None, BeforeValidator(_places)] = None
    """Masks to begin with, such as ``exp/lap@0.5`` for all languages or ``{en: exp/lth_en@0.5, fr: exp/lth_fr@0.5}``:
    the experiment that has found them, and a sparsity of its ``levels``, the same for all; null = nothing is pruned."""

    group_lasso: NonNegativeFloat = 0.0
    """Weight of the sum of the L2 norms of the blocks that the mask of a step's language keeps; 0 = none."""

    @model_validator(mode="after")
    def _levels_rise(self) -> PathwaysConfig:
        if self.levels != sorted(set(self.levels)):
            raise ValueError("levels: must rise")
        sparsities = {place.level for place in self.places([""]).values()}
        if len(sparsities) > 1:
            raise ValueError("masks_from: all masks must have the same sparsity")
        return self

    def places(self, languages: list[str]) -> dict[str, MaskPlace]:
        """Return where the masks of some languages come from; empty if they begin with all weights."""
        if self.masks_from is None:
            return {}
        given = self.masks_from
        texts = given if isinstance(given, Mapping) else dict.fromkeys(languages, given)
        # All texts have been checked.
        return {name: place for name, text in texts.items() if (place := mask_place(text))}

    @property
    def start_level(self) -> float:
        """Sparsity at the beginning of the run."""
        return next((place.level for place in self.places([""]).values()), 0.0)

    @property
    def levels_left(self) -> list[float]:
        """The sparsities to which this run prunes."""
        return [level for level in self.levels if level > self.start_level]

    @property
    def last_change(self) -> float:
        """Fraction of the run after which masks stay as they are."""
        return max(self.adapt_until, self.prune_interval * len(self.levels_left))

    def check_start(self, start: Config, exp: Path) -> None:
        """Refuse masks that keep weights which the start has pruned: those of another experiment than the start."""
        found = start.method
        if not isinstance(found, PathwaysConfig) or not (found.levels_left or found.start_level):
            return
        for name, place in self.places([""]).items():
            if place.exp.resolve() != exp.resolve():
                whose = f"the mask of {name}" if name else "the mask"
                raise ValueError(
                    f"{exp} has pruned weights, and {whose} comes from {place.exp} (method.masks_from), which keeps "
                    f"other weights; begin with the dense model, or with masks of {exp}"
                )

    def check(self, config: Config) -> None:
        super().check(config)
        space = config.space
        if space.kind != "pathways":
            raise ValueError("space: method pathways trains the pathways of languages; give kind: pathways")
        if isinstance(self.masks_from, Mapping) and set(self.masks_from) != set(space.languages):
            named = ", ".join(self.masks_from) or "none"
            raise ValueError(
                f"method.masks_from: must name every language of space.languages, {', '.join(space.languages)}, "
                f"and no other; it names {named}"
            )
        if self.rewind and config.training.init is None:
            raise ValueError("method.rewind: needs the weights to which it goes back; give training.init")
        self._check_start(config)
        self._check_course(config)

    def _check_start(self, config: Config) -> None:
        """Refuse starts to which the method cannot go back, and weights that it cannot prune."""
        init = config.training.init
        if init is None:
            return
        if self.rewind and init.weights != "all":
            raise ValueError(
                "training.init.weights: method.rewind goes back to all weights of training.init.from; set it to all"
            )
        if init.freeze:
            raise ValueError("training.init.freeze: method pathways prunes weights by training them; leave it out")

    def _check_course(self, config: Config) -> None:
        """Refuse prunings that do not fit into the run, and averages of weights under changing masks."""
        number = len(self.levels_left)
        share = number * self.prune_interval
        adaptive = self.masks == "adaptive"
        limit = self.adapt_until if adaptive else 1.0
        # Products such as 3 * 0.1 are not exact. A pruning at the very end would leave nothing to train.
        if share > min(limit, 1.0 - 1e-6) + 1e-9:
            most = f"method.adapt_until, {limit:g}" if adaptive else "there is before its end"
            raise ValueError(
                f"method.levels: {number} prunings, each after another {self.prune_interval:g} of the run, need "
                f"{share:g} of it, more than {most}; lower method.prune_interval"
            )
        if self.adapt_until < 1.0 and config.training.average_start < self.last_change - 1e-9:
            raise ValueError(
                f"training.average_start: must be at least {self.last_change:g}, the part of the run after which the "
                "masks stay as they are"
            )
