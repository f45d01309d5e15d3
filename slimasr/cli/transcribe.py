"""``slimasr-transcribe``: print the text of audio files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DebugOption,
    ExpArgument,
    LanguageOption,
    above_zero,
    any_file_name,
    entry,
    file_name,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
    subnet_option,
)
from slimasr.cli.live import drop_output, first_interrupt_stops, show
from slimasr.errors import UserError, one_line

if TYPE_CHECKING:
    from slimasr.decoding.sources import AudioSource

STDIN = "-"
"""The name of standard input on the command line."""

AudioArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="AUDIO",
        show_default=False,
        help="Audio files: wav, flac, ogg, mp3, sph and others. With --stream, - is wav from standard input.",
    ),
]
WidthOption = Annotated[
    float | None,
    typer.Option(
        "--width",
        metavar="WIDTH",
        callback=above_zero,
        help="Width of the subnet, such as 0.5; use it instead of --subnet.",
    ),
]
WindowOption = Annotated[
    float | None,
    typer.Option(
        "--window-seconds",
        metavar="SECONDS",
        min=1.0,
        max=86400.0,
        callback=above_zero,
        help="Longest audio that is recognised at once; longer audio is cut at pauses. "
        "Default: data.max_cut_seconds of the configuration, at most 30.",
    ),
]


StreamOption = Annotated[
    bool, typer.Option("--stream", help="Recognise audio while it arrives; needs an encoder that streams.")
]
RawOption = Annotated[
    int | None,
    typer.Option(
        "--raw",
        metavar="RATE",
        min=1000,
        max=768_000,
        help="With --stream -: standard input is headerless 16-bit mono of this sampling rate. Default: it is wav.",
    ),
]
MicrophoneOption = Annotated[
    str | None,
    typer.Option(
        "--microphone",
        metavar="[NAME]",
        help="With --stream: recognise a microphone until Ctrl-C; NAME is a part of its name or its number.",
    ),
]
PartialsOption = Annotated[
    bool, typer.Option("--partials", help="With --stream: print the text as a line whenever it changes.")
]
FormatOption = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="With --stream: text, or json, which is one object per change with times of tokens.",
    ),
]
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="With --stream: read files as slowly as their audio was spoken.")
]


def run(
    exp: ExpArgument,
    audio: AudioArgument = None,
    width: WidthOption = None,
    subnet: Annotated[str | None, subnet_option("max")] = None,
    language: LanguageOption = None,
    window_seconds: WindowOption = None,
    stream: StreamOption = False,
    raw: RawOption = None,
    microphone: MicrophoneOption = None,
    partials: PartialsOption = False,
    form: FormatOption = "text",
    realtime: RealtimeOption = False,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Print the text of audio files.

    The files may have any sampling rate and length. Several files are printed as <file>: <text>. A file that cannot be
    read is named on stderr and the others are transcribed; the exit status is then 1.

    With --stream, text is printed while audio arrives, from files, standard input or a microphone. The first Ctrl-C
    ends a stream and prints its text; times are printed to stderr at the end.
    """
    if width is not None and subnet is not None:
        raise UserError("name the subnet by --width or by --subnet, not by both")
    files = audio or []
    wanted = Wanted(f"{width:g}" if width is not None else subnet, language)
    if stream:
        if window_seconds is not None:
            raise UserError("--window-seconds: --stream cuts no audio; use one of them")
        _check_inputs(files, raw, microphone, realtime)
        _stream(exp, checkpoint, wanted, Inputs(files, raw, microphone, realtime), Output(form, partials))
        return
    _check_whole(files, raw, microphone, partials, form, realtime)
    _transcribe(exp, checkpoint, wanted, files, window_seconds)


class Wanted(NamedTuple):
    """Which subnet recognises: the one with this name, or the pathway of this language."""

    name: str | None
    language: str | None


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


def _transcribe(exp: Path, checkpoint: str, wanted: Wanted, files: list[Path], window_seconds: float | None) -> None:
    """Print the texts of whole files."""
    with quick_imports():
        from slimasr.decoding.transcribe import transcribe_each
        from slimasr.decoding.words import Unfinished
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import chosen_subnet

    experiment = opened(Experiment.open(exp, checkpoint))
    # A file that cannot be read yields its error, so that the others are still transcribed.
    unfinished = Unfinished()
    chosen = chosen_subnet(experiment, *wanted)
    results = transcribe_each(experiment, files, chosen, window_seconds, unfinished=unfinished)
    num_bad = 0
    with any_file_name():
        for path, result in zip(files, progress(results, len(files), "transcribe"), strict=True):
            if not isinstance(result, UserError):
                typer.echo(result if len(files) == 1 else f"{file_name(path)}: {result}")
            elif len(files) == 1:
                raise result
            else:
                num_bad += 1
                typer.echo(f"error: {one_line(result)}", err=True)
    print_notes(unfinished.notes())
    if num_bad:
        raise UserError(f"{num_bad} of {len(files)} files could not be transcribed")


def _stream(exp: Path, checkpoint: str, wanted: Wanted, inputs: Inputs, output: Output) -> None:
    """Print the texts of streams while they grow."""
    with quick_imports():
        from slimasr.decoding.live import StreamTimes, recognize_source
        from slimasr.decoding.stream import StreamRecognizer
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
                # Nobody reads any more, which is no error.
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
    from slimasr.decoding.microphone import MicrophoneSource
    from slimasr.decoding.sources import PacedSource, PipeSource, file_source

    if path is None:
        yield MicrophoneSource(inputs.microphone or "", sampling_rate)
    elif str(path) == STDIN:
        # Python has no standard input if the shell has closed it.
        if sys.stdin is None:
            raise UserError("standard input is closed: pipe audio into the command")
        yield PipeSource(sys.stdin.buffer, inputs.raw, stopped)
    else:
        with file_source(path) as source:
            yield PacedSource(source) if inputs.realtime else source


def _check_inputs(files: list[Path], raw: int | None, microphone: str | None, realtime: bool) -> None:
    """Check what is to be streamed, before a model is loaded."""
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


def _check_whole(
    files: list[Path], raw: int | None, microphone: str | None, partials: bool, form: str, realtime: bool
) -> None:
    """Refuse options that only streams have."""
    given = {
        "--raw": raw is not None,
        "--microphone": microphone is not None,
        "--partials": partials,
        "--format": form != "text",
        "--realtime": realtime,
        "-": Path(STDIN) in files,
    }
    for option, used in given.items():
        if used:
            raise UserError(f"{option} needs --stream")
    if not files:
        raise typer.BadParameter("name at least one audio file", param_hint="AUDIO")


main = partial(entry, run)
