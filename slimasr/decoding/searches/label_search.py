"""The interface of searches that can pause: they start, advance by some frames at a time, and finish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

UNK_ID = 2
"""Id of ``<unk>`` in every tokenizer of this package."""


@dataclass(frozen=True)
class Hypothesis:
    """Labels of one utterance or of a part of it, in order.

    Attributes:
        tokens: token ids, without blank and ``<unk>``.
        frames: for each token, the encoder frame that emitted it, counted from the start of the utterance.
    """

    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, other: Hypothesis) -> Hypothesis:
        """Append a later part of the same utterance."""
        return Hypothesis(self.tokens + other.tokens, self.frames + other.frames)


State = TypeVar("State")


class LabelSearch(ABC, Generic[State]):
    """A search of ``n`` streams of encoder output for their labels.

    What it returns does not depend on how the frames are divided among calls of `advance`. States are not changed in
    place, so that a search may go on from the same state twice.
    """

    @abstractmethod
    def start(self, n: int, device: torch.device) -> State:
        """Create the state before the first frame, for ``n`` streams."""

    @abstractmethod
    def advance(self, state: State, am: Tensor, lens: Tensor) -> tuple[list[Hypothesis], State]:
        """Search the next frames.

        Args:
            state: of n streams.
            am: (n, T, J) projected encoder output (`Transducer.project_encoder`), or (n, T, V) scores of a CTC model.
            lens: (n,) int64, frames of each stream, at most T; on the CPU. The others are padding.

        Returns:
            The labels of each stream that are settled: whatever follows, they are part of the result. They leave the
            state, so that its size and the cost of a frame do not grow with the text.
        """

    @abstractmethod
    def finish(self, state: State) -> list[Hypothesis]:
        """Return what follows the settled labels in the best hypothesis of each stream, if it ends here."""

    @abstractmethod
    def select(self, state: State, rows: Sequence[int]) -> State:
        """Return the states of the streams with these indices."""

    @abstractmethod
    def stack(self, states: Sequence[State]) -> State:
        """Return the streams of all states as one state, in this order; they may differ in age."""


@torch.no_grad()
def search_whole(search: LabelSearch[State], am: Tensor, lens: Tensor) -> list[Hypothesis]:
    """Search whole utterances.

    Args:
        am: (N, T, J) what the search reads (`LabelSearch.advance`).
        lens: (N,) int64, number of frames.
    """
    assert am.ndim == 3, am.shape
    assert lens.shape == am.shape[:1], lens.shape
    state = search.start(len(am), am.device)
    settled, state = search.advance(state, am[:, : int(lens.max())], lens)
    return [done + rest for done, rest in zip(settled, search.finish(state), strict=True)]
