"""Save one subnet as a stand-alone model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, ExpArgument, opened
from slimasr.cli.common import entry as run_command
from slimasr.cli.search import MaxInt8, MaxMacs, MaxParams, MaxRtf
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates
from slimasr.experiment.extract import extract_experiment
from slimasr.experiment.subnets import find_subnet
from slimasr.supernet.front import Limits, best_under
from slimasr.supernet.subnet import Subnet


def run(
    exp: ExpArgument,
    out: Annotated[Path, typer.Option(help="Folder of the new experiment.", show_default=False)],
    subnet: Annotated[str | None, typer.Option(help="A width (0.5), an id, max, min, or JSON.")] = None,
    max_params: MaxParams = None,
    max_int8_mb: MaxInt8 = None,
    max_macs: MaxMacs = None,
    max_rtf: MaxRtf = None,
    debug: DebugOption = False,
) -> None:
    """Save one subnet, named or best under limits, as an experiment that every other command accepts."""
    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf)
    experiment = opened(Experiment.open(exp))
    chosen = _choose(experiment, subnet, limits)
    cost = extract_experiment(experiment, chosen, out)
    typer.echo(f"{out}: {chosen.id}, {cost.params:,} parameters, {cost.int8_bytes / 1e6:.2f} MB in int8")


def main() -> None:
    """Console script ``slimasr-extract``."""
    run_command(run)


def _choose(experiment: Experiment, subnet: str | None, limits: Limits) -> Subnet:
    if (subnet is None) == (not limits.given):
        raise UserError("name either --subnet or limits such as --max-params 2e6")
    if subnet is not None:
        return find_subnet(experiment, subnet)
    return best_under(read_candidates(experiment.dir), limits).subnet
