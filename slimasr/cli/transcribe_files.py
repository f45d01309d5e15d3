"""The part of ``slimasr-transcribe`` that recognises whole recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from slimasr.cli.common import any_file_name, file_name, opened, print_notes, progress, quick_imports
from slimasr.cli.live import drop_output
from slimasr.cli.wanted import Wanted, standard_input
from slimasr.errors import UserError, one_line

if TYPE_CHECKING:
    from slimasr.decoding.searches.timed import Transcript
    from slimasr.decoding.transcription.inputs import Recording
    from slimasr.decoding.transcription.piece_search import InOrder
    from slimasr.decoding.transcription.transcribe import Finished, Part, Recognised
    from slimasr.experiment import Experiment
    from slimasr.supernet.subnet import Subnet


class Inputs(NamedTuple):
    """What is recognised, and how."""

    paths: list[Path]
    list_file: Path | None
    raw: int | None
    window_seconds: float | None
    num_jobs: int


class Output(NamedTuple):
    """What is written, and where; ``out`` None = to stdout."""

    form: Literal["text", "json", "srt", "vtt", "ctm"]
    out: Path | None
    overwrite: bool


def transcribe_files(exp: Path, checkpoint: str, wanted: Wanted, inputs: Inputs, output: Output) -> None:
    """Print or write the transcripts of whole recordings."""
    with quick_imports():
        from slimasr.decoding.searches.word_search import Unfinished
        from slimasr.decoding.transcription.inputs import find_recordings
        from slimasr.decoding.transcription.transcribe import reading_of, total_seconds, transcribe_recordings
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import chosen_subnet

    recordings = find_recordings(inputs.paths, inputs.list_file)
    files = _files(recordings, output)
    stdin = standard_input() if any(recording.is_stdin for recording in recordings) else None
    experiment = opened(Experiment.open(exp, checkpoint))
    chosen = chosen_subnet(experiment, *wanted)
    reading = reading_of(experiment, inputs.window_seconds, stdin, inputs.raw)
    # A recording that cannot be read yields its error, so that the others are still transcribed.
    results = _Results(recordings, files, output.form, experiment.tokenizer.tokens)
    unfinished = Unfinished()
    with any_file_name(), _search(experiment, checkpoint, chosen, inputs.num_jobs) as search:
        events = transcribe_recordings(recordings, reading, search, unfinished)
        try:
            total = total_seconds(recordings)
            seconds = _seconds(events, results.take)
            for _ in progress(seconds, None if total is None else int(total), "transcribe, seconds of audio"):
                pass
        except BrokenPipeError:
            # The reader of the output has closed it, which is no error.
            drop_output()
            return
    print_notes(unfinished.notes())
    results.end(output.out)


@contextmanager
def _search(experiment: Experiment, checkpoint: str, subnet: Subnet, num_jobs: int) -> Iterator[InOrder[Part]]:
    """Yield what searches pieces, in this process or in others."""
    from slimasr.decoding.transcription.piece_search import PieceSearch, SearchJob, in_processes, in_this_process

    # Opened here too, so that an error of the search appears before any process is started.
    search = PieceSearch.of(experiment, subnet)
    if num_jobs == 1:
        yield in_this_process(search.path)
        return
    with in_processes(SearchJob(experiment.dir, checkpoint, subnet), num_jobs) as pooled:
        yield pooled


def _files(recordings: Sequence[Recording], output: Output) -> list[Path] | None:
    """Return the file for each recording, None for stdout, and check that all of them have a place."""
    from slimasr.decoding.transcription.outputs import check_on_one_stream, files_for

    if output.out is not None:
        return files_for(recordings, output.form, output.out, output.overwrite)
    if output.overwrite:
        raise UserError("--overwrite needs --out: stdout replaces no file")
    check_on_one_stream(recordings, output.form)
    return None


def _seconds(events: Iterable[Recognised | Finished], take: Callable[[Finished], None]) -> Iterator[None]:
    """Hand on what is finished, and yield once for every second that has been recognised."""
    from slimasr.decoding.transcription.transcribe import Recognised

    recognised = 0.0
    shown = 0
    for event in events:
        if isinstance(event, Recognised):
            recognised += event.seconds
            yield from repeat(None, int(recognised) - shown)
            shown = int(recognised)
        else:
            take(event)


@dataclass
class _Results:
    """Prints or writes transcripts as they come.

    Attributes:
        recordings: all recordings, in order.
        files: the file of each; None = stdout.
        form: the format.
        tokens: id -> token.
        num_done: number of recordings that have had their turn.
        num_bad: number of those that could not be read.
    """

    recordings: Sequence[Recording]
    files: Sequence[Path] | None
    form: Literal["text", "json", "srt", "vtt", "ctm"]
    tokens: Sequence[str]
    num_done: int = 0
    num_bad: int = 0

    def take(self, event: Finished) -> None:
        """Print or write the transcript of the next recording, or print its error."""
        place, self.num_done = self.num_done, self.num_done + 1
        if not isinstance(event.result, UserError):
            self._write(event.recording, event.result, place)
        elif len(self.recordings) == 1:
            raise event.result
        else:
            self.num_bad += 1
            typer.echo(f"error: {one_line(event.result)}", err=True)

    def _write(self, recording: Recording, transcript: Transcript, place: int) -> None:
        from slimasr.decoding.transcription.outputs import written
        from slimasr.files import write_atomic

        alone = self.files is not None or len(self.recordings) == 1
        name = None if alone else file_name(recording.path)
        text = written(transcript, self.form, recording.label, self.tokens, name)
        if self.files is None:
            typer.echo(text, nl=False)
        else:
            write_atomic(self.files[place], text)

    def end(self, out: Path | None) -> None:
        """Say how many recordings were bad, or where the transcripts are.

        Raises:
            UserError: some recordings could not be read.
        """
        if self.num_bad:
            raise UserError(f"{self.num_bad} of {len(self.recordings)} files could not be transcribed")
        if out is not None:
            noun = "transcript" if self.num_done == 1 else "transcripts"
            typer.echo(f"{self.num_done} {noun} in {out}", err=True)
