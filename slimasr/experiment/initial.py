"""The start of a run from another experiment (``training.init``): weights, feature statistics and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slimasr.config.load import first_different_key, load_config
from slimasr.config.schema import Config
from slimasr.data.tokenizer import load_tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import check_tokenizer_of, fingerprint, load_checkpoint, load_weights
from slimasr.experiment.folder import needed
from slimasr.models.base import SpeechModel

KEY = "training.init.from"


@dataclass(frozen=True)
class InitialWeights:
    """The weights with which a run begins.

    Attributes:
        weights: name in the model -> tensor on the CPU; statistics of features and norms are among them, masks (Boolean
            buffers) are not.
        digest: digest of the file from which they come.
        path: that file.
    """

    weights: Mapping[str, torch.Tensor]
    digest: str
    path: Path

    def load_into(self, model: SpeechModel) -> None:
        """Copy the weights into a model, which keeps its own masks.

        Raises:
            UserError: a weight does not fit; the message names the first one.
        """
        masks = {name: tensor for name, tensor in model.state_dict().items() if tensor.dtype == torch.bool}
        load_weights(model, {**self.weights, **masks}, self.path)


def initial_weights(config: Config) -> InitialWeights | None:
    """Read the weights with which a run begins, None if it begins with random ones, and check that they fit it.

    Args:
        config: the configuration that is trained.

    Raises:
        UserError: the experiment of ``training.init`` is missing or damaged, or has other sizes, units or features than
            the recipe; the message names the first key that differs.
    """
    if config.training.init is None:
        return None
    exp = config.training.init.from_
    stored = needed(exp / "config.yaml", f", or name a trained experiment ({KEY})")
    path = needed(final_weights(exp), f" to its end; {KEY} names this experiment")
    difference = first_different_key(_needs(load_config(stored)), _needs(config))
    if difference is not None:
        raise UserError(f"{KEY}: {exp} does not fit this recipe: {difference}")
    saved = load_checkpoint(path)
    check_tokenizer_of(saved, load_tokenizer(needed(exp / "lang")), path)
    return InitialWeights(_weights(saved), fingerprint(path), path)


def final_weights(exp: Path) -> Path:
    """The file from which a run takes the weights of an experiment."""
    return exp / "final.pt"


def read_unchanged(path: Path, digest: str | None) -> Mapping[str, torch.Tensor]:
    """Read the weights with which a run began once more (`InitialWeights.weights`).

    Raises:
        UserError: they are gone or have changed.
    """
    check_unchanged(path, digest)
    return _weights(load_checkpoint(path))


def check_unchanged(path: Path, digest: str | None) -> None:
    """Check that the weights with which a run began are still there and the same.

    Args:
        path: their file.
        digest: its digest when the run began; None = unknown.

    Raises:
        UserError: they are gone or have changed.
    """
    if not path.is_file():
        raise UserError(f"{path} is gone, with which this run began ({KEY}); restore it")
    if digest is not None and fingerprint(path) != digest:
        raise UserError(
            f"{path} has changed since this run began with it ({KEY}); restore it, or choose another --exp to begin "
            "with the present weights"
        )


def _weights(saved: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in saved["model"].items() if tensor.dtype != torch.bool}


def _needs(config: Config) -> dict[str, Any]:
    """Return the keys on which the meaning of weights depends, as plain data."""
    tokenizer = {"kind", "vocab_size"}
    if config.tokenizer.kind == "phonemes":
        tokenizer |= {"lexicon", "stress"}
    return {
        "data": {"sampling_rate": config.data.sampling_rate},
        "features": config.features.model_dump(mode="json", exclude={"sets"}),
        "tokenizer": config.tokenizer.model_dump(mode="json", include=tokenizer),
        "model": _without_dropout(config.model.model_dump(mode="json")),
    }


def _without_dropout(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what changes training alone, at any depth."""
    kept = {key: value for key, value in tree.items() if not key.endswith("dropout")}
    return {key: _without_dropout(value) if isinstance(value, dict) else value for key, value in kept.items()}
