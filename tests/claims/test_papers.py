"""Which papers' claims a report shows, and how experiments are named by more than one paper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slimasr.claims import PAPERS, claims_of
from slimasr.report.comparison.rates import Rate
from slimasr.report.records import Run, Study, SubnetRecord


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
PAPER_4 = [f"C4.{number}" for number in range(1, 9)]


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


@pytest.mark.parametrize("model", ["OrthoSoftmax macs component", "Top-k params layer", "Aux-Loss"])
def test_paper_4_is_judged_where_one_of_its_models_is(model: str) -> None:
    for others, claims in (((), PAPER_4), ((run("slimmable"),), [*PAPER_1, *PAPER_4])):
        study = Study("", (replace(run(model), model=model), *others), ())
        assert [finding.claim for finding in claims_of(study).findings] == claims


def test_separate_models_alone_are_to_become_those_of_paper_1() -> None:
    found = claims_of(Study("", (run("separate", "w1"),), ()))
    assert [finding.claim for finding in found.findings] == PAPER_1


def test_the_table_of_a_paper_has_its_own_models_alone() -> None:
    wer = {name: Rate(10.0, (9.0, 11.0), 10, 100) for name in ("dev", "test")}
    subnets = (SubnetRecord("w1", 1.0, {"params": 100.0}, wer, None, architecture=({"ffn": 16},)),)
    models = {"todm C": "C", "multi-exit": "A3", "collaborative 2/1 PJ": "2/1 PJ", "separate, CE 0.6": "separate + CE"}
    runs = tuple(replace(run(role), model=model, subnets=subnets) for role, model in models.items())
    shown = {}
    for table in claims_of(Study("", runs, ())).tables:
        shown[table.title] = {cell for row in table.rows for cell in row if cell in models}
    assert shown == {
        "Models of paper 2 side by side, WER %": {"todm C", "multi-exit"},
        "Models of paper 3 side by side, WER %": {"collaborative 2/1 PJ"},
    }


def test_every_paper_offers_the_same_functions() -> None:
    for paper in PAPERS:
        offered = {name for name in ("role", "pairs", "applies", "judge", "tables") if callable(getattr(paper, name))}
        assert len(offered) == 5
        assert isinstance(paper.READING, str)
