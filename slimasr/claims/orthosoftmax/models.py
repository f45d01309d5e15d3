"""Recognise the models of paper 4 by learner, criterion, granularity and ablation, from their configurations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mode

from slimasr.claims.asked import families_with
from slimasr.config.learners import LearnerConfig
from slimasr.config.method import MaskLearningConfig
from slimasr.config.schema import Config
from slimasr.report.comparison.families import Family
from slimasr.report.records import Run, Study
from slimasr.report.roles import Described, Name, in_words, separate_words

ORTHOSOFTMAX, TOP_K, L0 = "OrthoSoftmax", "Top-k", "L0"
LEARNERS = {"orthosoftmax": ORTHOSOFTMAX, "top_k": TOP_K, "l0": L0}
"""``method.learner.kind`` -> the name of the learner."""

MACS, PARAMS = "macs", "params"
COMPONENT, LAYER = "component", "layer"

AUX_LOSS = "Aux-Loss"
"""The baseline whose subnets are the bottom blocks, each with an output of its own."""

DEDICATED = "separate"

BUDGETS = "budgets"
"""Begins the part of a name that tells other budgets than most runs of the learner and criterion have."""

FOCAL = "focal"
_SETTINGS = ("step1_share", "cost_seconds", "focal_exponent", "focal_gradient", "separate_output_layers")
_LEARNER_SETTINGS = ("rounding", "side", "score_init_std", "score_lr_scale", "score_eps", "relax", "stages", "warmup")
"""Keys whose values a name tells if they are not those of the learner's first run."""


@dataclass(frozen=True)
class Model:
    """What a short name such as ``OrthoSoftmax macs component, subnet_scale 0.1`` says.

    Attributes:
        learner: who chooses the groups.
        criterion: the cost that budgets limit: ``macs``, ``params``, or ``none`` for the number of groups.
        granularity: ``component`` or ``layer``.
        rest: what else sets the model apart, empty for the paper's own settings.
    """

    learner: str
    criterion: str
    granularity: str
    rest: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing but its budgets sets the model apart."""
        return not self.rest or (self.rest.startswith(BUDGETS) and "," not in self.rest)


MAIN = Model(ORTHOSOFTMAX, MACS, COMPONENT)
"""The method in full, as the paper recommends it."""


def role(described: Described, supernets: Sequence[Config]) -> Name | None:
    """Return the name of a mask-learning run, or of a baseline of CTC models."""
    config = described.config
    is_ctc = config.model.kind == "ctc"
    if described.separate_of is not None:
        return Name(separate_words(described, supernets), DEDICATED) if is_ctc else None
    if isinstance(config.method, MaskLearningConfig):
        model = _model(config, config.method, supernets)
        return Name((model,), model, is_main=_read(model) == MAIN)
    if config.method.kind == "multi_exit" and is_ctc:
        return Name((AUX_LOSS,), AUX_LOSS)
    return None


def _model(config: Config, method: MaskLearningConfig, supernets: Sequence[Config]) -> str:
    """The short name of a mask-learning run."""
    mates = [other for other in supernets if other.method.kind == method.kind]
    alike = [other for other in mates if _method(other).learner.kind == method.learner.kind]
    words = [f"{LEARNERS[method.learner.kind]} {method.criterion} {method.granularity}"]
    if method.subnet_scale != FOCAL:
        words.append(f"subnet_scale {method.subnet_scale:g}")
    words += _of_learner(method.learner)
    # Only some encoders have a choice of adaptive dropout.
    adaptive = [getattr(other.model.encoder, "adaptive_dropout", False) for other in mates]
    if any(adaptive) and not getattr(config.model.encoder, "adaptive_dropout", False):
        words.append("no adaptive dropout")
    # The paper's rate depends on the granularity.
    usual = mode(_method(other).layer_dropout for other in mates if _method(other).granularity == method.granularity)
    if method.layer_dropout != usual:
        words.append(f"layer_dropout {method.layer_dropout:g}" if method.layer_dropout else "no layer dropout")
    words += _settings(method, _method(alike[0]))
    # Budgets of different criteria may be written differently and mean the same sizes.
    budgets = [tuple(_method(other).budgets) for other in alike if _method(other).criterion == method.criterion]
    if tuple(method.budgets) != mode(budgets):
        words.append(f"{BUDGETS} {'/'.join(method.budgets)}")
    return ", ".join(words)


def _method(config: Config) -> MaskLearningConfig:
    assert isinstance(config.method, MaskLearningConfig)
    return config.method


def _of_learner(learner: LearnerConfig) -> Iterator[str]:
    """Yield in which of its schedules OrthoSoftmax differs from the paper's."""
    if learner.kind != "orthosoftmax":
        return
    start, end = learner.orthogonality_start, learner.orthogonality_end
    if start == end:
        yield f"orthogonality {start:g}"
    elif (start, end) != (0.0, 1.0):
        yield f"orthogonality {start:g} to {end:g}"
    if learner.temperature_min == learner.temperature:
        yield "no annealing"


def _settings(method: MaskLearningConfig, main: MaskLearningConfig) -> Iterator[str]:
    """Yield the other settings in which a run differs from the first one of its learner."""
    sections = ((method, main, _SETTINGS), (method.learner, main.learner, _LEARNER_SETTINGS))
    for section, main_section, keys in sections:
        for key in keys:
            value = getattr(section, key, None)
            if value != getattr(main_section, key, None):
                yield f"{key} {in_words(value)}"


def _read(name: str) -> Model:
    head, _, rest = name.partition(", ")
    learner, criterion, granularity = head.split(" ")
    return Model(learner, criterion, granularity, rest)


def is_mask_learning(run: Run) -> bool:
    """Return whether this is a supernet whose training chose the subnets."""
    return run.model.startswith(tuple(f"{learner} " for learner in LEARNERS.values()))


def is_ours(run: Run) -> bool:
    """Return whether this is a supernet of paper 4."""
    return is_mask_learning(run) or run.model == AUX_LOSS


def model_of(run: Run) -> Model:
    """Read the short name of a mask-learning run."""
    return _read(run.model)


def applies(study: Study) -> bool:
    """Return whether there is a supernet of paper 4."""
    return any(map(is_ours, study.runs))


def mask_families(runs: Sequence[Run]) -> list[Family]:
    """Return the families that have a supernet of paper 4."""
    return families_with(runs, is_ours)


def found(runs: Sequence[Run], model: Model) -> Run | None:
    """Find the first run of a model."""
    return next((run for run in runs if is_mask_learning(run) and model_of(run) == model), None)


def orthosoftmax_runs(runs: Sequence[Run]) -> list[Run]:
    """Return all runs that OrthoSoftmax trained, ablations included."""
    return [run for run in runs if is_mask_learning(run) and model_of(run).learner == ORTHOSOFTMAX]
