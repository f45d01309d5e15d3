"""Collect experiment folders into one report, from which all tables, pictures and verdicts are made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from slimasr.config.load import load_config, parse_config
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.experiment.folder import needed
from slimasr.report.comparison.compare import compare_all
from slimasr.report.comparison.mask_overlaps import compare_masks
from slimasr.report.comparison.pairs import Pair, separate_pairs
from slimasr.report.comparison.ranking import rank_correlation
from slimasr.report.comparison.rates import comparison_of
from slimasr.report.comparison.utterances import References, with_errors
from slimasr.report.papers import Paper
from slimasr.report.records import Study, read_study
from slimasr.report.roles import Described, roles_of
from slimasr.results.learnt import LearntSubnets
from slimasr.results.report import (
    CandidateLists,
    ComparisonEntry,
    MaskComparison,
    Report,
    ReportedRun,
    read_curve,
    read_mergeable,
    reported,
)
from slimasr.results.search import Candidates, FoundEntry, Front, StoppedEntry, Summary
from slimasr.results.store import read_results

_ENCODER = ("kind", "slimming", "norm", "attention")
"""Keys of an encoder's configuration that a report shows, as far as the encoder has them."""

_PLOTTED = ("params", "int8_bytes", "macs", "latency")
"""Costs of the candidates of a search that a report keeps."""


class Collected(NamedTuple):
    """What `collect` returns: everything that some experiments measured.

    Attributes:
        report: as the recipe's results.json holds it.
        study: the same as tables, pictures and verdicts read it.
    """

    report: Report
    study: Study


def collect(experiments: Sequence[Path], recipe: str, root: Path, papers: Sequence[Paper] = ()) -> Collected:
    """Collect everything that the experiments measured, and compare them.

    What an experiment stands for follows from its configuration, see `slimasr.report.roles`; the first supernet is
    the main one.

    Args:
        experiments: experiment folders, and files that ``slimasr-report --json`` wrote: their experiments join in,
            for runs whose folders are elsewhere. A folder takes the place of an experiment of its name in a file.
        recipe: name of the recipe.
        root: folder that paths are written relative to.
        papers: modules that name the models of papers, and that say what to compare besides separate models.

    Raises:
        UserError: a path is missing, a folder was not trained or searched, a file is damaged, two folders have the
            same name or stand for the same model and seed, or a set differs between experiments.
    """
    gathered = _gather(experiments, root)
    configs = {name: parse_config(dict(run.config or {})) for name, run in gathered.runs.items()}
    runs = _with_roles(gathered.runs, configs, papers)
    _refuse_doubles(runs)
    # Comparisons read the study, so that it is made without them first.
    report = Report(recipe=recipe, experiments=runs, comparisons=())
    report = report.model_copy(update=gathered.references.sorted() | _overlaps(gathered))
    study = read_study(report)
    # The first experiment names the sets to compare on; sets that a system lacks are left out of its comparisons.
    data = next(iter(configs.values())).data
    pairs: list[Pair] = list(separate_pairs(study.runs))
    for paper in papers:
        pairs += paper.pairs(study.runs)
    comparisons = tuple(compare_all(study, pairs, data.dev, data.test, _still_true(gathered, runs)))
    return Collected(
        report.model_copy(update={"comparisons": comparisons}),
        replace(study, comparisons=tuple(map(comparison_of, comparisons))),
    )


@dataclass(frozen=True)
class _Gathered:
    """What folders and earlier reports hold.

    Attributes:
        runs: the experiments by name, without their roles.
        references: the sets that they have in common.
        folders: name -> folder of those that are at hand.
        comparisons: those that earlier reports have made.
        overlaps: comparisons of masks that earlier reports have made.
    """

    runs: dict[str, ReportedRun]
    references: References
    folders: dict[str, Path]
    comparisons: tuple[ComparisonEntry, ...]
    overlaps: tuple[MaskComparison, ...]


def _gather(experiments: Sequence[Path], root: Path) -> _Gathered:
    """Read all experiments. Raises as `collect`."""
    runs: dict[str, ReportedRun] = {}
    references = References({}, {})
    for path in experiments:
        if not path.exists():
            raise UserError(f"{path} is missing: name experiment folders, or files of slimasr-report --json")
    # Files come first, so that a folder replaces an experiment of its name whatever the order of the arguments is.
    files = {path: read_mergeable(path) for path in experiments if path.is_file()}
    for path, file in files.items():
        runs |= file.experiments
        references.note_file(file, path)
    folders: dict[str, Path] = {}
    for path in experiments:
        if not path.is_file():
            name = path.resolve().name
            if name in folders:
                raise UserError(f"{path}: another experiment of this report is called {name}; rename one folder")
            folders[name] = path
            runs[name] = _run(path, root, references)
    comparisons = tuple(entry for file in files.values() for entry in file.comparisons)
    overlaps = tuple(entry for file in files.values() for entry in file.mask_overlaps)
    return _Gathered(runs, references, folders, comparisons, overlaps)


def _still_true(gathered: _Gathered, runs: Mapping[str, ReportedRun]) -> list[ComparisonEntry]:
    """The comparisons of earlier reports that say nothing about a run which a folder has replaced."""
    replaced = {runs[name].role for name in gathered.folders}
    # One that pools several runs has the role of none of them, and can be made again.
    single = {run.role for run in runs.values()} - replaced
    return [entry for entry in gathered.comparisons if {entry.a.role, entry.b.role} <= single]


