"""slimasr: train one speech recogniser, ship many sizes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slimasr.recognizer import Recognizer


def load(exp: Path | str, checkpoint: str = "final") -> Recognizer:
    """Open a trained or extracted experiment folder.

    Args:
        checkpoint: ``final``, ``best``, or the name of one in ``checkpoints/``.

    Raises:
        UserError: a piece is missing; the message names the stage that makes it.
    """
    # Imported late: torch and lhotse take seconds, and `slimasr --help` needs neither.
    from slimasr.experiment import Experiment
    from slimasr.recognizer import Recognizer

    return Recognizer(Experiment.open(Path(exp), checkpoint))
