"""What every experiment of a report stands for, read from its configuration and never from its name.

Experiments belong to *families*: supernets of equal sizes and the separate models of their subnets. Within one,
slimmable variants are named by what tells them from the first one, and TODM runs by the letters of paper 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mode
from typing import Any

from slimasr.config.method import TodmConfig
from slimasr.config.schema import Config

SLIMMABLE = "slimmable"
SEPARATE = "separate"
TODM = "todm"

_TRAITS = ("slimming", "norm", "attention")
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
_TAUGHT = {
    ("kl", 2): "J",
    ("kl", 10): "D",
    ("kl", 100): "L",
    ("alpha", 2): "G",
    ("alpha", 10): "E",
    ("alpha", 100): "I",
}

MODELS = {
    "A1": "separate models",
    "A2": "separate model with auxiliary losses",
    "A3": "one model with several exits",
    "B0": "channels only",
    "B1": "layers and channels",
    "C": "B1, adaptive dropout",
    "D": "C, taught by KL over the 10 likeliest tokens",
    "E": "C, taught by alpha divergence over the 10 likeliest tokens",
    "F": "E, then ScaledAdam and less teaching",
    "G": "C, taught by alpha divergence over target and blank",
    "I": "C, taught by alpha divergence over the 100 likeliest tokens",
    "J": "C, taught by KL over target and blank",
    "L": "C, taught by KL over the 100 likeliest tokens",
}
"""Letters of paper 2, section 4."""

FROM_THE_START = ", ScaledAdam from the start"
OVER = " over "
"""Between D or E and a number of tokens that the paper has no letter for."""


@dataclass(frozen=True)
class Described:
    """What a role is made from: the configuration, what a separate model stands for, params by subnet id."""

    config: Config
    separate_of: str | None
    params: Mapping[str, float]


@dataclass(frozen=True)
class Role:
    """What an experiment stands for.

    Attributes:
        name: unique among the experiments of a report but for the seed: ``slimmable, head size``, ``todm F``.
        model: the letter of paper 2, with what differs from it: ``A1``, ``F``, ``C, ScaledAdam from the start``;
            empty for slimmable training.
        family: empty for the first one (of slimmable runs, if there are any), else its encoder.
    """

    name: str
    model: str
    family: str


def roles_of(experiments: Mapping[str, Described]) -> dict[str, Role]:
    """The role of every experiment, by name."""
    families = {name: _family_key(described, experiments) for name, described in experiments.items()}
    first = [families[n] for n, described in experiments.items() if described.config.method.kind == SLIMMABLE]
    labels = _family_labels(list(dict.fromkeys([*first, *families.values()])))
    roles = {}
    for name, described in experiments.items():
        mates = [other for other, key in families.items() if key == families[name]]
        configs = [experiments[other].config for other in mates if experiments[other].separate_of is None]
        family = labels[families[name]]
        words, model = _words(described, configs)
        roles[name] = Role(", ".join([*words, family] if family else words), model, family)
    return roles


def _words(described: Described, supernets: list[Config]) -> tuple[list[str], str]:
    """Words of a role, without its family's, and the letter of paper 2."""
    config = described.config
    kind: str = config.method.kind
    if described.separate_of is not None:
        auxiliary = config.loss.auxiliary is not None
        main = next(iter(supernets), config)
        words = [SEPARATE, *(["auxiliary losses"] if auxiliary else []), *_differing(config, main, ("attention",))]
        return words, "A2" if auxiliary else "A1"
    if isinstance(config.method, TodmConfig):
        usual = mode(other.training.num_epochs for other in supernets if other.method.kind == kind)
        model = todm_model(config)
        if config.training.num_epochs != usual:
            model += f", {config.training.num_epochs} epochs"
        return [f"{TODM} {model}"], model
    main = next(other for other in supernets if other.method.kind == kind)
    return [_in_words(kind), *_differing(config, main, _TRAITS)], "A3" if kind == "multi_exit" else ""


def todm_model(config: Config) -> str:
    """The letter that paper 2 has for a run (section 4, tables 1 and 2), and what differs from it."""
    method, taught = config.method, config.loss.distillation
    assert isinstance(method, TodmConfig)
    layers = config.space.kind == "layers" and len(config.space.depths) > 1
    adaptive = config.model.encoder.adaptive_dropout
    rest = ", auxiliary losses" if config.loss.auxiliary is not None else ""
    rest += FROM_THE_START if config.training.optimizer.kind == "scaled_adam" else ""
    if taught is None or taught.kd_weight == 0:
        letter = ("C" if adaptive else "B1") if layers else f"B0{', adaptive dropout' if adaptive else ''}"
        return letter + rest
    tokens = 2 if taught.classes == "target_blank" else taught.num_kd_tokens
    letter = _TAUGHT.get((taught.divergence, tokens), f"{_TAUGHT[taught.divergence, 10]}{OVER}{tokens} tokens")
    switched = any(p.optimizer is not None and p.optimizer.kind == "scaled_adam" for p in method.phases)
    lowered = any(p.kd_weight is not None and p.kd_weight < taught.kd_weight for p in method.phases)
    if switched and lowered:
        letter = "F" if letter == "E" else f"{letter}, then as F"
    elif switched or lowered:
        letter += ", then ScaledAdam" if switched else ", then less teaching"
    return letter + ("" if layers else ", channels only") + ("" if adaptive else ", fixed dropout") + rest


def _differing(config: Config, main: Config, traits: tuple[str, ...]) -> list[str]:
    """How an encoder differs from the main one of its family.

    A stand-alone model has one width, so how widths would be sliced or normalised does not tell it apart.
    """
    own, other = config.model.encoder, main.model.encoder
    pairs = [(getattr(own, trait, None), getattr(other, trait, None)) for trait in traits]
    return [_in_words(mine) for mine, theirs in pairs if mine != theirs and mine is not None]


FamilyKey = tuple[Any, ...]


def _family_key(described: Described, experiments: Mapping[str, Described]) -> FamilyKey:
    if described.separate_of is None:
        return _sizes(described.config)
    supernets = [other for other in experiments.values() if other.separate_of is None]
    if not supernets:
        return _sizes(next(iter(experiments.values())).config)
    own = described.params.values()
    same = [s for s in supernets if s.params.get(described.separate_of) in own]
    fitting = same or [s for s in supernets if _may_hold(s.config, described)] or supernets
    return _sizes(fitting[0].config)


def _sizes(config: Config) -> FamilyKey:
    encoder = config.model.encoder
    return encoder.kind, encoder.d_model, encoder.num_layers, encoder.ffn_dim


def _may_hold(supernet: Config, described: Described) -> bool:
    """Whether a separate model can be one of a supernet's, judged without its size."""
    assert described.separate_of is not None
    ours, theirs = described.config.model.encoder, supernet.model.encoder
    layers = supernet.space.kind == "layers"
    return ours.kind == theirs.kind and layers == ("-" in described.separate_of) and ours.d_model <= theirs.d_model


def _family_labels(keys: list[FamilyKey]) -> dict[FamilyKey, str]:
    labels: dict[FamilyKey, str] = {}
    for key in keys:
        label = _in_words(key[0])
        if label in labels.values() or (labels and key[0] == keys[0][0]):
            label = f"{label} of {key[2]} layers, {key[1]} channels"
        labels[key] = label if labels else ""
    return labels


def _in_words(value: Any) -> str:
    return _WORDS.get(str(value), str(value).replace("_", " "))
