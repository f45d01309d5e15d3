"""Parts of torchaudio that are plain torch, loaded by their path; for benchmarks against them.

torchaudio is no dependency, and its compiled part does not load beside every build of torch. So nothing of the package
is imported: one file is loaded, from the installed package or from a folder into which it was unpacked:

    pip download torchaudio --no-deps && unzip -d unpacked torchaudio-*.whl
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from slimasr.config.encoders import EmformerConfig
from slimasr.config.model import StackFrontendConfig
from slimasr.encoders.emformer import Emformer

EMFORMER_PARTS = {
    "parts.heads.in_proj": ("attention.emb_to_query", "attention.emb_to_key_value"),
    "parts.heads.out_proj": ("attention.out_proj",),
    "parts.ffn.inner": ("pos_ff.1",),
    "parts.ffn.outer": ("pos_ff.4",),
    "norms.heads": ("layer_norm_input",),
    "norms.ffn": ("pos_ff.0",),
    "norms.out": ("layer_norm_output",),
}
"""Our modules of a layer of an Emformer, and those of torchaudio that they join."""


def add_torchaudio_option(parser: argparse.ArgumentParser) -> None:
    """Let the user name the folder of the package."""
    parser.add_argument("--torchaudio", type=Path, metavar="DIR", help="Folder of the package torchaudio.")


def find_torchaudio(package: Path | None, file: str) -> Path | None:
    """Return a file of torchaudio, or None if it is not there; nothing of the package is imported.

    Args:
        package: the folder of the package; None = where it is installed.
        file: relative to that folder.
    """
    if package is None:
        spec = importlib.util.find_spec("torchaudio")
        if spec is None or spec.origin is None:
            return None
        package = Path(spec.origin).parent
    path = package / file
    return path if path.is_file() else None


def missing(package: Path | None, file: str) -> str:
    """Return why a comparison is skipped and what to do."""
    where = "torchaudio is not installed" if package is None else f"{package} has no {file}"
    return f"skipped, {where}; name a folder with --torchaudio DIR"


def load_alone(path: Path) -> ModuleType:
    """Load one file as a module."""
    spec = importlib.util.spec_from_file_location(f"torchaudio_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_emformers(path: Path, config: EmformerConfig, num_mel_bins: int = 80) -> tuple[Emformer, Any]:
    """Build our encoder, and torchaudio's layers with the weights of our layers; in evaluation mode.

    Args:
        path: torchaudio's emformer.py.
        config: without memory, positions and branches.
        num_mel_bins: features of our front end, which stacks four frames; torchaudio has none.
    """
    torch.manual_seed(0)
    ours = Emformer(config, StackFrontendConfig(factor=4), num_mel_bins, (1.0,)).eval()
    theirs = load_alone(path).Emformer(
        config.d_model,
        config.num_heads,
        config.ffn_dim,
        config.num_layers,
        config.segment,
        dropout=config.dropout,
        activation="gelu",
        left_context_length=config.left_context,
        right_context_length=config.right_context,
    )
    for layer, other in zip(ours.layers, theirs.emformer_layers, strict=True):
        _copy_layer(layer, other)
    return ours, theirs.eval()


@torch.no_grad()
def _copy_layer(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights of a layer into torchaudio's."""
    values = dict(ours.named_parameters())
    targets = dict(theirs.named_parameters())
    for name, parts in EMFORMER_PARTS.items():
        for kind in ("weight", "bias"):
            # A norm has its parameters under the width for which they are.
            (value,) = [v for key, v in values.items() if key.startswith(f"{name}.") and key.endswith(f".{kind}")]
            pieces = [targets.pop(f"{part}.{kind}") for part in parts]
            for piece, own in zip(pieces, value.split([len(piece) for piece in pieces]), strict=True):
                piece.copy_(own)
    assert not targets, f"torchaudio has more weights than are known here: {sorted(targets)}"
