"""Compares a file that was written with the module that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.export.parts import Part
from slimasr.export.session import Session

LENGTHS = ((1,), (97,), (331, 1, 97))
"""Lengths in frames of the utterances of each trial: alone, and padded to the longest one."""

TOLERANCE = 1e-3
"""Largest difference, relative to the largest number of the output."""


def check_part(part: Part, path: Path) -> None:
    """Compare a file with its module, on random input of several lengths.

    Raises:
        UserError: their outputs differ.
    """
    session = Session(path)
    generator = torch.Generator().manual_seed(0)
    for inputs in _trials(part, generator):
        with torch.no_grad():
            expected = part.module(*inputs.values())
        outputs = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(*inputs.values())
        difference = max(_difference(a, b, outputs) for a, b in zip(outputs, found, strict=True))
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path.name}: computes something else than the model (differs by {difference:.2g} of the largest "
                "number of its output); it was not written"
            )


def _trials(part: Part, generator: torch.Generator) -> Iterator[Mapping[str, Tensor]]:
    """Yield random inputs of a part."""
    if "x_lens" in part.inputs:
        bins = part.inputs["x"].shape[-1]
        for lens in LENGTHS:
            # Log-mel features are between about -16 and 16.
            x = 4.0 * torch.randn(len(lens), max(lens), bins, generator=generator) - 6.0
            yield {"x": x, "x_lens": torch.tensor(lens)}
    elif "y" in part.inputs:
        context = part.inputs["y"].shape[-1]
        vocab_size = int(part.metadata["vocab_size"])
        labels = torch.randint(0, vocab_size, (context + 1, context), generator=generator)
        # Row u has u labels.
        unknown = torch.arange(context) < context - torch.arange(context + 1).unsqueeze(1)
        yield {"y": labels.masked_fill(unknown, -1)}
    else:
        yield {name: torch.randn(3, *value.shape[1:], generator=generator) for name, value in part.inputs.items()}


def _difference(expected: Tensor, found: Tensor, outputs: tuple[Tensor, ...]) -> float:
    """Return the largest difference, relative to the largest number; infinity if the shapes differ.

    What lies behind the end of an utterance does not count.
    """
    if expected.shape != found.shape:
        return float("inf")
    if expected.ndim == 3:
        behind = torch.arange(expected.shape[1]) >= outputs[1].unsqueeze(1)
        expected = expected.masked_fill(behind.unsqueeze(-1), 0.0)
        found = found.masked_fill(behind.unsqueeze(-1), 0.0)
    scale = max(1.0, float(expected.abs().max()))
    return float(np.abs(expected.numpy() - found.numpy()).max()) / scale
