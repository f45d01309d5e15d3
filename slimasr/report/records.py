"""The records of a report in the form that tables, plots and verdicts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slimasr.energy import EnergyReading
from slimasr.report.architecture import Architecture, architecture_of
from slimasr.report.comparison.rates import Comparison, Rate, comparison_of, language_wer, per_of, wer_of
from slimasr.results.decoded import STREAMING
from slimasr.results.deployed import DeployedModel
from slimasr.results.device import LatencyDeviceEntry
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.results.learnt import LearntEntry
from slimasr.results.masks import MasksEntry
from slimasr.results.perturbed import is_perturbed
from slimasr.results.report import (
    CandidateLists,
    CurvePoint,
    MaskComparison,
    Placed,
    Report,
    ReportedRun,
)
from slimasr.results.schema import SubnetEntry, WerEntry
from slimasr.results.search import Summary
from slimasr.supernet.cost import COST_UNITS
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class SubnetRecord:
    """One measured subnet.

    Attributes:
        width: fraction of all channels.
        costs: by name, as far as they have been measured.
        wer: by set, as far as sets have been scored.
        dev_loss: the model's main loss on dev per reference token, None if it was not measured.
        searched_wer: dev WER by which the search chose, None if there was no search.
        int8_wer: by set, of the int8 model in a runtime.
        int8_file: size of the int8 model in bytes, None if it was not exported.
        architecture: empty in results that were written without it.
        latency: how late streams are, None if it was not measured.
        per: phoneme error rates by set, empty unless phonemes are the model's tokens.
        shape_id: id of the subnet without regard to which output it uses.
        learnt: the record of a subnet that the training has chosen; None for max and in other supernets.
        pathway: name of its masks; empty if it has none.
        by_language: set -> language -> WER on the utterances of the set that are in it, as far as it is known.
        deployed: its models in a device's runtime by precision, with the sets recognised with the same weights.
        perturbed: by perturbed set (`slimasr.results.perturbed`); ``wer`` and the rest know no such sets, so that
            nothing is compared or claimed by them.
    """

    id: str
    width: float
    costs: Mapping[str, float]
    wer: Mapping[str, Rate]
    dev_loss: float | None
    searched_wer: float | None = None
    int8_wer: Mapping[str, Rate] = field(default_factory=dict)
    int8_file: int | None = None
    architecture: Architecture = ()
    latency: LatencyEntry | None = None
    per: Mapping[str, Rate] = field(default_factory=dict)
    shape_id: str = ""
    learnt: LearntEntry | None = None
    pathway: str = ""
    by_language: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    perturbed: Mapping[str, Rate] = field(default_factory=dict)
    deployed: Mapping[str, DeployedModel] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What all seeds of a supernet call the subnet: its id, or the budget of a learnt one, whose ids differ."""
        return self.id if self.learnt is None else self.learnt.name

    @property
    def params(self) -> float:
        """Number of parameters, 0 if they were not counted."""
        return self.costs.get("params", 0.0)

    def serves(self, language: str) -> bool:
        """Return whether the subnet is meant for speech in a language."""
        return Subnet(pathway=self.pathway).serves(language)

    @property
    def is_decoded(self) -> bool:
        """Whether there is a WER on a set besides dev."""
        return len(self.wer) > 1


