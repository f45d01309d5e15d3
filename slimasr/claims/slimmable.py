"""Slimmable training (paper 1): names of its variants, its claims C1.1 to C1.6, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from slimasr.claims.asked import no_pictures
from slimasr.claims.times import TIMES_RULE, judge_times
from slimasr.claims.verdicts import MARGIN, Evidence, Rule, equal, judge_each, not_worse
from slimasr.config.schema import Config
from slimasr.report.comparison.families import families, roles_in
from slimasr.report.comparison.pairs import Pair, System
from slimasr.report.comparison.rates import Comparison, Rate, difference_in_words
from slimasr.report.findings import Finding, Verdict
from slimasr.report.records import Run, Study
from slimasr.report.roles import SEPARATE, Described, Name, differing_traits
from slimasr.report.tables.common import set_names, wer_of
from slimasr.report.tables.table import Table

SLIMMABLE = "slimmable"
READING = ""
pictures = no_pictures

UNUSABLE_WER = 90.0
"""A model with at least this WER in percent is unusable (C1.4)."""

USABLE_WER = 50.0
"""A model with at most this WER in percent is not unusable (C1.4)."""

MAX_COST_RATIO = 3.0
"""Slimmable training may take this many times as long as one separate training (C1.5)."""

STEP_TOLERANCE = 0.05
"""Numbers of updates that differ by less than this fraction of the training count as equal (C1.6)."""

HEAD_VARIANTS = ("slimmable, head size", "slimmable, head count")
"""One of them is the name of a variant; the first slimmable run of a family is the other one and has the plain name."""

_TRAITS = ("slimming", "norm", "attention")
"""What a variant may have that the first slimmable run of its family has not."""


def role(described: Described, supernets: Sequence[Config]) -> Name | None:
    """Return ``slimmable``, and what distinguishes a variant from the first slimmable run of its family."""
    config = described.config
    if described.separate_of is not None or config.method.kind != SLIMMABLE:
        return None
    main = next(other for other in supernets if other.method.kind == SLIMMABLE)
    return Name((SLIMMABLE, *differing_traits(config, main, _TRAITS)))


def applies(study: Study) -> bool:
    """Return whether there is a slimmable run."""
    return any(_is_slimmable(run.role) for run in study.runs)


def pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """Pair slimmable training with each variant, size by size, and its neighbouring widths with each other."""
    for family in families(runs):
        slimmable = [run for run in family.supernets if _is_slimmable(run.role)]
        if not slimmable:
            continue
        main = slimmable[0]
        # The records of a run are sorted, widest first.
        ids = [subnet.id for subnet in main.subnets]
        for variant in roles_in(slimmable)[1:]:
            yield from (Pair((main.role, subnet), (variant, subnet)) for subnet in ids)
        yield from (Pair((main.role, wide), (main.role, narrow)) for wide, narrow in pairwise(ids))


def tables(study: Study) -> list[Table]:
    """Make the table of all variants side by side, set by set; there is none for a single variant."""
    roles = [role for role in roles_in(study.runs) if _is_slimmable(role)]
    if len(roles) < 2:
        return []
    ids = subnet_ids(study, roles[0])
    rows = []
    for name in set_names(study):
        for role in roles:
            wers = [wer_of(study, role, subnet, name) for subnet in ids]
            rows.append((name, role, *wers))
    return [Table("Variants of slimmable training, WER %", ("set", "variant", *ids), tuple(rows))]


def judge(study: Study) -> list[Finding]:
    """Judge all six claims, in order."""
    return [
        as_good_as_separate(study),
        falls_with_width(study),
        attention_variants_agree(study),
        slicing_collapses(study),
        cheaper_than_separate(study),
        converges_sooner(study),
    ]


def as_good_as_separate(study: Study) -> Finding:
    """Judge C1.1: at every width, slimmable WER <= separate WER (same epochs)."""
    ids = subnet_ids(study, SLIMMABLE)
    compared = _compared(study, [((SLIMMABLE, subnet), (SEPARATE, subnet)) for subnet in ids])
    evidence = Evidence()
    for comparison, verdict in _judged(not_worse, compared):
        _, subnet = comparison.a
        line = f"{subnet}: {difference_in_words(comparison, 'slimmable', 'separate')}"
        if _equal_epochs(study, subnet):
            evidence.add(line, verdict)
        else:
            evidence.add(f"{line}, but the epochs differ", Verdict.NOT_RESOLVED)
    text = "At every width, slimmable WER is at most the separate model's (same epochs)."
    return evidence.finding("C1.1", text)


def falls_with_width(study: Study) -> Finding:
    """Judge C1.2: the wider of two widths of one slimmable model never has the higher WER."""
    neighbours = pairwise(subnet_ids(study, SLIMMABLE))
    compared = _compared(study, [((SLIMMABLE, wide), (SLIMMABLE, narrow)) for wide, narrow in neighbours])
    evidence = Evidence()
    for comparison, verdict in _judged(not_worse, compared):
        _, wide = comparison.a
        _, narrow = comparison.b
        evidence.add(f"{wide} against {narrow}: {difference_in_words(comparison, wide, narrow)}", verdict)
    return evidence.finding("C1.2", "WER falls monotonically with width within one slimmable model.")


def attention_variants_agree(study: Study) -> Finding:
    """Judge C1.3: head-count and head-size slimming are equivalent within noise."""
    # The study has at most one of the two variants: the main run slims the other way.
    wanted = []
    for variant in HEAD_VARIANTS:
        wanted += [((SLIMMABLE, subnet), (variant, subnet)) for subnet in subnet_ids(study, variant)]
    evidence = Evidence()
    for comparison, verdict in _judged(equal, _compared(study, wanted)):
        variant, subnet = comparison.b
        main = next(other for other in HEAD_VARIANTS if other != variant)
        names = [name.removeprefix("slimmable, ") for name in (main, variant)]
        evidence.add(f"{subnet}: {difference_in_words(comparison, *names)}", verdict)
    text = "Slimming attention by head count and by head size is equivalent within noise."
    return evidence.finding("C1.3", text)


def slicing_collapses(study: Study) -> Finding:
    """Judge C1.4: a separate full-width model sliced to w < 1 is unusable, the slimmable one is not."""
    evidence = Evidence()
    for subnet, set_name, sliced, joint in _slices(study):
        line = f"{subnet}, {set_name}: sliced {sliced.rate:.1f} %, slimmable {joint.rate:.1f} %"
        evidence.add(line, _collapse(sliced, joint))
    text = (
        "A separate full-width model sliced without slimmable training is unusable "
        f"(WER at least {UNUSABLE_WER:g} %), the slimmable one is not (at most {USABLE_WER:g} %)."
    )
    return evidence.finding("C1.4", text)


def cheaper_than_separate(study: Study) -> Finding:
    """Judge C1.5: slimmable training costs about 3x one separate run and less than all separate runs together."""
    text = (
        f"Slimmable training costs at most {MAX_COST_RATIO:g}x the separate full-width run and less than the separate "
        f"runs of all widths together (minutes of training, same hardware and epochs). {TIMES_RULE}"
    )
    evidence = Evidence()
    for joint in study.with_role(SLIMMABLE):
        separate = {run.separate_of: run for run in study.with_role(SEPARATE) if run.seed == joint.seed}
        alone = [separate[subnet.id] for subnet in joint.subnets if subnet.id in separate]
        minutes = [run.train_minutes for run in alone if run.train_minutes is not None]
        # The claim is on all widths together, so that a single model without a time makes it untestable.
        if joint.train_minutes is None or not minutes or len(minutes) < len(joint.subnets):
            continue
        # The subnets of a run are sorted, widest first.
        full = minutes[0]
        total = sum(minutes)
        limits = ((joint.train_minutes, MAX_COST_RATIO * full), (joint.train_minutes, total))
        verdict, doubts = judge_times(joint, alone, limits)
        evidence.add(
            f"seed {joint.seed}: slimmable {joint.train_minutes:.1f} min, separate full width {full:.1f} min "
            f"(ratio {joint.train_minutes / full:.2f}), all {len(minutes)} separate runs {total:.1f} min{doubts}",
            verdict,
        )
    return evidence.finding("C1.5", text)


def converges_sooner(study: Study) -> Finding:
    """Judge C1.6: at equal epochs, the full width inside the slimmable model converges in fewer updates."""
    text = (
        "At equal epochs, the full width inside the slimmable model needs fewer updates than the separate "
        f"one to come within {MARGIN:g} point of the dev WER that both reach."
    )
    evidence = Evidence()
    for joint, alone in _full_widths(study):
        full = joint.subnets[0].id
        reached = updates_to_common_level(joint, full, alone, alone.subnets[0].id)
        if reached is None:
            continue
        level, ours, theirs = reached
        # With other epochs the learning rates differ at equal steps.
        verdict = Verdict.NOT_RESOLVED
        if joint.epochs == alone.epochs:
            verdict = _sooner(ours, theirs, max(joint.steps, alone.steps))
        evidence.add(
            f"seed {joint.seed}: dev WER {level:.1f} % after {ours:,} updates (slimmable) and {theirs:,} (separate)",
            verdict,
        )
    return evidence.finding("C1.6", text)


def updates_to_common_level(joint: Run, subnet: str, alone: Run, own: str) -> tuple[float, int, int] | None:
    """Find a dev WER that both runs reach, and the updates until each of them does.

    Args:
        joint: the supernet.
        subnet: id of the subnet in it.
        alone: the separate model.
        own: id of the subnet in the separate model, its whole network.

    Returns:
        The WER in percent (the worse of the two best ones plus the margin), the updates of ``joint`` and those of
        ``alone``; None if one of them has no validation with a WER.
    """
    ours = _dev_wer(joint, subnet)
    theirs = _dev_wer(alone, own)
    if not ours or not theirs:
        return None
    best_ours = min(wer for _, wer in ours)
    best_theirs = min(wer for _, wer in theirs)
    # The worse of both best values is reached by both; the margin makes the noise of single epochs matter less.
    level = MARGIN + max(best_ours, best_theirs)
    return level, _first_below(ours, level), _first_below(theirs, level)


def subnet_ids(study: Study, role: str) -> list[str]:
    """Return the ids of the subnets of one role, widest first; none if no run has the role."""
    runs = study.with_role(role)
    return [subnet.id for subnet in runs[0].subnets] if runs else []


def _is_slimmable(role: str) -> bool:
    return role.startswith(SLIMMABLE)


def _compared(study: Study, wanted: Sequence[tuple[System, System]]) -> list[Comparison]:
    """Those of the wanted comparisons that the study has."""
    found = [study.compare(first, second) for first, second in wanted]
    return [comparison for comparison in found if comparison is not None]


def _judged(rule: Rule, compared: Sequence[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
    """Every comparison with its verdict; they are judged together, see `judge_each`."""
    return zip(compared, judge_each(rule, compared), strict=True)


def _equal_epochs(study: Study, subnet: str) -> bool:
    """Whether all slimmable runs and all separate models of a subnet were trained for one number of epochs."""
    joint = {run.epochs for run in study.with_role(SLIMMABLE)}
    alone = {run.epochs for run in study.with_role(SEPARATE) if run.separate_of == subnet}
    return joint == alone and len(joint) == 1


def _full_widths(study: Study) -> Iterator[tuple[Run, Run]]:
    """A slimmable run and the separate model of its full width, of one seed."""
    for joint in study.with_role(SLIMMABLE):
        for alone in study.with_role(SEPARATE):
            if not joint.subnets or not alone.subnets or alone.seed != joint.seed:
                continue
            if alone.separate_of == joint.subnets[0].id:
                yield joint, alone


def _slices(study: Study) -> Iterator[tuple[str, str, Rate, Rate]]:
    """(subnet, set, WER of the untrained slice, WER of the slimmable subnet) of one seed each."""
    for alone in study.with_role(SEPARATE):
        supernets = [run for run in study.with_role(SLIMMABLE) if run.seed == alone.seed]
        # The slice of full width is the trained model itself.
        slices = [record for record in alone.slices if record.width < 1.0]
        for joint in supernets:
            for sliced in slices:
                trained = joint.subnet(sliced.id)
                if trained is None:
                    continue
                # Sorted, as intersections of keys have no order.
                for name in sorted(sliced.wer.keys() & trained.wer.keys()):
                    yield sliced.id, name, sliced.wer[name], trained.wer[name]


def _collapse(sliced: Rate, joint: Rate) -> Verdict:
    """Verdict on "the slice is unusable, the subnet is not"; whole intervals lie beyond the thresholds, or do not."""
    if sliced.low >= UNUSABLE_WER and joint.high <= USABLE_WER:
        return Verdict.HELD
    if sliced.high < UNUSABLE_WER or joint.low > USABLE_WER:
        return Verdict.NOT_HELD
    return Verdict.NOT_RESOLVED


def _sooner(ours: int, theirs: int, steps: int) -> Verdict:
    """Verdict on "ours is sooner than theirs" in updates, of ``steps`` in all."""
    # Runs are validated once an epoch, so that updates are known no better than that.
    if abs(ours - theirs) <= STEP_TOLERANCE * steps:
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if ours < theirs else Verdict.NOT_HELD


def _dev_wer(run: Run, subnet: str) -> list[tuple[int, float]]:
    """(step, dev WER) of a subnet that was validated."""
    key = f"{subnet}/wer"
    return [(point.step, point.values[key]) for point in run.curve if key in point.values]


def _first_below(curve: Sequence[tuple[int, float]], level: float) -> int:
    return next(step for step, wer in curve if wer <= level)
