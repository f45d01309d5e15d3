"""The interface of searches that turn encoder output into words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from slimasr.decoding.searches.timed import BestPath


class WordSearch(ABC):
    """Turns the encoder output of whole utterances into words."""

    @abstractmethod
    def texts(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        """Find the words of every utterance.

        Args:
            encoder_out: (N, T, C) encoder output of one subnet.
            lens: (N,) int64, number of frames; what lies behind them is padding.

        Returns:
            The words of each utterance, with single spaces between them.
        """


class PathSearch(WordSearch):
    """A search that also tells when it has found the words."""

    @abstractmethod
    def best_paths(self, encoder_out: Tensor, lens: Tensor) -> list[BestPath]:
        """Find the words of every utterance with their tokens, the frames of these and their posteriors.

        Args:
            encoder_out: (N, T, C) encoder output of one subnet.
            lens: (N,) int64, number of frames; what lies behind them is padding.
        """


@dataclass
class Unfinished:
    """Counts utterances for which no path reached a final state of the graph; their text is empty."""

    utterances: int = 0

    def notes(self) -> Iterator[str]:
        """Yield what the user should know of them."""
        if self.utterances:
            noun = "utterance" if self.utterances == 1 else "utterances"
            yield (
                f"{self.utterances} {noun} reached no final state of the graph and have no words; raise "
                "decoding.graph.beam or decoding.graph.max_active"
            )
