"""Verdicts of paper 2 on figures whose verdict is evident; trends along layers against scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, permutation_test, spearmanr

from slimasr.claims.asked import Asked
from slimasr.claims.todm import judge
from slimasr.claims.todm.pairs import todm_pairs
from slimasr.claims.todm.shapes import layer_trend
from slimasr.claims.todm.teaching import late_wers
from slimasr.claims.verdicts import one_of
from slimasr.report.comparison.pairs import not_larger
from slimasr.report.comparison.rates import Comparison, Rate
from slimasr.report.findings import Verdict
from slimasr.report.records import CurvePoint, Run, Study, SubnetRecord
from slimasr.results.search import Summary

HELD, NOT_HELD, OPEN, UNTESTED = Verdict.HELD, Verdict.NOT_HELD, Verdict.NOT_RESOLVED, Verdict.NOT_TESTED
SIZES = {"w1": 100.0, "w1-mid": 50.0, "w1-min": 30.0}
Interval = tuple[float, float]


def record(subnet_id: str, params: float, widths: tuple[int, ...] = ()) -> SubnetRecord:
    wer = {name: Rate(10.0, (9.0, 11.0), 10, 100) for name in ("dev", "test")}
    shape = tuple({"ffn": width} for width in widths)
    return SubnetRecord(subnet_id, 1.0, {"params": params}, wer, None, architecture=shape)


def run(model: str, sizes: dict[str, float] | None = None, **changes: object) -> Run:
    records = tuple(record(*item) for item in (SIZES if sizes is None else sizes).items())
    made = Run(
        name=model,
        role=f"todm {model}",
        separate_of=None,
        seed=1,
        epochs=30,
        steps=3000,
        train_minutes=50.0,
        hardware="abacus",
        revision="",
        command="",
        subnets=records,
        slices=(),
        curve=(),
        model=model,
        front=frozenset(r.id for r in records),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def alone(subnet_id: str, params: float, **changes: object) -> Run:
    return run("A1", {"w1": params}, role="separate", separate_of=subnet_id, name=subnet_id, **changes)


ALONE = [alone("w1", 100.0), alone("w1-other", 55.0), alone("w1-min", 30.0)]


def verdicts(runs: list[Run], interval: Callable[[Asked], Interval | None]) -> dict[str, Verdict]:
    """Verdicts where each comparison that is asked for comes out as ``interval`` says."""
    comparisons = []
    for pair in todm_pairs(runs):
        ends = interval(pair)
        if ends is not None:
            sets = ("test",) if pair.chosen else ("dev", "test")
            comparisons.append(Comparison(pair.a, pair.b, sets, (1,), 100, 10.0, 10.0, sum(ends) / 2, *ends))
    return {f.claim: f.verdict for f in judge(Study("made up", tuple(runs), tuple(comparisons)))}


def always(low: float, high: float) -> Callable[[Asked], Interval]:
    return lambda pair: (low, high)


def test_a_lone_supernet_tests_nothing() -> None:
    assert set(verdicts([run("F")], always(-2.0, -1.0)).values()) == {UNTESTED}


def test_f_against_separate_models() -> None:
    runs = [run("F"), *ALONE]
    sure, equal, worse = (verdicts(runs, always(*ends)) for ends in ((-3.0, -1.0), (-0.5, 0.9), (2.0, 4.0)))
    assert [sure["C2.1"], equal["C2.1"], worse["C2.1"]] == [HELD, OPEN, NOT_HELD]
    assert [sure["C2.2"], equal["C2.2"], worse["C2.2"]] == [HELD, HELD, NOT_HELD]
    longer = [run("F", epochs=60), *ALONE]
    assert verdicts(longer, always(-3.0, -1.0))["C2.1"] is OPEN
    other = [run("E"), *ALONE]
    assert verdicts(other, always(-3.0, -1.0))["C2.1"] is UNTESTED


def test_partners_are_the_same_ends_or_the_nearest_subnet_that_is_not_larger() -> None:
    pairs = [p for p in todm_pairs([run("F"), *ALONE]) if p.claim in ("C2.1", "C2.2")]
    assert [(p.a[1], p.b[1], p.chosen) for p in pairs] == [
        ("w1", "w1", False),
        ("w1-mid", "w1-other", True),
        ("w1-min", "w1-min", False),
    ]
    main = run("F")
    for params in (29.0, 30.0, 49.9, 50.0, 99.0, 1000.0):
        fitting = [s.params for s in main.subnets if s.params <= params]
        found = not_larger(main, params)
        assert (found and found.params) == (max(fitting) if fitting else None)


CHANNELS = run("B0", {"a": 100.0, "b": 61.0, "c": 59.0, "d": 41.0})


def test_layers_and_channels_meet_at_equal_sizes_in_the_lowest_third_of_the_channels() -> None:
    layers = run("B1", {"w1": 100.0, "over": 61.5, "p": 58.0, "q": 57.0, "between": 49.0, "min": 30.0})
    pairs = [p for p in todm_pairs([layers, CHANNELS]) if p.claim == "C2.3"]
    assert [(p.a[1], p.b[1]) for p in pairs] == [("q", "c"), ("p", "c")]
    assert verdicts([layers, CHANNELS], always(-3.0, -1.0))["C2.3"] is HELD
    assert verdicts([layers, CHANNELS], always(-3.0, 1.0))["C2.3"] is OPEN
    assert verdicts([layers, CHANNELS], lambda p: (-3.0, -1.0) if p.a[1] == "p" else (1.0, 3.0))["C2.3"] is NOT_HELD
    far = run("B1", {"w1": 100.0, "between": 49.0, "min": 30.0})
    assert verdicts([far, CHANNELS], always(-3.0, -1.0))["C2.3"] is UNTESTED
    # The nearest counts, which may be the larger one or the smaller one.
    near = run("B1", {"w1": 100.0, "p": 60.5})
    assert not [p for p in todm_pairs([near, CHANNELS]) if p.claim == "C2.3"]
    near = run("B1", {"w1": 100.0, "p": 59.5})
    assert [p.b[1] for p in todm_pairs([near, CHANNELS]) if p.claim == "C2.3"] == ["c"]


def test_one_of_several_pairs_must_differ_more() -> None:
    single = run("B1", {"w1": 100.0, "p": 58.0})
    two = run("B1", {"w1": 100.0, "p": 58.0, "q": 57.0})
    found = [verdicts([layers, CHANNELS], always(0.1, 4.1))["C2.3"] for layers in (single, two)]
    assert found == [NOT_HELD, OPEN]
    # But for all of them to hold, every one need hold at 95 % alone.
    assert verdicts([two, CHANNELS], always(-4.1, -0.1))["C2.3"] is HELD
    comparison = Comparison(("a", "w1"), ("b", "w1"), ("test",), (1,), 100, 9.0, 7.0, 2.0, 2.0 - 1.96, 2.0 + 1.96)
    for number in (1, 2, 5):
        reference = norm(2.0, 1.0).interval(1 - 0.05 / number)
        widened = one_of(comparison, number)
        assert (widened.low, widened.high) == pytest.approx(reference, abs=1e-3)


def test_divergences_and_classes_are_compared_where_both_were_trained() -> None:
    runs = [run(model) for model in ("D", "E", "G")]
    asked = {(p.a[0][-1], p.b[0][-1], p.what) for p in todm_pairs(runs) if p.claim == "C2.5"}
    assert asked == {(a, b, end) for a, b in (("E", "D"), ("G", "E")) for end in ("max", "min")}
    assert verdicts(runs, always(-0.5, 0.5))["C2.5"] is HELD
    assert verdicts(runs, always(1.0, 3.0))["C2.5"] is NOT_HELD


def test_numbers_of_tokens_without_a_letter_are_compared_too() -> None:
    runs = [run(model) for model in ("D", "E", "D over 20 tokens", "E over 20 tokens")]
    asked = {(p.a[0], p.b[0]) for p in todm_pairs(runs) if p.claim == "C2.5"}
    names = [("E", "D"), ("E over 20 tokens", "D over 20 tokens"), ("E over 20 tokens", "E"), ("D over 20 tokens", "D")]
    assert asked == {(f"todm {a}", f"todm {b}") for a, b in names}


def test_late_harm_and_repair() -> None:
    runs = [run(model) for model in ("C", "D", "E", "F")]
    assert verdicts(runs, always(-3.0, -1.0))["C2.6"] is HELD
    assert verdicts(runs, lambda p: (1.0, 2.0) if p.a[0] == "todm F" else (-3.0, -1.0))["C2.6"] is NOT_HELD
    assert verdicts(runs, lambda p: (-1.0, 2.0) if p.b[0] == "todm D" else (-3.0, -1.0))["C2.6"] is OPEN


def test_late_harm_without_the_repair_is_half_a_claim_and_so_is_the_repair_alone() -> None:
    assert verdicts([run("C"), run("D")], always(-3.0, -1.0))["C2.6"] is OPEN
    assert verdicts([run("E"), run("F")], always(-3.0, -1.0))["C2.6"] is OPEN
    assert verdicts([run("E"), run("F")], always(1.0, 3.0))["C2.6"] is NOT_HELD


def test_adaptive_dropout_exits_and_scaled_adam() -> None:
    late = run("C, ScaledAdam from the start")
    exits = run("A3", {"w1": 101.0, "w1-l4": 40.0}, role="multi-exit")
    found = verdicts([run("C"), run("B1"), late, exits], always(-3.0, -1.0))
    assert [found["C2.7"], found["C2.9"], found["C2.10"]] == [HELD, HELD, HELD]
    found = verdicts([run("C"), run("B1"), late, exits], always(1.0, 3.0))
    assert [found["C2.7"], found["C2.9"], found["C2.10"]] == [NOT_HELD, NOT_HELD, NOT_HELD]


def curve(wer_of_max: float, wer_of_min: float) -> tuple[CurvePoint, ...]:
    """Figures that stand still, but for a bump of the last epochs, which is not looked at."""
    return tuple(
        CurvePoint(
            epoch=epoch,
            step=100 * epoch,
            values={"w1/wer": wer_of_max, "w1-min/wer": wer_of_min + (50.0 if epoch > 20 else 0.01 * epoch)},
        )
        for epoch in range(1, 31)
    )


def test_early_help_of_a_teacher() -> None:
    plain = run("C", curve=curve(10.0, 20.0))

    def verdict(wer_of_max: float, wer_of_min: float) -> Verdict:
        return verdicts([plain, run("G", curve=curve(wer_of_max, wer_of_min))], lambda _: None)["C2.4"]

    assert verdict(8.5, 19.0) is HELD
    assert verdict(9.5, 19.0) is NOT_HELD  # 5 % for max
    assert verdict(8.5, 19.5) is NOT_HELD  # 2.5 % for min
    assert verdict(8.5, 15.0) is NOT_HELD  # more for min
    assert verdicts([plain], lambda _: None)["C2.4"] is UNTESTED
    # No intervals: smallest and largest of a few epochs.
    study = Study("made up", (plain, run("G", curve=curve(8.5, 19.0))), ())
    said = next(f.evidence for f in judge(study) if f.claim == "C2.4")
    assert said[0] == "max, todm G against todm C: -15.0 % on average, from -15.0 to -15.0, over 3 epochs: held"


def test_two_thirds_of_the_run_are_the_epochs_just_before() -> None:
    assert late_wers(run("C", curve=curve(10.0, 20.0)), "w1-min") == pytest.approx([20.18, 20.19, 20.20])


def test_cost_of_training() -> None:
    counted = {"candidates": 100, "stopped_early": 10, "space": 1000, "workers": 2}
    times = {"minutes": 5.0, "evaluation_minutes": 9.0, "per_minute": 20.0, "train_minutes": None}
    facts = Summary.model_validate({"generator": "evolution", "weights": "w", **counted, **times})

    def verdict(minutes: float, each: float, hardware: str = "abacus") -> Verdict:
        separate = [replace(r, train_minutes=each, hardware=hardware) for r in ALONE]
        return verdicts([run("F", train_minutes=minutes, search=facts), *separate], lambda _: None)["C2.8"]

    assert verdict(42.0, 20.0) is HELD
    assert verdict(44.0, 20.0) is OPEN  # with its search 49 minutes to 60
    assert verdict(69.0, 20.0) is OPEN
    assert verdict(71.0, 20.0) is NOT_HELD
    few = [run("F", train_minutes=42.0, search=facts), replace(ALONE[0], train_minutes=20.0)]
    assert verdicts(few, lambda _: None)["C2.8"] is HELD  # however many have been trained
    assert verdict(42.0, 20.0, "slide rule") is OPEN


def test_times_that_are_not_in_order_of_size_say_nothing() -> None:
    def verdict(*minutes: float) -> Verdict:
        separate = [replace(r, train_minutes=m) for r, m in zip(ALONE, minutes, strict=True)]
        return verdicts([run("F", train_minutes=30.0), *separate], lambda _: None)["C2.8"]

    assert verdict(30.0, 20.0, 10.0) is HELD
    assert verdict(20.0, 30.0, 10.0) is OPEN
    assert verdict(20.0, 10.0, 30.0) is OPEN


def shapes_verdict(shapes: list[tuple[int, ...]]) -> Verdict:
    records = tuple(record(f"w1-{n}", 10.0 + n, shape) for n, shape in enumerate(shapes))
    made = run("F", subnets=records, front=frozenset(r.id for r in records))
    return verdicts([made], lambda _: None)["C2.11"]


def test_patterns_of_shapes() -> None:
    rising = [(96, 96, 192, 192, 384, 384)] * 6
    rng = np.random.default_rng(3)
    random = [tuple(rng.choice([96, 192, 384], 6).tolist()) for _ in range(6)]
    assert shapes_verdict(rising) is NOT_HELD
    assert shapes_verdict(random) is HELD
    assert shapes_verdict(random[:2]) is OPEN  # too few to tell
    assert shapes_verdict([(96,) * 6]) is UNTESTED


def test_kin_are_no_independent_witnesses() -> None:
    """Twenty shapes that all come from one say what that one says."""
    shape = np.array([96.0, 192.0, 96.0, 384.0, 192.0, 384.0])
    assert layer_trend([shape] * 20) == pytest.approx(layer_trend([shape]))
    assert layer_trend([shape] * 20)[1] > 0.1


def test_trend_agrees_with_scipy() -> None:
    shape = np.array([96.0, 192.0, 96.0, 384.0, 192.0, 384.0, 384.0, 96.0])
    trend, p = layer_trend([shape])
    layers = np.arange(len(shape))
    assert trend == pytest.approx(spearmanr(layers, shape).statistic)
    reference = permutation_test(
        (shape,),
        lambda x: spearmanr(layers, x).statistic,
        permutation_type="pairings",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    assert p == pytest.approx(reference.pvalue, abs=0.04)
    several = [shape, shape[::-1], np.roll(shape, 3)]
    assert layer_trend(several)[0] == pytest.approx(np.mean([spearmanr(layers, s).statistic for s in several]))
