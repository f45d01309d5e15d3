"""Verdicts on the claims of TODM (paper 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slimasr.report.architecture import Architecture
from slimasr.report.pairs import EQUAL_SHARE, Pair, main_todm, of_model, todm_pairs
from slimasr.report.records import Run, Study, difference_in_words
from slimasr.report.times import TIMES_RULE, judge_times
from slimasr.report.verdicts import Finding, Rule, Verdict, all_of, better, equal, judge_each, not_worse

TWO_THIRDS = 2 / 3
WINDOW = 0.1
"""Share of the epochs before two thirds of the run whose dev WERs are looked at, as single epochs are noisy."""

GAIN_OF_MAX, GAIN_OF_MIN = -10.0, -4.0
"""Relative changes of WER, in percent, that paper 2 reports at two thirds of the training (table 2, G against C)."""

TAUGHT = ("G", "E", "F", "D", "I", "J", "L")
"""Models with a teacher. F is E until its last third."""

FEWEST_SHAPES = 5
PERMUTATIONS = 10_000
EVIDENT = 0.05
PAPER_SIZES = 3
"""How many dedicated models paper 2 trains beside its supernet."""


def judge_todm(study: Study) -> list[Finding]:
    """All eleven claims, in order."""
    return [
        compared(study, "C2.1", "F's max subnet is better than the separately trained model of its size.", better),
        compared(study, "C2.2", "F's smaller subnets are at most as bad as separate models of their size.", not_worse),
        compared(
            study,
            "C2.3",
            "At medium sizes (the lowest third of B0's), layers and channels (B1) beat channels alone (B0): each "
            "subnet of B1's front against the one of B0's that is nearest in size, if their parameters differ by at "
            f"most {100 * EQUAL_SHARE:g} %.",
            better,
        ),
        teaching_helps_early(study),
        compared(
            study,
            "C2.5",
            "The divergence (alpha or KL) and the number of its classes make no difference.",
            equal,
        ),
        teaching_harms_late(study),
        compared(study, "C2.7", "Adaptive dropout (C) makes the min subnet better than without (B1).", better),
        constant_cost(study),
        compared(
            study, "C2.9", "A subnet of B1 is better than the smallest exit of a model with several (A3).", better
        ),
        compared(
            study, "C2.10", "ScaledAdam from the start ends worse than AdamW: it does not converge fully.", better
        ),
        no_evident_pattern(study),
    ]


def compared(study: Study, claim: str, text: str, rule: Rule) -> Finding:
    """A claim that one rule decides on the comparisons made for it."""
    found = [
        (family, pair, comparison)
        for family in families(study)
        for pair in todm_pairs(family.runs)
        if pair.claim == claim and (comparison := study.compare(pair.a, pair.b)) is not None
    ]
    verdicts, evidence = list[Verdict](), list[str]()
    judged = judge_each(rule, [comparison for _, _, comparison in found])
    for (family, pair, comparison), by_rule in zip(found, judged, strict=True):
        equal_epochs = _equal_epochs(study, pair)
        verdicts.append(by_rule if equal_epochs else Verdict.NOT_RESOLVED)
        difference = difference_in_words(comparison, pair.a[0], pair.b[0])
        evidence.append(
            f"{family.prefix}{pair.size}, {' + '.join(comparison.sets)}: {difference}"
            f"{'' if equal_epochs else ', but the epochs differ'}: {verdicts[-1].value}"
        )
    return Finding(claim, text, all_of(verdicts), tuple(evidence))


def _equal_epochs(study: Study, pair: Pair) -> bool:
    return len({run.epochs for role in (pair.a[0], pair.b[0]) for run in study.with_role(role)}) == 1


@dataclass(frozen=True)
class Family:
    """The runs of one family, and what a line of evidence about them begins with."""

    runs: tuple[Run, ...]
    prefix: str


def families(study: Study) -> list[Family]:
    """The families that have a TODM run."""
    names = list(dict.fromkeys(run.family for run in study.runs if run.is_todm))
    return [
        Family(tuple(run for run in study.runs if run.family == name), f"{name}: " if name else "") for name in names
    ]


def teaching_helps_early(study: Study) -> Finding:
    """C2.4: at two thirds of the epochs a teacher has improved max by 10 %, min by 4 % (relative), max most."""
    text = (
        f"At two thirds of the epochs distillation has lowered dev WER by at least {-GAIN_OF_MAX:g} % for max and "
        f"{-GAIN_OF_MIN:g} % for min (relative), for max most (epoch weights; C is the model without)."
    )
    verdicts, evidence = list[Verdict](), list[str]()
    for family in families(study):
        plain = of_model(family.runs, "C")
        taught = next((run for run in (of_model(family.runs, model) for model in TAUGHT) if run is not None), None)
        if plain is None or taught is None:
            continue
        changes = {end: relative_changes(taught, plain, end) for end in ("max", "min")}
        if not all(changes.values()):
            continue
        for end, least in (("max", GAIN_OF_MAX), ("min", GAIN_OF_MIN)):
            low, high = min(changes[end]), max(changes[end])
            verdicts.append(
                better(low - least, high - least) if taught.epochs == plain.epochs else Verdict.NOT_RESOLVED
            )
            evidence.append(
                f"{family.prefix}{end}, {taught.role} against {plain.role}: {np.mean(changes[end]):+.1f} % on average, "
                f"from {low:+.1f} to {high:+.1f}, over {len(changes[end])} epochs: {verdicts[-1].value}"
            )
        verdicts.append(_apart(changes["max"], changes["min"]))
        evidence.append(f"{family.prefix}max more than min: {verdicts[-1].value}")
    return Finding("C2.4", text, all_of(verdicts), tuple(evidence))


def teaching_harms_late(study: Study) -> Finding:
    """C2.6: kept at full weight to the end, teaching makes min worse than no teacher; F repairs that."""
    text = "Distillation at full weight to the end (D, E) leaves min worse than none (C), and F repairs it."
    finding = compared(study, "C2.6", text, better)
    verdict, evidence = finding.verdict, list(finding.evidence)
    models = {run.role: run.model for run in study.runs}
    pairs = [pair for family in families(study) for pair in todm_pairs(family.runs) if pair.claim == "C2.6"]
    shown = {models[pair.a[0]] for pair in pairs if study.compare(pair.a, pair.b) is not None}
    halves = {"C": "the harm needs C, and D or E", "F": "the repair needs both E and F"}
    missing = [text for model, text in halves.items() if shown and model not in shown]
    if missing and verdict is Verdict.HELD:
        verdict = Verdict.NOT_RESOLVED
    evidence.extend(missing)
    for family in families(study):
        for model in ("C", "D", "E", "F"):
            run = of_model(family.runs, model)
            late = [] if run is None else late_wers(run, run.smallest.id)
            if run is not None and late:
                end = dev_wers(run, run.smallest.id)[-1][1]
                evidence.append(
                    f"{family.prefix}min of {run.role}, dev: {np.mean(late):.2f} % at two thirds of the epochs, "
                    f"{end:.2f} % at the end (epoch weights)"
                )
    return Finding("C2.6", text, verdict, tuple(evidence))


def constant_cost(study: Study) -> Finding:
    """C2.8: one training and one search, however many sizes are deployed."""
    text = (
        "The cost of training does not depend on the number of deployed sizes: one supernet and its search take less "
        f"time than {PAPER_SIZES} separate models, as many as the paper has (minutes, same hardware and epochs). "
        + TIMES_RULE
    )
    verdicts, evidence = list[Verdict](), list[str]()
    for family in families(study):
        main = main_todm(family.runs)
        alone = [run for run in family.runs if run.model == "A1" and main is not None and run.seed == main.seed]
        minutes = [run.train_minutes for run in alone if run.train_minutes is not None]
        if main is None or main.train_minutes is None or not minutes or len(minutes) < len(alone):
            continue
        search = 0.0 if main.search is None else main.search.minutes
        total, mean = main.train_minutes + search, sum(minutes) / len(minutes)
        verdict, doubts = judge_times(main, alone, ((total, PAPER_SIZES * mean),))
        verdicts.append(verdict)
        evidence.append(
            f"{family.prefix}{main.role}: training {main.train_minutes:.1f} min, search {search:.1f} min, together "
            f"{total:.1f} min; {PAPER_SIZES} separate models {PAPER_SIZES * mean:.1f} min, {mean:.1f} min each on "
            f"average over {len(minutes)} sizes{doubts}: {verdict.value}"
        )
    return Finding("C2.8", text, all_of(verdicts), tuple(evidence))


def no_evident_pattern(study: Study) -> Finding:
    """C2.11: along the layers, the widths of the front's subnets neither rise nor fall."""
    text = (
        "The shapes on the front show no evident pattern: their FFN widths neither rise nor fall along the layers "
        "more than with the layers shuffled, the same way for all shapes of a depth (mean rank correlation of width "
        f"and layer, p above {EVIDENT:g} divided by the number of fronts)."
    )
    verdicts, evidence, fronts = list[Verdict](), list[str](), list[tuple[str, list[np.ndarray]]]()
    for family in families(study):
        for run in family.runs:
            shapes = widths_along_layers([record.architecture for record in run.front_records]) if run.is_todm else []
            if shapes:
                fronts.append((f"{family.prefix}{run.role}", shapes))
    for name, shapes in fronts:
        trend, p = layer_trend(shapes)
        verdicts.append(_pattern(p * len(fronts), len(shapes)))
        evidence.append(
            f"{name}: {len(shapes)} shapes of the front, mean rank correlation {trend:+.2f}, p = {p:.3f}: "
            f"{verdicts[-1].value}"
        )
    return Finding("C2.11", text, all_of(verdicts), tuple(evidence))


