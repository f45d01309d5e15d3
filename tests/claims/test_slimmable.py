"""Verdicts of paper 1 on figures whose verdict is evident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slimasr.claims.slimmable import (
    as_good_as_separate,
    attention_variants_agree,
    cheaper_than_separate,
    converges_sooner,
    falls_with_width,
    judge,
    slicing_collapses,
)
from slimasr.report.comparison.rates import Comparison, Rate
from slimasr.report.findings import Verdict
from slimasr.report.records import CurvePoint, Run, Study, SubnetRecord

IDS = ("w1", "w0.5")
HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED


def subnet(subnet_id: str, wer: float = 10.0) -> SubnetRecord:
    interval = (wer - 1.0, wer + 1.0)
    return SubnetRecord(subnet_id, float(subnet_id[1:]), {}, {"test": Rate(wer, interval, 10, 100)}, None)


def run(role: str = "slimmable", separate_of: str | None = None, **changes: object) -> Run:
    ids = IDS if separate_of is None else ("w1",)
    made = Run(
        name=f"{role}{separate_of}",
        role=role,
        separate_of=separate_of,
        seed=1,
        epochs=10,
        steps=1000,
        train_minutes=10.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=tuple(map(subnet, ids)),
        slices=(),
        curve=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def comparison(a: tuple[str, str], b: tuple[str, str], low: float, high: float) -> Comparison:
    return Comparison(a, b, ("dev", "test"), (1,), 100, 10.0, 10.0, (low + high) / 2, low, high)


def study(runs: list[Run], comparisons: list[Comparison] | None = None) -> Study:
    return Study("made up", tuple(runs), tuple(comparisons or ()))


def separate_models(**changes: object) -> list[Run]:
    return [run("separate", subnet_id, **changes) for subnet_id in IDS]


def test_nothing_run_is_not_tested() -> None:
    findings = judge(study([]))
    assert [f.claim for f in findings] == [f"C1.{n}" for n in range(1, 7)]
    assert {f.verdict for f in findings} == {UNTESTED}


def test_lone_supernet_is_judged_on_its_widths_only() -> None:
    lone = study([run()], [comparison(("slimmable", "w1"), ("slimmable", "w0.5"), -3.0, -1.0)])
    assert [f.verdict for f in judge(lone)] == [UNTESTED, HELD, UNTESTED, UNTESTED, UNTESTED, UNTESTED]


def test_slimmable_against_separate() -> None:
    def verdict(intervals: dict[str, tuple[float, float]], epochs: int = 10) -> Verdict:
        pairs = [comparison(("slimmable", i), ("separate", i), *ends) for i, ends in intervals.items()]
        return as_good_as_separate(study([run(), *separate_models(epochs=epochs)], pairs)).verdict

    assert verdict({"w1": (-3.0, 0.5), "w0.5": (-2.0, 0.0)}) is HELD
    assert verdict({"w1": (-3.0, 0.5), "w0.5": (2.0, 5.0)}) is NOT_HELD
    assert verdict({"w1": (-3.0, 3.0), "w0.5": (-2.0, 0.0)}) is OPEN
    assert verdict({"w0.5": (0.1, 4.1)}) is NOT_HELD
    assert verdict({"w1": (-3.0, 0.5), "w0.5": (0.1, 4.1)}) is OPEN  # one of two comparisons
    assert verdict({"w1": (-3.0, 0.5), "w0.5": (-2.0, 0.0)}, epochs=20) is OPEN
    assert verdict({}) is UNTESTED


def test_a_wider_subnet_that_is_worse_breaks_monotony() -> None:
    def verdict(low: float, high: float) -> Verdict:
        return falls_with_width(
            study([run()], [comparison(("slimmable", "w1"), ("slimmable", "w0.5"), low, high)])
        ).verdict

    assert verdict(-5.0, -1.0) is HELD
    assert verdict(1.5, 4.0) is NOT_HELD
    assert verdict(-2.0, 2.0) is OPEN


@pytest.mark.parametrize("other", ["slimmable, head size", "slimmable, head count"])
def test_attention_variants(other: str) -> None:
    def verdict(low: float, high: float) -> Verdict:
        pairs = [comparison(("slimmable", i), (other, i), low, high) for i in IDS]
        return attention_variants_agree(study([run(), run(other)], pairs)).verdict

    assert verdict(-0.5, 0.5) is HELD
    assert verdict(2.0, 6.0) is NOT_HELD
    assert verdict(-3.0, 1.0) is OPEN


def test_untrained_slices() -> None:
    def verdict(sliced: float, joint: float) -> Verdict:
        full = run("separate", "w1", slices=(subnet("w0.5", sliced),))
        return slicing_collapses(study([run(subnets=(subnet("w1"), subnet("w0.5", joint))), full])).verdict

    assert verdict(98.0, 12.0) is HELD
    assert verdict(40.0, 12.0) is NOT_HELD
    assert verdict(98.0, 95.0) is NOT_HELD
    assert verdict(90.5, 12.0) is OPEN


def test_training_cost() -> None:
    def verdict(joint: float, separate: tuple[float, float], hardware: str = "abacus") -> Verdict:
        alone = [
            run("separate", i, train_minutes=minutes, hardware=hardware)
            for i, minutes in zip(IDS, separate, strict=True)
        ]
        return cheaper_than_separate(study([run(train_minutes=joint), *alone])).verdict

    assert verdict(14.0, (10.0, 8.0)) is HELD
    assert verdict(15.0, (10.0, 8.0)) is OPEN  # near both together
    assert verdict(23.0, (10.0, 8.0)) is NOT_HELD  # more than both together
    assert verdict(25.0, (10.0, 8.0)) is NOT_HELD  # though near three times the full width
    assert verdict(38.0, (10.0, 80.0)) is NOT_HELD  # more than three times the full width
    assert verdict(14.0, (10.0, 8.0), hardware="slide rule") is OPEN
    assert cheaper_than_separate(study([run(), separate_models()[0]])).verdict is UNTESTED


def curve(*wers: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(epoch=n, step=100 * n, values={"w1/wer": wer}) for n, wer in enumerate(wers, start=1))


def test_convergence_compares_updates_to_the_level_that_both_reach() -> None:
    def verdict(joint: tuple[float, ...], alone: tuple[float, ...]) -> Verdict:
        runs = [run(curve=curve(*joint)), run("separate", "w1", curve=curve(*alone))]
        return converges_sooner(study(runs)).verdict

    fast, slow = (60.0, 20.0, 9.0, 8.0, 8.0, 8.0), (90.0, 70.0, 50.0, 30.0, 15.0, 8.5)
    assert verdict(fast, slow) is HELD
    assert verdict(slow, fast) is NOT_HELD
    assert verdict(fast, fast) is OPEN
    assert verdict(fast, ()) is UNTESTED
