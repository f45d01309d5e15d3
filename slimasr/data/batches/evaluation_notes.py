"""Notes on a dev or test set that a user should know before reading its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import audio_path
from slimasr.data.batches.filters import infeasible
from slimasr.data.features.frames import FRAME_SHIFT, feature_frames, has_frame
from slimasr.data.features.pieces import whole_seconds, window_frames
from slimasr.data.files import DataFolder
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.tokenizer import Tokenizer

MOST_NAMED = 3


def evaluation_notes(config: Config, data_dir: Path, set_name: str, tokenizer: Tokenizer, *, losses: bool) -> list[str]:
    """Return one line for every kind of utterance that needs a special treatment, with the set, number and reasons.

    Args:
        losses: whether the command computes losses on the set, or only recognises it.

    Raises:
        UserError: stage 2 has not run.
    """
    cuts = list(read_feature_cuts(DataFolder(data_dir), set_name))
    # A set without any word is refused as a whole.
    if not any(cut.supervisions[0].text.split() for cut in cuts):
        return []
    unheard = {cut.id: audio_path(cut) for cut in cuts if not has_frame(cut.duration)}
    whole = window_frames(whole_seconds(config.data), config.model.frontend.min_frames)
    long = {cut.id: f"{cut.duration:.1f} s" for cut in cuts if feature_frames(cut.duration) > whole}
    # Every utterance is reported once, for the most severe reason.
    others = [cut for cut in cuts if cut.id not in unheard and cut.id not in long]
    # Values are None for utterances without a problem; `_note` drops them.
    unscored = {cut.id: _unscored(cut, config, tokenizer) for cut in others} if losses else {}
    without_loss = ", without a loss" if losses else ""
    in_pieces = f"longer than {whole * FRAME_SHIFT:g} s and recognised in pieces cut at pauses"
    notes = (
        _note(set_name, len(cuts), unheard, "shorter than one feature frame and recognised as empty text"),
        _note(set_name, len(cuts), long, in_pieces + without_loss),
        _note(set_name, len(cuts), unscored, "left out of the losses but kept in the WER"),
    )
    return [note for note in notes if note is not None]


def _unscored(cut: Cut, config: Config, tokenizer: Tokenizer) -> str | None:
    """Why no loss can be computed for an utterance, or None."""
    frontend = config.model.frontend
    # Shorter utterances are padded with silence.
    frames = max(feature_frames(cut.duration), frontend.min_frames)
    return infeasible(frontend.output_frames(frames), tokenizer.encode(cut.supervisions[0].text), config)


def _note(set_name: str, total: int, reasons: Mapping[str, str | None], consequence: str) -> str | None:
    """Return ``dev: 2 of 40 utterances are left out of ...: a (reason), b (reason)``; None if there are none."""
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    if not found:
        return None
    named = [f"{name} ({reason})" for name, reason in list(found.items())[:MOST_NAMED]]
    more = ", ..." if len(found) > MOST_NAMED else ""
    verb = "is" if len(found) == 1 else "are"
    return f"{set_name}: {len(found)} of {total} utterances {verb} {consequence}: {', '.join(named)}{more}"
