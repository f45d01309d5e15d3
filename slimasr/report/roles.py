"""Find out what every experiment of a report stands for, from its configuration and never from its name.

Experiments belong to *families*: supernets of equal sizes and the separate models of their subnets. Within a family,
an experiment has the name that a paper gives it, or it is called after its method. If several supernets have the same
method, all but the first are named after the differences of their configurations from the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slimasr.config.schema import Config
from slimasr.report.architecture import feed_forward
from slimasr.results.masks import MasksEntry

SEPARATE = "separate"

# Values of a configuration -> how roles and families call them. Other values stand for themselves.
_WORDS = {
    "per_width": "norms per width",
    "shared": "shared norms",
    "recalibrated": "recalibrated norms",
    "relative": "relative attention",
    "plain": "plain attention",
    "mh_ssm": "MH-SSM",
    "conformer": "Conformer",
    "emformer": "Emformer",
    "multi_exit": "multi-exit",
}
_TOLD_APART_BY = {"model", "space", "method", "loss"}
"""Sections of a configuration whose differences name a supernet. Runs that differ elsewhere share a role, unless one
of them began with a trained model."""


@dataclass(frozen=True)
class Described:
    """The facts about an experiment that its role depends on.

    Attributes:
        config: its resolved configuration.
        separate_of: id of the subnet that a separate model stands for, None for a supernet.
        params: parameters by subnet id, 0 if they were not counted.
        masks: what the training has recorded of the masks of pathways, None without any.
    """

    config: Config
    separate_of: str | None
    params: Mapping[str, float]
    masks: MasksEntry | None = None


@dataclass(frozen=True)
class Name:
    """The name of an experiment within its family.

    Attributes:
        words: the parts of the name, which commas will separate.
        model: a paper's short name for the model, if it has one.
        is_main: whether it is a paper's method in full, and not an ablation or baseline.
    """

    words: tuple[str, ...]
    model: str = ""
    is_main: bool = False


Namer = Callable[[Described, Sequence[Config]], Name | None]
"""Returns the name of an experiment, given all supernets of its family; None if the namer has no name for it."""


@dataclass(frozen=True)
class Role:
    """What an experiment stands for.

    Attributes:
        name: such as ``slimmable, head size`` or ``todm F``; only experiments that differ by their seed share one.
        model: a paper's short name for the model, such as ``A1`` or ``F``; empty if it has none.
        family: label of the family after its encoder; empty for the first family.
        is_main: whether the experiment is a paper's method in full, and not an ablation or baseline.
    """

    name: str
    model: str
    family: str
    is_main: bool


def roles_of(experiments: Mapping[str, Described], namers: Sequence[Namer] = ()) -> dict[str, Role]:
    """Return the role of every experiment, by name.

    Args:
        experiments: all experiments of a report.
        namers: the first of them that has a name for an experiment gives it; for a separate model, those that name a
            supernet of its family are asked first. Families whose supernets an earlier namer has named come first.
    """
    keys = {name: _family_key(described, experiments) for name, described in experiments.items()}
    # Family -> the first namer that named one of its supernets.
    ranks: dict[FamilyKey, int] = {}
    names = {}
    for name, described in experiments.items():
        key = keys[name]
        mates = [experiments[other] for other in experiments if keys[other] == key]
        supernets = [mate for mate in mates if mate.separate_of is None]
        found, rank = _named(described, supernets, namers)
        names[name] = _with_beginning(found, described, [mate.config for mate in supernets])
        # Separate models are baselines of several papers, so that they do not say whose family it is.
        if described.separate_of is None:
            ranks[key] = min(rank, ranks.get(key, rank))
    # Sorting is stable: families of one rank stay in the order of the report.
    in_order = sorted(dict.fromkeys(keys.values()), key=lambda key: ranks.get(key, len(namers)))
    labels = _family_labels(in_order)
    return {name: _role(names[name], labels[keys[name]]) for name in experiments}


def _named(described: Described, mates: Sequence[Described], namers: Sequence[Namer]) -> tuple[Name, int]:
    """Return the name of an experiment and the index of its namer, ``len(namers)`` if no namer has a name.

    Args:
        described: the experiment.
        mates: all supernets of its family.
        namers: the namers, in order.
    """
    supernets = [mate.config for mate in mates]
    ranks = list(range(len(namers)))
    if described.separate_of is not None:
        # A separate model may be a baseline of many papers; those whose supernets it stands beside come first.
        at_home = [rank for rank in ranks if any(namers[rank](mate, supernets) for mate in mates)]
        ranks.sort(key=lambda rank: rank not in at_home)
    for rank in ranks:
        name = namers[rank](described, supernets)
        if name is not None:
            return name, rank
    if described.separate_of is not None:
        return Name(separate_words(described, supernets)), len(namers)
    return Name(_supernet_words(described.config, supernets)), len(namers)


def _with_beginning(name: Name, described: Described, supernets: Sequence[Config]) -> Name:
    """Return a name that tells runs which begin with a trained model apart from others, by that model and by epochs."""
    config = described.config
    if described.separate_of is not None:
        begun = start_of(config)
        words = [begun] if begun else []
    else:
        main = next(other for other in supernets if other.method.kind == config.method.kind)
        words = _beginning_words(config, main) if any(map(start_of, supernets)) else []
    return replace(name, words=(*name.words, *words), model="", is_main=False) if words else name


def _beginning_words(config: Config, main: Config) -> list[str]:
    """Return how a run begins and how long it is, where that differs from the main run of its method."""
    words = []
    if start_of(config) != start_of(main):
        words.append(start_of(config) or "from scratch")
    if config.training.num_epochs != main.training.num_epochs:
        words.append(f"{config.training.num_epochs} epochs")
    return words


def start_of(config: Config) -> str:
    """Return with which model a run began, such as ``from dense``; empty for random weights, and for pathways.

    Pathways always begin with a trained model, which is a part of their method.
    """
    init = config.training.init
    if init is None or config.method.trains_pathways:
        return ""
    return f"from {init.from_.stem if init.from_.suffix == '.pt' else init.from_.name}"


def _role(name: Name, family: str) -> Role:
    words = [*name.words, family] if family else name.words
    return Role(", ".join(words), name.model, family, name.is_main)


def separate_words(described: Described, supernets: Sequence[Config]) -> tuple[str, ...]:
    """Return the name of a separate model: what it has that the first supernet of its family has not.

    A stand-alone model has one width, so the settings for slicing and normalising widths do not distinguish it.
    """
    config = described.config
    main = next(iter(supernets), config)
    auxiliary = ("auxiliary losses",) if config.loss.auxiliary is not None else ()
    position = getattr(config.model.encoder, "position", None)
    # Only the Emformer has a choice of positions.
    other = position is not None and position != getattr(main.model.encoder, "position", position)
    positions = (f"position {position}",) if other else ()
    return (SEPARATE, *auxiliary, *differing_traits(config, main, ("attention",)), *positions)


def differing_traits(config: Config, main: Config, traits: Iterable[str]) -> tuple[str, ...]:
    """Describe how an encoder differs from the main one of its family."""
    words = []
    for trait in traits:
        # An encoder need not have all traits: MH-SSM has no attention.
        mine = getattr(config.model.encoder, trait, None)
        if mine is not None and mine != getattr(main.model.encoder, trait, None):
            words.append(in_words(mine))
    return tuple(words)


def in_words(value: object) -> str:
    """Return what roles and families call a value of a configuration."""
    return _WORDS.get(str(value), str(value).replace("_", " "))


def _supernet_words(config: Config, supernets: Sequence[Config]) -> tuple[str, ...]:
    """The method, and the differences from the first supernet that was trained by it."""
    kind: str = config.method.kind
    # ``supernets`` contains the experiment itself, so that there is always one. It differs from itself in nothing.
    main = next(other for other in supernets if other.method.kind == kind)
    mine = config.model_dump(mode="json", include=_TOLD_APART_BY)
    theirs = main.model_dump(mode="json", include=_TOLD_APART_BY)
    return (in_words(kind), *_differences(mine, theirs))


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, each with the value of ``mine`` if a word or a number can express it."""
    words = []
    # The keys of both, in order: sections of different kinds have different keys.
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
    # ``value == False`` would catch the number 0 too, hence ``is``.
    if value is None or value is False or value == []:
        return f"no {key}"
    if value is True:
        return key
    # A whole section or list is too long for a name.
    if isinstance(value, Mapping | list):
        return f"other {key}" if other else key
    return _WORDS.get(str(value), f"{key} {value}")


