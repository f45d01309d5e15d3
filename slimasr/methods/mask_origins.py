"""Masks that other experiments have found, with which pathways begin (``method.masks_from``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from slimasr.config.pathways import PathwaysConfig
from slimasr.methods.masking import Flattened, Masks, pathways_of
from slimasr.models.base import SpeechModel
from slimasr.models.mask_files import SavedMasks, read_level
from slimasr.models.pathways import Pathways


@dataclass(frozen=True)
class Origin:
    """The mask with which a pathway begins.

    Attributes:
        experiment: name of the folder of the experiment that has found it.
        saved: the masks of that experiment at this sparsity.
        masks: the mask of this pathway, by matrix.
    """

    experiment: str
    saved: SavedMasks
    masks: Masks

    @property
    def digest(self) -> str:
        """Short digest of the mask and of what results.json says of its origin."""
        digest = hashlib.sha256(json.dumps(source_of(self), sort_keys=True).encode())
        for name in sorted(self.masks):
            digest.update(name.encode())
            digest.update(self.masks[name].cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def read_origins(config: PathwaysConfig, model: SpeechModel) -> dict[str, Origin]:
    """Read the masks with which the pathways of a model begin, by name; empty if all of them begin with all weights.

    Raises:
        UserError: masks are missing, damaged, or do not fit the model.
    """
    pathways = pathways_of(model)
    found = {}
    for name, place in config.places(list(pathways.names)).items():
        saved = read_level(place.exp, place.level, f"method.masks_from, {name}")
        masks = saved.masks_of(name, pathways, f"method.masks_from: {place.exp}")
        found[name] = Origin(place.exp.resolve().name, saved, masks)
    return found


def source_of(origin: Origin) -> dict[str, Any]:
    """Return what results.json says of the origin of a mask."""
    saved = origin.saved
    return {
        "experiment": origin.experiment,
        "level": saved.level,
        "languages": list(saved.languages),
        "rewind": saved.rewind,
        "adaptive": saved.adaptive,
        "step": saved.step,
        "steps": saved.steps,
    }


def changes_since(origins: Mapping[str, Origin], pathways: Pathways) -> dict[str, dict[str, float]]:
    """Compare the masks of a model with those with which its pathways began."""
    stacked = {
        matrix: torch.stack([origins[name].masks[matrix] for name in pathways.names]) for matrix in pathways.matrices
    }
    now = Flattened.of(pathways)
    before = Flattened(pathways.names, stacked, pathways)
    return {name: now.overlap(*rows) for name, *rows in zip(now.names, now.rows, before.rows, strict=True)}
