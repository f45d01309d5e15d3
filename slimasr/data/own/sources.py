"""Which sets of own data have a source, and which are split off from the training data."""

from __future__ import annotations

from typing import Any

from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import own_sets
from slimasr.errors import UserError

SPLIT_OFF = "split off from the training data"


def missing_sets(config: DataConfig) -> tuple[list[str], list[str]]:
    """The dev sets and the test sets without a source, which have to be split off from the training data.

    Raises:
        UserError: more than one dev set or more than one test set has no source.
    """
    trained = own_sets(config.train)
    wanted = {"dev": own_sets([config.dev]), "test": own_sets(config.test)}
    missing = {
        part: [name for name in names if name not in config.sources and name not in trained]
        for part, names in wanted.items()
    }
    for part, names in missing.items():
        if len(names) > 1:
            raise UserError(
                f"data.sources: {part} has {len(names)} sets without a path ({', '.join(names)}), and only one can be "
                "split off from the training data; name their paths"
            )
    return missing["dev"], missing["test"]


def sources_of(config: DataConfig, set_name: str) -> dict[str, Any]:
    """On which sources the content of a set depends, set by set; empty for built-in corpora."""
    if not config.sources:
        return {}
    parts = own_sets([set_name])
    split_off = [name for names in missing_sets(config) for name in names]
    trained = own_sets(config.train)
    if split_off and not set(parts).isdisjoint([*trained, *split_off]):
        parts = [*trained, *parts, *split_off]
    return {name: config.sources.get(name, SPLIT_OFF) for name in dict.fromkeys(parts)}
