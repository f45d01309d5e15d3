"""What our own search finds in torch in the audio that sherpa-onnx gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from slimasr.data.frames import extract_frames, pad_with_silence
from slimasr.data.shards import make_extractor
from slimasr.decoding.graph import SearchGraph
from slimasr.decoding.label_searches import label_input
from slimasr.experiment import Experiment
from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method
from slimasr.export.check.searches import Ours, Search, graph_searches, whole_searches
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
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
        searches: sherpa-onnx's name of a search -> ours.
    """

    model: SpeechModel
    subnet: Subnet | None
    extractor: Fbank
    sample_rate: int
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
        searches = whole_searches(model, active, experiment.tokenizer, context_size, paths)
        if graph is not None:
            assert isinstance(model, CtcModel), "other models have no graph"
            searches = graph_searches(model, active, config.decoding, graph)
        extractor = make_extractor(model.config.num_mel_bins, config.data.sampling_rate)
        return cls(model, active, extractor, config.data.sampling_rate, searches)

    def features(self, heard: Heard) -> np.ndarray:
        """(T, F): the features of an utterance; what is too short for the front end is padded with silence."""
        found = extract_frames(self.extractor, heard.samples[np.newaxis], self.sample_rate)
        return pad_with_silence(found, self.model.config.frontend.min_frames)

    @torch.no_grad()
    def recognize(self, audio: Sequence[Heard]) -> dict[Method, list[Ours]]:
        """Recognise utterances one by one; by the name of the search."""
        found: dict[Method, list[Ours]] = {method: [] for method in self.searches}
        for heard in audio:
            out, lens = self._encode(heard)
            for method, search in self.searches.items():
                found[method].append(search(out, lens))
        return found

    @torch.no_grad()
    def scores(self, heard: Heard) -> Tensor:
        """(1, T', J) what the encoder of a bundle computes of an utterance, or (1, T', V) log-probabilities."""
        out, _ = self._encode(heard)
        scores = label_input(self.model, out, self.subnet)  # type: ignore[arg-type]
        return scores.log_softmax(-1) if isinstance(self.model, CtcModel) else scores

    def _encode(self, heard: Heard) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(self.features(heard)).unsqueeze(0)
        encoded = self.model.encode(x, torch.tensor([x.shape[1]]), self.subnet)
        return encoded.out, encoded.lens
