"""Test whether the architectures on a Pareto front have a pattern along the layers (claim C2.11 of paper 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slimasr.claims.asked import prefix_of
from slimasr.claims.todm.models import is_todm, todm_families
from slimasr.claims.verdicts import Evidence
from slimasr.report.architecture import Architecture, feed_forward
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Study

FEWEST_SHAPES = 5
"""With fewer shapes, a pattern that is not found may still be there: the claim is not resolved."""

PERMUTATIONS = 10_000
EVIDENT = 0.05
"""Level of significance."""


def no_evident_pattern(study: Study) -> Finding:
    """Judge C2.11: along the layers, the widths of the front's subnets neither rise nor fall."""
    text = (
        "The shapes on the front show no evident pattern: their FFN widths neither rise nor fall along the layers "
        "more than with the layers shuffled, the same way for all shapes of a depth (mean rank correlation of width "
        f"and layer, p above {EVIDENT:g} divided by the number of fronts)."
    )
    fronts = _fronts(study)
    evidence = Evidence()
    for name, shapes in fronts:
        trend, p = layer_trend(shapes)
        # Bonferroni: of many fronts one has a pattern by chance.
        verdict = _pattern(p * len(fronts), len(shapes))
        evidence.add(
            f"{name}: {len(shapes)} shapes of the front, mean rank correlation {trend:+.2f}, p = {p:.3f}", verdict
        )
    return evidence.finding("C2.11", text)


def _fronts(study: Study) -> list[tuple[str, list[np.ndarray]]]:
    """The fronts of all TODM runs whose shapes can have a pattern, each with its name in the evidence."""
    found = []
    for family in todm_families(study.runs):
        for run in filter(is_todm, family.runs):
            shapes = widths_along_layers([record.architecture for record in run.front_records])
            if shapes:
                found.append((f"{prefix_of(family)}{run.role}", shapes))
    return found


def widths_along_layers(architectures: Sequence[Architecture]) -> list[np.ndarray]:
    """Return the FFN widths of the running layers, for the shapes whose layers are not all equal.

    Returns:
        An array of shape (layers that run,) for each of them.
    """
    found = []
    for architecture in architectures:
        # A Conformer layer has two feed-forward modules.
        widths = [sum(feed_forward(layer).values()) for layer in architecture if layer]
        if len(set(widths)) > 1:
            found.append(np.array(widths, dtype=float))
    return found


def layer_trend(shapes: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Test for a trend of width along the layers, by a permutation test.

    Architectures of equal depth share one permutation: points of a front are correlated, not independent samples.

    Args:
        shapes: widths of the running layers, (layers,) each; not all widths of a shape may be equal.
        seed: seed of the permutations.

    Returns:
        The mean Spearman correlation of layer and width over the shapes, and its two-sided p among shuffled layers.
    """
    rng = np.random.default_rng(seed)
    observed = 0.0
    shuffled = np.zeros(PERMUTATIONS)
    # Sums over shapes until the last line. The depths are sorted, so that the same seed gives the same permutations.
    for depth in sorted({len(shape) for shape in shapes}):
        alike = [_standardised(shape) for shape in shapes if len(shape) == depth]
        # As all shapes of a depth share a permutation, the sum of their correlations is the product with their sum.
        ranks = np.sum(alike, axis=0)
        layers = _standardised(np.arange(depth))
        observed += float(layers @ ranks)
        # (permutations, depth) @ (depth,)
        permuted = rng.permuted(np.tile(layers, (PERMUTATIONS, 1)), axis=1)
        shuffled += permuted @ ranks
    # Rounding errors must not make an equal permutation count as less extreme.
    extreme = np.abs(shuffled) >= abs(observed) - 1e-9
    # The observed order counts as one of the permutations, so that p is never 0.
    p = (1.0 + float(extreme.sum())) / (1.0 + PERMUTATIONS)
    return observed / len(shapes), p


def _standardised(values: np.ndarray) -> np.ndarray:
    """Ranks (ties share their mean) less their mean, of unit length: products of two are rank correlations."""
    # (n, n) comparisons of every value with every other one; each value equals itself, hence the - 1.
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1) - 1
    ranks = below + equal / 2.0
    centred = ranks - ranks.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _pattern(p: float, shapes: int) -> Verdict:
    """Verdict on "there is no evident pattern"."""
    if p <= EVIDENT:
        return Verdict.NOT_HELD
    return Verdict.HELD if shapes >= FEWEST_SHAPES else Verdict.NOT_RESOLVED