FamilyKey = tuple[str, int, int, tuple[int, ...], str]
"""What the supernets of a family have in common, see `_sizes`."""


def _family_key(described: Described, experiments: Mapping[str, Described]) -> FamilyKey:
    """The sizes of a supernet, or of the supernet that a separate model belongs to."""
    if described.separate_of is None:
        return _sizes(described.config)
    kind = described.config.model.kind
    alike = [other for other in experiments.values() if other.config.model.kind == kind]
    supernets = [other for other in alike if other.separate_of is None]
    # Separate models have sizes of their own; without a supernet they all go into one family.
    if not supernets:
        return _sizes(alike[0].config)
    # Best evidence first: the subnet of this id has exactly as many parameters as the model; then a supernet that can
    # hold such a subnet, as a search need not have measured it; then any supernet.
    sizes = described.params.values()
    same = [supernet for supernet in supernets if supernet.params.get(described.separate_of) in sizes]
    possible = [supernet for supernet in supernets if _may_hold(supernet.config, described)]
    fitting = same or possible or supernets
    return _sizes(fitting[0].config)


def _sizes(config: Config) -> FamilyKey:
    """Kind of the encoder, channels, layers, channels of the feed-forward modules, and kind of the model."""
    encoder = config.model.encoder
    # Not all units: supernets that differ in the number of their heads alone are variants within one family.
    feed_forward_sizes = tuple(feed_forward(encoder.unit_sizes).values())
    return encoder.kind, encoder.d_model, encoder.num_layers, feed_forward_sizes, config.model.kind


