"""The encoder's feed-forward modules compiled by ``torch.compile`` for training (``training.compile``).

Whole layers are not compiled. For attention and convolutions, the CPU code that torch 2.13 generates works for a single
utterance length, so almost every training batch would trigger another compilation. The length of an FFT is also
computed outside of torch. Feed-forward modules process each frame separately and do not have these problems.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from slimasr.config.training import TrainingConfig
from slimasr.elastic.feed_forward import ElasticFeedForward
from slimasr.encoders.base import Encoder
from slimasr.errors import UserError
from slimasr.supernet.subnet import Units

GRAPHS = 64
"""Kinds of module that are compiled: sizes of the stored module times widths and choices of units that run. Further
kinds run uncompiled."""


def compilation_note(config: TrainingConfig) -> str | None:
    """Return what the user must know before the first step, None if nothing is compiled."""
    if not config.compile:
        return None
    return "training.compile: feed-forward modules are compiled at their first use, which can take minutes"


def compile_feed_forward(encoder: Encoder, backend: str = "inductor") -> None:
    """Compile the forward and backward passes of all feed-forward modules in place, at their first use in training.

    Modules of equal size share their graphs: one for each width and choice of units, at all batch sizes and lengths.
    Passes without gradient or in evaluation mode run uncompiled, as they are too few to repay the compiler. Parameters
    and state keep their names.

    Args:
        encoder: the encoder, on its device.
        backend: torch's name of the compiler.

    Raises:
        UserError: there is no C++ compiler.
    """
    check_compiler()
    # On a CPU, dropout draws its masks with torch's own kernel, which takes a fraction of the time of the generator
    # that the compiler would write into the loops. On GPUs that generator is the faster one. Masks are not those of
    # uncompiled modules (`slimasr.elastic.dropout`).
    on_cpu = all(parameter.device.type == "cpu" for parameter in encoder.parameters())
    options: dict[str, Any] = {"options": {"fallback_random": on_cpu}} if backend == "inductor" else {}
    compiled = torch.compile(ElasticFeedForward.forward, backend=backend, **options)
    for module in encoder.modules():
        if isinstance(module, ElasticFeedForward):
            # The attribute of the instance hides the method of the class, which stays as it is.
            setattr(module, "forward", CompiledForward(module, compiled))  # noqa: B010 - mypy forbids the assignment


def check_compiler() -> None:
    """Check that a C++ compiler is installed.

    Raises:
        UserError: there is none.
    """
    # The choice of torch's own compiler, `torch._inductor`.
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"training.compile: needs a C++ compiler, and {compiler} is not installed; install it, name another one in "
            "the environment variable CXX, or set training.compile to false"
        )


class CompiledForward:
    """The forward pass of one module: compiled in training, else the module's own."""

    def __init__(self, module: ElasticFeedForward, compiled: Callable[..., Tensor]) -> None:
        """Wrap the method.

        Args:
            module: the module; a copy of it gets a copy of this object, with the copied module.
            compiled: the compiled method of its class, whose first argument is a module.
        """
        self.module = module
        self.compiled = compiled

    def __call__(self, x: Tensor, width: float, units: Units | None = None) -> Tensor:
        """(N, T, ..., C) -> (N, T, ..., C)."""
        if not (self.module.training and torch.is_grad_enabled()):
            return ElasticFeedForward.forward(self.module, x, width, units)
        # Without these marks, lengths would be compiled as constants at first, and channels as variables later. In
        # between there may be the frames of a segment, always equally many.
        for dim in (0, 1):
            torch._dynamo.maybe_mark_dynamic(x, dim)
        for dim in range(2, x.dim()):
            torch._dynamo.mark_static(x, dim)
        with _settings():
            return self.compiled(self.module, x, width, units)


@contextmanager
def _settings() -> Iterator[None]:
    """Compile the width and numbers of units as constants, and as many graphs as `GRAPHS`."""
    settings = {"specialize_float": True, "specialize_int": True, "cache_size_limit": GRAPHS}
    with torch._dynamo.config.patch(settings):
        yield
