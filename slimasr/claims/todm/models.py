"""Recognise the models of paper 2 by its letters (section 4, tables 1 and 2), from their configurations."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mode

from slimasr.claims.asked import families_with
from slimasr.config.loss import DistillationConfig
from slimasr.config.method import TodmConfig
from slimasr.config.schema import Config
from slimasr.report.comparison.families import Family
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
"""End of a model's name if ScaledAdam is the optimiser of its first phase."""

OVER = " over "
"""Stands between D or E and a number of tokens that the paper has no letter for."""

# Divergence and number of classes that the teacher is compared on -> letter; target and blank are two classes.
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
    """Return the name and letter of an experiment; separate models and models with exits are the paper's baselines."""
    config = described.config
    # The paper's models are transducers.
    if config.model.kind != "transducer":
        return None
    if described.separate_of is not None:
        auxiliary = config.loss.auxiliary
        # The paper's frame targets are at inner layers.
        if auxiliary is not None and auxiliary.output:
            return None
        letter = "A1" if auxiliary is None else "A2"
        return Name(separate_words(described, supernets), letter)
    if isinstance(config.method, TodmConfig):
        letter = _with_epochs(config, supernets)
        return Name((f"{TODM} {letter}",), letter, is_main=letter == "F")
    if config.method.kind == MULTI_EXIT:
        main = next(other for other in supernets if other.method.kind == MULTI_EXIT)
        return Name((in_words(MULTI_EXIT), *differing_traits(config, main, _TRAITS)), "A3")
    return None


def _with_epochs(config: Config, supernets: Sequence[Config]) -> str:
    """The letter of a TODM run, with its epochs if most runs of its family have a different number."""
    usual = mode(other.training.epochs for other in supernets if other.method.kind == TODM)
    epochs = config.training.epochs
    letter = todm_model(config)
    return letter if epochs == usual else f"{letter}, {epochs} epochs"


def todm_model(config: Config) -> str:
    """Return the letter that paper 2 has for a run, and what differs from it."""
    taught = config.loss.distillation
    # With a single depth, subnets differ in their channels alone.
    has_layers = config.space.kind == "layers" and len(config.space.depths) > 1
    # An encoder need not offer adaptive dropout.
    is_adaptive = getattr(config.model.encoder, "adaptive_dropout", False)
    if taught is None or taught.kd_weight == 0:
        letter = _untaught(has_layers, is_adaptive)
    else:
        # The paper's taught models have both layers and adaptive dropout, as C has.
        letter = _switched(_taught(taught), config, taught)
        if not has_layers:
            letter += ", channels only"
        if not is_adaptive:
            letter += ", fixed dropout"
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
    # For example "E over 50 tokens".
    return letter or f"{_TAUGHT[taught.divergence, _USUAL_TOKENS]}{OVER}{tokens} tokens"


def _switched(letter: str, config: Config, taught: DistillationConfig) -> str:
    """The letter of a model whose later phases have another optimiser or less teaching."""
    phases = config.method.phases if isinstance(config.method, TodmConfig) else []
    # A phase keeps whatever it does not set.
    optimizers = [phase.optimizer for phase in phases if phase.optimizer is not None]
    weights = [phase.kd_weight for phase in phases if phase.kd_weight is not None]
    switched = any(optimizer.kind == "scaled_adam" for optimizer in optimizers)
    lowered = any(weight < taught.kd_weight for weight in weights)
    if switched and lowered:
        return "F" if letter == "E" else f"{letter}, then as F"
    if switched:
        return f"{letter}, then ScaledAdam"
    if lowered:
        return f"{letter}, then less teaching"
    return letter


def meaning(model: str) -> str:
    """Describe what a letter stands for, and what differs from it."""
    # The reverse of `todm_model`: "E over 50 tokens, fixed dropout" has a name, a letter, tokens and a rest.
    name, _, rest = model.partition(", ")
    letter, _, tokens = name.partition(OVER)
    words = MODELS.get(letter, letter)
    if tokens:
        words = words.replace("10 likeliest tokens", tokens.replace("tokens", "likeliest tokens"))
    return f"{words}, {rest}" if rest else words


def is_todm(run: Run) -> bool:
    """Return whether this is a supernet of paper 2."""
    return run.role.startswith(TODM)


def is_shown(run: Run) -> bool:
    """Return whether the table of paper 2 has a row for this run: its supernets, and baselines with a letter.

    The separate models (A1) are in the report's own table, size by size.
    """
    return is_todm(run) or run.model in ("A2", "A3")


def applies(study: Study) -> bool:
    """Return whether there is a TODM run."""
    return any(map(is_todm, study.runs))


def todm_families(runs: Sequence[Run]) -> list[Family]:
    """Return the families that have a TODM run."""
    return families_with(runs, is_todm)


def main_todm(runs: Sequence[Run]) -> Run | None:
    """Find the run that stands for the method: model F, else the model nearest to it."""
    named = [of_model(runs, model) for model in ("F", "E", "D", "C", "B1", "B0")]
    others = [run for run in runs if is_todm(run)]
    return next((run for run in (*named, *others) if run is not None), None)


def of_model(runs: Sequence[Run], model: str) -> Run | None:
    """Find the first run of a letter of paper 2."""
    return next((run for run in runs if run.model == model), None)
