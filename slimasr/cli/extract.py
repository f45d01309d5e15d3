"""``slimasr-extract``: save one subnet as a stand-alone model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    DebugOption,
    ExpArgument,
    LanguageOption,
    MaxInt8,
    MaxLatency,
    MaxMacs,
    MaxParams,
    MaxRtf,
    entry,
    opened,
    quick_imports,
    subnet_option,
)
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.experiment import Experiment
    from slimasr.supernet.front import Limits
    from slimasr.supernet.subnet import Subnet

OutOption = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", show_default=False, help="Folder to write the new experiment to."),
]


def run(
    exp: ExpArgument,
    out: OutOption,
    subnet: Annotated[str | None, subnet_option("the best subnet within the limits")] = None,
    language: LanguageOption = None,
    max_params: MaxParams = None,
    max_int8_mb: MaxInt8 = None,
    max_macs: MaxMacs = None,
    max_rtf: MaxRtf = None,
    max_latency_ms: MaxLatency = None,
    debug: DebugOption = False,
) -> None:
    """Save one subnet as a stand-alone model.

    The subnet is the one that --subnet names, or the one with the lowest dev WER that a search has measured within the
    limits. The result is an experiment folder that every other command accepts.
    """
    with quick_imports():
        from slimasr.experiment import Experiment
        from slimasr.experiment.extract import extract_experiment
        from slimasr.supernet.front import Limits

    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf, max_latency_ms)
    experiment = opened(Experiment.open(exp))
    chosen = _choose(experiment, subnet, language, limits)
    cost = extract_experiment(experiment, chosen, out)
    typer.echo(f"{out}: {chosen.id}, {cost.params:,} parameters, {cost.int8_bytes / 1e6:.2f} MB in int8")


main = partial(entry, run)


def _choose(experiment: Experiment, subnet: str | None, language: str | None, limits: Limits) -> Subnet:
    from slimasr.experiment.archive import read_candidates
    from slimasr.experiment.subnets import chosen_subnet
    from slimasr.supernet.front import best_under

    given = bool(limits.given)
    nothing = subnet is None and language is None and not given
    if nothing or (subnet is not None and given):
        raise UserError("name either --subnet or limits such as --max-params 2e6")
    # Limits choose among the subnets of a language; without them, the language names its pathway.
    if given:
        return best_under(read_candidates(experiment), limits, language or "").subnet
    return chosen_subnet(experiment, subnet, language)
