"""Compares a file that was written with the module that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.export.parts import Part
from slimasr.export.session import Session

LENGTHS = ((1,), (97,), (331, 1, 97))
"""Lengths in frames of the utterances of each trial: alone, and padded to the longest one."""

CHUNKS = 4
"""Chunks of each stream."""

TOLERANCE = 1e-3
"""Largest difference, relative to the largest number of the output."""

ROUNDED_TOLERANCE = 0.3
"""Largest root mean square of what an int8 file differs by, relative to that of its output. In trained models rounding
costs 0.01 to 0.03; shuffled, negated or zeroed integers cost 0.4 to 1.4."""

Pair = tuple[Tensor, Tensor, Tensor | None]
"""An output of the module, the same of the file, and the frames of each utterance; None = all are part of it."""


def check_part(part: Part, path: Path) -> None:
    """Compare a file with its module, on random input of several lengths.

    Raises:
        UserError: their outputs differ.
    """
    # Python's max would pass over what is not a number.
    difference = float(np.max([_difference(*pair) for run in _runs(part, Session(path)) for pair in run]))
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path.name}: computes something else than the model (differs by {difference:.2g} of the largest "
            "number of its output); it was not written"
        )


def check_rounded(part: Part, path: Path) -> None:
    """Compare an int8 file with the module whose weights were rounded, on the same input.

    Raises:
        UserError: their outputs differ by more than rounding explains.
    """
    # Lengths and states follow from the same computation as the first output.
    difference = float(np.max([_relative_error(*run[0]) for run in _runs(part, Session(path))]))
    if not difference <= ROUNDED_TOLERANCE:
        raise UserError(
            f"{path.name}: computes something else than the model in float (differs by {difference:.2g} of its output "
            "in the root mean square); it was not written"
        )


def _runs(part: Part, session: Session) -> Iterator[list[Pair]]:
    """Run a module and its file on the same input; yield all outputs of each run."""
    generator = torch.Generator().manual_seed(0)
    return _of_stream(part, session, generator) if _streams(part) else _of_trials(part, session, generator)


def _streams(part: Part) -> bool:
    """Whether a part is an encoder that takes chunks and the states of streams."""
    return "x" in part.inputs and "x_lens" not in part.inputs


def _of_stream(part: Part, session: Session, generator: torch.Generator) -> Iterator[list[Pair]]:
    """Yield the outputs for the chunks of two streams, each side with its own states."""
    x, *states = part.inputs.values()
    ours, theirs = list(states), list(states)
    advance = int(part.metadata["decode_chunk_len"])
    for number in range(CHUNKS):
        # The runtime counts frames, if the encoder takes their number.
        if "processed_lens" in part.inputs:
            seen = torch.full((x.shape[0],), number * advance, dtype=torch.int64)
            ours[-1:] = theirs[-1:] = [seen]
        chunk = _log_mel(x.shape, generator)
        with torch.no_grad():
            expected = part.module(chunk, *ours)
        found = session.run(chunk, *theirs)
        yield [(a, b, None) for a, b in zip(expected, found, strict=True) if a.numel()]
        ours[: len(expected) - 1], theirs[: len(found) - 1] = expected[1:], found[1:]


def _of_trials(part: Part, session: Session, generator: torch.Generator) -> Iterator[list[Pair]]:
    """Yield the outputs for random input of several lengths."""
    for inputs in _trials(part, generator):
        with torch.no_grad():
            expected = part.module(*inputs.values())
        outputs = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(*inputs.values())
        lens = outputs[1] if len(outputs) > 1 else None
        yield [(a, b, lens) for a, b in zip(outputs, found, strict=True)]


def _log_mel(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return random features; log-mel energies are between about -16 and 16."""
    return 4.0 * torch.randn(*shape, generator=generator) - 6.0


def _trials(part: Part, generator: torch.Generator) -> Iterator[Mapping[str, Tensor]]:
    """Yield random inputs of a part."""
    if "x_lens" in part.inputs:
        bins = part.inputs["x"].shape[-1]
        for lens in LENGTHS:
            x = _log_mel((len(lens), max(lens), bins), generator)
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


def _difference(expected: Tensor, found: Tensor, lens: Tensor | None) -> float:
    """Return the largest difference, relative to the largest number; infinity if the shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    scale = max(1.0, float(_heard(expected, lens).abs().max()))
    return float(np.abs(_heard(expected, lens).numpy() - _heard(found, lens).numpy()).max()) / scale


def _relative_error(expected: Tensor, found: Tensor, lens: Tensor | None) -> float:
    """Return the root mean square of the difference, relative to that of the output; infinity if the shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    # A pathway may have lost all weights.
    scale = max(float(_heard(expected, lens).norm()), 1e-6)
    return float((_heard(expected, lens) - _heard(found, lens)).norm()) / scale


def _heard(output: Tensor, lens: Tensor | None) -> Tensor:
    """Return an output with zeros behind the end of each utterance, which does not count."""
    if output.ndim != 3 or lens is None:
        return output
    behind = torch.arange(output.shape[1]) >= lens.unsqueeze(1)
    return output.masked_fill(behind.unsqueeze(-1), 0.0)
