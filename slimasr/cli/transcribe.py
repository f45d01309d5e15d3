"""Print the text of audio files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, ExpArgument, above_zero, entry, progress
from slimasr.errors import UserError

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
    """Print the text of audio files of any sampling rate and length; several files: ``<file>: <text>``."""
    from slimasr.decoding.transcribe import transcribe  # imports torch and lhotse: not needed for the help
    from slimasr.experiment import Experiment
    from slimasr.search.archive import find_subnet

    if width is not None and subnet is not None:
        raise UserError("name the subnet by --width or by --subnet, not by both")
    experiment = Experiment.open(exp, checkpoint)
    named = subnet or "max" if width is None else f"{width:g}"
    texts = transcribe(experiment, audio, find_subnet(experiment, named), window_seconds)
    for path, text in zip(audio, progress(texts, len(audio), "transcribe"), strict=True):
        typer.echo(text if len(audio) == 1 else f"{path}: {text}")


def main() -> None:
    """Console script ``slimasr-transcribe``."""
    entry(run)
