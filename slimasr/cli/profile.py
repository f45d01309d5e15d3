"""``slimasr-profile``: print parameters, bytes, MACs, time and memory of subnets."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimasr.cli.common import DebugOption, SetOption, entry, opened, progress, quick_imports, subnets_option
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.config.schema import Config
    from slimasr.experiment import Experiment
    from slimasr.models.base import SpeechModel
    from slimasr.supernet.space import SearchSpace
    from slimasr.supernet.subnet import Subnet

ExpOptional = Annotated[
    Path | None,
    typer.Argument(metavar="EXP", show_default=False, help="Experiment folder, such as exp/slimmable."),
]
ConfigOptional = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of an untrained experiment, instead of EXP."),
]
VocabSizeOption = Annotated[
    int | None,
    typer.Option(
        "--vocab-size",
        metavar="NUMBER",
        min=2,
        help="Number of tokens of an untrained model; used with --config only. "
        "Default: tokenizer.vocab_size of the configuration.",
    ),
]
RtfOption = Annotated[bool, typer.Option("--rtf/--no-rtf", help="Measure time and memory too.")]
LatencyOption = Annotated[
    bool,
    typer.Option(
        "--latency",
        help="Measure the latency of streams too, and note it in EXP/results.json; needs an encoder that streams.",
    ),
]
StorageOption = Annotated[
    bool,
    typer.Option(
        "--storage",
        help="Compare the bytes of pathways in dense, packed and zipped files too; needs EXP with space.kind pathways.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def run(
    exp: ExpOptional = None,
    config: ConfigOptional = None,
    vocab_size: VocabSizeOption = None,
    overrides: SetOption = None,
    subnets: Annotated[list[str] | None, subnets_option("those of the space")] = None,
    rtf: RtfOption = True,
    latency: LatencyOption = False,
    stored: StorageOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print parameters, bytes, MACs, time and memory of subnets.

    Each subnet is measured as a stand-alone model. Of a large search space, only the largest subnet, the Pareto front
    of the search and the smallest subnet are measured. Parameters, bytes and MACs of a pathway are those that it keeps;
    time and memory are those of the dense model with zeros.
    """
    with quick_imports():
        from slimasr.experiment.subnets import profiled_subnets
        from slimasr.files import to_json
        from slimasr.measure.profile import profile, profile_latency, save_latency
        from slimasr.report.tables.common import profile_table
        from slimasr.report.tables.latency import profiled_latency
        from slimasr.report.tables.storage import storage_table
        from slimasr.report.tables.terminal import print_table

    experiment, resolved, model, space = _model(exp, config, vocab_size, overrides or [])
    sizes = _storage(experiment) if stored else {}
    chosen = _chosen(space, experiment, subnets) if subnets else profiled_subnets(space, experiment)
    costs = dict(progress(profile(model, chosen, resolved, measure=rtf), len(chosen), "profile"))
    late = dict(progress(profile_latency(model, chosen, resolved), len(chosen), "latency")) if latency else {}
    if exp is not None and late:
        save_latency(exp, late)
    if as_json:
        entries: dict[str, dict[str, Any]] = {}
        for subnet, found in costs.items():
            entries[subnet.id] = {"subnet": subnet.to_dict(), "costs": found}
            if subnet in late:
                entries[subnet.id]["latency"] = late[subnet].to_dict()
        typer.echo(to_json({**entries, "storage": sizes} if stored else entries))
        return
    print_table(profile_table(costs, resolved.name))
    if late:
        print_table(profiled_latency(late, resolved.name))
    if stored:
        print_table(storage_table(sizes, resolved.name))


main = partial(entry, run)


def _storage(experiment: Experiment | None) -> dict[str, dict[str, dict[str, int]]]:
    """Return what is stored -> ``floats`` and ``int8`` -> form -> bytes."""
    from slimasr.export.storage import storage

    if experiment is None or experiment.model.pathways is None:
        raise UserError("--storage compares the files of pathways: name an experiment with space.kind pathways")
    return {name: asdict(stored) for name, stored in storage(experiment.model).items()}


def _chosen(space: SearchSpace, experiment: Experiment | None, names: list[str]) -> list[Subnet]:
    from slimasr.experiment.subnets import find_subnets

    if experiment is not None:
        return find_subnets(experiment, names)
    return list(dict.fromkeys(map(space.parse, names)))


def _model(
    exp: Path | None, config: Path | None, vocab_size: int | None, overrides: list[str]
) -> tuple[Experiment | None, Config, SpeechModel, SearchSpace]:
    """Return the experiment (None if untrained), its configuration, its model and its search space."""
    from slimasr.config.load import load_config
    from slimasr.experiment import Experiment
    from slimasr.measure.profile import untrained

    if exp is not None and config is None:
        experiment = opened(Experiment.open(exp))
        return experiment, experiment.config, experiment.model, experiment.space
    if exp is not None or config is None:
        raise UserError("name either an experiment folder or --config conf/x.yaml")
    resolved = load_config(config, overrides)
    return None, resolved, *untrained(resolved, vocab_size or resolved.tokenizer.vocab_size)
