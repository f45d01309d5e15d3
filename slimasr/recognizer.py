"""The Python interface: load a run, choose a subnet, transcribe, extract, export."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import graph_of
from slimasr.decoding.searches.timed import Transcript
from slimasr.decoding.streaming.stream import Stream, StreamRecognizer, StreamResult, accept
from slimasr.decoding.transcription.transcribe import transcribe_file
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates
from slimasr.experiment.extract import extract_experiment
from slimasr.experiment.subnets import all_subnets, chosen_subnet, find_subnet
from slimasr.supernet.front import Limits, best_under
from slimasr.supernet.subnet import Subnet


class Recognizer:
    """A trained supernet, or a stand-alone model cut out of one.

    >>> asr = slimasr.load("exp/slimmable")                     # doctest: +SKIP
    >>> small = asr.choose(max_int8_mb=0.5)                     # doctest: +SKIP
    >>> asr.transcribe("a.wav", small)                          # doctest: +SKIP
    'SEVEN FOUR'

    A model with a pathway for each language takes the language in place of a subnet.

    >>> asr.transcribe("a.wav", "fr")                           # doctest: +SKIP
    'SEPT QUATRE'
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        # Subnet id -> what its streams share, so that they can be computed together.
        self._streaming: dict[str, StreamRecognizer] = {}

    @cached_property
    def _graph(self) -> SearchGraph | None:
        """The search graph, opened once; None if the search needs none."""
        return graph_of(self.experiment, self.experiment.config.decoding)

    @property
    def subnets(self) -> list[Subnet]:
        """All subnets, largest first. For a large space: max, the Pareto front of the search, and min.

        Raises:
            UserError: the space is large, and no search has been run.
        """
        return all_subnets(self.experiment)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that have a pathway of their own; empty if all weights serve any language."""
        return self.experiment.space.pathways

    def choose(
        self,
        name: str | float | None = None,
        *,
        max_params: float | None = None,
        max_int8_mb: float | None = None,
        max_macs: float | None = None,
        max_rtf: float | None = None,
        max_latency_ms: float | None = None,
        language: str | None = None,
    ) -> Subnet:
        """The subnet with a name (a width, an id, ``max``, ``min``), or the best measured one under limits.

        Where each language has a pathway, its language is a pathway's name, and limits choose within ``language``.

        Raises:
            UserError: there is no such subnet, no search has been run, or no subnet meets the limits (the message names
                the nearest one).
        """
        if name is not None:
            return find_subnet(self.experiment, str(name))
        # Without limits, this is the best of all measured subnets.
        limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf, max_latency_ms)
        return best_under(read_candidates(self.experiment), limits, language or "").subnet

    @overload
    def transcribe(
        self, path: Path | str, subnet: Subnet | str | float | None = None, *, timestamps: Literal[False] = False
    ) -> str: ...

    @overload
    def transcribe(
        self, path: Path | str, subnet: Subnet | str | float | None = None, *, timestamps: Literal[True]
    ) -> Transcript: ...

    def transcribe(
        self, path: Path | str, subnet: Subnet | str | float | None = None, *, timestamps: bool = False
    ) -> str | Transcript:
        """The text of an audio file of any sampling rate and length.

        >>> for word in asr.transcribe("a.wav", timestamps=True).words:     # doctest: +SKIP
        ...     print(word.start, word.end, word.word, word.confidence)

        Args:
            path: the file.
            subnet: the subnet, or the language of its pathway; None = max.
            timestamps: return the text together with the times and the confidence of its words.

        Raises:
            UserError: the file is missing, unreadable or empty, or each language has a pathway and none is named.
        """
        found = transcribe_file(self.experiment, path, self._chosen(subnet), graph=self._graph)
        return found if timestamps else found.text

    def _chosen(self, subnet: Subnet | str | float | None) -> Subnet:
        if isinstance(subnet, Subnet):
            return subnet
        return chosen_subnet(self.experiment, None if subnet is None else str(subnet))

    def open_stream(self, subnet: Subnet | str | float | None = None) -> Stream:
        """A new stream, which recognises speech while it arrives.

        >>> stream = asr.open_stream("l10")                         # doctest: +SKIP
        >>> stream.accept(samples, 44100).text                      # doctest: +SKIP
        'SEVEN'
        >>> stream.finish().text                                    # doctest: +SKIP
        'SEVEN FOUR'

        Raises:
            UserError: there is no such subnet, each language has a pathway and none is named, or the encoder needs
                whole utterances.
        """
        chosen = self._chosen(subnet)
        if chosen.id not in self._streaming:
            self._streaming[chosen.id] = StreamRecognizer.of(self.experiment, chosen)
        return self._streaming[chosen.id].open()

    def accept(
        self, streams: Sequence[Stream], samples: Sequence[Any], sampling_rate: int | Sequence[int] | None = None
    ) -> list[StreamResult]:
        """Take the next samples of several streams at once, and return what is known of each.

        Streams of one subnet are computed in one batch, which is faster than one after the other.

        Args:
            streams: open streams, each at most once.
            samples: for each stream, (T,) mono samples with any T: floating-point numbers in [-1, 1], or int16.
            sampling_rate: in Hz, one for all streams or one for each; None = that of the model's features.

        Raises:
            UserError: a stream has ended, its rate has changed, or samples are unusable. No stream has then taken any.
        """
        return accept(streams, samples, sampling_rate)

    def extract(self, subnet: Subnet | str | float, out: Path | str) -> Recognizer:
        """Write one subnet as a stand-alone experiment to the folder ``out``, and open it.

        Raises:
            UserError: ``out`` holds an experiment already.
        """
        chosen = self._chosen(subnet)
        extract_experiment(self.experiment, chosen, Path(out))
        return Recognizer(Experiment.open(Path(out)))

    def export(
        self,
        subnets: Sequence[Subnet | str | float],
        out: Path | str,
        *,
        int8: bool = False,
        int8_bits: int = 8,
        standalone: bool = False,
        context: int = 16,
        streaming: bool = False,
        chunk_frames: int | None = None,
    ) -> None:
        """Write a bundle of subnets for devices to the folder ``out``, as ``slimasr-export`` does.

        >>> asr.export(["max", 0.5], "bundle")                      # doctest: +SKIP

        Args:
            subnets: the sizes.
            out: a new or empty folder, or a bundle, which is replaced.
            int8: write each size in int8, too; its WER is not measured here, as ``slimasr-export --int8`` does, and the
                manifest says so.
            int8_bits: bits of the int8 weights, 7 or 8.
            standalone: put the weights of each size into its own file.
            context: labels that the decoder of an LSTM predictor sees.
            streaming: write encoders that take speech chunk by chunk.
            chunk_frames: feature frames of 10 ms in a chunk of streams; None = 32, or the segment of an Emformer.

        Raises:
            UserError: there is no such subnet, the extra ``export`` is not installed, ``out`` is another folder, or the
                encoder does not take such chunks.
        """
        # Imported here, because most users of this interface export nothing.
        from slimasr.export.export import export_bundle
        from slimasr.export.writer import BundleOptions

        chosen = [self._chosen(subnet) for subnet in subnets]
        options = BundleOptions(
            int8=int8,
            int8_bits=int8_bits,
            standalone=standalone,
            context=context,
            streaming=streaming,
            chunk_frames=chunk_frames,
            # What int8 loses is not measured here.
            forced=True,
        )
        export_bundle(self.experiment, chosen, Path(out), options)
