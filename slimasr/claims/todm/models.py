"""The models of paper 2 by its letters (section 4, tables 1 and 2), read from configurations."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mode

from slimasr.config.loss import DistillationConfig
from slimasr.config.method import TodmConfig
from slimasr.config.schema import Config
from slimasr.report.families import Family, families
from slimasr.report.records import Run, Study
from slimasr.report.roles import Described, Name, differing_traits, in_words, separate_words

TODM = "todm"
MULTI_EXIT = "multi_exit"

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
"""What the letters stand for."""

FROM_THE_START = ", ScaledAdam from the start"
OVER = " over "
"""Between D or E and a number of tokens that the paper has no letter for."""

_TAUGHT = {
    ("kl", 2): "J",
    ("kl", 10): "D",
    ("kl", 100): "L",
    ("alpha", 2): "G",
    ("alpha", 10): "E",
    ("alpha", 100): "I",
}
_USUAL_TOKENS = 10
_TRAITS = ("slimming", "norm", "attention")


def role(described: Described, supernets: Sequence[Config]) -> Name | None:
    """The name and letter of an experiment; separate models and models with exits are the paper's baselines."""
    config = described.config
    if described.separate_of is not None:
        letter = "A1" if config.loss.auxiliary is None else "A2"
        return Name(separate_words(described, supernets), letter)
    if isinstance(config.method, TodmConfig):
        letter = _with_epochs(config, supernets)
        return Name((f"{TODM} {letter}",), letter, is_main=letter == "F")
    if config.method.kind == MULTI_EXIT:
        main = next(other for other in supernets if other.method.kind == MULTI_EXIT)
        return Name((in_words(MULTI_EXIT), *differing_traits(config, main, _TRAITS)), "A3")
    return None


def _with_epochs(config: Config, supernets: Sequence[Config]) -> str:
    """The letter of a TODM run, with its epochs where most of its family have others."""
    usual = mode(other.training.num_epochs for other in supernets if other.method.kind == TODM)
    epochs = config.training.num_epochs
    letter = todm_model(config)
    return letter if epochs == usual else f"{letter}, {epochs} epochs"


def todm_model(config: Config) -> str:
    """The letter that paper 2 has for a run, and what differs from it."""
    taught = config.loss.distillation
    has_layers = config.space.kind == "layers" and len(config.space.depths) > 1
    is_adaptive = config.model.encoder.adaptive_dropout
    if taught is None or taught.kd_weight == 0:
        letter = _untaught(has_layers, is_adaptive)
    else:
        letter = _switched(_taught(taught), config, taught)
        letter += "" if has_layers else ", channels only"
        letter += "" if is_adaptive else ", fixed dropout"
    if config.loss.auxiliary is not None:
        letter += ", auxiliary losses"
    if config.training.optimizer.kind == "scaled_adam":
        letter += FROM_THE_START
    return letter


def _untaught(has_layers: bool, is_adaptive: bool) -> str:
    if has_layers:
        return "C" if is_adaptive else "B1"
    return "B0, adaptive dropout" if is_adaptive else "B0"


def _taught(taught: DistillationConfig) -> str:
    """The letter of a model with a teacher, by divergence and classes alone."""
    tokens = 2 if taught.classes == "target_blank" else taught.num_kd_tokens
    letter = _TAUGHT.get((taught.divergence, tokens))
    return letter or f"{_TAUGHT[taught.divergence, _USUAL_TOKENS]}{OVER}{tokens} tokens"


def _switched(letter: str, config: Config, taught: DistillationConfig) -> str:
    """The letter of a model whose later phases have another optimiser or less teaching."""
    phases = config.method.phases if isinstance(config.method, TodmConfig) else []
    switched = any(phase.optimizer is not None and phase.optimizer.kind == "scaled_adam" for phase in phases)
    lowered = any(phase.kd_weight is not None and phase.kd_weight < taught.kd_weight for phase in phases)
    if switched and lowered:
        return "F" if letter == "E" else f"{letter}, then as F"
    if switched:
        return f"{letter}, then ScaledAdam"
    if lowered:
        return f"{letter}, then less teaching"
    return letter


def meaning(model: str) -> str:
    """What a letter stands for, and what differs from it."""
    name, _, rest = model.partition(", ")
    letter, _, tokens = name.partition(OVER)
    words = MODELS.get(letter, letter)
    if tokens:
        words = words.replace("10 likeliest tokens", tokens.replace("tokens", "likeliest tokens"))
    return f"{words}, {rest}" if rest else words


def is_todm(run: Run) -> bool:
    """Whether this is a supernet of paper 2."""
    return run.role.startswith(TODM)


def applies(study: Study) -> bool:
    """Whether there is a TODM run."""
    return any(map(is_todm, study.runs))


def todm_families(runs: Sequence[Run]) -> list[Family]:
    """The families that have a TODM run."""
    return [family for family in families(runs) if any(map(is_todm, family.runs))]


def prefix_of(family: Family) -> str:
    """What a line of evidence about a family begins with."""
    return f"{family.name}: " if family.name else ""


def main_todm(runs: Sequence[Run]) -> Run | None:
    """The run that stands for the method: model F, else what comes nearest to it."""
    named = [of_model(runs, model) for model in ("F", "E", "D", "C", "B1", "B0")]
    others = [run for run in runs if is_todm(run)]
    return next((run for run in (*named, *others) if run is not None), None)


def of_model(runs: Sequence[Run], model: str) -> Run | None:
    """The first run of a letter of paper 2."""
    return next((run for run in runs if run.model == model), None)
