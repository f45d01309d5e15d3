"""``slimasr-transcribe``: print the text of audio files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DebugOption,
    ExpArgument,
    above_zero,
    any_file_name,
    entry,
    file_name,
    opened,
    progress,
    quick_imports,
    subnet_option,
)
from slimasr.errors import UserError, one_line

AudioArgument = Annotated[
    list[Path],
    typer.Argument(metavar="AUDIO", show_default=False, help="Audio files: wav, flac, ogg, mp3, sph and others."),
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


def run(
    exp: ExpArgument,
    audio: AudioArgument,
    width: WidthOption = None,
    subnet: Annotated[str | None, subnet_option("max")] = None,
    window_seconds: WindowOption = None,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Print the text of audio files.

    The files may have any sampling rate and length. Several files are printed as <file>: <text>. A file that cannot be
    read is named on stderr and the others are transcribed; the exit status is then 1.
    """
    with quick_imports():
        from slimasr.decoding.transcribe import transcribe_each
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnet

    if width is not None and subnet is not None:
        raise UserError("name the subnet by --width or by --subnet, not by both")
    experiment = opened(Experiment.open(exp, checkpoint))
    name = f"{width:g}" if width is not None else subnet or "max"
    # A file that cannot be read yields its error, so that the others are still transcribed.
    results = transcribe_each(experiment, audio, find_subnet(experiment, name), window_seconds)
    num_bad = 0
    with any_file_name():
        for path, result in zip(audio, progress(results, len(audio), "transcribe"), strict=True):
            if not isinstance(result, UserError):
                typer.echo(result if len(audio) == 1 else f"{file_name(path)}: {result}")
            elif len(audio) == 1:
                raise result
            else:
                num_bad += 1
                typer.echo(f"error: {one_line(result)}", err=True)
    if num_bad:
        raise UserError(f"{num_bad} of {len(audio)} files could not be transcribed")


main = partial(entry, run)
