"""The remaining ratio: which share of every module of every block a learnt subnet keeps (paper 4, figure 2)."""

from __future__ import annotations

from slimasr.report.comparison.families import families, line_name
from slimasr.report.pictures.drawings import caption_of
from slimasr.report.pictures.picture import HeatMap, HeatMapRow, HeatMaps, numbered
from slimasr.report.records import Run, Study, SubnetRecord

Shares = tuple[dict[str, float], ...]
"""One entry per block, the one at the input first: module -> kept units / all units."""

NOTE = (
    "Percent of the units of a module that a subnet keeps, block by block, the input's at the bottom. Below: budget, "
    "parameters in millions (M), WER."
)


def remaining_shares(run: Run, record: SubnetRecord) -> Shares:
    """Return the share of every module that a subnet of a run keeps; modules that no subnet has are left out.

    Raises:
        ValueError: the layers of the run are not known.
    """
    if not run.largest.architecture or not record.architecture:
        raise ValueError(f"{run.name}: its layers are not known")
    shares = []
    for whole, kept in zip(run.largest.architecture, record.architecture, strict=True):
        sizes = {} if kept is None else kept
        shares.append({module: sizes.get(module, 0) / full for module, full in (whole or {}).items() if full})
    return tuple(shares)


def remaining_maps(study: Study, set_name: str) -> list[HeatMaps]:
    """Describe a picture for each family with learnt subnets: a row of maps per run, a map per budget."""
    pictures: list[HeatMaps] = []
    for family in families(study.runs):
        rows = []
        for run in family.runs:
            learnt = [record for record in run.subnets if record.learnt is not None and record.architecture]
            if learnt:
                maps = tuple(_map(run, record, set_name) for record in learnt)
                rows.append(HeatMapRow(line_name(run, study.runs), maps))
        if rows:
            name = numbered("remaining", len(pictures))
            of_family = f", {family.name}" if family.name else ""
            title = f"Remaining ratio in %{of_family}; WER on {set_name}"
            pictures.append(HeatMaps(name, title, NOTE, tuple(rows)))
    return pictures


def _map(run: Run, record: SubnetRecord, set_name: str) -> HeatMap:
    shares = remaining_shares(run, record)
    modules = tuple(dict.fromkeys(module for block in shares for module in block))
    # A block of other sizes may lack a module, of which there is nothing to keep.
    cells = tuple(tuple(block.get(module) for module in modules) for block in shares)
    return HeatMap(record.id, (record.name, *caption_of(run, record, set_name)), modules, cells)
