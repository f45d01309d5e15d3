"""Process the rows of a large matrix in chunks, so that intermediate results stay small."""

from __future__ import annotations

from torch import Tensor

# Elements per chunk: small enough for a CPU core's cache, large enough to fill a GPU.
_CHUNK_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 25}


def row_chunks(matrix: Tensor) -> list[slice]:
    """Return slices of rows that cover ``matrix`` (M, V), none of them empty."""
    num_rows, width = matrix.shape
    # A row is never divided, because the callers normalise over whole rows.
    step = max(1, _CHUNK_ELEMENTS.get(matrix.device.type, 1 << 25) // width)
    return [slice(start, start + step) for start in range(0, num_rows, step)]
