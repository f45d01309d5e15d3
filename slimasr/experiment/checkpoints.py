"""Reads checkpoints, and loads their weights into a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.schema import Config
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.models.base import SpeechModel
from slimasr.models.build import pathway_spec
from slimasr.models.heads import LOG_PRIOR
from slimasr.models.packed import unpacked


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. It may contain tensors and plain values, but no code.

    Matrices that are stored packed (`slimasr.models.packed`) come dense, bit for bit what was saved.

    Raises:
        UserError: the file is damaged, or a weight in it is not finite.
    """
    # Opening a pipe waits for a writer that may never come.
    if path.exists() and not path.is_file():
        reason = "Is a directory" if path.is_dir() else "is no regular file"
        raise UserError(f"{path}: cannot be read ({reason}); name a checkpoint")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:
        # A damaged archive raises one of many types, depending on where it is truncated.
        raise UserError(f"{path}: damaged checkpoint ({_damage(path, error)}); use another checkpoint") from None
    if not isinstance(saved, dict) or "model" not in saved:
        raise UserError(f"{path}: is not a checkpoint of slimasr-train")
    try:
        saved = unpacked(saved)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: damaged checkpoint (its packed matrices: {error})") from None
    check_weights(saved["model"], path)
    return saved


def check_tokenizer_of(saved: Mapping[str, Any], tokenizer: Tokenizer, path: Path) -> None:
    """Check that a checkpoint's weights were trained with this tokenizer.

    Checkpoints of earlier versions do not name their tokenizer, and pass.

    Raises:
        UserError: the weights were trained with another tokenizer, possibly of the same size.
    """
    made_with = saved.get("tokenizer", tokenizer.fingerprint)
    if made_with != tokenizer.fingerprint:
        raise UserError(
            f"{path}: was trained with another tokenizer ({made_with}) than the one in lang/ "
            f"({tokenizer.fingerprint}); restore the experiment's own lang/"
        )


def tree_in_words(encoder: EncoderSection) -> str:
    """Describe the tree of an encoder's layers, such as ``depths 20, 14, 7 with 6 layers shared``."""
    if encoder.tree is None:
        return "no tree"
    depths = ", ".join(map(str, encoder.tree.depths))
    shared = encoder.tree.shared
    return f"depths {depths} with {shared} {'layer' if shared == 1 else 'layers'} shared"


def structure_in_words(model: SpeechModel) -> dict[str, str]:
    """Return what the shapes of a model's weights do not tell, for its checkpoints: its tree and its pathways."""
    structure = {"tree": tree_in_words(model.config.encoder)}
    return structure if model.pathways is None else structure | {"pathways": str(model.pathways.spec)}


def check_structure_of(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Check that a checkpoint's weights were trained in the same tree and pathways, as those of others fit in shape.

    Checkpoints of earlier versions do not name their tree, and pass.

    Raises:
        UserError: the weights were trained in another tree or for other pathways.
    """
    ours = tree_in_words(config.model.encoder)
    made_in = saved.get("tree", ours)
    if made_in != ours:
        raise UserError(f"{path}: was trained with another model.encoder.tree ({made_in}) than the recipe's ({ours})")
    spec = pathway_spec(config)
    pathways = "no pathways" if spec is None else str(spec)
    found = saved.get("pathways", "no pathways")
    if found != pathways:
        raise UserError(f"{path}: was trained with another space ({found}) than the recipe's ({pathways})")


def check_weights(weights: object, path: Path) -> None:
    """Raise `UserError` unless these are named, finite tensors; the message names the first that is not."""
    if not isinstance(weights, Mapping):
        raise UserError(f"{path}: is not a checkpoint of slimasr-train (its model is no mapping of weights)")
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: is not a checkpoint of slimasr-train (a weight is named {name!r})")
        # Sparse and meta tensors load, but cannot be copied into a model.
        if not isinstance(weight, torch.Tensor) or weight.layout != torch.strided or weight.is_meta:
            raise UserError(f"{path}: damaged checkpoint ({name} is not a dense tensor)")
        # Quantised weights are always finite; `load_weights` refuses them for their type.
        if weight.is_quantized or bool(weight.isfinite().all()):
            continue
        found = f"{name} holds {int((~weight.isfinite()).sum())} numbers that are NaN or infinite"
        raise UserError(f"{path}: damaged checkpoint: {found}; use another checkpoint")


def renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights under the present names of their modules.

    Earlier versions named the heads of ``model.exits`` by their depths: ``exits.4.linear.weight`` is now
    ``heads.exit4.linear.weight``.
    """
    return {re.sub(r"^exits\.(\d+)\.", r"heads.exit\1.", name): weight for name, weight in weights.items()}


def load_weights(model: SpeechModel, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the weights of a checkpoint into a model.

    Raises:
        UserError: a weight does not fit or is not finite; the message names the first one.
    """
    check_weights(weights, path)
    expected = model.state_dict()
    weights = renamed(weights)
    # Earlier versions had no label priors: the model's own, which say that none is known, stay.
    weights = {name: own for name, own in expected.items() if name.endswith(f".{LOG_PRIOR}")} | weights
    unexpected = [name for name in weights if name not in expected]
    # In the model's order, so that the message names the first layer that does not fit.
    for name in [*expected, *unexpected]:
        if name not in expected or name not in weights:
            side = "the model lacks" if name not in expected else "the checkpoint lacks"
            raise UserError(f"{path}: does not fit the configuration: {side} {name}")
        if expected[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)} against {tuple(expected[name].shape)}"
            raise UserError(f"{path}: does not fit the configuration: {name} has shape {shapes}")
        if not _same_kind(expected[name].dtype, weights[name].dtype):
            kinds = f"{_dtype(weights[name])} against {_dtype(expected[name])}"
            raise UserError(f"{path}: does not fit the model: {name} has numbers of type {kinds}")
    # Features are divided by the standard deviations.
    if not bool((weights["feature_std"] > 0).all()):
        raise UserError(f"{path}: damaged checkpoint: feature_std needs to be above 0")
    model.load_state_dict(weights)


def fingerprint(path: Path) -> str:
    """Compute a short digest of a checkpoint file, by which results of other weights are recognised.

    Raises:
        UserError: the file does not exist or cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _damage(path: Path, error: Exception) -> str:
    """Return why torch could not read a file; its own words are of little use where it takes the file for another."""
    if not is_zipfile(path):
        return "it is incomplete, or was not written by slimasr-train"
    # Torch explains at length how to run the code in such a file, which is no way for files of unknown origin.
    if isinstance(error, UnpicklingError):
        return "it holds more than tensors and plain values, as files of other programs do"
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _same_kind(first: torch.dtype, second: torch.dtype) -> bool:
    """Return whether weights may be copied: half precision is converted, weights rounded to integers are refused."""
    return first == second or (first.is_floating_point and second.is_floating_point)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
