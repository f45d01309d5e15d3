"""Rank correlation against Spearman's definition."""

from __future__ import annotations

import pytest

from slimasr.report.comparison.ranking import rank_correlation
from slimasr.results.schema import SubnetEntry
from tests.results.kit import scored


def test_rank_correlation_of_dev_and_test() -> None:
    def entries(*pairs: tuple[int, int]) -> dict[str, SubnetEntry]:
        wers = ({"dev": scored(dev, 100), "test": scored(test, 100)} for dev, test in pairs)
        return {f"s{n}": SubnetEntry.model_validate({"subnet": {}, "wer": wer}) for n, wer in enumerate(wers)}

    names = ["s0", "s1", "s2", "s3"]
    assert rank_correlation(entries((1, 2), (2, 3), (3, 9), (4, 10)), names, "dev", "test") == pytest.approx(1.0)
    # Spearman's rho by its definition: 1 - 6 sum d^2 / (n (n^2 - 1)), ranks 1 2 3 4 against 2 1 4 3.
    mixed = entries((1, 5), (2, 4), (3, 8), (4, 7))
    assert rank_correlation(mixed, names, "dev", "test") == pytest.approx(1 - 6 * 4 / 60)
    assert rank_correlation(mixed, names[:2], "dev", "test") is None
    assert rank_correlation(entries((1, 1), (1, 2), (1, 3)), names, "dev", "test") is None
