"""Print the text of audio files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import (
    DebugOption,
    ExpArgument,
    above_zero,
    any_file_name,
    entry,
    file_name,
    opened,
    progress,
)
from slimasr.errors import UserError, one_line

AudioArgument = Annotated[list[Path], typer.Argument(help="Audio files: wav, flac, ogg, mp3, sph, ...")]
WidthOption = Annotated[float | None, typer.Option(callback=above_zero, help="Width of the subnet, e.g. 0.5.")]
SubnetOption = Annotated[str | None, typer.Option(help="Instead of a width: an id, max, min or JSON (default: max).")]
WindowOption = Annotated[
    float | None,
    typer.Option(
        "--window-seconds", min=1.0, max=86400.0, callback=above_zero, help="Cut longer audio at pauses (default: 30)."
    ),
]


def run(
    exp: ExpArgument,
    audio: AudioArgument,
    width: WidthOption = None,
    subnet: SubnetOption = None,
    window_seconds: WindowOption = None,
    checkpoint: Annotated[str, typer.Option(help="final, best or one of checkpoints/.")] = "final",
    debug: DebugOption = False,
) -> None:
    """Print the text of audio files of any sampling rate and length; several files: ``<file>: <text>``.

    Files that cannot be read are named on stderr as they come; the others are transcribed, and the exit status is 1.
    """
    from slimasr.decoding.transcribe import transcribe_each  # imports torch and lhotse: not needed for the help
    from slimasr.experiment import Experiment
    from slimasr.experiment.subnets import find_subnet

    if width is not None and subnet is not None:
        raise UserError("name the subnet by --width or by --subnet, not by both")
    experiment = opened(Experiment.open(exp, checkpoint))
    named = subnet or "max" if width is None else f"{width:g}"
    results = transcribe_each(experiment, audio, find_subnet(experiment, named), window_seconds)
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


def main() -> None:
    """Console script ``slimasr-transcribe``."""
    entry(run)
