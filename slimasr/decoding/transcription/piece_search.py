"""Finds the best path through pieces of recordings, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lhotse import Fbank

from slimasr.data.batches.batch import single
from slimasr.data.features.frames import extract_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import graph_of
from slimasr.decoding.searches.timed import BestPath
from slimasr.decoding.searches.word_search import PathSearch
from slimasr.decoding.searches.words import word_search
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.models.base import SpeechModel
from slimasr.models.prepared import runnable
from slimasr.supernet.subnet import Subnet

T = TypeVar("T")

Samples = np.ndarray
"""(num_samples,) float32 at the sampling rate of the model's features, mono."""

FindPath = Callable[[Samples], BestPath]
"""Finds the best path through a piece of a recording."""

InOrder = Callable[[Iterable[tuple[T, Samples | None]]], Iterator[tuple[T, BestPath | None]]]
"""Finds the best path through each piece; keeps what belongs to it, and passes on what has no samples."""

AHEAD = 2
"""So many pieces wait for every process, so that none of them is idle, and memory is bounded."""


@dataclass(frozen=True)
class PieceSearch:
    """Recognises pieces of recordings with one subnet.

    Attributes:
        model: in evaluation mode.
        subnet: the subnet that recognises, None = all of the model.
        search: finds the words in its encoder output.
        extractor: computes features.
        sampling_rate: of the model's features, in Hz.
    """

    model: SpeechModel
    subnet: Subnet | None
    search: PathSearch
    extractor: Fbank
    sampling_rate: int

    @classmethod
    def of(cls, experiment: Experiment, subnet: Subnet | None, graph: SearchGraph | None = None) -> PieceSearch:
        """Recognise as the configuration of an experiment says.

        Args:
            experiment: model, tokenizer and configuration.
            subnet: the subnet that recognises, None = the max subnet.
            graph: the graph of ``decoding.kind: graph``; None = it is opened if the search needs it (`graph_of`).

        Raises:
            UserError: the experiment does not allow its search.
        """
        config = experiment.config
        graph = graph or graph_of(experiment, config.decoding)
        model, active = runnable(experiment.model, subnet)
        search = word_search(model, experiment.tokenizer, config.decoding, active, graph)
        extractor = make_extractor(config.features.num_mel_bins, config.data.sampling_rate)
        return cls(model, active, search, extractor, config.data.sampling_rate)

    @torch.no_grad()
    def path(self, samples: Samples) -> BestPath:
        """Find the best path through a piece; it is empty without a feature frame."""
        # The extractor takes (channels, T), and each piece has one channel.
        features = extract_frames(self.extractor, samples[np.newaxis], self.sampling_rate)
        if not len(features):
            return BestPath()
        padded = pad_with_silence(features, self.model.config.frontend.min_frames)
        batch = single(torch.from_numpy(padded).to(self.model.feature_mean.device))
        encoder = self.model.encode(batch.x, batch.x_lens, self.subnet)
        (found,) = self.search.best_paths(encoder.out, encoder.lens)
        return found


@dataclass(frozen=True)
class SearchJob:
    """How another process opens a search.

    Attributes:
        exp: the experiment folder.
        checkpoint: name of the checkpoint.
        subnet: the subnet that recognises.
    """

    exp: Path
    checkpoint: str
    subnet: Subnet

    def open(self) -> PieceSearch:
        """Open the experiment and its search."""
        return PieceSearch.of(Experiment.open(self.exp, self.checkpoint), self.subnet)


@contextmanager
def in_processes(job: SearchJob, num_jobs: int) -> Iterator[InOrder[Any]]:
    """Start processes that search pieces, each with one thread; the results come in the order of the pieces.

    Raises:
        UserError: a process was killed.
    """
    # A forked child would inherit torch's locked thread pool.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield partial(_in_pool, pool, job, AHEAD * num_jobs)
        except BrokenProcessPool:
            raise UserError("a process was killed, possibly out of memory: try fewer --num-jobs") from None
        finally:
            # After an error or Ctrl-C, pieces that are still waiting are not started.
            pool.shutdown(cancel_futures=True)


def in_this_process(find: FindPath) -> InOrder[T]:
    """Return a function that searches one piece after the other."""

    def search(pieces: Iterable[tuple[T, Samples | None]]) -> Iterator[tuple[T, BestPath | None]]:
        for owner, samples in pieces:
            yield owner, None if samples is None else find(samples)

    return search


def _in_pool(
    pool: ProcessPoolExecutor, job: SearchJob, ahead: int, pieces: Iterable[tuple[T, Samples | None]]
) -> Iterator[tuple[T, BestPath | None]]:
    """Search pieces in the processes of a pool, and read at most ``ahead`` pieces before their turn."""
    waiting: deque[tuple[T, Future[BestPath] | None]] = deque()
    for owner, samples in pieces:
        waiting.append((owner, None if samples is None else pool.submit(_path_of, job, samples)))
        while len(waiting) > ahead:
            yield _done(*waiting.popleft())
    while waiting:
        yield _done(*waiting.popleft())


def _done(owner: T, future: Future[BestPath] | None) -> tuple[T, BestPath | None]:
    return owner, None if future is None else future.result()


def _path_of(job: SearchJob, samples: Samples) -> BestPath:
    """Search a piece in another process."""
    return _opened(job).path(samples)


@cache
def _opened(job: SearchJob) -> PieceSearch:
    """Open the search once in every process."""
    return job.open()
