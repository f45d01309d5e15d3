"""What our own search finds in torch, under the rules of devices: at most one symbol per frame, whole utterances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from slimasr.data.frames import extract_frames, pad_with_silence
from slimasr.data.shards import make_extractor
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.beam import BeamSearch
from slimasr.decoding.ctc_greedy import CtcGreedySearch
from slimasr.decoding.greedy import GreedySearch
from slimasr.decoding.label_search import LabelSearch, search_whole
from slimasr.decoding.label_searches import label_input
from slimasr.experiment import Experiment
from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.prepared import runnable
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Ours:
    """What our search finds in an utterance.

    Attributes:
        text: the text, with single spaces.
        tokens: token ids, without blank and ``<unk>``.
    """

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """A subnet in torch, searched as devices search it.

    Attributes:
        model: the model, in evaluation mode on the CPU.
        subnet: the subnet that runs, None = all of the model.
        tokenizer: turns token ids into text.
        extractor: computes features.
        sample_rate: of the features, in Hz.
        searches: sherpa-onnx's name of a search -> ours.
    """

    model: SpeechModel
    subnet: Subnet | None
    tokenizer: Tokenizer
    extractor: Fbank
    sample_rate: int
    searches: Mapping[Method, LabelSearch]  # type: ignore[type-arg]

    @classmethod
    def of(cls, experiment: Experiment, subnet: Subnet, context_size: int | None, paths: int = 4) -> Reference:
        """Prepare a subnet of an experiment.

        Args:
            experiment: the supernet.
            subnet: the subnet.
            context_size: labels that the decoder of the bundle sees; None of a CTC model.
            paths: number of hypotheses of modified beam search.
        """
        config = experiment.config
        model, active = runnable(experiment.model.cpu(), subnet)
        extractor = make_extractor(model.config.num_mel_bins, config.data.sampling_rate)
        searches = _searches(model, paths, context_size)
        return cls(model, active, experiment.tokenizer, extractor, config.data.sampling_rate, searches)

    def features(self, heard: Heard) -> np.ndarray:
        """(T, F): the features of an utterance; what is too short for the front end is padded with silence."""
        found = extract_frames(self.extractor, heard.samples[np.newaxis], self.sample_rate)
        return pad_with_silence(found, self.model.config.frontend.min_frames)

    @torch.no_grad()
    def encoded(self, heard: Heard) -> tuple[Tensor, Tensor]:
        """(1, T', J) what the search reads of an utterance, or (1, T', V) of a CTC model, and the (1,) length."""
        x = torch.from_numpy(self.features(heard)).unsqueeze(0)
        encoded = self.model.encode(x, torch.tensor([x.shape[1]]), self.subnet)
        return label_input(self.model, encoded.out, self.subnet), encoded.lens  # type: ignore[arg-type]

    def recognize(self, audio: Sequence[Heard]) -> dict[Method, list[Ours]]:
        """Recognise utterances one by one; by the name of the search."""
        found: dict[Method, list[Ours]] = {method: [] for method in self.searches}
        for heard in audio:
            for method, ours in self._found(*self.encoded(heard)):
                found[method].append(ours)
        return found

    def _found(self, scores: Tensor, lens: Tensor) -> Iterator[tuple[Method, Ours]]:
        for method, search in self.searches.items():
            (labels,) = search_whole(search, scores, lens)
            yield method, Ours(" ".join(self.tokenizer.decode(labels.tokens).split()), labels.tokens)


def _searches(model: SpeechModel, paths: int, context_size: int | None) -> dict[Method, LabelSearch]:  # type: ignore[type-arg]
    if isinstance(model, CtcModel):
        return {"greedy_search": CtcGreedySearch(model.blank_id)}
    assert isinstance(model, Transducer)
    return {"greedy_search": GreedySearch(model), "modified_beam_search": BeamSearch(model, paths)}