@dataclass(frozen=True)
class Run:
    """One experiment.

    Attributes:
        name: folder name, unique in a report.
        role: what the experiment stands for: ``slimmable``, ``slimmable, head size``, ``slimmable, shared norm``,
            ``separate``, ``todm F``, ...
        separate_of: id of the subnet that a separate model stands for, else None.
        slices: untrained slices of a separate full-width model (claim C1.4).
        model: a paper's short name for the model, see `slimasr.report.roles.Role`.
        family: see `slimasr.report.roles.Role`.
        is_main: see `slimasr.report.roles.Role`.
        is_tree: whether the subnets are the branches of a tree.
        front: ids of the subnets on the Pareto front.
        int8_search: whether the search evaluated weights rounded as in int8.
        candidates: every subnet that the search evaluated, None if there was no choice.
        search: how fast the search was, None if that is not known.
        rank_correlation: set -> Spearman's correlation of its WERs with dev's over the front, if it exists.
        energy: what the stages ``train`` and ``search`` took, if it was measured.
        train_threads: processor threads of each training process, None if that is not known.
        train_seconds: part of the training -> its wall time, empty if it was not kept.
        criterion: the cost that budgets of learnt subnets limit, ``params`` or ``macs``; empty if they limit none.
        masks: what the masks of pathways have become, None if there are none.
        latency_device: the device whose latency is among the costs, None if there is none.
        start: name of the experiment from whose weights the training began; empty if they were random.
        average_start: fraction of the run after which its weights were averaged; None = not known.
    """

    name: str
    role: str
    separate_of: str | None
    seed: int
    epochs: int
    steps: int
    train_minutes: float | None
    hardware: str
    revision: str
    command: str
    subnets: tuple[SubnetRecord, ...]
    slices: tuple[SubnetRecord, ...]
    curve: tuple[CurvePoint, ...]
    model: str = ""
    family: str = ""
    is_main: bool = False
    is_tree: bool = False
    front: frozenset[str] = frozenset()
    candidates: CandidateLists | None = None
    search: Summary | None = None
    int8_search: bool = False
    rank_correlation: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, EnergyReading] = field(default_factory=dict)
    train_threads: int | None = None
    train_seconds: Mapping[str, float] = field(default_factory=dict)
    criterion: str = ""
    masks: MasksEntry | None = None
    latency_device: LatencyDeviceEntry | None = None
    start: str = ""
    average_start: float | None = None

    def serving(self, language: str) -> SubnetRecord | None:
        """Return the subnet that is meant for a language: its own pathway, else the first one for all languages."""
        served = [record for record in self.subnets if record.serves(language)]
        return next((record for record in served if record.pathway == language), next(iter(served), None))

    @property
    def is_learnt(self) -> bool:
        """Whether the training has chosen the subnets, by budgets."""
        return any(record.learnt is not None for record in self.subnets)

    @property
    def is_separate(self) -> bool:
        """Whether this is a model of a single size, trained separately."""
        return self.separate_of is not None

    @property
    def is_searched(self) -> bool:
        """Whether a search chose the measured subnets among many candidates."""
        return self.candidates is not None

    @property
    def largest(self) -> SubnetRecord:
        """The max subnet, or the largest subnet measured."""
        return max(self._counted, key=lambda record: record.params)

    @property
    def smallest(self) -> SubnetRecord:
        """The min subnet, or the smallest subnet measured."""
        return min(self._counted, key=lambda record: record.params)

    @property
    def _counted(self) -> Sequence[SubnetRecord]:
        """The subnets whose parameters were counted, or all subnets if none were."""
        return [record for record in self.subnets if record.params] or self.subnets

    @property
    def front_records(self) -> list[SubnetRecord]:
        """The measured subnets of the Pareto front, smallest first."""
        on_front = [record for record in self.subnets if record.id in self.front]
        return sorted(on_front, key=lambda record: record.params)

    def subnet(self, subnet_id: str) -> SubnetRecord | None:
        """Find the record of a subnet by its id or name; a separate model has that of the subnet it stands for."""
        if self.is_separate:
            # A separate model has one subnet, its whole network, which is "w1" there whatever its size is.
            stands_for_it = subnet_id == self.separate_of
            return self.subnets[0] if self.subnets and stands_for_it else None
        return next((record for record in self.subnets if subnet_id in (record.id, record.name)), None)

    def label(self, record: SubnetRecord) -> str:
        """The name that all records of one size share: a separate model has that of the subnet it stands for."""
        return self.separate_of if self.separate_of is not None else record.name


@dataclass(frozen=True)
class Study:
    """A report in the form that tables, plots and verdicts read.

    Attributes:
        recipe: name of the recipe.
        runs: the experiments, in the order of the report.
        comparisons: the comparisons that tables and claims need, as far as the runs allow them.
        utterances: set -> utterance id -> words of its reference. The order of the ids is that of
            `Rate.by_utterance`.
        phonemes: the same for phonemes, for sets whose phoneme errors are known.
        mask_overlaps: adapted against fixed masks of different experiments.
    """

    recipe: str
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    utterances: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    phonemes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    mask_overlaps: tuple[MaskComparison, ...] = ()

    def with_role(self, role: str) -> list[Run]:
        """The runs of one role, one per seed."""
        return [run for run in self.runs if run.role == role]

    def compare(self, a: tuple[str, str], b: tuple[str, str]) -> Comparison | None:
        """Find the comparison of two systems, in this order; None if it was not made."""
        return next((found for found in self.comparisons if (found.a, found.b) == (a, b)), None)


def read_study(report: Report) -> Study:
    """Convert a report to a study."""
    return Study(
        recipe=report.recipe,
        runs=tuple(_run(name, entry) for name, entry in report.experiments.items()),
        comparisons=tuple(map(comparison_of, report.comparisons)),
        utterances=report.utterances,
        phonemes=report.phonemes,
        mask_overlaps=report.mask_overlaps,
    )


