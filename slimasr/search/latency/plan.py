"""Say which subnets to export and to profile, as commands that can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.results.profile import FedEntry
from slimasr.search.latency.cover import to_profile
from slimasr.search.latency.device import LatencyOptions, chosen_rows, profile_of, terms_of_experiment
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


def planned_subnets(experiment: Experiment, options: LatencyOptions | None) -> list[Subnet]:
    """List the subnets to profile on a device, without those that a profile holds.

    Args:
        experiment: the experiment whose subnets are searched.
        options: the profile that there is already, None if there is none.

    Raises:
        UserError: the profile cannot be read or is one of another model, or latency cannot be a cost of the experiment.
    """
    space = experiment.space
    profiled: list[Subnet] = []
    if options is not None:
        rows = chosen_rows(profile_of(options.profile, experiment), options, experiment.config.search.int8)
        profiled = [space.canonical(row.subnet) for row in rows if row.subnet in space]
    return to_profile(terms_of_experiment(experiment), profiled)


def export_command(exp: Path, space: SearchSpace, subnets: Sequence[Subnet], streaming: FedEntry | None = None) -> str:
    """Return the command that exports these subnets, in several lines for a shell.

    Args:
        exp: folder of the experiment.
        space: the space of the subnets.
        subnets: the subnets.
        streaming: how the encoders of the profile that there is already are fed; None = with whole utterances.
    """
    lines = [f"slimasr-export {shlex.quote(str(exp))} --out {shlex.quote(f'{exp.name}-latency')}"]
    # Times of whole utterances and of chunks do not belong together.
    lines += [f"--streaming --chunk-frames {streaming.chunk_frames}"] if streaming else []
    lines += [f"--subnet {shlex.quote(name_of(space, subnet))}" for subnet in subnets]
    return " \\\n    ".join(lines)


def name_of(space: SearchSpace, subnet: Subnet) -> str:
    """Return the shortest name that a command understands: ``max``, ``min``, an id, or the description in JSON."""
    for name in ("max", "min", subnet.id):
        try:
            if space.parse(name) == subnet:
                return name
        except UserError:
            # The ids of large spaces end in a hash, by which a subnet cannot be found.
            continue
    return subnet.to_json()
