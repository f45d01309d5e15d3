"""Parameters, bytes, MACs, time and memory of every subnet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, SetOption, opened, progress
from slimasr.cli.common import entry as run_command
from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.subnets import profiled_subnets
from slimasr.files import to_json
from slimasr.measure.profile import profile, untrained
from slimasr.models.transducer import Transducer
from slimasr.report.tables import profile_table
from slimasr.report.terminal import print_table
from slimasr.supernet.space import SearchSpace


def run(
    exp: Annotated[Path | None, typer.Argument(help="Experiment folder, exp/<name>.", show_default=False)] = None,
    config: Annotated[Path | None, typer.Option(help="Instead: the YAML of an untrained experiment.")] = None,
    vocab_size: Annotated[int | None, typer.Option(min=2, help="With --config; default: the tokenizer's size.")] = None,
    overrides: SetOption = None,
    rtf: Annotated[bool, typer.Option("--rtf/--no-rtf", help="Also measure time and memory.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """List what every subnet costs as a stand-alone model (of a large space: max, the front, min)."""
    resolved, model, space = _model(exp, config, vocab_size, overrides or [])
    subnets = profiled_subnets(space, exp)
    profiles = list(progress(profile(model, subnets, resolved, measure=rtf), len(subnets), "profile"))
    if as_json:
        typer.echo(to_json({p.subnet.id: {"subnet": p.subnet.to_dict(), "costs": p.costs} for p in profiles}))
        return
    print_table(profile_table(profiles, resolved.name))


def main() -> None:
    """Console script ``slimasr-profile``."""
    run_command(run)


def _model(
    exp: Path | None, config: Path | None, vocab_size: int | None, overrides: list[str]
) -> tuple[Config, Transducer, SearchSpace]:
    if exp is not None and config is None:
        experiment = opened(Experiment.open(exp))
        return experiment.config, experiment.model, experiment.space
    if exp is not None or config is None:
        raise UserError("name either an experiment folder or --config conf/x.yaml")
    resolved = load_config(config, overrides)
    return resolved, *untrained(resolved, vocab_size or resolved.tokenizer.vocab_size)
