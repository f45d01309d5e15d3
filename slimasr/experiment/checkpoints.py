"""Reading checkpoints, and loading their weights into a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slimasr.data.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.models.transducer import Transducer


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. It may contain only tensors and plain values, never code.

    Raises:
        UserError: the file is damaged, or a weight in it is not finite.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged archive raises one of many types, depending on where it is truncated
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: damaged checkpoint ({reason[:120]})") from None
    if not isinstance(saved, dict) or "model" not in saved:
        raise UserError(f"{path}: is not a checkpoint of slimasr-train")
    check_weights(saved["model"], path)
    return saved


def check_tokenizer_of(saved: Mapping[str, Any], tokenizer: Tokenizer, path: Path) -> None:
    """Check that a checkpoint's weights were trained with this tokenizer; checkpoints without a record pass.

    Raises:
        UserError: they were trained with another tokenizer, possibly of the same size.
    """
    made_with = saved.get("tokenizer", tokenizer.fingerprint)
    if made_with != tokenizer.fingerprint:
        raise UserError(
            f"{path}: was trained with another tokenizer ({made_with}) than the one in lang/ "
            f"({tokenizer.fingerprint}); restore the experiment's own lang/"
        )


def check_weights(weights: object, path: Path) -> None:
    """Raise `UserError` unless these are named, finite tensors; the message names the first that is not."""
    if not isinstance(weights, Mapping):
        raise UserError(f"{path}: is not a checkpoint of slimasr-train (its model is no mapping of weights)")
    for name, weight in weights.items():
        if not isinstance(weight, torch.Tensor) or weight.layout != torch.strided or weight.is_meta:
            raise UserError(f"{path}: damaged checkpoint ({name} is not a dense tensor)")
        if weight.is_quantized or bool(weight.isfinite().all()):
            continue
        found = f"{name} holds {int((~weight.isfinite()).sum())} numbers that are NaN or infinite"
        raise UserError(f"{path}: damaged checkpoint: {found}; use another checkpoint")


def load_weights(model: Transducer, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the weights of a checkpoint into a model.

    Raises:
        UserError: a weight does not fit or is not finite; the message names the first one.
    """
    check_weights(weights, path)
    own = model.state_dict()
    for name in [*own, *(name for name in weights if name not in own)]:
        if name not in own or name not in weights:
            side = "the model lacks" if name not in own else "the checkpoint lacks"
            raise UserError(f"{path}: does not fit the configuration: {side} {name}")
        if own[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)} against {tuple(own[name].shape)}"
            raise UserError(f"{path}: does not fit the configuration: {name} has shape {shapes}")
        if not _same_kind(own[name].dtype, weights[name].dtype):
            kinds = f"{_dtype(weights[name])} against {_dtype(own[name])}"
            raise UserError(f"{path}: does not fit the model: {name} has numbers of type {kinds}")
    if not bool((weights["feature_std"] > 0).all()):
        raise UserError(f"{path}: damaged checkpoint: feature_std needs to be above 0")
    model.load_state_dict(dict(weights))


def fingerprint(path: Path) -> str:
    """Short digest of a checkpoint; results for other weights are measured again.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _same_kind(first: torch.dtype, second: torch.dtype) -> bool:
    """Whether weights may be copied: those in half precision are converted, those rounded to integers are refused."""
    return first == second or (first.is_floating_point and second.is_floating_point)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