def relative_changes(taught: Run, plain: Run, end: str) -> list[float]:
    """Change of dev WER in percent, epoch by epoch before two thirds of the run, for ``max`` or ``min``."""
    ids = [(run.largest if end == "max" else run.smallest).id for run in (taught, plain)]
    ours, theirs = late_wers(taught, ids[0]), late_wers(plain, ids[1])
    pairs = zip(ours, theirs, strict=False) if len(ours) == len(theirs) else ()
    return [100.0 * (a / b - 1.0) for a, b in pairs if b > 0]


def late_wers(run: Run, subnet: str) -> list[float]:
    """Dev WERs of the epochs just before two thirds of the run are over."""
    last = round(TWO_THIRDS * run.epochs)
    first = min(last, round((TWO_THIRDS - WINDOW) * run.epochs) + 1)
    return [wer for epoch, wer in dev_wers(run, subnet) if first <= epoch <= last]


def dev_wers(run: Run, subnet: str) -> list[tuple[int, float]]:
    """(epoch, dev WER) of a subnet that was validated."""
    key = f"{subnet}/wer"
    return [(point.epoch, point.values[key]) for point in run.curve if key in point.values]


def widths_along_layers(architectures: Sequence[Architecture]) -> list[np.ndarray]:
    """FFN width per running layer, of the shapes whose layers are not all equal."""
    found = []
    for architecture in architectures:
        widths = [sum(layer.values()) for layer in architecture if layer]
        if len(set(widths)) > 1:
            found.append(np.array(widths, dtype=float))
    return found


