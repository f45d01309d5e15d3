"""Pathways: one block-sparse network per language, cut out of shared weights (paper 5).

J. Xie et al., "Dynamic ASR Pathways: an adaptive masking approach towards efficient pruning of a multilingual ASR
model" (2024), section 2. The settings of one method are all models of the paper: IMP, LTH and LAP with fixed or
adaptive masks, ASR Pathways, and Dynamic ASR Pathways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from slimasr.config.pathways import PathwaysConfig
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.mask_origins import Origin, changes_since, read_origins, source_of
from slimasr.methods.masking import (
    EntryMasks,
    Flattened,
    Masks,
    chosen,
    lasso_gradient,
    mask_facts,
    pathways_of,
    replace_masks,
    set_zero,
    union_ratios,
    unused,
)
from slimasr.methods.phases import Phase
from slimasr.models.base import SpeechModel
from slimasr.models.mask_files import FINAL, SavedMasks, level_file
from slimasr.objective.objective import Objective, loss_weights
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import ANY_LANGUAGE, Subnet

PREFIX = "model."
"""How the names of the model's parameters begin in the objective."""


@dataclass
class History:
    """What has been done to the masks. It changes in `after_step` and `finish` alone, which skipped steps do not call.

    Attributes:
        steps: successful steps of every pathway.
        settled: whether adaptive masks have been chosen for the last time.
        changed: optimiser steps done when a mask was last changed.
        levels: sparsity and optimiser steps done, of every pruning.
        adaptations: pathway -> optimiser steps done and the share of kept blocks that were replaced, of every choice
            of its mask between prunings.
    """

    steps: dict[str, int]
    settled: bool = False
    changed: int = 0
    levels: list[tuple[float, int]] = field(default_factory=list)
    adaptations: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


