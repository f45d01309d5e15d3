"""The part of ``slimasr-transcribe`` that prints text while audio arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from slimasr.cli.common import any_file_name, file_name, one_thread, opened, quick_imports
from slimasr.cli.live import drop_output, first_interrupt_stops, show
from slimasr.cli.wanted import STDIN, Wanted, standard_input
from slimasr.errors import UserError, one_line

if TYPE_CHECKING:
    from slimasr.decoding.streaming.sources import AudioSource


class Inputs(NamedTuple):
    """What is streamed."""

    files: list[Path]
    raw: int | None
    microphone: str | None
    realtime: bool


class Output(NamedTuple):
    """How it is printed."""

    form: Literal["text", "json"]
    partials: bool


def stream(exp: Path, checkpoint: str, wanted: Wanted, inputs: Inputs, output: Output) -> None:
    """Print the texts of streams while they grow."""
    with quick_imports():
        from slimasr.decoding.streaming.live import StreamTimes, recognize_source
        from slimasr.decoding.streaming.stream import StreamRecognizer
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import chosen_subnet

    one_thread()
    experiment = opened(Experiment.open(exp, checkpoint))
    recognizer = StreamRecognizer.of(experiment, chosen_subnet(experiment, *wanted))
    times = StreamTimes(recognizer.chunk_seconds)
    num_bad = 0
    with any_file_name(), first_interrupt_stops() as stopped:
        sources: Sequence[Path | None] = inputs.files or [None]
        for path in sources:
            label = file_name(path) if path is not None and len(inputs.files) > 1 else None
            try:
                with _source(path, inputs, recognizer.sampling_rate, stopped) as source:
                    results = recognize_source(recognizer, source, stopped, times)
                    show(results, output.form, output.partials, label, experiment.tokenizer)
            except BrokenPipeError:
                # The reader of the output has closed it, which is no error.
                drop_output()
                return
            except UserError as error:
                if label is None:
                    raise
                num_bad += 1
                typer.echo(f"error: {one_line(error)}", err=True)
            if stopped():
                break
    typer.echo(f"stream: {times.summary()}", err=True)
    if num_bad:
        raise UserError(f"{num_bad} of {len(inputs.files)} files could not be transcribed")


@contextmanager
def _source(
    path: Path | None, inputs: Inputs, sampling_rate: int, stopped: Callable[[], bool]
) -> Iterator[AudioSource]:
    """Open a file, standard input or the microphone."""
    from slimasr.decoding.streaming.microphone import MicrophoneSource
    from slimasr.decoding.streaming.sources import PacedSource, PipeSource, file_source

    if path is None:
        yield MicrophoneSource(inputs.microphone or "", sampling_rate)
    elif str(path) == STDIN:
        yield PipeSource(standard_input(), inputs.raw, stopped)
    else:
        with file_source(path) as source:
            yield PacedSource(source) if inputs.realtime else source


def check_inputs(inputs: Inputs) -> None:
    """Check what is to be streamed, before a model is loaded."""
    files, raw, microphone, realtime = inputs
    from_stdin = files.count(Path(STDIN))
    if microphone is not None:
        if files or raw is not None or realtime:
            raise UserError("--microphone is the only input: leave out AUDIO, --raw and --realtime")
    elif not files:
        raise UserError("name audio files, - for standard input, or --microphone")
    if from_stdin > 1:
        raise UserError("standard input can be read once: name - once")
    if raw is not None and not from_stdin:
        raise UserError("--raw describes standard input: name - as AUDIO")
