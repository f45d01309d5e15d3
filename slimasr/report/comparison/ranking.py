"""Measure how far the dev set can be trusted to rank subnets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy.stats import spearmanr

from slimasr.results.schema import SubnetEntry

FEWEST_CORRELATED = 3
"""A rank correlation of fewer subnets than this says nothing."""


def rank_correlation(subnets: Mapping[str, SubnetEntry], front: Sequence[str], dev: str, test: str) -> float | None:
    """Return Spearman's rank correlation of the WERs on a dev and a test set over a Pareto front.

    Args:
        subnets: ``subnets`` of results.json.
        front: ids of the subnets on the front.
        dev: name of the dev set.
        test: name of the test set.

    Returns:
        The correlation from -1 to 1; None if fewer than three of the subnets were decoded on both sets, or if all
        WERs on one of the sets are equal.
    """
    scored = [subnets[name].wer for name in front if name in subnets]
    decoded = [wers for wers in scored if dev in wers and test in wers]
    on_dev = [wers[dev].wer for wers in decoded]
    on_test = [wers[test].wer for wers in decoded]
    # The correlation of a constant is undefined: scipy would warn and return NaN, which JSON cannot hold.
    if len(decoded) < FEWEST_CORRELATED or len(set(on_dev)) == 1 or len(set(on_test)) == 1:
        return None
    return float(spearmanr(on_dev, on_test).statistic)
