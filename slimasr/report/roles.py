"""What every experiment of a report stands for, read from its configuration and never from its name.

Experiments belong to *families*: supernets of equal sizes and the separate models of their subnets. Within one, an
experiment has the name that a paper has for it, or is called after its method. Supernets of one method are told apart
by what their configurations do not have in common with the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimasr.config.schema import Config

SEPARATE = "separate"

_WORDS = {
    "per_width": "norms per width",
    "shared": "shared norms",
    "recalibrated": "recalibrated norms",
    "relative": "relative attention",
    "plain": "plain attention",
    "mh_ssm": "MH-SSM",
    "conformer": "Conformer",
    "multi_exit": "multi-exit",
}
_TOLD_APART_BY = {"model", "space", "method", "loss"}
"""Sections of a configuration whose differences name a supernet. Runs that differ elsewhere share a role."""


@dataclass(frozen=True)
class Described:
    """What a role is made from: the configuration, what a separate model stands for, params by subnet id."""

    config: Config
    separate_of: str | None
    params: Mapping[str, float]


@dataclass(frozen=True)
class Name:
    """What an experiment is called within its family.

    Attributes:
        words: the parts of the name.
        model: a paper's short name for the model, if it has one.
        is_main: whether it is a paper's method in full, and not an ablation or baseline.
    """

    words: tuple[str, ...]
    model: str = ""
    is_main: bool = False


Namer = Callable[[Described, Sequence[Config]], Name | None]
"""The name of an experiment, given all supernets of its family; None where the namer has none for it."""


@dataclass(frozen=True)
class Role:
    """What an experiment stands for.

    Attributes:
        name: unique among the experiments of a report but for the seed: ``slimmable, head size``, ``todm F``.
        model: a paper's short name for the model: ``A1``, ``F``; empty where it has none.
        family: empty for the first family, else its encoder.
        is_main: whether it is a paper's method in full, and not an ablation or baseline.
    """

    name: str
    model: str
    family: str
    is_main: bool


def roles_of(experiments: Mapping[str, Described], namers: Sequence[Namer] = ()) -> dict[str, Role]:
    """The role of every experiment, by name.

    Args:
        experiments: all experiments of a report.
        namers: asked in this order. The families of the supernets that an earlier one names come first.
    """
    keys = {name: _family_key(described, experiments) for name, described in experiments.items()}
    ranks: dict[FamilyKey, int] = {}
    names = {}
    for name, described in experiments.items():
        key = keys[name]
        mates = [experiments[other] for other in experiments if keys[other] == key]
        supernets = [mate.config for mate in mates if mate.separate_of is None]
        names[name], rank = _named(described, supernets, namers)
        if described.separate_of is None:
            ranks[key] = min(rank, ranks.get(key, rank))
    in_order = sorted(dict.fromkeys(keys.values()), key=lambda key: ranks.get(key, len(namers)))
    labels = _family_labels(in_order)
    return {name: _role(names[name], labels[keys[name]]) for name in experiments}


def _named(described: Described, supernets: Sequence[Config], namers: Sequence[Namer]) -> tuple[Name, int]:
    """The name of an experiment, and the place of the namer that gave it."""
    for rank, namer in enumerate(namers):
        name = namer(described, supernets)
        if name is not None:
            return name, rank
    if described.separate_of is not None:
        return Name(separate_words(described, supernets)), len(namers)
    return Name(_supernet_words(described.config, supernets)), len(namers)


def _role(name: Name, family: str) -> Role:
    words = [*name.words, family] if family else name.words
    return Role(", ".join(words), name.model, family, name.is_main)


def separate_words(described: Described, supernets: Sequence[Config]) -> tuple[str, ...]:
    """The name of a separate model: what it has that the first supernet of its family has not.

    A stand-alone model has one width, so how widths would be sliced or normalised does not tell it apart.
    """
    config = described.config
    main = next(iter(supernets), config)
    auxiliary = ("auxiliary losses",) if config.loss.auxiliary is not None else ()
    return (SEPARATE, *auxiliary, *differing_traits(config, main, ("attention",)))


def differing_traits(config: Config, main: Config, traits: Iterable[str]) -> tuple[str, ...]:
    """How an encoder differs from the main one of its family, in words."""
    words = []
    for trait in traits:
        mine = getattr(config.model.encoder, trait, None)
        if mine is not None and mine != getattr(main.model.encoder, trait, None):
            words.append(in_words(mine))
    return tuple(words)


def in_words(value: object) -> str:
    """A value of a configuration as a role or a family calls it."""
    return _WORDS.get(str(value), str(value).replace("_", " "))


def _supernet_words(config: Config, supernets: Sequence[Config]) -> tuple[str, ...]:
    """The method, and what differs from the first supernet that was trained by it."""
    kind: str = config.method.kind
    main = next(other for other in supernets if other.method.kind == kind)
    mine = config.model_dump(mode="json", include=_TOLD_APART_BY)
    theirs = main.model_dump(mode="json", include=_TOLD_APART_BY)
    return (in_words(kind), *_differences(mine, theirs))


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, each with the first one's value where a word or a number can tell it."""
    words = []
    for key in dict.fromkeys([*mine, *theirs]):
        value = mine.get(key)
        other = theirs.get(key)
        if value == other:
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            words += _differences(value, other)
        else:
            words.append(_key_in_words(key.replace("_", " "), value, other))
    return words


def _key_in_words(key: str, value: object, other: object) -> str:
    if value is None or value is False or value == []:
        return f"no {key}"
    if value is True:
        return key
    if isinstance(value, Mapping | list):
        return f"other {key}" if other else key
    return _WORDS.get(str(value), f"{key} {value}")


FamilyKey = tuple[Any, ...]


def _family_key(described: Described, experiments: Mapping[str, Described]) -> FamilyKey:
    """The sizes of a supernet, or of the supernet that a separate model belongs to."""
    if described.separate_of is None:
        return _sizes(described.config)
    supernets = [other for other in experiments.values() if other.separate_of is None]
    if not supernets:
        return _sizes(next(iter(experiments.values())).config)
    own = described.params.values()
    same = [supernet for supernet in supernets if supernet.params.get(described.separate_of) in own]
    possible = [supernet for supernet in supernets if _may_hold(supernet.config, described)]
    fitting = same or possible or supernets
    return _sizes(fitting[0].config)


def _sizes(config: Config) -> FamilyKey:
    encoder = config.model.encoder
    return encoder.kind, encoder.d_model, encoder.num_layers, encoder.ffn_dim


def _may_hold(supernet: Config, described: Described) -> bool:
    """Whether a separate model can be one of a supernet's, judged without its size."""
    assert described.separate_of is not None
    ours = described.config.model.encoder
    theirs = supernet.model.encoder
    has_layers = supernet.space.kind == "layers"
    return ours.kind == theirs.kind and has_layers == ("-" in described.separate_of) and ours.d_model <= theirs.d_model


def _family_labels(keys: Sequence[FamilyKey]) -> dict[FamilyKey, str]:
    """A label for every family, empty for the first one."""
    labels: dict[FamilyKey, str] = {}
    for key in keys:
        kind, channels, layers, _ = key
        label = in_words(kind)
        if labels and (label in labels.values() or kind == keys[0][0]):
            label = f"{label} of {layers} layers, {channels} channels"
        labels[key] = label if labels else ""
    return labels
