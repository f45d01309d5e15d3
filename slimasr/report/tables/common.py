"""The tables of a report that hold for every method, and those that a search and a profile print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from slimasr.report import architecture
from slimasr.report.comparison.families import families, has_shapes, line_name, roles_in
from slimasr.report.comparison.rates import Comparison, Rate
from slimasr.report.pictures.device_latency import latency_notes
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.tables.table import ABSENT, ON_FRONT, Place, Table
from slimasr.supernet.cost import COST_UNITS
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet

MOST_ROWS_ON_TOP = 40
"""Longer tables stand below the plots of the page."""

COSTS = ("params", "int8_bytes", "macs", "rtf", "peak_memory")
"""Costs that a table of results shows."""

LATENCY = "latency"
"""The cost that only a search with the profile of a device knows; tables show it where there is one."""

ALL_COSTS = tuple(cost for cost in COST_UNITS if cost != LATENCY)

UNLIKE = "Systems decoded by different searches are not compared."


@dataclass(frozen=True)
class _Column:
    """A column of the table of subnets: its heading, and the text of its cell for a subnet of a run."""

    title: str
    cell: Callable[[Run, SubnetRecord], str]


def subnet_table(study: Study) -> Table:
    """Make the table of all subnets: architecture, whether on the Pareto front, WERs, also in int8, and costs."""
    columns = _subnet_columns(study)
    titles = [column.title for column in columns]
    rows = []
    for run in study.runs:
        for record in run.subnets:
            rows.append(tuple(column.cell(run, record) for column in columns))
    notes = ["WER with 95 % bootstrap interval; sizes are those of the stand-alone model."]
    if "front" in titles:
        notes.append(f"{ON_FRONT} = on the Pareto front of its experiment (dev WER against cost).")
    if "architecture" in titles:
        notes += _architecture_notes(shown_modules(study))
    if any(record.pathway for run in study.runs for record in run.subnets):
        notes.append(
            "A pathway's WER on a set of several languages is that on the utterances in its own. Its parameters, bytes "
            "and MACs are those that it keeps, its RTF and memory those of the dense model with zeros."
        )
    if per_sets(study):
        notes.append("PER: phoneme errors of the same models without lexicon and language model.")
    if _int8_sets(study):
        notes.append(
            "int8: as a device runtime runs the exported model; its files hold the weights that all its sizes share."
        )
    notes += latency_notes(study)
    place: Place = "top" if len(rows) <= MOST_ROWS_ON_TOP else "bottom"
    return Table("Subnets", tuple(titles), tuple(rows), " ".join(notes), place)


def _subnet_columns(study: Study) -> list[_Column]:
    """The columns, without those that would be empty in every row."""
    int8 = _int8_sets(study)
    columns = [
        _Column("experiment", lambda run, _: run.name),
        _Column("subnet", lambda run, record: run.label(record)),
    ]
    if _has_shapes(study):
        columns.append(_architecture_column(shown_modules(study)))
    if any(run.front for run in study.runs if not run.is_separate):
        columns.append(_Column("front", _front_cell))
    in_phonemes = per_sets(study)
    for name in set_names(study):
        columns.append(_wer_column(name))
        if name in in_phonemes:
            columns.append(_per_column(name))
    columns += [_int8_column(name) for name in int8]
    found = (record.costs for run in study.runs for record in run.subnets)
    columns += [_cost_column(cost) for cost in shown_costs(found)]
    if int8:
        columns.append(_Column("int8 file MB", lambda _, record: _file_cell(record)))
    return columns


# A function for each column that depends on a name: lambdas inside a loop would all see the last name.


def _wer_column(set_name: str) -> _Column:
    return _Column(f"{set_name} WER %", lambda _, record: wer_cell(record.wer, set_name))


def _per_column(set_name: str) -> _Column:
    return _Column(f"{set_name} PER %", lambda _, record: wer_cell(record.per, set_name))


def _int8_column(set_name: str) -> _Column:
    return _Column(f"{set_name} WER %, int8", lambda _, record: wer_cell(record.int8_wer, set_name))


def _cost_column(cost: str) -> _Column:
    return _Column(COST_UNITS[cost].heading, lambda _, record: cost_cells(record.costs, [cost])[0])


def _architecture_column(modules: Sequence[str]) -> _Column:
    return _Column("architecture", lambda _, record: architecture_cell(record, modules))


def _front_cell(run: Run, record: SubnetRecord) -> str:
    # The only subnet of a separate model is always on its front, which means nothing.
    return ON_FRONT if not run.is_separate and record.id in run.front else ""


def _file_cell(record: SubnetRecord) -> str:
    return ABSENT if record.int8_file is None else COST_UNITS["int8_bytes"].figure(record.int8_file)


def architecture_cell(record: SubnetRecord, modules: Sequence[str] = ()) -> str:
    """Return the readable name of a subnet, a dash if its layers are not known; `modules` are named besides FFN."""
    return architecture.name_of(record.architecture, modules) if record.architecture else ABSENT


def shown_modules(study: Study) -> tuple[str, ...]:
    """The modules that a name of an architecture has to tell: those in which subnets of a supernet differ."""
    shaped = [run for run in study.runs if not run.is_separate and has_shapes(run.subnets)]
    found: dict[str, None] = {}
    for run in shaped:
        found |= dict.fromkeys(architecture.varying_modules(record.architecture for record in run.subnets))
    return tuple(found)


def _architecture_notes(modules: Sequence[str]) -> list[str]:
    """What the names of architectures mean."""
    notes = ["FFN: channels of a feed-forward module, on average over the layers that run."]
    others = [module for module in modules if architecture.kind_of(module) != architecture.FEED_FORWARD]
    if others:
        names = " and ".join(others)
        notes.append(f"{names}: units of this module, likewise, or the number of layers that have it.")
    return notes


def separate_table(study: Study) -> Table:
    """Make the table of comparisons with separate models: sizes, WER on every set, and the difference."""
    names = set_names(study)
    modules = shown_modules(study)
    sized = partial(_size_with_architecture, modules=modules) if _has_shapes(study) else _size
    compared = _with_separate(study)
    in_phonemes = any(comparison.per is not None for comparison in compared)
    rows = [_separate_row(study, comparison, names, sized, in_phonemes) for comparison in compared]
    headings = [f"{side} {name} WER %" for name in names for side in ("its", "separate")]
    columns = (
        "supernet",
        "subnet",
        "size",
        "separate model",
        "separate size",
        *headings,
        "difference, points",
        *(["difference in PER, points"] if in_phonemes else []),
        "over",
    )
    notes = [
        "A separate model's partner is the same subnet where it is measured and no search chose it, else the largest "
        "subnet of the Pareto front that is not larger; subnets that a search chose by their dev WER are compared on "
        "the test sets alone.",
        "Size: parameters, and the architecture where it differs layer by layer.",
        "Difference: supernet minus separate, negative = the supernet is better; 95 % interval of the paired "
        "bootstrap, all common seeds pooled.",
    ]
    if any(run.is_learnt for run in study.runs):
        notes.insert(1, "The partner of a subnet that the training chose by a budget is the model of this budget.")
    if is_decoded_unlike(study):
        notes.append(UNLIKE)
    place: Place = "top" if len(rows) <= MOST_ROWS_ON_TOP else "middle"
    return Table("Supernets against separate models", columns, tuple(rows), " ".join(notes), place)


def _with_separate(study: Study) -> list[Comparison]:
    """The comparisons of supernets with separate models."""
    supernets = {run.role for run in study.runs if not run.is_separate}
    alone = {run.role for run in study.runs if run.is_separate}
    return [found for found in study.comparisons if found.a[0] in supernets and found.b[0] in alone]


def _separate_row(
    study: Study,
    comparison: Comparison,
    set_names: Sequence[str],
    sized: Callable[[SubnetRecord | None], str],
    in_phonemes: bool,
) -> tuple[str, ...]:
    systems = (comparison.a, comparison.b)
    # Set by set, the supernet's WER before the separate model's, as in the headings.
    wers = [wer_of(study, role, subnet, name) for name in set_names for role, subnet in systems]
    return (
        comparison.a[0],
        comparison.a[1],
        sized(_record(study, comparison.a)),
        comparison.b[0],
        sized(_record(study, comparison.b)),
        *wers,
        str(comparison),
        *([ABSENT if comparison.per is None else str(comparison.per)] if in_phonemes else []),
        " + ".join(comparison.sets),
    )


def _record(study: Study, system: tuple[str, str]) -> SubnetRecord | None:
    """The first seed's record of a system."""
    role, subnet = system
    records = [run.subnet(subnet) for run in study.with_role(role)]
    return next((record for record in records if record is not None), None)