def layer_trend(shapes: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Mean Spearman correlation of layer and width over shapes, and its two-sided p among shuffled layers.

    All shapes of one depth are shuffled alike: those of a front are kin, and no independent witnesses.
    """
    rng = np.random.default_rng(seed)
    observed, shuffled = 0.0, np.zeros(PERMUTATIONS)
    for depth in sorted({len(shape) for shape in shapes}):
        ranks = np.sum([_standardised(shape) for shape in shapes if len(shape) == depth], axis=0)
        layers = _standardised(np.arange(depth))
        observed += float(layers @ ranks)
        shuffled += rng.permuted(np.tile(layers, (PERMUTATIONS, 1)), axis=1) @ ranks
    extreme = np.abs(shuffled) >= abs(observed) - 1e-9
    return observed / len(shapes), (1.0 + float(extreme.sum())) / (1.0 + PERMUTATIONS)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Ranks (ties share their mean) less their mean, of unit length: products of two are rank correlations."""
    below = (values[:, None] > values[None, :]).sum(axis=1)
    ranks = below + ((values[:, None] == values[None, :]).sum(axis=1) - 1) / 2.0
    centred = ranks - ranks.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _pattern(p: float, shapes: int) -> Verdict:
    if p <= EVIDENT:
        return Verdict.NOT_HELD
    return Verdict.HELD if shapes >= FEWEST_SHAPES else Verdict.NOT_RESOLVED


def _apart(more: Sequence[float], less: Sequence[float]) -> Verdict:
    """Verdict on "the first changes are below the second ones"."""
    if max(more) < min(less):
        return Verdict.HELD
    return Verdict.NOT_HELD if min(more) >= max(less) else Verdict.NOT_RESOLVED
