"""Tables of TODM experiments (paper 2): against separate models, model beside model, and what the search took."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.report.families import line_name
from slimasr.report.pairs import main_todm, of_model, todm_pairs
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.roles import MODELS, OVER
from slimasr.report.tables import ABSENT, Table, set_names, shape_cells

_HALF = 0.5
_AGAINST_SEPARATE = ("C2.1", "C2.2", "")


def separate_table(study: Study) -> Table:
    """The main model's subnets against separate models of about the same size."""
    names, rows = set_names(study), []
    for family in dict.fromkeys(run.family for run in study.runs if run.is_todm):
        mates = [run for run in study.runs if run.family == family]
        main, alone = main_todm(mates), of_model(mates, "A1")
        if main is None or alone is None:
            continue
        for pair in todm_pairs(mates):
            if pair.claim not in _AGAINST_SEPARATE or pair.b[0] != alone.role:
                continue
            comparison = study.compare(pair.a, pair.b)
            ours = main.subnet(pair.a[1])
            partner = next((run for run in mates if run.role == pair.b[0] and run.separate_of == pair.b[1]), None)
            theirs = partner.subnet(pair.b[1]) if partner is not None else None
            if ours is None or theirs is None:
                continue
            wers = [_wer(record, name) for name in names for record in (ours, theirs)]
            difference = ABSENT if comparison is None else f"{comparison} on {' + '.join(comparison.sets)}"
            rows.append((main.role, pair.a[1], _size(ours), _size(theirs), difference, *wers))
    headings = [f"{side} {name} WER %" for name in names for side in ("its", "separate")]
    note = (
        "The separate model's partner is the same subnet where that is max or min, else the largest subnet of the "
        "front that is not larger. Size: parameters; layers x mean FFN. Difference: supernet minus separate, "
        "negative = the supernet is better."
    )
    columns = ("model", "subnet", "its size", "separate size", "difference, points", *headings)
    return Table("TODM against separate models", columns, tuple(rows), note, place="top")


def model_table(study: Study) -> Table:
    """All models of paper 2 side by side: max, about half its size, min; set by set."""
    runs = [run for run in study.runs if run.model not in ("", "A1") and run.subnets]
    rows = []
    for name in set_names(study) if any(run.is_todm for run in runs) else ():
        for run in runs:
            medium = about_half(run)
            rows.append(
                (
                    name,
                    line_name(run, runs),
                    _meaning(run.model),
                    _wer(run.largest, name),
                    ABSENT if medium is None else _wer(medium, name),
                    ABSENT if medium is None else _millions(medium),
                    *((ABSENT, ABSENT) if run.is_separate else (_wer(run.smallest, name), _millions(run.smallest))),
                )
            )
    columns = ("set", "model", "what it is", "max", "medium", "medium, params M", "min", "min, params M")
    note = "WER in percent. Medium: the measured subnet, neither max nor min, nearest to half the size of max."
    return Table("Models of paper 2 side by side, WER %", columns, tuple(rows), note)


def search_table(study: Study) -> Table:
    """What every search took, and how far its dev set can be trusted to rank the front."""
    runs = [run for run in study.runs if run.search is not None]
    tests = list(dict.fromkeys(name for run in runs for name in run.rank_correlation))
    rows = [_search_row(run, runs, tests) for run in runs]
    columns = (
        "model",
        "generator",
        "candidates",
        "given up early",
        "workers",
        "candidates/min",
        "minutes",
        "search/training",
        *(f"rank correlation of {runs[0].candidates.set_name if runs[0].candidates else 'dev'} and {t}" for t in tests),
    )
    note = "Minutes: wall clock. Rank correlation: Spearman's, of the WERs over the front."
    return Table("Search", columns, tuple(rows), note)


def about_half(run: Run) -> SubnetRecord | None:
    """The subnet nearest to half the size of max, max and min aside."""
    ends = {run.largest.id, run.smallest.id}
    between = [record for record in run.subnets if record.id not in ends]
    return min(between, key=lambda record: abs(record.params - _HALF * run.largest.params), default=None)


def _search_row(run: Run, runs: Sequence[Run], tests: Sequence[str]) -> tuple[str, ...]:
    search = run.search
    assert search is not None
    share = search.minutes / run.train_minutes if run.train_minutes else None
    return (
        line_name(run, runs),
        search.generator,
        f"{search.candidates:,}",
        f"{search.stopped_early:,}",
        str(search.workers),
        f"{search.per_minute:.1f}",
        f"{search.minutes:.1f}",
        ABSENT if share is None else f"{100 * share:.1f} %",
        *(f"{run.rank_correlation[name]:.2f}" if name in run.rank_correlation else ABSENT for name in tests),
    )


def _meaning(model: str) -> str:
    """What a letter stands for, and what differs from it."""
    name, _, rest = model.partition(", ")
    letter, _, tokens = name.partition(OVER)
    meaning = MODELS.get(letter, letter)
    if tokens:
        meaning = meaning.replace("10 likeliest tokens", tokens.replace("tokens", "likeliest tokens"))
    return ", ".join(part for part in (meaning, rest) if part)


def _size(record: SubnetRecord) -> str:
    return f"{_millions(record)} M; {' x '.join(shape_cells(record))}"


def _millions(record: SubnetRecord) -> str:
    return f"{record.params / 1e6:.3f}"


def _wer(record: SubnetRecord, set_name: str) -> str:
    return str(record.wer[set_name]) if set_name in record.wer else ABSENT