def _run(name: str, entry: ReportedRun) -> Run:
    return Run(
        name=name,
        role=entry.role,
        separate_of=entry.separate_of,
        seed=entry.seed,
        epochs=entry.epochs,
        steps=entry.steps,
        train_minutes=entry.train_minutes,
        hardware=entry.hardware,
        # Null outside a checkout of the code.
        revision=entry.revision or "",
        command=entry.command,
        subnets=_subnets(entry.subnets, entry, entry.learnt),
        slices=_subnets(entry.slices, entry),
        curve=entry.curve,
        model=entry.model,
        family=entry.family,
        is_main=entry.main,
        is_tree=entry.depth is not None,
        front=frozenset(found.id for found in entry.front),
        candidates=entry.candidates,
        search=entry.search,
        int8_search=entry.int8_search,
        rank_correlation=entry.rank_correlation,
        energy={stage: EnergyReading.of(used) for stage, used in entry.energy.items()},
        train_threads=entry.train_threads,
        train_seconds=entry.train_seconds,
        criterion=_criterion(entry),
        masks=entry.masks,
        latency_device=entry.latency_device,
        start=_start(entry),
        average_start=((entry.config or {}).get("training") or {}).get("average_start"),
    )


def _start(entry: ReportedRun) -> str:
    """The experiment from whose weights the training began, from the configuration."""
    initial = ((entry.config or {}).get("training") or {}).get("init") or {}
    return Path(str(initial.get("from", ""))).name


def _criterion(entry: ReportedRun) -> str:
    """The cost that budgets limit, from the configuration."""
    criterion = ((entry.config or {}).get("method") or {}).get("criterion", "")
    return criterion if criterion in COST_UNITS else ""


def _subnets(
    entries: Mapping[str, SubnetEntry], run: Placed, learnt: Sequence[LearntEntry] = ()
) -> tuple[SubnetRecord, ...]:
    """The records, widest first, then largest first. The id breaks ties, so that tables have one order."""
    # Max is known by its id alone, as in other supernets. A subnet of two budgets has the name of the larger one.
    budgets = {item.id: item for item in reversed(learnt) if item.budget is not None}
    records = []
    for subnet_id, entry in entries.items():
        shape = architecture_of(entry.subnet, run.layers, run.depth)
        records.append(_subnet(subnet_id, entry, shape, budgets.get(subnet_id)))
    return tuple(sorted(records, key=lambda record: (-record.width, -record.params, record.id)))


def current_latency(entry: SubnetEntry) -> LatencyEntry | None:
    """Return the latency of a subnet without delays of other weights, another search or other data than its WER's."""
    if entry.latency is None:
        return None
    delays = {name: found for name, found in entry.latency.delays.items() if _made_alike(found, entry.wer.get(name))}
    return entry.latency.model_copy(update={"delays": delays})


def _made_alike(delays: DelayEntry, wer: WerEntry | None) -> bool:
    """Return whether delays and WER of a set belong together; delays alone always do."""
    if wer is None:
        return True
    search = delays.decoding.removesuffix(STREAMING) == wer.decoding.removesuffix(STREAMING)
    return search and (delays.checkpoint, delays.data) == (wer.checkpoint, wer.data)


def _subnet(subnet_id: str, entry: SubnetEntry, architecture: Architecture, learnt: LearntEntry | None) -> SubnetRecord:
    """Convert an entry."""
    int8_wer = {}
    int8_file = None
    if entry.int8 is not None:
        int8_wer = {name: wer_of(scored) for name, scored in entry.int8.wer.items()}
        int8_file = entry.int8.bytes
    return SubnetRecord(
        id=subnet_id,
        width=entry.subnet.width,
        costs=entry.costs,
        wer={name: wer_of(scored) for name, scored in entry.wer.items() if not is_perturbed(name)},
        perturbed={name: wer_of(scored) for name, scored in entry.wer.items() if is_perturbed(name)},
        dev_loss=entry.dev_loss,
        searched_wer=None if entry.search is None else entry.search.wer,
        int8_wer=int8_wer,
        int8_file=int8_file,
        latency=current_latency(entry),
        architecture=architecture,
        per={name: per_of(scored) for name, scored in entry.per.items() if not is_perturbed(name)},
        shape_id=replace(entry.subnet, head=None).id,
        learnt=learnt,
        pathway=entry.subnet.pathway,
        by_language=_by_language(entry),
        deployed=entry.deployed,
    )


def _by_language(entry: SubnetEntry) -> Mapping[str, Mapping[str, Rate]]:
    found = {}
    for name, scored in entry.wer.items():
        if scored.languages and not is_perturbed(name):
            found[name] = {key: language_wer(part, scored) for key, part in scored.languages.items()}
    return found
