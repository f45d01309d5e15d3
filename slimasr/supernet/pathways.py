"""Which pathways a model has: masks over its weights that choose a part of them, each for a language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PathwaySpec:
    """The pathways of a model.

    Attributes:
        names: their names, in the order of the search space.
        block: outputs and inputs of a block, whose weights a mask keeps or prunes together.
    """

    names: tuple[str, ...]
    block: tuple[int, int]

    def __str__(self) -> str:
        """Return a description for messages and checkpoints: ``pathways en, fr of 8 x 1 blocks``."""
        return f"pathways {', '.join(self.names)} of {self.block[0]} x {self.block[1]} blocks"
