"""The records of a report in the form that tables, plots and verdicts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slimasr.energy import EnergyReading
from slimasr.report.architecture import Architecture, Layer, architecture_of
from slimasr.results.report import CandidateLists, ComparisonEntry, CurvePoint, Report, ReportedRun
from slimasr.results.schema import SubnetEntry, WerEntry
from slimasr.results.search import Summary


@dataclass(frozen=True)
class Wer:
    """The WER of one subnet on one set.

    Attributes:
        wer: in percent.
        interval: 95 % bootstrap interval in percent, None where there is none.
        errors: word errors.
        words: words of the references.
        by_utterance: errors in the order of `Study.utterances`, empty where they were not kept.
        decoding: the search for the words, in words.
    """

    wer: float
    interval: tuple[float, float] | None
    errors: int
    words: int
    by_utterance: tuple[int, ...] = ()
    decoding: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval, the WER itself without one."""
        return self.wer if self.interval is None else self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval, the WER itself without one."""
        return self.wer if self.interval is None else self.interval[1]

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.wer:.2f}"
        return f"{self.wer:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class SubnetRecord:
    """One measured subnet.

    Attributes:
        costs: by name, as far as they have been measured.
        wer: by set, as far as sets have been scored.
        searched_wer: dev WER by which the search chose, None where there was no search.
        int8_wer: by set, of the int8 model in a runtime.
        int8_file: size of the int8 model in bytes, None where it was not exported.
        architecture: empty in results that were written without it.
    """

    id: str
    width: float
    costs: Mapping[str, float]
    wer: Mapping[str, Wer]
    dev_loss: float | None
    searched_wer: float | None = None
    int8_wer: Mapping[str, Wer] = field(default_factory=dict)
    int8_file: int | None = None
    architecture: Architecture = ()

    @property
    def params(self) -> float:
        """Parameters, 0 where they were not counted."""
        return self.costs.get("params", 0.0)

    @property
    def is_decoded(self) -> bool:
        """Whether there is a WER beyond the dev set's."""
        return len(self.wer) > 1


