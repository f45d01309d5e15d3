"""Typed view of a recipe's ``results.json``: what tables, plots and verdicts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slimasr.errors import UserError
from slimasr.report.architecture import Architecture, Layer, architecture_of
from slimasr.report.roles import TODM


@dataclass(frozen=True)
class Wer:
    """WER of one subnet on one set, in percent, with its 95 % bootstrap interval, if there is one.

    ``by_utterance``: errors in the order of `Study.utterances`, empty where they were not kept; ``decoding``: the
    search in words.
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
    """One measured subnet. ``costs`` and ``wer`` (by set) hold what has been measured so far.

    Attributes:
        searched_wer: dev WER that the search went by, None where there was no search.
        int8_wer: by set, of the model that a runtime runs in int8.
        int8_file: its bytes, None where it was not exported.
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
class CurvePoint:
    """One epoch, on dev: ``values["w0.5/wer"]`` (percent), ``values["w0.5/transducer"]`` (per token)."""

    epoch: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Candidates:
    """Every subnet that a search has looked at, one entry each.

    Attributes:
        set_name: of the dev set.
        wer: dev WER in percent, as the search measured it.
        stopped: whether it was given up early; ``wer`` is then a lower bound.
        costs: cost name -> values.
    """

    set_name: str
    ids: tuple[str, ...]
    wer: tuple[float, ...]
    stopped: tuple[bool, ...]
    costs: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class SearchFacts:
    """What a search took: wall clock of its runs, by the ``workers`` of the last one."""

    generator: str
    candidates: int
    stopped_early: int
    minutes: float
    per_minute: float
    workers: int


@dataclass(frozen=True)
class Run:
    """One experiment.

    Attributes:
        name: folder name, unique in a report.
        role: what it stands for: ``slimmable``, ``slimmable, head size``, ``slimmable, shared norm``,
            ``separate``, ``todm F``, ...
        separate_of: id of the subnet that a separate model is the stand-in for, else None.
        slices: untrained slices of a separate full-width model (claim C1.4).
        model: letter of paper 2, see `slimasr.report.roles.Role`.
        family: see there.
        front: ids of the subnets on the front.
        int8_search: whether the search saw weights rounded as int8 has them.
        rank_correlation: set -> Spearman's correlation of its WERs with dev's over the front, where it exists.
        energy: ``train`` and ``search`` -> what `slimasr.energy` measured.
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
    front: frozenset[str] = frozenset()
    candidates: Candidates | None = None
    search: SearchFacts | None = None
    int8_search: bool = False
    rank_correlation: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_separate(self) -> bool:
        """Whether this is a model of one size trained alone."""
        return self.separate_of is not None

    @property
    def is_todm(self) -> bool:
        """Whether this is a supernet of paper 2."""
        return self.role.startswith(TODM)

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
        """The record that stands for a subnet of the space: a separate model answers for its own size."""
        if self.is_separate:
            return self.subnets[0] if self.subnets and subnet_id == self.separate_of else None
        return next((s for s in self.subnets if s.id == subnet_id), None)

    def label(self, record: SubnetRecord) -> str:
        """The id that joins records of one size: its own, or the subnet a separate model stands for."""
        return self.separate_of if self.separate_of is not None else record.id


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances: ``delta`` = WER of ``a`` minus WER of ``b``, in points.

    ``a`` and ``b`` are (role, subnet id); seeds that both have are pooled; ``low`` and ``high`` are the ends
    of the 95 % interval of the paired bootstrap; or, where ``paired`` is false, of two independent systems.
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
    """Everything one recipe's results hold.

    ``utterances``: set -> utterance id -> words of its reference, ids in order.
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


def read_study(data: Mapping[str, Any]) -> Study:
    """Parse the plain data of a recipe's ``results.json``.

    Raises:
        UserError: a key is missing, i.e. the file was not written by ``slimasr-report --json``.
    """
    try:
        runs = tuple(_run(name, entry) for name, entry in data["experiments"].items())
        comparisons = tuple(_comparison(entry) for entry in data["comparisons"])
        return Study(data["recipe"], runs, comparisons, data.get("utterances", {}))
    except KeyError as error:
        raise UserError(f"results: key {error} is missing; write the file with slimasr-report --json") from None


def _run(name: str, entry: Mapping[str, Any]) -> Run:
    curve = (CurvePoint(int(p["epoch"]), int(p["step"]), p["dev"]) for p in entry["curve"])
    layers = entry.get("layers", ())
    return Run(
        name=name,
        role=entry["role"],
        separate_of=entry.get("separate_of"),
        seed=entry.get("seed", 0),
        epochs=entry.get("epochs", 0),
        steps=entry.get("steps", 0),
        train_minutes=entry.get("train_minutes"),
        hardware=entry.get("hardware", ""),
        revision=entry.get("revision", ""),
        command=entry.get("command", ""),
        subnets=_subnets(entry.get("subnets", {}), layers),
        slices=_subnets(entry.get("slices", {}), layers),
        curve=tuple(curve),
        model=entry.get("model", ""),
        family=entry.get("family", ""),
        front=frozenset(item["id"] for item in entry.get("front", ())),
        candidates=_candidates(entry.get("candidates")),
        search=_search(entry.get("search")),
        int8_search=entry.get("int8_search", False),
        rank_correlation=entry.get("rank_correlation", {}),
        energy=entry.get("energy", {}),
    )


def _candidates(entry: Mapping[str, Any] | None) -> Candidates | None:
    if entry is None:
        return None
    return Candidates(entry["set"], tuple(entry["ids"]), tuple(entry["wer"]), tuple(entry["stopped"]), entry["costs"])


def _search(entry: Mapping[str, Any] | None) -> SearchFacts | None:
    if entry is None:
        return None
    return SearchFacts(
        generator=entry["generator"],
        candidates=entry["candidates"],
        stopped_early=entry["stopped_early"],
        minutes=entry["minutes"],
        per_minute=entry["per_minute"],
        workers=entry["workers"],
    )


def _subnets(entries: Mapping[str, Any], layers: Sequence[Layer]) -> tuple[SubnetRecord, ...]:
    """Records, widest first, then largest first."""
    records = [_subnet(subnet_id, entry, layers) for subnet_id, entry in entries.items()]
    return tuple(sorted(records, key=lambda s: (-s.width, -s.params, s.id)))


def _subnet(subnet_id: str, entry: Mapping[str, Any], layers: Sequence[Layer]) -> SubnetRecord:
    return SubnetRecord(
        id=subnet_id,
        width=float(entry["subnet"].get("width", 1.0)),
        costs=entry.get("costs", {}),
        wer={name: _wer(value) for name, value in entry.get("wer", {}).items()},
        dev_loss=entry.get("dev_loss"),
        searched_wer=entry.get("search", {}).get("wer"),
        int8_wer={name: _wer(value) for name, value in entry.get("int8", {}).get("wer", {}).items()},
        int8_file=entry.get("int8", {}).get("bytes"),
        architecture=architecture_of(entry["subnet"], layers),
    )


def _wer(entry: Mapping[str, Any]) -> Wer:
    interval = entry["ci95"]
    ends = None if interval is None else (interval[0], interval[1])
    by_utterance = tuple(map(int, entry.get("errors_by_utterance", "").split()))
    return Wer(entry["wer"], ends, entry["errors"], entry["words"], by_utterance, entry.get("decoding", ""))


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    low, high = entry["ci95"]
    return Comparison(
        a=(entry["a"]["role"], entry["a"]["subnet"]),
        b=(entry["b"]["role"], entry["b"]["subnet"]),
        sets=tuple(entry["sets"]),
        seeds=tuple(entry["seeds"]),
        words=entry["words"],
        wer_a=entry["wer_a"],
        wer_b=entry["wer_b"],
        delta=entry["delta"],
        low=low,
        high=high,
        paired=entry.get("paired", True),
    )
