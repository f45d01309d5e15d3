"""What a report shows of claims: verdicts, the figures behind them, and tables of their own.

The code that judges the claims passes a `Claims` to the writers of the page and of RESULTS.md; the report itself knows
no claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from slimasr.report.pictures.picture import Picture
from slimasr.report.tables.table import Table


class Verdict(Enum):
    """What the figures say about a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_RESOLVED = "not resolved"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Finding:
    """A claim, its verdict and the figures behind it (one line each)."""

    claim: str
    text: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claims:
    """Everything that a report shows about claims.

    Attributes:
        findings: the claims in order, each with its verdict.
        tables: tables that only these claims need.
        reading: a text that explains how to read the verdicts.
        pictures: pictures that only these claims need.
    """

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    reading: str
    pictures: tuple[Picture, ...] = ()

    @property
    def are_tested(self) -> bool:
        """Whether at least one claim could be tested. A single supernet has nothing to be compared with."""
        return any(finding.verdict is not Verdict.NOT_TESTED for finding in self.findings)


NO_CLAIMS = Claims((), (), "")
