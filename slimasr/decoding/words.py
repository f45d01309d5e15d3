"""From encoder output to words: the one place that knows which search belongs to which model and tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.label_search import LabelSearch, search_whole
from slimasr.decoding.label_searches import label_input, label_search
from slimasr.decoding.searchable import Searchable
from slimasr.supernet.subnet import Subnet


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


@dataclass(frozen=True)
class SpelledLabels(WordSearch):
    """Searches for labels, which the tokenizer puts together to words.

    Attributes:
        model: the model, in evaluation mode.
        subnet: the subnet that has made the encoder output, None = the max subnet.
        tokenizer: turns labels into text.
        search: finds the labels.
    """

    model: Searchable
    subnet: Subnet | None
    tokenizer: Tokenizer
    search: LabelSearch[Any]

    @torch.no_grad()
    def texts(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        found = search_whole(self.search, label_input(self.model, encoder_out, self.subnet), lens)
        return [self.tokenizer.decode(hypothesis.tokens).strip() for hypothesis in found]


def word_search(
    model: Searchable, tokenizer: Tokenizer, config: DecodingConfig, subnet: Subnet | None = None
) -> WordSearch:
    """Return the search for words that belongs to a model, a tokenizer and a configuration.

    Args:
        model: the model, in evaluation mode.
        tokenizer: that of the model.
        config: the search.
        subnet: the subnet that makes the encoder output, None = the max subnet.

    Raises:
        UserError: the model or the tokenizer does not allow this search.
    """
    return SpelledLabels(model, subnet, tokenizer, label_search(model, config))
