"""Weights that are not trained (``training.init.freeze``): no gradient, no decay, no share in the average."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from slimasr.config.training import OptimizerConfig
from slimasr.elastic.norm import RunningStats
from slimasr.errors import UserError
from slimasr.training.optimizer import objective_groups

KEY = "training.init.freeze"
LISTED = 3
"""An error names at most this many near names."""


def chosen_parameters(model: nn.Module, patterns: Iterable[str], random: Collection[str] = ()) -> list[str]:
    """Return the names of the parameters that patterns choose, in the order of the model.

    Args:
        model: the model.
        patterns: names in which ``*`` stands for any characters.
        random: names of parameters that have not been taken from anywhere, and that are therefore trained.

    Raises:
        UserError: a pattern chooses no parameter, or none that has been taken, or all of them are chosen.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise UserError(f"{KEY}: no parameter is named {pattern}; near names: {', '.join(_near(pattern, names))}")
        if found <= set(random):
            raise UserError(f"{KEY}: {pattern} chooses only random weights, such as {min(found)}; leave it out")
        chosen |= found
    frozen = [name for name in names if name in chosen and name not in random]
    if len(frozen) == len(names):
        raise UserError(f"{KEY}: all parameters are frozen, so that nothing would be trained; leave a pattern out")
    return frozen


def freeze(model: nn.Module, parameters: Collection[str], stats: Collection[str] = ()) -> None:
    """Keep parameters, and statistics of batch norms, as they are.

    Args:
        model: the model.
        parameters: names of parameters.
        stats: names of `RunningStats` modules.
    """
    for name, parameter in model.named_parameters():
        if name in parameters:
            parameter.requires_grad_(False)
    for name, module in model.named_modules():
        if isinstance(module, RunningStats) and name in stats:
            module.fixed = True


def parameter_counts(model: nn.Module, config: OptimizerConfig) -> dict[str, int]:
    """Return how many numbers each group of the optimiser trains, without empty groups, and how many are ``frozen``."""
    counts = {group.name: sum(p.numel() for p in group.parameters) for group in objective_groups(model, config)}
    counts["frozen"] = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return {name: count for name, count in counts.items() if count}


def describe_counts(counts: dict[str, int]) -> str:
    """Describe `parameter_counts` in one line."""
    frozen = counts.get("frozen", 0)
    total = sum(counts.values())
    groups = ", ".join(f"{name} {count:,}" for name, count in counts.items() if name != "frozen")
    return f"{total - frozen:,} of {total:,} parameters are trained ({groups}), {frozen:,} are frozen"


def _near(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names and beginnings of names that are most like a pattern."""
    parts = [name.split(".") for name in names]
    beginnings = [f"{'.'.join(part[:length])}.*" for part in parts for length in range(1, len(part))]
    candidates = list(dict.fromkeys([*names, *beginnings]))
    return difflib.get_close_matches(pattern, candidates, n=LISTED, cutoff=0.0)
