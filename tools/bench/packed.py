"""Bytes of the matrices of a pathway (paper 5) at 70 % sparsity, packed against dense, and what packing adds to zip.

A Conformer of AN4's size with an LSTM predictor and random weights, of which the 8 x 1 blocks of largest norms stay.
Matrices alone: everything else takes the same bytes in every form, and so do the scales of int8. ``slimasr-profile EXP
--storage`` prints the bytes of whole models.

    python tools/bench/packed.py [--tiny]
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import torch
from common import report
from torch import Tensor

from slimasr.config.load import load_config
from slimasr.config.model import LstmPredictorConfig
from slimasr.elastic.blocks import expand, pack, select
from slimasr.export.int8 import LEVELS, scales
from slimasr.models.build import build_model
from slimasr.models.pathways import prunable_matrices

RECIPE = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf" / "separate.yaml"
SPARSITY = 0.7
BLOCK = (8, 1)
TARGETS = {"float": 0.31, "int8": 0.32}


def matrices_of(tiny: bool) -> list[Tensor]:
    """Return the prunable matrices of a model with random weights."""
    torch.manual_seed(0)
    config = load_config(RECIPE).model
    encoder = config.encoder.model_copy(update={"num_layers": 1 if tiny else config.encoder.num_layers})
    dim = 32 if tiny else 512
    predictor = LstmPredictorConfig(dim=dim, embedding_dim=dim, num_layers=1)
    model = build_model(config.model_copy(update={"encoder": encoder, "predictor": predictor}), None, 100, (1.0,))
    return [weight.detach() for weight in prunable_matrices(model).values()]


def int8_of(weight: Tensor) -> Tensor:
    """Return the levels of a weight with one scale per row."""
    return (weight / scales(weight).unsqueeze(1)).round().clamp(-LEVELS, LEVELS).to(torch.int8)


def compare(tiny: bool) -> None:
    """Print the bytes of the forms of all matrices together."""
    weights = matrices_of(tiny)
    masks = [select(weight, SPARSITY, BLOCK) for weight in weights]
    sparse = [
        weight.masked_fill(~expand(mask, weight.shape, BLOCK), 0.0) for weight, mask in zip(weights, masks, strict=True)
    ]
    for kind, matrices in (("float", sparse), ("int8", [int8_of(weight) for weight in sparse])):
        dense = b"".join(matrix.numpy().tobytes() for matrix in matrices)
        parts = [part for matrix, mask in zip(matrices, masks, strict=True) for part in pack(matrix, mask, BLOCK)]
        packed = b"".join(part.numpy().tobytes() for part in parts)
        zipped = len(zlib.compress(dense))
        both = len(zlib.compress(packed))
        report(
            f"matrices at {SPARSITY:.0%} sparsity, {kind}, packed against dense, bytes",
            len(packed),
            len(dense),
            len(packed) / len(dense),
            TARGETS[kind],
            zipped=zipped / len(dense),
            packed_zipped=both / len(dense),
            packed_against_zipped=len(packed) / zipped,
        )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model, for tests")
    compare(parser.parse_args().tiny)


if __name__ == "__main__":
    main()
