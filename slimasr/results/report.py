"""The layout of a recipe's results.json, which ``slimasr-report --json`` writes: its experiments and comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from slimasr.errors import UserError
from slimasr.files import read_json, understanding
from slimasr.results.entry import Entry, File, Flag, Number, Whole
from slimasr.results.learnt import LearntEntry
from slimasr.results.masks import Overlap
from slimasr.results.schema import Results, RunFacts
from slimasr.results.search import FoundEntry, Summary

SCALES = ("lambda",)
"""Ends of the names of those figures of training passes that are no losses."""


class CurvePoint(Entry):
    """This is an epoch of the training that ended with a validation on dev, or with figures of the method."""

    epoch: Whole
    """Epochs finished."""

    step: Whole
    """Optimiser steps done."""

    values: Mapping[str, Number] = Field(validation_alias="dev", serialization_alias="dev")
    """`<subnet id>/wer` or `<subnet id>/per` in percent, and losses such as `<subnet id>/transducer` per reference
    token; the name of its budget stands for the id of a learnt subnet. Empty without a validation."""

    method: Mapping[str, Number] = {}
    """Figures of the method at the end of the epoch, such as `temperature` or `<budget>/undecided`, and of its passes
    on average, such as `<budget>/lambda`; absent unless it has any."""


class CandidateLists(Entry):
    """The lists have one item for every subnet that the search has evaluated."""

    set_name: str = Field(validation_alias="set", serialization_alias="set")
    """Name of the dev set."""

    ids: tuple[str, ...]
    """Ids of the subnets."""

    wer: tuple[Number, ...]
    """WER on dev in percent."""

    stopped: tuple[Flag, ...]
    """Whether the evaluation was stopped early; the WER is a lower bound then."""

    costs: Mapping[str, tuple[Number, ...]]
    """Costs by name, those of results.json that can be counted."""


class Placed(Entry):
    """The beginning of an experiment's entry in a report: where it lies and what it stands for."""

    dir: str
    """Folder of the experiment, relative to the report's."""

    role: str
    """What the experiment stands for: `slimmable`, `separate`, `todm F` and so on, with what sets it apart. Equal for
    runs that differ by their seed alone."""

    model: str = ""
    """A paper's short name for the model, such as `A1` or `F`; absent where it has none."""

    family: str = ""
    """Encoder of the supernet and its separate models; absent for the first family of a report."""

    main: Flag = False
    """Whether a paper's method in full; pictures that show one supernet of a family prefer it. Absent = false."""

    encoder: Mapping[str, str] = {}
    """What tells encoders apart: `kind`, `slimming`, `norm`, `attention`."""

    layers: tuple[Mapping[str, Whole], ...] = ()
    """Units of every layer by module (channels of feed-forward modules and convolutions, heads), the layer at the input
    first and those of further branches of a tree last. Reports of older versions have feed-forward modules alone, or
    lack it."""

    depth: Whole | None = None
    """Layers of the deepest path of a tree, which are the first ones of `layers`; absent where there is no tree."""


class ReportedRun(RunFacts, Placed):
    """An experiment: the keys of its results.json, and what the report takes from its other files."""

    learnt: tuple[LearntEntry, ...] = ()
    """The subnets that the training has learnt, max first; absent where it learns none."""

    front: tuple[FoundEntry, ...] = ()
    """The subnets of the Pareto front, cheapest first."""

    candidates: CandidateLists | None = None
    """Every subnet that the search has evaluated; absent where all subnets of the space were measured."""

    search: Summary | None = None
    """How fast the search was; null or absent where there is no such record."""

    int8_search: Flag = False
    """Whether the search saw weights rounded as int8 has them."""

    rank_correlation: Mapping[str, Number] = {}
    """Spearman's rank correlation of dev WER and test WER over the Pareto front, by the name of the test set."""

    curve: tuple[CurvePoint, ...] = ()
    """The validations of the training, in order."""

    config: Mapping[str, Any] | None = None
    """The resolved configuration. Reports of older versions lack it; they can be rendered, but not merged."""


class SystemEntry(Entry):
    """This says whose errors are compared."""

    role: str
    """What the experiments stand for."""

    subnet: str
    """Id of the subnet; for a separate model, of the subnet that it stands for."""

    @property
    def name(self) -> tuple[str, str]:
        """Role and subnet."""
        return self.role, self.subnet


class PhonemeDifference(Entry):
    """The same two systems are compared by their phoneme errors, as both were found without lexicon and language
    model."""

    phonemes: Whole
    """Phonemes of the references, counted once for every seed."""

    per_a: Number
    """PER of the first system in percent."""

    per_b: Number
    """PER of the second system in percent."""

    delta: Number
    """PER of the first system minus that of the second, in points."""

    ci95: tuple[Number, Number]
    """Ends of the 95 % interval of the difference, in points, of the paired bootstrap."""