def _overlaps(gathered: _Gathered) -> dict[str, tuple[MaskComparison, ...]]:
    """The comparisons of masks: of folders, and those of earlier reports whose runs no folder has replaced."""
    found = [item for item in gathered.overlaps if not gathered.folders.keys() & {item.a.experiment, item.b.experiment}]
    found += compare_masks(gathered.runs, gathered.folders)
    return {"mask_overlaps": tuple(found)} if found else {}


def _with_roles(
    runs: Mapping[str, ReportedRun], configs: Mapping[str, Config], papers: Sequence[Paper]
) -> dict[str, ReportedRun]:
    """Copies of the experiments that say what they stand for."""
    described = {}
    for name, run in runs.items():
        params = {subnet_id: entry.costs.get("params", 0.0) for subnet_id, entry in run.subnets.items()}
        described[name] = Described(configs[name], run.separate_of, params, run.masks)
    found = {}
    for name, role in roles_of(described, [paper.role for paper in papers]).items():
        changes = {"role": role.name, "model": role.model, "family": role.family, "main": role.is_main}
        # An empty value is left out of the file, unless it replaces one of an earlier report.
        kept = {key: value for key, value in changes.items() if value or getattr(runs[name], key)}
        found[name] = runs[name].model_copy(update=kept)
    return found


def _refuse_doubles(runs: Mapping[str, ReportedRun]) -> None:
    """Refuse two runs of one role and seed: they would count as two seeds, although their configurations differ.

    Raises:
        UserError: two runs have the same role and seed.
    """
    seen: dict[tuple[str, str, int], str] = {}
    for run in runs.values():
        key = (run.role, run.separate_of or "", run.seed)
        if key in seen:
            what = " ".join(filter(None, key[:2]))
            raise UserError(f"{seen[key]} and {run.dir} both stand for {what}, seed {run.seed}: report on them apart")
        seen[key] = run.dir


def _run(path: Path, root: Path, references: References) -> ReportedRun:
    """Read one experiment and note its ``references``. Its role depends on the others and stays empty."""
    config = load_config(needed(path / "config.yaml"))
    results = read_results(path)
    if not results.subnets:
        raise UserError(f"{path}/results.json has no measured subnet: run stage 5 (slimasr-search) first")
    encoder = config.model.encoder
    traits = {key: getattr(encoder, key) for key in _ENCODER if hasattr(encoder, key)}
    front = Front.read(path)
    run = ReportedRun(
        dir=os.path.relpath(path, root),
        role="",
        encoder=traits,
        layers=tuple(encoder.layer_units),
        front=() if front is None else front.front,
        curve=read_curve(path),
        config=config.model_dump(mode="json"),
    )
    learnt = LearntSubnets.read(path)
    if learnt is not None:
        run = run.model_copy(update={"learnt": learnt.subnets})
    if encoder.tree is not None:
        run = run.model_copy(update={"depth": encoder.num_layers})
    run = reported(run, results)
    subnets = {}
    for subnet_id, entry in results.subnets.items():
        subnets[subnet_id] = with_errors(path, subnet_id, entry, references)
    # Absolute paths of one machine mean nothing to the readers of a committed report.
    command = results.command.replace(f"{root.resolve()}{os.sep}", "")
    run = run.model_copy(update={"subnets": subnets, "command": command})
    return _with_search(run, path, config)


def _with_search(run: ReportedRun, path: Path, config: Config) -> ReportedRun:
    """Return a copy of an experiment with the record of its search, and with how well dev ranks its Pareto front.

    Nothing is added if the search had no choice.
    """
    seen = Candidates.read(path)
    # Options of the search may come from --set; older folders name its kind in the configuration only.
    if seen is None or (seen.kind or config.search.kind) == "exhaustive":
        return run
    # A single candidate is no choice either.
    if len(seen.candidates) + len(seen.stopped) < 2:
        return run
    front = [found.id for found in run.front]
    correlations = {}
    for name in config.data.test:
        value = rank_correlation(run.subnets, front, config.data.dev, name)
        if value is not None:
            correlations[name] = value
    changes = {
        "candidates": _lists(seen),
        "search": Summary.read(path),
        "int8_search": config.search.int8 if seen.int8 is None else seen.int8,
        "rank_correlation": correlations,
    }
    return run.model_copy(update=changes)


def _lists(file: Candidates) -> CandidateLists:
    """The candidates of a search as lists, which take less room in a file."""
    # All lists are in this order: finished candidates first, then those that were stopped early.
    entries: list[FoundEntry | StoppedEntry] = [*file.candidates, *file.stopped]
    wers = [found.wer for found in file.candidates]
    wers += [found.wer_at_least for found in file.stopped]
    # A list needs a value for every candidate, so that only costs that all of them have can be kept.
    counted = set.intersection(*(set(entry.costs) for entry in entries))
    costs = {}
    for name in sorted(counted.intersection(_PLOTTED)):
        costs[name] = tuple(entry.costs[name] for entry in entries)
    return CandidateLists(
        set_name=file.set_name,
        ids=tuple(entry.id for entry in entries),
        wer=tuple(round(wer, 4) for wer in wers),
        stopped=(False,) * len(file.candidates) + (True,) * len(file.stopped),
        costs=costs,
    )
