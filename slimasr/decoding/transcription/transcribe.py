"""Transcribes recordings of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from slimasr.data.audio.file import READ, AudioError, open_audio
from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.data.features.pieces import window_seconds as longest_window
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.timed import Transcript, transcript_of
from slimasr.decoding.searches.word_search import Unfinished
from slimasr.decoding.streaming.sources import AudioSource, PipeSource, file_source
from slimasr.decoding.transcription.audio import Piece, source_pieces
from slimasr.decoding.transcription.inputs import Recording
from slimasr.decoding.transcription.piece_search import InOrder, PieceSearch, Samples, in_this_process
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.results.store import read_results
from slimasr.supernet.subnet import Subnet

SHORTEST_WINDOW_SECONDS = 5.0
"""The length of pieces for models that were trained on single words or other short utterances."""


@dataclass(frozen=True)
class Recognised:
    """A part of a recording has been recognised."""

    seconds: float


@dataclass(frozen=True)
class Finished:
    """A recording has been recognised, or has an error in place of its transcript."""

    recording: Recording
    result: Transcript | UserError


@dataclass(frozen=True)
class Part:
    """A piece of a recording; or, after its last one, the error that has ended it, None if there was none."""

    recording: Recording
    content: Piece | UserError | None


@dataclass(frozen=True)
class Reading:
    """How recordings are read.

    Attributes:
        sampling_rate: of the model's features, in Hz.
        window_seconds: length of the longest piece.
        frame_seconds: seconds between two encoder frames.
        stdin: standard input; None = it is closed.
        raw_rate: sampling rate in Hz if standard input is headerless 16-bit mono; None = it is wav.
    """

    sampling_rate: int
    window_seconds: float
    frame_seconds: float
    stdin: BinaryIO | None = None
    raw_rate: int | None = None

    @contextmanager
    def source(self, recording: Recording) -> Iterator[AudioSource]:
        """Open a recording.

        Raises:
            UserError: it is missing, unreadable, not audio, truncated or without samples.
        """
        if recording.path.is_dir():
            raise UserError(f"{recording.path}: is a folder without audio; names of audio end with {', '.join(READ)}")
        if not recording.is_stdin:
            with file_source(recording.path) as source:
                yield source
        elif self.stdin is None:
            raise UserError("standard input is closed: pipe audio into the command")
        else:
            yield PipeSource(self.stdin, self.raw_rate, lambda: False)

    def pieces(self, recording: Recording) -> Iterator[Piece]:
        """Read a recording in pieces; raises as `source`."""
        with self.source(recording) as source:
            yield from source_pieces(source, self.sampling_rate, self.window_seconds, self.frame_seconds)


def reading_of(
    experiment: Experiment,
    window_seconds: float | None = None,
    stdin: BinaryIO | None = None,
    raw_rate: int | None = None,
) -> Reading:
    """Read recordings for the model of an experiment; see `Reading`.

    Args:
        experiment: whose model recognises.
        window_seconds: length of the longest piece; None = that of the longest training utterance, but at least 5 s
            and at most 30 s. Models recognise longer speech than they were trained on less well.
        stdin: standard input; None = it is closed.
        raw_rate: see `Reading`.
    """
    config = experiment.config.data
    frame_seconds = experiment.model.subsampling_factor * FRAME_SHIFT
    window = window_seconds or _trained_window(experiment)
    return Reading(config.sampling_rate, window, frame_seconds, stdin, raw_rate)


def _trained_window(experiment: Experiment) -> float:
    longest = read_results(experiment.dir).longest_seconds
    limit = longest_window(experiment.config.data)
    # Experiments of older versions do not record it.
    return limit if longest is None else min(limit, max(SHORTEST_WINDOW_SECONDS, longest))


def transcribe_recordings(
    recordings: Iterable[Recording],
    reading: Reading,
    search: InOrder[Part],
    unfinished: Unfinished,
) -> Iterator[Recognised | Finished]:
    """Transcribe recordings one after the other.

    Args:
        recordings: what to transcribe.
        reading: how they are read.
        search: finds the best path through each piece.
        unfinished: counts pieces without a complete path through the graph.

    Yields:
        For each recording, what has been recognised of it, piece by piece, and then its transcript. A recording that
        cannot be read has its error in place of the transcript, also if this shows after some pieces.
    """
    transcript = Transcript()
    for part, path in search(_pieces(recordings, reading)):
        piece = part.content
        if isinstance(piece, Piece):
            assert path is not None, "a piece has been searched"
            unfinished.utterances += not path.complete
            transcript += transcript_of(path, piece.start, piece.seconds, reading.frame_seconds, piece.before)
            yield Recognised(piece.seconds)
        else:
            yield Finished(part.recording, piece or transcript)
            transcript = Transcript()


def transcribe_file(
    experiment: Experiment,
    path: Path | str,
    subnet: Subnet | None = None,
    window_seconds: float | None = None,
    graph: SearchGraph | None = None,
) -> Transcript:
    """Recognise an audio file, and return its text with the times of its words; see `transcribe`."""
    (result,) = _transcripts(experiment, [path], subnet, window_seconds, graph, Unfinished())
    if isinstance(result, UserError):
        raise result
    return result


def transcribe(
    experiment: Experiment,
    paths: Iterable[Path | str],
    subnet: Subnet | None = None,
    window_seconds: float | None = None,
    graph: SearchGraph | None = None,
) -> Iterator[str]:
    """Recognise audio files, and yield the text of each as soon as it is known.

    Files may have any format that libsndfile reads, any sampling rate and any number of channels. Audio longer than the
    window is recognised in pieces that are cut at pauses and whose texts are joined by spaces; memory is bounded by
    two windows. Audio too short for the front end is padded with silence. Audio shorter than one feature frame has an
    empty text.

    Args:
        experiment: model, tokenizer and configuration (features, search).
        paths: audio files.
        subnet: the subnet that recognises them, None = the max subnet.
        window_seconds: length of the longest piece; see `reading_of`.
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
    for result in _transcripts(experiment, paths, subnet, window_seconds, graph, unfinished or Unfinished()):
        yield result if isinstance(result, UserError) else result.text