def _may_hold(supernet: Config, described: Described) -> bool:
    """Whether a separate model can be a subnet of a supernet, judged without its parameters."""
    assert described.separate_of is not None
    ours = described.config.model.encoder
    theirs = supernet.model.encoder
    has_layers = supernet.space.kind not in ("widths", "pathways")
    # Ids of subnets with a choice of layers or units have a dash (w1-l4), those of plain widths have none (w0.5), nor
    # has the whole model, of which pathways are parts.
    is_shaped = "-" in described.separate_of
    same_kinds = described.config.model.kind == supernet.model.kind and ours.kind == theirs.kind
    return same_kinds and has_layers == is_shaped and ours.d_model <= theirs.d_model


def _family_labels(keys: Sequence[FamilyKey]) -> dict[FamilyKey, str]:
    """A label for every family, empty for the first one."""
    labels: dict[FamilyKey, str] = {}
    first = _kinds(keys[0]) if keys else ""
    for key in keys:
        _, channels, layers, *_ = key
        label = _kinds(key)
        # The kinds are not enough if an earlier family has them, the first one included, whose label is empty.
        if labels and label in (first, *labels.values()):
            label = f"{label} of {layers} layers, {channels} channels"
        labels[key] = label if labels else ""
    return labels


def _kinds(key: FamilyKey) -> str:
    """Encoder and kind of the model, unless this is a transducer: ``Conformer``, ``CTC Conformer``."""
    encoder, *_, model = key
    return in_words(encoder) if model == "transducer" else f"{model.upper()} {in_words(encoder)}"
