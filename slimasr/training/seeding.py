"""Random numbers derived from the seed and the position in the run.

All global generators are seeded again at every step, so a resumed run draws the same numbers as an uninterrupted one,
and nothing between steps (validation, scans) can change a later draw. No generator state needs to be saved.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from a purpose and numbers; different arguments result in unrelated seeds."""
    # Python's own hash of a string differs from process to process.
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    # One bit less than 64, so that the seed fits into a signed integer.
    return int.from_bytes(digest[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from the legacy generator
    torch.manual_seed(seed)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the state of all global generators after the block."""
    # torch restores its own generators, of all devices.
    python = random.getstate()
    numpy = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
