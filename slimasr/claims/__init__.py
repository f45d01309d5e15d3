"""The claims of the papers, judged from what a report's experiments measured.

Each module below knows one paper: what its models are called, what its claims compare, when they hold, and which
tables go with them. To add a paper, write such a module (see `ClaimModule`) and enter it in `PAPERS`.
"""

from __future__ import annotations

from typing import Protocol

from slimasr.claims import collaborative, orthosoftmax, pathways, slimmable, todm
from slimasr.claims.verdicts import reading_of
from slimasr.report.findings import Claims, Finding
from slimasr.report.papers import Paper
from slimasr.report.pictures.picture import Picture
from slimasr.report.records import Study
from slimasr.report.tables.common import UNLIKE, is_decoded_unlike
from slimasr.report.tables.table import Table


class ClaimModule(Paper, Protocol):
    """What the module of a paper offers: names and comparisons for a report, and these functions.

    Attributes:
        READING: a text that explains how to read verdicts which only this paper's claims have; may be empty.
    """

    READING: str

    def applies(self, study: Study) -> bool:
        """Return whether the study has a supernet of the paper."""
        ...

    def judge(self, study: Study) -> list[Finding]:
        """Judge all claims, in order."""
        ...

    def tables(self, study: Study) -> list[Table]:
        """Make the tables that go with the claims; some may be empty."""
        ...

    def pictures(self, study: Study) -> list[Picture]:
        """Describe the pictures that go with the claims."""
        ...


PAPERS: tuple[ClaimModule, ...] = (slimmable, todm, collaborative, orthosoftmax, pathways)
"""Papers 1, 2, ... in order. If several of them have a name for an experiment, the first one's counts."""


def claims_of(study: Study) -> Claims:
    """Collect the claims and tables of the papers whose supernets the study has."""
    papers = _judged(study)
    findings = tuple(finding for paper in papers for finding in paper.judge(study))
    tables = tuple(table for paper in papers for table in paper.tables(study))
    pictures = tuple(picture for paper in papers for picture in paper.pictures(study))
    readings = [reading_of(findings), *(paper.READING for paper in papers)]
    if is_decoded_unlike(study):
        readings.append(UNLIKE)
    return Claims(findings, tables, " ".join(text for text in readings if text), pictures)


def _judged(study: Study) -> list[ClaimModule]:
    """The papers that apply."""
    # For separate models alone, the claims of the first paper show what is still to be trained.
    if all(run.is_separate for run in study.runs):
        return [PAPERS[0]]
    return [paper for paper in PAPERS if paper.applies(study)]
