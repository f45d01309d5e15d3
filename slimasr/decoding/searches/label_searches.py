"""Which search for labels belongs to a model, and what it reads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.decoding.searches.beam import BeamSearch
from slimasr.decoding.searches.ctc_greedy import CtcGreedySearch
from slimasr.decoding.searches.greedy import GreedySearch
from slimasr.decoding.searches.label_search import LabelSearch
from slimasr.decoding.searches.searchable import Searchable, is_ctc
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet


def label_search(model: Searchable, config: DecodingConfig) -> LabelSearch[Any]:
    """Return the search for labels that the configuration names; it reads `label_input`.

    Raises:
        UserError: the search is none of labels, or none for this kind of model, or modified beam search is to emit more
            than one symbol per frame.
    """
    if is_ctc(model):
        if config.kind != "greedy":
            raise UserError(f"decoding.kind: {config.kind} searches no labels of a CTC model; set it to greedy")
        return CtcGreedySearch(model.blank_id)
    if config.kind == "greedy":
        return GreedySearch(model, config.max_symbols_per_frame)
    if config.max_symbols_per_frame != 1:
        raise UserError("decoding.max_symbols_per_frame: modified_beam emits at most one symbol per frame; set it to 1")
    return BeamSearch(model, config.beam)


def label_input(model: Searchable, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
    """(N, T, C) encoder output of a subnet -> what `label_search` reads: (N, T, J), or (N, T, V) of a CTC model."""
    return model.ctc_logits(encoder_out, subnet) if is_ctc(model) else model.project_encoder(encoder_out, subnet)
