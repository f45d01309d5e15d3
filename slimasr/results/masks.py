"""What results.json says of the masks of a model's pathways: how sparse they are, and how much they have in common."""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.results.entry import Entry, Flag, Number, Whole


class Overlap(Entry):
    """Two masks are compared, in two readings of how alike they are."""

    entries: Number
    """Share of all prunable weights that both masks keep or both leave out."""

    kept: Number
    """Weights that both masks keep, divided by the mean of what each of them keeps."""


class PairOverlap(Overlap):
    """The masks of two pathways of one model are compared."""

    a: str
    """The first pathway."""

    b: str
    """The second pathway."""


class MaskSource(Entry):
    """A pathway began with a mask that another experiment has found."""

    experiment: str
    """Name of its folder."""

    level: Number
    """Sparsity of the mask, a fraction of the prunable weights."""

    languages: tuple[str, ...]
    """Pathways of that experiment; `all` = one mask for every language."""

    rewind: Flag
    """Whether that experiment went back to its initial weights whenever it had pruned."""

    adaptive: Flag
    """Whether the masks of that experiment adapted between prunings."""

    step: Whole
    """Optimiser steps of that experiment until it had found this mask."""

    steps: Whole
    """All its optimiser steps."""


class LevelEntry(Entry):
    """The training pruned to a sparsity."""

    sparsity: Number
    """The sparsity, a fraction of the prunable weights."""

    step: Whole
    """Optimiser steps done."""


class Adaptations(Entry):
    """Adaptations of the mask of a pathway at the same sparsity; the lists have one item per adaptation."""

    steps: tuple[Whole, ...]
    """Optimiser steps done."""

    changed: tuple[Number, ...]
    """Share of the kept blocks that other blocks replaced."""


class MasksEntry(Entry):
    """Pathways share the weights of one model; a mask says which of them a pathway keeps. Values are those of the final
    masks unless stated otherwise."""

    prunable: Whole
    """Weights that masks cover."""

    blocks: Whole
    """Blocks into which they are divided."""

    params: Whole
    """All weights of the model, without masks."""

    union: Number
    """Share of the prunable weights that at least one pathway keeps."""

    union_all: Number
    """The same of all weights; those that are not prunable are kept."""

    sparsity: Mapping[str, Number]
    """Share of the prunable weights that a pathway leaves out, by pathway."""

    overlaps: tuple[PairOverlap, ...] = ()
    """Every two pathways; absent for one pathway."""

    since_start: Mapping[str, Overlap] = {}
    """Final masks against those with which the training began, by pathway; absent unless `method.masks_from` named
    some."""

    sources: Mapping[str, MaskSource] = {}
    """Where the initial masks come from, by pathway; absent unless `method.masks_from` named some."""

    levels: tuple[LevelEntry, ...] = ()
    """The prunings, in order; absent without any."""

    adaptations: Mapping[str, Adaptations] = {}
    """Changes of the masks between prunings, by pathway; absent for fixed masks."""