@dataclass(frozen=True)
class Run:
    """One experiment.

    Attributes:
        name: folder name, unique in a report.
        role: what it stands for: ``slimmable``, ``slimmable, head size``, ``slimmable, shared norm``,
            ``separate``, ``todm F``, ...
        separate_of: id of the subnet that a separate model stands for, else None.
        slices: untrained slices of a separate full-width model (claim C1.4).
        model: a paper's short name for the model, see `slimasr.report.roles.Role`.
        family: see there.
        is_main: see there.
        front: ids of the subnets on the Pareto front.
        int8_search: whether the search saw weights rounded as int8 has them.
        candidates: every subnet that the search evaluated, None where there was no choice.
        search: how fast the search was, None where that is not known.
        rank_correlation: set -> Spearman's correlation of its WERs with dev's over the front, where it exists.
        energy: what the stages ``train`` and ``search`` took, where it was measured.
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
    front: frozenset[str] = frozenset()
    candidates: CandidateLists | None = None
    search: Summary | None = None
    int8_search: bool = False
    rank_correlation: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, EnergyReading] = field(default_factory=dict)

    @property
    def is_separate(self) -> bool:
        """Whether this is a model of one size trained alone."""
        return self.separate_of is not None

    @property
    def is_searched(self) -> bool:
        """Whether a search chose the measured subnets among many candidates."""
        return self.candidates is not None

    @property
    def largest(self) -> SubnetRecord:
        """The max subnet, or what has been measured of it."""
        return max(self._counted, key=lambda s: s.params)

    @property
    def smallest(self) -> SubnetRecord:
        """The min subnet, or what has been measured of it."""
        return min(self._counted, key=lambda s: s.params)

    @property
    def _counted(self) -> Sequence[SubnetRecord]:
        """The subnets that have a size, all where none has."""
        return [s for s in self.subnets if s.params] or self.subnets

    @property
    def front_records(self) -> list[SubnetRecord]:
        """The measured subnets of the front, smallest first."""
        return sorted((s for s in self.subnets if s.id in self.front), key=lambda s: s.params)

    def subnet(self, subnet_id: str) -> SubnetRecord | None:
        """The record of a subnet of the space; that of a separate model, where it stands for this subnet."""
        if self.is_separate:
            return self.subnets[0] if self.subnets and subnet_id == self.separate_of else None
        return next((s for s in self.subnets if s.id == subnet_id), None)

    def label(self, record: SubnetRecord) -> str:
        """The id by which records of one size are joined: a separate model has that of the subnet it stands for."""
        return self.separate_of if self.separate_of is not None else record.id


@dataclass(frozen=True)
class Comparison:
    """Two systems, compared on the same utterances.

    Attributes:
        a: role and subnet id of the first system.
        b: those of the second one.
        seeds: seeds that both have; their utterances are pooled.
        delta: WER of ``a`` minus WER of ``b``, in points.
        low: lower end of its 95 % interval.
        high: upper end of it.
        paired: whether the interval is that of the paired bootstrap, not that of two independent systems.
    """

    a: tuple[str, str]
    b: tuple[str, str]
    sets: tuple[str, ...]
    seeds: tuple[int, ...]
    words: int
    wer_a: float
    wer_b: float
    delta: float
    low: float
    high: float
    paired: bool = True

    def __str__(self) -> str:
        ends = f"{self.delta:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        return ends if self.paired else f"{ends} (unpaired)"


def difference_in_words(comparison: Comparison, a: str, b: str) -> str:
    """Both WERs, their difference and its interval, for systems called ``a`` and ``b``."""
    return f"{a} {comparison.wer_a:.2f} %, {b} {comparison.wer_b:.2f} %, difference {comparison}"


@dataclass(frozen=True)
class Study:
    """A report in the form that tables, plots and verdicts read.

    Attributes:
        utterances: set -> utterance id -> words of its reference, ids in order.
    """

    recipe: str
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    utterances: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def with_role(self, role: str) -> list[Run]:
        """The runs of one role, one per seed."""
        return [run for run in self.runs if run.role == role]

    def compare(self, a: tuple[str, str], b: tuple[str, str]) -> Comparison | None:
        """The comparison of two systems, if both were decoded."""
        return next((c for c in self.comparisons if (c.a, c.b) == (a, b)), None)


def read_study(report: Report) -> Study:
    """The study that a report holds."""
    return Study(
        recipe=report.recipe,
        runs=tuple(_run(name, entry) for name, entry in report.experiments.items()),
        comparisons=tuple(map(comparison_of, report.comparisons)),
        utterances=report.utterances,
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
        revision=entry.revision or "",
        command=entry.command,
        subnets=_subnets(entry.subnets, entry.layers),
        slices=_subnets(entry.slices, entry.layers),
        curve=entry.curve,
        model=entry.model,
        family=entry.family,
        is_main=entry.main,
        front=frozenset(found.id for found in entry.front),
        candidates=entry.candidates,
        search=entry.search,
        int8_search=entry.int8_search,
        rank_correlation=entry.rank_correlation,
        energy={stage: EnergyReading.of(used) for stage, used in entry.energy.items()},
    )


def _subnets(entries: Mapping[str, SubnetEntry], layers: Sequence[Layer]) -> tuple[SubnetRecord, ...]:
    """Records, widest first, then largest first."""
    records = [_subnet(subnet_id, entry, layers) for subnet_id, entry in entries.items()]
    return tuple(sorted(records, key=lambda record: (-record.width, -record.params, record.id)))


def _subnet(subnet_id: str, entry: SubnetEntry, layers: Sequence[Layer]) -> SubnetRecord:
    return SubnetRecord(
        id=subnet_id,
        width=entry.subnet.width,
        costs=entry.costs,
        wer={name: _wer(scored) for name, scored in entry.wer.items()},
        dev_loss=entry.dev_loss,
        searched_wer=None if entry.search is None else entry.search.wer,
        int8_wer={} if entry.int8 is None else {name: _wer(scored) for name, scored in entry.int8.wer.items()},
        int8_file=None if entry.int8 is None else entry.int8.bytes,
        architecture=architecture_of(entry.subnet, layers),
    )


def _wer(entry: WerEntry) -> Wer:
    return Wer(entry.wer, entry.ci95, entry.errors, entry.words, entry.by_utterance, entry.decoding)


def comparison_of(entry: ComparisonEntry) -> Comparison:
    """The comparison that a report holds."""
    low, high = entry.ci95
    return Comparison(
        a=entry.a.name,
        b=entry.b.name,
        sets=entry.sets,
        seeds=entry.seeds,
        words=entry.words,
        wer_a=entry.wer_a,
        wer_b=entry.wer_b,
        delta=entry.delta,
        low=low,
        high=high,
        paired=entry.paired,
    )
