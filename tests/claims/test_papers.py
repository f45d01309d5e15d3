"""Which papers' claims a report shows, and how experiments are named by more than one paper."""

from __future__ import annotations

import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.report.records import Run, Study


def run(role: str, separate_of: str | None = None) -> Run:
    return Run(
        name=role,
        role=role,
        separate_of=separate_of,
        seed=1,
        epochs=10,
        steps=1000,
        train_minutes=10.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=(),
        slices=(),
        curve=(),
    )


PAPER_1 = [f"C1.{number}" for number in range(1, 7)]
PAPER_2 = [f"C2.{number}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("roles", "claims"),
    [
        ([], PAPER_1),
        (["slimmable, shared norms"], PAPER_1),
        (["todm C"], PAPER_2),
        (["todm C", "slimmable"], [*PAPER_1, *PAPER_2]),
        (["uniform"], []),
    ],
)
def test_papers_are_judged_where_their_supernets_are(roles: list[str], claims: list[str]) -> None:
    study = Study("", tuple(run(role) for role in roles), ())
    found = claims_of(study)
    assert [finding.claim for finding in found.findings] == claims
    assert bool(found.reading) == bool(claims)
    assert not found.are_tested


def test_separate_models_alone_are_to_become_those_of_paper_1() -> None:
    found = claims_of(Study("", (run("separate", "w1"),), ()))
    assert [finding.claim for finding in found.findings] == PAPER_1


def test_every_paper_offers_the_same_functions() -> None:
    for paper in PAPERS:
        offered = {name for name in ("role", "pairs", "applies", "judge", "tables") if callable(getattr(paper, name))}
        assert len(offered) == 5
        assert isinstance(paper.READING, str)