def _size(record: SubnetRecord | None) -> str:
    return ABSENT if record is None else f"{COST_UNITS['params'].figure(record.params)} M"


def _size_with_architecture(record: SubnetRecord | None, modules: Sequence[str]) -> str:
    return ABSENT if record is None else f"{_size(record)}, {architecture_cell(record, modules)}"


def _has_shapes(study: Study) -> bool:
    """Whether the subnets of a supernet differ by more than the width of all layers."""
    return any(has_shapes(run.subnets) for run in study.runs if not run.is_separate)


def is_decoded_unlike(study: Study) -> bool:
    """Whether the study's sets were decoded by more than one search."""
    decodings = set()
    for run in study.runs:
        for record in run.subnets:
            decodings |= {wer.decoding for wer in record.wer.values()}
    return len(decodings) > 1


def search_table(study: Study) -> Table:
    """Make the table of searches: what they took, and how far dev can be trusted to rank the Pareto front."""
    runs = [run for run in study.runs if run.search is not None]
    dev = next((run.candidates.set_name for run in runs if run.candidates is not None), "dev")
    # Each name once, in the order of the runs.
    tests = list(dict.fromkeys(name for run in runs for name in run.rank_correlation))
    rows = [_search_row(run, runs, tests) for run in runs]
    columns = (
        "model",
        "generator",
        "candidates",
        "stopped early",
        "workers",
        "candidates/min",
        "minutes",
        "search/training",
        *(f"rank correlation of {dev} and {name}" for name in tests),
    )
    note = "Minutes: wall clock. Rank correlation: Spearman's, of the WERs over the Pareto front."
    return Table("Search", columns, tuple(rows), note)


