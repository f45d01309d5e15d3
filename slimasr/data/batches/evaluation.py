"""Batches of dev and test sets, which hold every utterance exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.augmentation.augment import Changes
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.collate import Collator, load_batches
from slimasr.data.batches.filters import infeasible
from slimasr.data.features.frames import feature_frames, has_frame
from slimasr.data.features.pieces import cut_at_pauses, rounded_as_stored, whole_seconds, window_frames, window_seconds
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import check_audio_unchanged
from slimasr.data.identity.provenance import check_features, stored_speed
from slimasr.data.languages import by_language, language_of
from slimasr.data.memory.sampling import pack
from slimasr.data.memory.training_cuts import read_cuts_at
from slimasr.data.timelines.batch import BatchLabels, open_labels
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError


def eval_batches(
    config: Config,
    data_dir: Path,
    set_name: str,
    tokenizer: Tokenizer,
    max_seconds: float,
    *,
    speed: float = 1.0,
    aligned: bool = False,
    longest: float | None = None,
    language: str = "",
    changes: Changes | None = None,
) -> Iterator[Batch]:
    """Yield every utterance of a set once, longest first, in batches of at most ``max_seconds`` with padding.

    A batch has utterances of one language alone; those of the language that comes first in the set come first.

    Nothing is left out: unknown characters become ``<unk>``, and audio that cannot be read is a `UserError`. Utterances
    for which no loss can be computed are marked (`Batch.unscored`); `slimasr.data.batches.evaluation_notes` describes
    them.

    Args:
        speed: one of ``data.speeds``, to read a training set at that speed.
        longest: an utterance above this duration in seconds has a batch of its own and is cut into pieces; the default
            is `pieces.whole_seconds`.
        aligned: whether the batches carry the alignments that the losses need, if any does.
        language: yield only the utterances in this language; "" = all of them.
        changes: what is done to the audio of every utterance, which is then read even if features have been stored.

    Raises:
        UserError: stage 2 has not run, audio cannot be read, or no utterance is in the language.
    """
    folder = DataFolder(data_dir)
    check_features(config, folder, set_name, stored_speed(config, speed))
    cuts = _in_language(list(read_cuts_at(config, folder, set_name, speed)), language, set_name)
    check_audio_unchanged(cuts, set_name)
    min_frames = config.model.frontend.min_frames
    limits = Limits(
        whole=window_frames(longest or whole_seconds(config.data), min_frames),
        piece=window_frames(window_seconds(config.data), min_frames),
    )
    packed = [batch for spoken in by_language(cuts) for batch in _pack(spoken, max_seconds, limits)]
    source = open_labels(config, tokenizer, [set_name], [(cut, speed) for cut in cuts]) if aligned else None
    # Like the batches themselves, speeds are indexed by the number of the batch.
    labels = None if source is None else BatchLabels(source, [[speed] * len(batch) for batch in packed])
    collator = EvaluationCollator(config, tokenizer, limits, labels, changes)
    yield from load_batches(enumerate(map(CutSet.from_items, packed)), collator, config.data.num_workers)


def _in_language(cuts: list[Cut], language: str, set_name: str) -> list[Cut]:
    """Return the cuts in a language, all of them for ""."""
    if not language:
        return cuts
    found = [cut for cut in cuts if language_of(cut) == language]
    if not found:
        raise UserError(f"{set_name}: has no utterance in the language {language}; name another set")
    return found


@dataclass(frozen=True)
class Limits:
    """Feature frames of the longest utterance that is recognised as a whole, and of the longest piece of others."""

    whole: int
    piece: int


def _pack(cuts: Sequence[Cut], max_seconds: float, limits: Limits) -> list[list[Cut]]:
    """Batches of cuts, longest first; an utterance that is cut into pieces has a batch of its own."""
    long = [cut for cut in cuts if _is_long(cut, limits)]
    others = [cut for cut in cuts if not _is_long(cut, limits)]
    # At most 0 seconds: every batch has a single item.
    return [*pack(long, 0.0), *pack(others, max_seconds)]


def _is_long(cut: Cut, limits: Limits) -> bool:
    """Judged by its duration, because batches are made before features are read."""
    return feature_frames(cut.duration) > limits.whole


class EvaluationCollator(Collator):
    """Marks utterances without a feature frame and those whose tokens have no alignment; cuts long ones into pieces."""

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer,
        limits: Limits,
        labels: BatchLabels | None = None,
        changes: Changes | None = None,
    ) -> None:
        """``labels`` and ``changes`` are those of `Collator`; with changes, audio is read."""
        super().__init__(config, tokenizer, labels=labels, changes=changes, from_audio=changes is not None)
        self._limits = limits

    def __getitem__(self, item: tuple[int, CutSet]) -> Batch:
        batch = super().__getitem__(item)
        # A long utterance is alone in its batch.
        if any(_is_long(cut, self._limits) for cut in item[1]):
            return replace(batch, unscored=frozenset(batch.ids), pieces=self._pieces(batch))
        # By duration, because their features have been padded with silence already.
        unheard = frozenset(cut.id for cut in item[1] if not has_frame(cut.duration))
        return replace(batch, unscored=unheard | set(self._unscored(batch)), unheard=unheard)

    def _pieces(self, batch: Batch) -> tuple[int, ...]:
        # x is (1, T, F) without padding.
        (features,) = batch.x.numpy()
        # Pauses are searched in the same values whether or not features have been stored.
        if self.computes:
            features = rounded_as_stored(features)
        return cut_at_pauses(features, self._limits.piece, self.config.model.frontend.min_frames)

    def _unscored(self, batch: Batch) -> Iterator[str]:
        model = self.config.model
        # x_lens counts feature frames, of which the front end makes fewer encoder frames.
        rows = zip(batch.ids, batch.x_lens.tolist(), batch.y.tolist(), batch.y_lens.tolist(), strict=True)
        for name, frames, tokens, length in rows:
            if infeasible(model.frontend.output_frames(frames), tokens[:length], self.config) is not None:
                yield name