class ComparisonEntry(Entry):
    """Two systems are compared on the same utterances."""

    a: SystemEntry
    """The first system."""

    b: SystemEntry
    """The second system."""

    sets: tuple[str, ...]
    """The sets, taken together."""

    seeds: tuple[int, ...]
    """Seeds that both systems were trained with, taken together."""

    words: Whole
    """Words of the references, counted once for every seed."""

    wer_a: Number
    """WER of the first system in percent."""

    wer_b: Number
    """WER of the second system in percent."""

    delta: Number
    """WER of the first system minus that of the second, in points."""

    ci95: tuple[Number, Number]
    """Ends of the 95 % interval of the difference, in points: of the paired bootstrap where `paired` is true."""

    paired: Flag = True
    """Whether the interval rests on the errors that both systems made on every utterance; if not, it takes them as
    independent."""

    per: PhonemeDifference | None = None
    """The comparison by phoneme errors, over the same sets and seeds; absent unless these are known on every
    utterance."""


class MaskName(Entry):
    """This says whose mask is meant."""

    experiment: str
    """Name of the experiment."""

    pathway: str
    """The pathway."""


class MaskComparison(Overlap):
    """An adapted mask is compared with a fixed one of the same language and sparsity."""

    a: MaskName
    """The first mask, which adapted."""

    b: MaskName
    """The second mask, which stayed."""


class Report(File):
    """`slimasr-report --json` writes this file: all that tables, pictures and verdicts are made from."""

    ADVICE: ClassVar[str] = "is that a file that slimasr-report --json wrote? If so, write it again"

    recipe: str
    """Name of the recipe."""

    experiments: Mapping[str, ReportedRun]
    """The experiments by the name of their folder."""

    utterances: Mapping[str, Mapping[str, Whole]] = {}
    """Words of the reference by utterance and set, in the order of `errors_by_utterance`. Reports of older versions
    lack it."""

    phonemes: Mapping[str, Mapping[str, Whole]] = {}
    """Phonemes of the reference by utterance and set, for sets whose phoneme errors are known; absent without any."""

    comparisons: tuple[ComparisonEntry, ...]
    """The comparisons that tables and claims ask for."""

    mask_overlaps: tuple[MaskComparison, ...] = ()
    """Adapted against fixed masks of different experiments; absent without any."""


def read_mergeable(path: Path) -> Report:
    """Read a report whose experiments can be merged into another one.

    Raises:
        UserError: the file is damaged, is no report, or is too old.
    """
    foreign = f"{path}: not a file that slimasr-report --json wrote, or an old one; name experiment folders"
    content: dict[str, Any] = read_json(path, Report.ADVICE)
    # Looked for before parsing, whose message would name a missing key of a file that is something else.
    if "experiments" not in content:
        raise UserError(foreign)
    report = Report.parse(content, path)
    # Roles are found again among all experiments, which takes their configurations.
    if any(run.config is None for run in report.experiments.values()):
        raise UserError(foreign)
    return report


def reported(run: ReportedRun, results: Results) -> ReportedRun:
    """Return an experiment's entry with the keys that results.json has."""
    # Keys that the file lacks are left out of the report too, instead of written with their defaults.
    facts = {name: getattr(results, name) for name in RunFacts.model_fields if name in results.model_fields_set}
    return run.model_copy(update=facts)


def read_curve(exp: Path) -> tuple[CurvePoint, ...]:
    """Read the validations and the method's figures in ``train_log.jsonl``. A line cut short by a crash is left out.

    Raises:
        UserError: a line does not have the form of a log entry.
    """
    path = exp / "train_log.jsonl"
    if not path.exists():
        return ()
    points = []
    with understanding(path, "restore it, or remove it to report without training curves"):
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            dev = _finite(entry.get("dev") or {})
            trained = entry.get("train") or {}
            scales = {key: value for key, value in trained.items() if key.rpartition("/")[2] in SCALES}
            method = _finite({**(entry.get("method") or {}), **scales})
            # An epoch without any value is left out, and so is an empty mapping of figures.
            if dev or method:
                figures: dict[str, Any] = {"method": method} if method else {}
                points.append(CurvePoint(epoch=entry["epoch"], step=entry["step"], values=dev, **figures))
    return tuple(points)


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the finite values, rounded; one that was not finite is null, or NaN or Infinity in older logs."""
    return {key: round(value, 4) for key, value in values.items() if value is not None and math.isfinite(value)}