class PathwayTraining(Method):
    """Trains the pathways of all languages, each with the batches of its language, on shared weights.

    A single pathway has zeros in place of its pruned weights. With several, a batch runs and trains only the weights of
    its own pathway. Adaptive masks are selected again between prunings; until the last selection, weights that no other
    pathway keeps are trained as well, and may enter the mask.
    """

    def __init__(
        self,
        space: SearchSpace,
        losses: Mapping[str, float],
        config: PathwaysConfig,
        names: tuple[str, ...],
        origins: Mapping[str, Origin],
    ) -> None:
        """Create the method.

        Args:
            losses: names and weights of the losses.
            names: names of the pathways.
            origins: the masks with which the pathways begin; empty = with all weights.
        """
        super().__init__(space, losses)
        self.config = config
        self.names = names
        self.origins = origins
        self.levels = tuple(config.levels_left)
        self.history = History(dict.fromkeys(names, 0))
        self._entries = EntryMasks()

    @classmethod
    def for_model(cls, config: Config, space: SearchSpace, model: SpeechModel) -> PathwayTraining:
        assert isinstance(config.method, PathwaysConfig)
        names = pathways_of(model).names
        origins = read_origins(config.method, model)
        method = cls(space, loss_weights(config), config.method, names, origins)
        for name, origin in origins.items():
            replace_masks(pathways_of(model), name, origin.masks)
        # A run that begins with masks begins with pruned weights.
        set_zero(model, unused(pathways_of(model)))
        return method

    def inputs(self) -> dict[str, str]:
        return {f"the mask of {name} (method.masks_from)": origin.digest for name, origin in self.origins.items()}

    # Passes of a step

    def batch_key(self) -> str | None:
        return None if self.names == (ANY_LANGUAGE,) else "language"

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        self._check_length(context)
        return [Pass(Subnet(), self.losses, role=self._name(batch.key, batch.ids[0]))]

    def evaluated(self) -> list[Pass]:
        # The whole model with the weights of the pathway in place of its own (`substitutes`)
        return [Pass(Subnet(), {}, role=name, language="" if name == ANY_LANGUAGE else name) for name in self.names]

    def calibrated(self) -> list[Subnet]:
        # The final weights of one pathway are zero where it prunes; several ones follow the languages of the batches.
        return [Subnet()]

    def substitutes(self, objective: Objective, item: Pass, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        # A pathway that has been cut out needs no masks any more.
        if objective.model.pathways is None:
            return {}
        explores = self._explores(context)
        # The pruned weights of a single pathway are zero in place, or still trained; only validation leaves them out.
        if len(self.names) == 1 and not (context.validating and explores):
            return {}
        name = item.role if context.validating and item.role is not None else self._name(batch.key, batch.ids[0])
        masks = self._entries.of(pathways_of(objective.model), name, gains=explores and not context.validating)
        parameters = {matrix: objective.model.get_parameter(matrix) for matrix in masks}
        # Multiply by numbers: multiplying by a bool mask takes several times as long.
        return {PREFIX + matrix: weight * masks[matrix].to(weight.dtype) for matrix, weight in parameters.items()}

    def phase(self, epoch: int) -> Phase:
        rewound = len(self.history.levels) if self.config.rewind else 0
        return Phase(f"rewound {rewound} times") if rewound else Phase()

    # Gradients and updates

    def after_backward(self, objective: Objective, context: StepContext) -> None:
        pathways = pathways_of(objective.model)
        name = self._name(context.key)
        if len(self.names) == 1 and not self._explores(context):
            # Weights, gradients and moments of 0 stay 0 under any optimiser, so nothing needs to be restored.
            for matrix, mask in self._entries.of(pathways, name, gains=False).items():
                _gradient(objective, matrix).masked_fill_(~mask, 0.0)
        if self.config.group_lasso:
            for matrix in pathways.matrices:
                weight = objective.model.get_parameter(matrix).detach()
                gradient = lasso_gradient(weight, pathways.mask(name, matrix), pathways.block)
                _gradient(objective, matrix).add_(gradient, alpha=self.config.group_lasso)

    def update_masks(self, objective: Objective, context: StepContext) -> dict[str, Tensor]:
        if len(self.names) == 1:
            return {}
        name = self._name(context.key)
        masks = self._entries.of(pathways_of(objective.model), name, gains=self._explores(context))
        return {PREFIX + matrix: mask for matrix, mask in masks.items()}

    # How masks change

    def after_step(self, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Prune at the first successful step at or after the time of a level, else adapt if it is time for that."""
        name = self._name(context.key)
        self.history.steps[name] += 1
        behind = context.planned + context.stride
        if self._levels_left and _reached(behind, self._next_pruning * context.total_steps):
            return self._prune(objective, context)
        if not self._explores(context):
            return {}
        if self.config.adapt_until < 1.0 and _reached(behind, self.config.adapt_until * context.total_steps):
            return self._choose_last(objective, context)
        return self._adapt(name, objective, context) if self.sparsity > 0.0 and self._is_turn(name) else {}

    def settled(self) -> bool:
        return not self._levels_left

    def averages(self, context: StepContext) -> bool:
        return self.settled() and self.config.adapt_until < 1.0 and not self._explores(context)

    def finish(self, objective: Objective, context: StepContext) -> None:
        if self._explores(context):
            self._choose_last(objective, context)
        set_zero(objective.model, unused(pathways_of(objective.model)))
        self._keep_level(objective, context)
        context.keep(FINAL, self._saved(objective, context).to_dict())

    def _prune(self, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Prune all pathways to the next sparsity, each among the blocks that the masks before left to it."""
        if self.config.masks == "adaptive":
            # The masks of the level have changed since they were kept.
            self._keep_level(objective, context)
        model = objective.model
        sparsity = self._levels_left[0]
        found = {name: chosen(model, name, sparsity, gains=self._gains) for name in self.names}
        for name, masks in found.items():
            replace_masks(pathways_of(model), name, masks)
        self.history.levels.append((sparsity, context.step + 1))
        self.history.changed = context.step + 1
        if self.config.rewind:
            rewind(model, context)
        self._keep_level(objective, context)
        return self._drop(objective, context)

    def _adapt(self, name: str, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Select the mask of a pathway again, at the same sparsity."""
        self._replace({name: chosen(objective.model, name, self.sparsity, gains=self._gains)}, objective, context)
        return self._drop(objective, context)

    def _choose_last(self, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Choose the masks of all pathways for the last time."""
        found = {name: chosen(objective.model, name, self.sparsity, gains=self._gains) for name in self.names}
        self._replace(found, objective, context)
        self.history.settled = True
        return self._drop(objective, context)

    def _replace(self, masks: Mapping[str, Masks], objective: Objective, context: StepContext) -> None:
        """Replace masks between prunings, and note how many blocks change."""
        done = context.step + 1 if context.planned < context.total_steps else context.step
        for name, found in masks.items():
            changed = replace_masks(pathways_of(objective.model), name, found)
            self.history.adaptations.setdefault(name, []).append((done, changed))
        self.history.changed = done

    def _drop(self, objective: Objective, context: StepContext) -> Mapping[str, Tensor]:
        """Set weights that no pathway keeps to zero, and return the entries whose optimiser state is reset."""
        returns = self._explores(context)
        if returns and not self.config.zeroing:
            return {}
        entries = unused(pathways_of(objective.model))
        set_zero(objective.model, entries)
        if returns and self.config.keep_moments:
            return {}
        return {PREFIX + matrix: mask for matrix, mask in entries.items()}

    # Progress of the run

    @property
    def sparsity(self) -> float:
        """The present sparsity."""
        return self.history.levels[-1][0] if self.history.levels else self.config.start_level

    @property
    def _levels_left(self) -> tuple[float, ...]:
        return self.levels[len(self.history.levels) :]

    @property
    def _next_pruning(self) -> float:
        """The time of the next pruning as a fraction of the run."""
        return (len(self.history.levels) + 1) * self.config.prune_interval

    @property
    def _gains(self) -> bool:
        return self.config.masks == "adaptive" and self.config.residual

    def _explores(self, context: StepContext) -> bool:
        """Whether weights outside the masks are trained, because a later choice may take them."""
        if not self._gains or self.history.settled:
            return False
        adapts = self.sparsity > 0.0 and self.config.adapt_interval < context.total_steps
        return adapts or bool(self._levels_left)

    def _is_turn(self, name: str) -> bool:
        """Whether the mask of a pathway adapts after this many of its steps.

        Each choice sets the weights to zero that no pathway keeps. If all languages chose at the same time, as they
        would with equally many steps, only the first one would find weights that have been trained for a while. So they
        take turns, evenly spread over the interval.
        """
        interval = self.config.adapt_interval
        ahead = interval * self.names.index(name) // len(self.names)
        return (self.history.steps[name] + ahead) % interval == 0

    def _name(self, key: str | None, utterance: str = "") -> str:
        """Return the pathway of a batch by the language that its utterances share."""
        if len(self.names) == 1:
            return self.names[0]
        if key not in self.names:
            known = ", ".join(self.names)
            has = "has no language" if key is None else f"its language {key} has no pathway"
            raise UserError(f"{utterance}: {has}; space.languages are {known}")
        return key

    def _check_length(self, context: StepContext) -> None:
        number = len(self.levels)
        if number and self.config.prune_interval * context.total_steps < 1.0:
            raise UserError(
                f"method.levels: {number} prunings, each after another {self.config.prune_interval:g} of the run, do "
                f"not fit into its {context.total_steps} optimiser steps; train longer, or raise method.prune_interval"
            )

    # Saved masks and statistics

    def _keep_level(self, objective: Objective, context: StepContext) -> None:
        """Keep the masks of the present sparsity, if there is any."""
        if self.sparsity > 0.0:
            context.keep(level_file(self.sparsity), self._saved(objective, context).to_dict())

    def _saved(self, objective: Objective, context: StepContext) -> SavedMasks:
        pathways = pathways_of(objective.model)
        return SavedMasks(
            languages=self.names,
            block=pathways.block,
            level=self.sparsity,
            masks={matrix: pathways.masks(matrix) for matrix in pathways.matrices},
            shapes={matrix: pathways.shape(matrix) for matrix in pathways.matrices},
            rewind=self.config.rewind,
            adaptive=self.config.masks == "adaptive",
            step=self.history.changed,
            steps=context.total_steps,
        )

    def statistics(self, objective: Objective, context: StepContext) -> dict[str, float]:
        """Return the sparsity of every pathway, what its last choice of a mask changed, and the share of the union."""
        flat = Flattened.of(pathways_of(objective.model))
        of_prunable, of_all = union_ratios(flat, objective.model.count().params)
        found = {f"{name}/sparsity": flat.sparsity(name) for name in self.names}
        for name, choices in self.history.adaptations.items():
            found |= {f"{name}/choices": float(len(choices)), f"{name}/changed": choices[-1][1]}
        return found | {"union": of_prunable, "union_all": of_all}

    def facts(self, objective: Objective) -> dict[str, Any]:
        pathways = pathways_of(objective.model)
        flat = Flattened.of(pathways)
        found = mask_facts(flat, objective.model.count().params)
        if self.origins:
            found["since_start"] = changes_since(self.origins, pathways)
            found["sources"] = {name: source_of(origin) for name, origin in self.origins.items()}
        found["levels"] = [{"sparsity": sparsity, "step": step} for sparsity, step in self.history.levels]
        if self.config.masks == "adaptive":
            found["adaptations"] = {
                name: {"steps": [step for step, _ in choices], "changed": [share for _, share in choices]}
                for name, choices in self.history.adaptations.items()
            }
        return {"masks": found}

    # The checkpoint

    def get_extra_state(self) -> dict[str, Any]:
        """Return the history of the masks as plain values; the masks themselves belong to the model."""
        return asdict(self.history)

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self.history = History(**state)


@torch.no_grad()
def rewind(model: SpeechModel, context: StepContext) -> None:
    """Set all weights and statistics to those with which the run began; masks stay.

    Raises:
        UserError: the weights are gone or have changed.
    """
    assert context.initial is not None, "method.rewind needs training.init"
    initial = context.initial()
    for name, tensor in model.state_dict().items():
        if name in initial:
            tensor.copy_(initial[name])


def _gradient(objective: Objective, matrix: str) -> Tensor:
    """Return the gradient of a matrix of the model, which every step has."""
    gradient = objective.model.get_parameter(matrix).grad
    assert gradient is not None, f"{matrix} has no gradient"
    return gradient


def _reached(position: float, place: float) -> bool:
    """Whether a run has reached a place in its plan; positions are sums of strides, which are not always exact."""
    return position >= place - 1e-6
