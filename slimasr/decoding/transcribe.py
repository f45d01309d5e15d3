"""Transcribes audio files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from slimasr.data.batch import single
from slimasr.data.frames import extract_frames, pad_with_silence
from slimasr.data.pieces import window_seconds as longest_window
from slimasr.data.shards import make_extractor
from slimasr.decoding.audio import read_pieces
from slimasr.decoding.graph import SearchGraph
from slimasr.decoding.graphs import graph_of
from slimasr.decoding.recognize import Recognition, encoder_of
from slimasr.decoding.words import Unfinished, WordSearch, word_search
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.models.base import SpeechModel
from slimasr.models.prepared import runnable
from slimasr.supernet.subnet import Subnet


def transcribe(
    experiment: Experiment,
    paths: Iterable[Path | str],
    subnet: Subnet | None = None,
    window_seconds: float | None = None,
    graph: SearchGraph | None = None,
) -> Iterator[str]:
    """Recognise audio files, and yield the text of each as soon as it is known.

    Files may have any format that libsndfile reads, any sampling rate and any number of channels. Audio longer than the
    window is recognised in pieces that are cut at pauses and whose texts are joined by spaces; memory is bounded by one
    piece. Audio too short for the front end is padded with silence. Audio shorter than one feature frame has an empty
    text.

    Args:
        experiment: model, tokenizer and configuration (features, search).
        paths: audio files.
        subnet: the subnet that recognises them, None = the max subnet.
        window_seconds: length of the longest piece; by default that of the longest training utterance
            (``data.max_cut_seconds``), but at most 30 s.
        graph: the graph of ``decoding.kind: graph``; None = it is opened if the search needs it (`graph_of`).

    Raises:
        UserError: a file is missing, unreadable, truncated, empty or out of range, and the files after it are not read;
            or the experiment does not allow its search.
    """
    for result in transcribe_each(experiment, paths, subnet, window_seconds, graph):
        if isinstance(result, UserError):
            raise result
        yield result


def transcribe_each(
    experiment: Experiment,
    paths: Iterable[Path | str],
    subnet: Subnet | None = None,
    window_seconds: float | None = None,
    graph: SearchGraph | None = None,
    unfinished: Unfinished | None = None,
) -> Iterator[str | UserError]:
    """Transcribe as `transcribe` does, but yield the error of a file that cannot be read in place of its text.

    ``unfinished`` counts pieces of audio without a complete path through the graph.
    """
    config = experiment.config
    graph = graph or graph_of(experiment, config.decoding)
    model, active = runnable(experiment.model, subnet)
    search = word_search(model, experiment.tokenizer, config.decoding, active, graph, unfinished)
    window = window_seconds or longest_window(config.data)
    extractor = make_extractor(config.features.num_mel_bins, config.data.sampling_rate)
    for path in paths:
        texts = []
        result: str | UserError
        try:
            for samples in read_pieces(Path(path), config.data.sampling_rate, window):
                # The extractor takes (channels, T), and each piece has one channel.
                features = extract_frames(extractor, samples[np.newaxis], config.data.sampling_rate)
                texts.append(_recognize(model, features, active, search))
            result = " ".join(text for text in texts if text)
        except UserError as error:
            # A damaged file may fail after some pieces: its text would be incomplete, so it has none.
            result = error
        yield result


def _recognize(model: SpeechModel, features: np.ndarray, subnet: Subnet | None, search: WordSearch) -> str:
    """Recognise (T, F) features; without a frame, the text is empty."""
    if not len(features):
        return ""
    padded = pad_with_silence(features, model.config.frontend.min_frames)
    batch = single(torch.from_numpy(padded).to(model.feature_mean.device))
    (text,) = Recognition(search).texts(batch, encoder_of(model, subnet))
    return text
