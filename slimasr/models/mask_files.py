"""Files of the masks of pathways that a training has found at some sparsity, with which another one may begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.models.pathways import Pathways
from slimasr.supernet.subnet import ANY_LANGUAGE

FOLDER = "masks"
"""The folder of these files in an experiment folder."""

FINAL = f"{FOLDER}/final.pt"
"""The masks of the final weights."""


def level_file(level: float) -> str:
    """Return the path of the masks of a sparsity in an experiment folder, such as ``masks/level-0.5.pt``."""
    return f"{FOLDER}/level-{level:g}.pt"


@dataclass(frozen=True)
class SavedMasks:
    """The masks of all pathways of a model, and the run that has found them.

    Attributes:
        languages: names of the L pathways.
        block: outputs and inputs of a block.
        level: sparsity, the share of the blocks of every matrix that the masks prune.
        masks: name of a matrix in the model -> bool (L, rows, columns), which blocks are kept.
        shapes: name of a matrix -> its outputs and inputs.
        rewind: whether the run went back to its initial weights whenever it had pruned.
        adaptive: whether the masks of the run adapted between prunings.
        step: optimiser steps of the run until it had found these masks.
        steps: all its optimiser steps.
    """

    languages: tuple[str, ...]
    block: tuple[int, int]
    level: float
    masks: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, int]]
    rewind: bool
    adaptive: bool
    step: int
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """Return tensors on the CPU and plain values, from which `read_masks` makes the same again."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return content | {"masks": {name: mask.detach().cpu().clone() for name, mask in self.masks.items()}}

    def masks_of(self, language: str, pathways: Pathways, place: str) -> dict[str, Tensor]:
        """Return the masks of a language by the names of the matrices of a model, on the CPU.

        A mask for all languages serves each of them.

        Args:
            language: the language.
            pathways: the masks of the model.
            place: where these masks come from, for messages.

        Raises:
            UserError: they were made for other languages, blocks or matrices; the message names the first difference.
        """
        if language not in self.languages and ANY_LANGUAGE not in self.languages:
            raise UserError(f"{place}: has no mask of {language}, only of {', '.join(self.languages)}")
        if self.block != pathways.block:
            blocks = [f"{outputs} x {inputs}" for outputs, inputs in (self.block, pathways.block)]
            raise UserError(f"{place}: masks of {blocks[0]} blocks do not fit space.block, {blocks[1]}")
        number = self.languages.index(language if language in self.languages else ANY_LANGUAGE)
        for matrix in pathways.matrices:
            if matrix not in self.masks:
                raise UserError(f"{place}: has no mask of {matrix}, which this model has; it is from another model")
            ours, theirs = pathways.shape(matrix), tuple(self.shapes[matrix])
            if ours != theirs:
                sizes = f"{theirs[0]} x {theirs[1]} weights, not {ours[0]} x {ours[1]}"
                raise UserError(f"{place}: its {matrix} has {sizes} as in this model")
        return {matrix: self.masks[matrix][number] for matrix in pathways.matrices}


def read_masks(path: Path) -> SavedMasks:
    """Read a file of masks.

    Raises:
        UserError: it cannot be read or is damaged.
    """
    try:
        return SavedMasks(**torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:
        # A damaged archive raises one of many types, depending on where it is truncated.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: damaged file of masks ({reason[:120]})") from None


def read_level(exp: Path, level: float, place: str) -> SavedMasks:
    """Read the masks that an experiment had at a sparsity.

    Args:
        exp: the experiment folder.
        level: the sparsity.
        place: what names the masks, for messages.

    Raises:
        UserError: the experiment has none, or they are damaged.
    """
    path = exp / level_file(level)
    if path.is_file():
        return read_masks(path)
    if not exp.is_dir():
        raise UserError(f"{place}: there is no experiment folder {exp}; train it first, or name another one")
    others = sorted(file.stem.removeprefix("level-") for file in (exp / FOLDER).glob("level-*.pt"))
    known = f"it has masks of {', '.join(others)}" if others else "it has no masks of any sparsity"
    raise UserError(f"{place}: {exp} has no masks of sparsity {level:g}; {known}")
