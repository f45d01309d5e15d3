"""Verdicts on the claims of slimmable training (paper 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from slimasr.report.records import Comparison, Run, Study, Wer, difference_in_words
from slimasr.report.roles import SEPARATE, SLIMMABLE
from slimasr.report.times import TIMES_RULE, judge_times
from slimasr.report.verdicts import MARGIN, Finding, Rule, Verdict, all_of, equal, judge_each, not_worse

UNUSABLE_WER = 90.0
USABLE_WER = 50.0
MAX_COST_RATIO = 3.0
STEP_TOLERANCE = 0.05

HEAD_VARIANTS = ("slimmable, head size", "slimmable, head count")


def judge_slimmable(study: Study) -> list[Finding]:
    """All six claims, in order."""
    return [
        as_good_as_separate(study),
        falls_with_width(study),
        attention_variants_agree(study),
        slicing_collapses(study),
        cheaper_than_separate(study),
        converges_sooner(study),
    ]


def as_good_as_separate(study: Study) -> Finding:
    """C1.1: at every width, slimmable WER <= separate WER (same epochs)."""
    verdicts, evidence = list[Verdict](), list[str]()
    ids = subnet_ids(study, SLIMMABLE)
    compared = [(i, c) for i in ids if (c := study.compare((SLIMMABLE, i), (SEPARATE, i))) is not None]
    for (subnet, comparison), by_rule in zip(compared, _each(not_worse, compared), strict=True):
        equal_epochs = _equal_epochs(study, subnet)
        verdicts.append(by_rule if equal_epochs else Verdict.NOT_RESOLVED)
        evidence.append(
            f"{subnet}: {difference_in_words(comparison, 'slimmable', 'separate')}"
            f"{'' if equal_epochs else ', but the epochs differ'}: {verdicts[-1].value}"
        )
    text = "At every width, slimmable WER is at most the separate model's (same epochs)."
    return Finding("C1.1", text, all_of(verdicts), tuple(evidence))


def falls_with_width(study: Study) -> Finding:
    """C1.2: WER decreases monotonically with width within one slimmable model."""
    pairs = pairwise(subnet_ids(study, SLIMMABLE))
    compared = [(p, c) for p in pairs if (c := study.compare((SLIMMABLE, p[0]), (SLIMMABLE, p[1]))) is not None]
    verdicts = _each(not_worse, compared)
    evidence = (
        f"{wide} against {narrow}: {difference_in_words(comparison, wide, narrow)}: {verdict.value}"
        for ((wide, narrow), comparison), verdict in zip(compared, verdicts, strict=True)
    )
    text = "WER falls monotonically with width within one slimmable model."
    return Finding("C1.2", text, all_of(verdicts), tuple(evidence))


def attention_variants_agree(study: Study) -> Finding:
    """C1.3: head-count and head-size slimming are equivalent within noise."""
    compared = [
        ((subnet, main, other), comparison)
        for other, main in (HEAD_VARIANTS, HEAD_VARIANTS[::-1])
        for subnet in subnet_ids(study, other)
        if (comparison := study.compare((SLIMMABLE, subnet), (other, subnet))) is not None
    ]
    verdicts, evidence = _each(equal, compared), list[str]()
    for ((subnet, *roles), comparison), verdict in zip(compared, verdicts, strict=True):
        names = (role.removeprefix("slimmable, ") for role in roles)
        evidence.append(f"{subnet}: {difference_in_words(comparison, *names)}: {verdict.value}")
    text = "Slimming attention by head count and by head size is equivalent within noise."
    return Finding("C1.3", text, all_of(verdicts), tuple(evidence))


def slicing_collapses(study: Study) -> Finding:
    """C1.4: a separate full-width model sliced to w < 1 is unusable, the slimmable one is not."""
    verdicts, evidence = list[Verdict](), list[str]()
    for subnet, set_name, sliced, joint in _slices(study):
        verdict = _collapse(sliced, joint)
        verdicts.append(verdict)
        evidence.append(
            f"{subnet}, {set_name}: sliced {sliced.wer:.1f} %, slimmable {joint.wer:.1f} %: {verdict.value}"
        )
    text = (
        "A separate full-width model sliced without slimmable training is unusable "
        f"(WER at least {UNUSABLE_WER:g} %), the slimmable one is not (at most {USABLE_WER:g} %)."
    )
    return Finding("C1.4", text, all_of(verdicts), tuple(evidence))


def cheaper_than_separate(study: Study) -> Finding:
    """C1.5: slimmable training costs about 3x one separate run and less than all separate runs together."""
    text = (
        f"Slimmable training costs at most {MAX_COST_RATIO:g}x the separate full-width run and less than the separate "
        f"runs of all widths together (minutes of training, same hardware and epochs). {TIMES_RULE}"
    )
    verdicts, evidence = list[Verdict](), list[str]()
    for joint in study.with_role(SLIMMABLE):
        separate = {r.separate_of: r for r in study.with_role(SEPARATE) if r.seed == joint.seed}
        runs = [run for s in joint.subnets if (run := separate.get(s.id)) is not None]
        minutes = [r.train_minutes for r in runs if r.train_minutes is not None]
        if joint.train_minutes is None or not minutes or len(minutes) < len(joint.subnets):
            continue
        full, total = minutes[0], sum(minutes)
        pairs = ((joint.train_minutes, MAX_COST_RATIO * full), (joint.train_minutes, total))
        verdict, doubts = judge_times(joint, runs, pairs)
        verdicts.append(verdict)
        evidence.append(
            f"seed {joint.seed}: slimmable {joint.train_minutes:.1f} min, separate full width {full:.1f} min "
            f"(ratio {joint.train_minutes / full:.2f}), all {len(minutes)} separate runs {total:.1f} min"
            f"{doubts}: {verdict.value}"
        )
    return Finding("C1.5", text, all_of(verdicts), tuple(evidence))


def converges_sooner(study: Study) -> Finding:
    """C1.6: at equal epochs, the full width inside the slimmable model converges in fewer updates."""
    text = (
        "At equal epochs, the full width inside the slimmable model needs fewer updates than the separate "
        f"one to come within {MARGIN:g} point of the dev WER that both reach."
    )
    verdicts, evidence = list[Verdict](), list[str]()
    for joint in study.with_role(SLIMMABLE):
        if not joint.subnets:
            continue
        full = joint.subnets[0].id
        for alone in study.with_role(SEPARATE):
            if alone.separate_of != full or alone.seed != joint.seed or not alone.subnets:
                continue
            pair = updates_to_common_level(joint, full, alone, alone.subnets[0].id)
            if pair is None:
                continue
            level, ours, other = pair
            verdict = _sooner(ours, other, max(joint.steps, alone.steps))
            verdicts.append(verdict if joint.epochs == alone.epochs else Verdict.NOT_RESOLVED)
            evidence.append(
                f"seed {joint.seed}: dev WER {level:.1f} % after {ours:,} updates (slimmable) "
                f"and {other:,} (separate): {verdicts[-1].value}"
            )
    return Finding("C1.6", text, all_of(verdicts), tuple(evidence))


def updates_to_common_level(joint: Run, subnet: str, alone: Run, own: str) -> tuple[float, int, int] | None:
    """Level = the worse of the two best dev WERs plus the margin; updates until each run reaches it."""
    a, b = _dev_wer(joint, subnet), _dev_wer(alone, own)
    if not a or not b:
        return None
    level = max(min(w for _, w in a), min(w for _, w in b)) + MARGIN
    return level, _first_below(a, level), _first_below(b, level)


def _each(rule: Rule, compared: Sequence[tuple[object, Comparison]]) -> list[Verdict]:
    return judge_each(rule, [comparison for _, comparison in compared])


def subnet_ids(study: Study, role: str) -> list[str]:
    """Ids of the subnets of one role, widest first."""
    runs = study.with_role(role)
    return [subnet.id for subnet in runs[0].subnets] if runs else []


def _equal_epochs(study: Study, subnet: str) -> bool:
    joint = {run.epochs for run in study.with_role(SLIMMABLE)}
    alone = {run.epochs for run in study.with_role(SEPARATE) if run.separate_of == subnet}
    return joint == alone and len(joint) == 1


def _slices(study: Study) -> Iterator[tuple[str, str, Wer, Wer]]:
    """(subnet, set, WER of the untrained slice, WER of the slimmable subnet) of one seed each."""
    for alone in study.with_role(SEPARATE):
        for joint in (run for run in study.with_role(SLIMMABLE) if run.seed == alone.seed):
            for sliced in (record for record in alone.slices if record.width < 1.0):
                trained = joint.subnet(sliced.id)
                if trained is None:
                    continue
                for name in sorted(sliced.wer.keys() & trained.wer.keys()):
                    yield sliced.id, name, sliced.wer[name], trained.wer[name]


def _collapse(sliced: Wer, joint: Wer) -> Verdict:
    if sliced.low >= UNUSABLE_WER and joint.high <= USABLE_WER:
        return Verdict.HELD
    if sliced.high < UNUSABLE_WER or joint.low > USABLE_WER:
        return Verdict.NOT_HELD
    return Verdict.NOT_RESOLVED


def _sooner(ours: int, other: int, steps: int) -> Verdict:
    if abs(ours - other) <= STEP_TOLERANCE * steps:
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if ours < other else Verdict.NOT_HELD


def _dev_wer(run: Run, subnet: str) -> list[tuple[int, float]]:
    key = f"{subnet}/wer"
    return [(point.step, point.values[key]) for point in run.curve if key in point.values]


def _first_below(curve: Sequence[tuple[int, float]], level: float) -> int:
    return next(step for step, wer in curve if wer <= level)
