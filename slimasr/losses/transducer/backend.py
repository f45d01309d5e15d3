"""Select the implementation of the lattice recursion: k2 (C++ and CUDA) if it can be imported, or ours in torch."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.losses.transducer.lattice import Occupation, lattice_scores

Backend = Literal["auto", "k2", "torch"]


@functools.cache
def _import_k2() -> ModuleType | str:
    """Return the k2 module, or why it cannot be imported (a k2 built for another torch raises OSError)."""
    # The reason is returned, not raised, because the cache keeps only returned values and a failed import is slow.
    try:
        return importlib.import_module("k2")
    except (ImportError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def k2_import_error() -> str | None:
    """Return why k2 cannot be imported, or None if it can."""
    k2 = _import_k2()
    return k2 if isinstance(k2, str) else None


def resolve_backend(backend: Backend) -> Literal["k2", "torch"]:
    """Resolve ``auto``, and check that ``k2`` is available.

    Raises:
        UserError: ``k2`` was requested and cannot be imported.
        ValueError: there is no such backend.
    """
    if backend not in ("auto", "k2", "torch"):
        raise ValueError(f"backend must be auto, k2 or torch, not {backend!r}")
    reason = k2_import_error()
    if backend == "auto":
        return "torch" if reason else "k2"
    if backend == "k2" and reason:
        raise UserError(f"loss.backend=k2, but k2 does not import ({reason}): run tools/install_k2.sh or use auto")
    return backend


def run_recursion(
    px: Tensor, py: Tensor, boundary: Tensor | None, backend: Backend, return_grad: bool = False
) -> tuple[Tensor, Occupation | None]:
    """Run `lattice_scores` on the chosen backend, with the same arguments, values and gradients."""
    if resolve_backend(backend) == "torch":
        return lattice_scores(px, py, boundary, return_grad)
    k2 = _import_k2()
    assert isinstance(k2, ModuleType)
    boundary = None if boundary is None else boundary.to(px.device, non_blocking=True)
    if not return_grad:
        return _drop_missing_paths(k2.mutual_information_recursion(px, py, boundary)), None
    scores, (px_occupation, py_occupation) = k2.mutual_information_recursion(px, py, boundary, return_grad=True)
    # Without a path, the occupations of k2 are meaningless; ours are zero.
    no_path = (scores == -torch.inf).reshape(-1, 1, 1)
    occupation = (px_occupation.masked_fill(no_path, 0.0), py_occupation.masked_fill(no_path, 0.0))
    return _drop_missing_paths(scores), occupation


def _drop_missing_paths(scores: Tensor) -> Tensor:
    """Stop the gradient of utterances without any path, which k2 would propagate along a non-existent one."""
    # The values stay the same, but masked_fill passes no gradient through the entries that it fills.
    return scores.masked_fill(scores == -torch.inf, -torch.inf)