def _search_row(run: Run, runs: Sequence[Run], tests: Sequence[str]) -> tuple[str, ...]:
    search = run.search
    assert search is not None
    fraction = f"{100 * search.minutes / run.train_minutes:.1f} %" if run.train_minutes else ABSENT
    correlations = []
    for name in tests:
        value = run.rank_correlation.get(name)
        correlations.append(ABSENT if value is None else f"{value:.2f}")
    return (
        line_name(run, runs),
        search.generator,
        f"{search.candidates:,}",
        f"{search.stopped_early:,}",
        str(search.workers),
        f"{search.per_minute:.1f}",
        f"{search.minutes:.1f}",
        fraction,
        *correlations,
    )


def slice_table(study: Study) -> Table:
    """Make the table of separate full-width models that were sliced without training as a supernet.

    The last column has the same subnet of the family's first supernet.
    """
    rows = []
    for family in families(study.runs):
        supernet = next(iter(roles_in(family.supernets)), "")
        for run in family.separate:
            for sliced in run.slices:
                for name, wer in sliced.wer.items():
                    rows.append((run.name, sliced.id, name, str(wer), wer_of(study, supernet, sliced.id, name)))
    columns = ("experiment", "slice", "set", "sliced WER %", "supernet WER %")
    return Table("Untrained slices of a separate model", columns, tuple(rows))


