"""``slimasr-transcribe``: print or write the text of recordings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DebugOption,
    ExpArgument,
    LanguageOption,
    above_zero,
    entry,
    subnet_option,
)
from slimasr.cli.transcribe_files import Inputs, Output, transcribe_files
from slimasr.cli.transcribe_stream import Inputs as StreamInputs
from slimasr.cli.transcribe_stream import Output as StreamOutput
from slimasr.cli.transcribe_stream import check_inputs, stream
from slimasr.cli.wanted import STDIN, Wanted
from slimasr.errors import UserError

AudioArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="AUDIO",
        show_default=False,
        help="Audio files (wav, flac, ogg, mp3, sph and others), folders, which are searched for audio at any depth, "
        "and -, which is wav from standard input.",
    ),
]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list",
        metavar="FILE",
        help="File with the path of an audio file in every line; relative paths are relative to the "
        "folder of the list.",
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
        help="Longest audio that is recognised at once; longer audio is cut at pauses. The length of the "
        "training utterances is best. Default: that of the longest training utterance, from 5 to 30.",
    ),
]
FormatOption = Annotated[
    Literal["text", "json", "srt", "vtt", "ctm"],
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="What is written: text; json, with the times of words and tokens; srt or vtt, which are subtitles; ctm, "
        "with a word in every line. With --stream: text, or json, which is one object per change.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder to which a file with the name of each recording is written; folders of audio keep their layout. "
        "Default: print to stdout.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="With --out: replace files that exist.")]
JobsOption = Annotated[
    int,
    typer.Option("--num-jobs", metavar="NUMBER", min=1, help="Number of processes, which share the pieces of audio."),
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
        help="Standard input is headerless 16-bit mono of this sampling rate. Default: it is wav.",
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
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="With --stream: read files as slowly as their audio was spoken.")
]


def run(
    exp: ExpArgument,
    audio: AudioArgument = None,
    list_file: ListOption = None,
    width: WidthOption = None,
    subnet: Annotated[str | None, subnet_option("max")] = None,
    language: LanguageOption = None,
    form: FormatOption = "text",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    num_jobs: JobsOption = 1,
    window_seconds: WindowOption = None,
    stream_audio: StreamOption = False,
    raw: RawOption = None,
    microphone: MicrophoneOption = None,
    partials: PartialsOption = False,
    realtime: RealtimeOption = False,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Print or write the text of audio files.

    The files may have any sampling rate and length. Several files are printed as <file>: <text>. A file that cannot be
    read is named on stderr and the others are transcribed; the exit status is then 1.

    With --stream, text is printed while audio arrives, from files, standard input or a microphone. The first Ctrl-C
    ends a stream and prints its text; times are printed to stderr at the end.
    """
    if width is not None and subnet is not None:
        raise UserError("name the subnet by --width or by --subnet, not by both")
    files = audio or []
    wanted = Wanted(f"{width:g}" if width is not None else subnet, language)
    whole = _Whole(list_file, out, overwrite, num_jobs, window_seconds)
    if stream_audio:
        streamed = StreamOutput(_check_streamed(form, whole), partials)
        inputs = StreamInputs(files, raw, microphone, realtime)
        check_inputs(inputs)
        stream(exp, checkpoint, wanted, inputs, streamed)
        return
    _check_whole(files, list_file, raw, microphone, partials, realtime)
    output = Output(form, out, overwrite)
    transcribe_files(exp, checkpoint, wanted, Inputs(files, list_file, raw, window_seconds, num_jobs), output)


class _Whole(NamedTuple):
    """The options that only whole recordings have."""

    list_file: Path | None
    out: Path | None
    overwrite: bool
    num_jobs: int
    window_seconds: float | None


def _check_streamed(form: str, whole: _Whole) -> Literal["text", "json"]:
    """Refuse what streams do not have, and return their format."""
    given = {
        "--list": whole.list_file is not None,
        "--out": whole.out is not None,
        "--overwrite": whole.overwrite,
        "--num-jobs": whole.num_jobs != 1,
    }
    for option, used in given.items():
        if used:
            raise UserError(f"{option} is for whole recordings: leave it or --stream out")
    if whole.window_seconds is not None:
        raise UserError("--window-seconds: --stream cuts no audio; use one of them")
    if form == "json":
        return "json"
    if form != "text":
        raise UserError(f"--format {form} is for whole recordings: leave --stream out, or choose text or json")
    return "text"


def _check_whole(
    files: list[Path],
    list_file: Path | None,
    raw: int | None,
    microphone: str | None,
    partials: bool,
    realtime: bool,
) -> None:
    """Refuse options that only streams have."""
    given = {"--microphone": microphone is not None, "--partials": partials, "--realtime": realtime}
    for option, used in given.items():
        if used:
            raise UserError(f"{option} needs --stream")
    if raw is not None and Path(STDIN) not in files:
        raise UserError("--raw needs --stream or standard input, which it describes: name - as AUDIO")
    if not files and list_file is None:
        raise typer.BadParameter("name at least one audio file", param_hint="AUDIO")


main = partial(entry, run)
