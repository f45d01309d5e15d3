"""What our own search finds in torch in the audio that sherpa-onnx gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from slimasr.data.features.frames import extract_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.experiment import Experiment
from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method
from slimasr.export.check.searches import Found, Scoring, Search, graph_searches, scoring, token_searches
from slimasr.models.base import SpeechModel
from slimasr.models.prepared import runnable
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Reference:
    """A subnet in torch, searched as devices search it.

    Attributes:
        model: the model, in evaluation mode on the CPU.
        subnet: the subnet that runs, None = all of the model.
        extractor: computes features.
        sample_rate: of the features, in Hz.
        scoring: what follows the encoder.
        searches: sherpa-onnx's name of a search -> ours.
    """

    model: SpeechModel
    subnet: Subnet | None
    extractor: Fbank
    sample_rate: int
    scoring: Scoring
    searches: Mapping[Method, Search]

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        subnet: Subnet,
        context_size: int | None,
        paths: int = 4,
        graph: SearchGraph | None = None,
    ) -> Reference:
        """Prepare a subnet of an experiment.

        Args:
            experiment: the supernet.
            subnet: the subnet.
            context_size: labels that the decoder of the bundle sees; None of a CTC model.
            paths: number of hypotheses of modified beam search.
            graph: the search graph of the bundle; None = it has none.
        """
        config = experiment.config
        model, active = runnable(experiment.model.cpu(), subnet)
        scales = None if graph is None else config.decoding.graph
        if graph is None:
            searches = token_searches(model, experiment.tokenizer, context_size, paths)
        else:
            searches = graph_searches(config.decoding.graph, graph)
        rate = config.data.sampling_rate
        extractor = make_extractor(model.config.num_mel_bins, rate)
        return cls(model, active, extractor, rate, scoring(model, active, scales), searches)

    def features(self, heard: Heard) -> np.ndarray:
        """(T, F): the features of an utterance; what is too short for the front end is padded with silence."""
        found = extract_frames(self.extractor, heard.samples[np.newaxis], self.sample_rate)
        return pad_with_silence(found, self.model.config.frontend.min_frames)

    def recognize(self, audio: Sequence[Heard]) -> dict[Method, list[Found]]:
        """Recognise utterances one by one; by the name of the search."""
        return self.search([self.scores(heard) for heard in audio])

    def search(self, scores: Sequence[Tensor]) -> dict[Method, list[Found]]:
        """Search utterances of which an encoder has computed the (1, T', C) scores; by the name of the search."""
        return {
            method: [search(one, torch.tensor([one.shape[1]])) for one in scores]
            for method, search in self.searches.items()
        }

    @torch.no_grad()
    def scores(self, heard: Heard) -> Tensor:
        """(1, T', C): what the encoder of a bundle computes of an utterance."""
        x = torch.from_numpy(self.features(heard)).unsqueeze(0)
        encoded = self.model.encode(x, torch.tensor([x.shape[1]]), self.subnet)
        return self.scoring(encoded.out[:, : int(encoded.lens)])