def measurement_table(
    measurements: Iterable[Measurement], front: Iterable[Measurement], set_name: str, cost: str
) -> Table:
    """Make the table of what a search has measured, cheapest first, with its Pareto front."""
    on_front = {measurement.subnet.id for measurement in front}
    rows = []
    listed = sorted(measurements, key=lambda measurement: measurement.cost(cost))
    costs = shown_costs(measurement.costs for measurement in listed)
    for measurement in listed:
        subnet_id = measurement.subnet.id
        mark = ON_FRONT if subnet_id in on_front else ""
        dev_loss = ABSENT if measurement.dev_loss is None else f"{measurement.dev_loss:.3f}"
        rows.append((subnet_id, mark, f"{measurement.wer:.2f}", dev_loss, *cost_cells(measurement.costs, costs)))
    columns = ("subnet", "front", f"{set_name} WER %", "loss per token", *cost_columns(costs))
    note = f"{ON_FRONT} = on the Pareto front of {set_name} WER against {cost}."
    return Table("Measured subnets", columns, tuple(rows), note)


def profile_table(costs: Mapping[Subnet, Mapping[str, float]], name: str) -> Table:
    """Make the table of the costs of a model's subnets."""
    columns = ("subnet", *cost_columns(ALL_COSTS))
    rows = tuple((subnet.id, *cost_cells(found, ALL_COSTS)) for subnet, found in costs.items())
    note = "MACs per second of audio, predictor MACs per token; RTF on one thread: encoder and greedy search."
    return Table(f"Costs of {name}", columns, rows, note)


def shown_costs(found: Iterable[Mapping[str, float]]) -> tuple[str, ...]:
    """Return the costs that a table shows: the latency on a device only where some subnet has one."""
    return (*COSTS, LATENCY) if any(LATENCY in costs for costs in found) else COSTS


def cost_columns(costs: Sequence[str] = COSTS) -> list[str]:
    """Return the headings of cost columns, with their units."""
    return [COST_UNITS[cost].heading for cost in costs]


def cost_cells(values: Mapping[str, float], costs: Sequence[str] = COSTS) -> list[str]:
    """Return figures in the units of the headings, with a dash for a cost that was not measured."""
    cells = []
    for cost in costs:
        cells.append(COST_UNITS[cost].figure(values[cost]) if cost in values else ABSENT)
    return cells


def set_names(study: Study) -> list[str]:
    """Return the names of all scored sets, dev first."""
    # A dict with no values: each name once, in the order of the runs.
    names: dict[str, None] = {}
    for run in study.runs:
        for record in run.subnets:
            names |= dict.fromkeys(record.wer)
    return dev_first(names)


def dev_first(names: Iterable[str]) -> list[str]:
    """Put names of dev sets before all others; names keep their order otherwise."""
    # Sorting is stable, and False comes before True.
    return sorted(names, key=lambda name: not name.startswith("dev"))


def per_sets(study: Study) -> set[str]:
    """Return the names of the sets whose phoneme errors are known."""
    return {name for run in study.runs for record in run.subnets for name in record.per}


def _int8_sets(study: Study) -> list[str]:
    """Names of the sets that were decoded in int8."""
    decoded: set[str] = set()
    for run in study.runs:
        for record in run.subnets:
            decoded |= record.int8_wer.keys()
    return [name for name in set_names(study) if name in decoded]


def wer_cell(wers: Mapping[str, Rate], set_name: str) -> str:
    """Return the WER or PER on one set, a dash if the set was not decoded."""
    return str(wers[set_name]) if set_name in wers else ABSENT


def wer_of(study: Study, role: str, subnet: str, set_name: str) -> str:
    """Return the WER of the run with this role and subnet, or the mean over its seeds."""
    records = [run.subnet(subnet) for run in study.with_role(role)]
    wers = [record.wer[set_name] for record in records if record is not None and set_name in record.wer]
    if not wers:
        return ABSENT
    if len(wers) == 1:
        return str(wers[0])
    mean = sum(wer.rate for wer in wers) / len(wers)
    return f"{mean:.2f} (mean of {len(wers)} seeds)"