def _transcripts(
    experiment: Experiment,
    paths: Iterable[Path | str],
    subnet: Subnet | None,
    window_seconds: float | None,
    graph: SearchGraph | None,
    unfinished: Unfinished,
) -> Iterator[Transcript | UserError]:
    """Yield the transcript of each file, or its error."""
    search = PieceSearch.of(experiment, subnet, graph)
    recordings = (Recording(Path(path), PurePath(Path(path).stem)) for path in paths)
    in_order: InOrder[Part] = in_this_process(search.path)
    reading = reading_of(experiment, window_seconds)
    for event in transcribe_recordings(recordings, reading, in_order, unfinished):
        if isinstance(event, Finished):
            yield event.result


def total_seconds(recordings: Iterable[Recording]) -> float | None:
    """Return the length of all recordings according to their headers; None if one is not known before it is read.

    Recordings that cannot be read count as nothing.
    """
    total = 0.0
    for recording in recordings:
        if recording.is_stdin:
            return None
        try:
            with open_audio(recording.path) as file:
                if file.num_samples is None:
                    return None
                total += file.num_samples / file.sampling_rate
        except AudioError:
            continue
    return total


def _pieces(recordings: Iterable[Recording], reading: Reading) -> Iterator[tuple[Part, Samples | None]]:
    """Yield the pieces of each recording, and after them what has ended it."""
    for recording in recordings:
        end: UserError | None = None
        try:
            for piece in reading.pieces(recording):
                yield Part(recording, piece), piece.samples
        except UserError as error:
            end = UserError(f"{recording.where}: {error}") if recording.where else error
        yield Part(recording, end), None
