"""Recognise the models of paper 3 by the factors of its main table, from their configurations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slimasr.claims.asked import families_with
from slimasr.config.schema import Config
from slimasr.report.architecture import depth
from slimasr.report.comparison.families import Family
from slimasr.report.records import Run, Study, SubnetRecord
from slimasr.report.roles import SEPARATE, Described, Name

COLLABORATIVE = "collaborative"

PJ, PJ_LF, PJ_LF_CE, FULL = "PJ", "PJ+LF", "PJ+LF+CE", "PJ+LF+CE+KL"
UNSHARED = "PJ+CE+KL"
"""Factors: PJ = shared predictor and joiner, LF = shared low layers, CE = cross-entropy of frames, KL = the deepest
branch teaches the others."""

LAMBDA = 0.1
"""The paper's weight of cross-entropy and divergence of frames, which names leave out."""

WINDOW = ("segment", "left_context", "right_context", "memory")
LOSS_SETTINGS = ("transducer", "left_buffer", "right_buffer", "per")
"""Keys of the encoder and of the losses whose values a name tells if they are not those of the main run."""

LAMBDA_WORD = "lambda"
SEPARATE_CE = "separate + CE"


@dataclass(frozen=True)
class Model:
    """What a short name such as ``10/9/7/5 PJ+LF+CE, lambda 0.05`` says.

    Attributes:
        branches: number of branches.
        factors: such as ``PJ+LF+CE``.
        rest: what else sets the model apart, empty for the paper's own settings.
    """

    branches: int
    factors: str
    rest: str = ""

    @property
    def weight(self) -> float | None:
        """Its lambda; None if it differs from the paper's models in something else."""
        if not self.rest:
            return LAMBDA
        word, _, value = self.rest.partition(" ")
        return float(value) if word == LAMBDA_WORD and "," not in value else None


def role(described: Described, supernets: Sequence[Config]) -> Name | None:
    """Return the name of a collaborative run, or of a separate model with cross-entropy at the encoder's output."""
    config = described.config
    if described.separate_of is not None:
        auxiliary = config.loss.auxiliary
        if auxiliary is None or not auxiliary.output:
            return None
        return Name((SEPARATE, f"CE {auxiliary.aux_weight:g}"), SEPARATE_CE)
    if config.method.kind != COLLABORATIVE:
        return None
    main = next(other for other in supernets if other.method.kind == COLLABORATIVE)
    model = _model(config, main)
    factors = model.partition(" ")[2]
    return Name((f"{COLLABORATIVE} {model}",), model, is_main=factors == FULL)


def _model(config: Config, main: Config) -> str:
    """The short name of a run; ``main`` is the first collaborative run of its family."""
    depths = "/".join(str(len(path)) for path in config.model.encoder.paths)
    words = [f"{depths} {_factors(config)}"]
    auxiliary = config.loss.auxiliary
    if auxiliary is not None and auxiliary.aux_weight != LAMBDA:
        words.append(f"{LAMBDA_WORD} {auxiliary.aux_weight:g}")
    if auxiliary is not None and auxiliary.teaching_weight not in (0.0, auxiliary.aux_weight):
        words.append(f"KL weight {auxiliary.teaching_weight:g}")
    # Only the Emformer has a choice of positions.
    position = getattr(config.model.encoder, "position", None)
    if position != getattr(main.model.encoder, "position", None):
        words.append("no positions" if position == "none" else f"{position} positions")
    if config.loss.ctc_weight != main.loss.ctc_weight:
        words.append(f"CTC weight {config.loss.ctc_weight:g}")
    return ", ".join([*words, *_settings(config, main)])


def _settings(config: Config, main: Config) -> Iterator[str]:
    """Yield the other settings of the encoder and of the losses in which a run differs from the main one."""
    tree, main_tree = config.model.encoder.tree, main.model.encoder.tree
    # Whether any layer is shared is one of the factors.
    if tree is not None and main_tree is not None and 0 < tree.shared != main_tree.shared > 0:
        yield f"{tree.shared} shared layers"
    sections = ((config.model.encoder, main.model.encoder, WINDOW), (config.loss, main.loss, LOSS_SETTINGS))
    for section, main_section, keys in sections:
        for key in keys:
            value = getattr(section, key, None)
            if value != getattr(main_section, key, None):
                yield f"{key} {value}"


def _factors(config: Config) -> str:
    tree = config.model.encoder.tree
    auxiliary = config.loss.auxiliary
    factors = ["PJ"]
    if tree is not None and tree.shared > 0:
        factors.append("LF")
    if auxiliary is not None and auxiliary.output:
        factors.append("CE")
    if auxiliary is not None and auxiliary.teaching_weight > 0:
        factors.append("KL")
    return "+".join(factors)


def model_of(run: Run) -> Model:
    """Read the short name of a collaborative run."""
    name, _, rest = run.model.partition(", ")
    depths, _, factors = name.partition(" ")
    return Model(depths.count("/") + 1, factors, rest)


def is_collaborative(run: Run) -> bool:
    """Return whether this is a supernet of paper 3."""
    return run.role.startswith(COLLABORATIVE)


def applies(study: Study) -> bool:
    """Return whether there is a collaborative run."""
    return any(map(is_collaborative, study.runs))


def collaborative_families(runs: Sequence[Run]) -> list[Family]:
    """Return the families that have a collaborative run."""
    return families_with(runs, is_collaborative)


def collaborative_run(runs: Sequence[Run], branches: int, factors: str) -> Run | None:
    """Find the first run with these factors and the paper's other settings."""
    wanted = Model(branches, factors)
    return next((run for run in runs if is_collaborative(run) and model_of(run) == wanted), None)


def by_depth(run: Run) -> dict[int, SubnetRecord]:
    """Return the subnets of a run by their number of layers, the deepest first.

    Ids of branches depend on the tree, and a separate model has yet another id. What is common is the depth.
    """
    found = {depth(record.architecture): record for record in run.subnets if record.architecture}
    return dict(sorted(found.items(), reverse=True))


def plain_models(family: Family) -> dict[int, Run]:
    """Return the separate models that were trained without frame targets, by their number of layers."""
    return _one_a_depth([run for run in family.dedicated if run.model != SEPARATE_CE])


def ce_models(family: Family) -> dict[int, Run]:
    """Return the separate models with cross-entropy of frames, by their number of layers."""
    return _one_a_depth([run for run in family.separate if run.model == SEPARATE_CE])


def _one_a_depth(runs: Sequence[Run]) -> dict[int, Run]:
    """The first run of every depth, the deepest one first."""
    found: dict[int, Run] = {}
    for run in runs:
        if run.subnets and run.largest.architecture:
            found.setdefault(depth(run.largest.architecture), run)
    return dict(sorted(found.items(), reverse=True))
