"""What alignments say about the utterances of a batch: the ends of their tokens and the targets of their frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from slimasr.config.loss import LossConfig
from slimasr.config.model import FrontendConfig
from slimasr.config.schema import Config
from slimasr.data.timelines.folder import Alignments, read_alignments
from slimasr.data.timelines.states import States, check_states, read_states
from slimasr.data.tokens.tokenizer import Tokenizer

NONE = -1
"""Entry of ends and targets on padding, and everywhere in utterances without an alignment."""


@dataclass(frozen=True)
class LabelSource:
    """Makes ends and targets as the losses of a recipe need them.

    Attributes:
        alignments: timelines of all utterances of the batches.
        states: the tied states, if they are the frame targets.
        tokenizer: the tokenizer of the batches.
        frontend: determines the encoder frames.
        needs_ends: whether a loss needs the ends of tokens.
        needs_targets: whether a loss needs frame targets.
    """

    alignments: Alignments
    states: States | None
    tokenizer: Tokenizer
    frontend: FrontendConfig
    needs_ends: bool
    needs_targets: bool

    def ends(self, name: str, text: str, feature_frames: int, speed: float) -> np.ndarray:
        """(U,) int64, the last encoder frame of each token of an utterance, `NONE` without an alignment.

        Args:
            feature_frames: feature frames at ``speed``.
            speed: speed factor at which the utterance is heard.
        """
        timeline = self.alignments.of(name)
        counts = self.tokenizer.unit_counts(text)
        if not timeline.aligned:
            return np.full(len(counts), NONE, dtype=np.int64)
        frames = self.frontend.output_frames(feature_frames)
        return timeline.token_ends(counts, self.frontend.factor, frames, speed)

    def targets(self, name: str, text: str, feature_frames: int, speed: float) -> np.ndarray:
        """(T',) int64, the target of each encoder frame of an utterance; arguments as in `ends`."""
        timeline = self.alignments.of(name)
        frames = self.frontend.output_frames(feature_frames)
        if not timeline.aligned:
            return np.full(frames, NONE, dtype=np.int64)
        factor = self.frontend.factor
        if self.states is not None:
            return self.states.targets(timeline, factor, frames, speed)
        tokens, counts = self.tokenizer.encode(text), self.tokenizer.unit_counts(text)
        return timeline.token_targets(tokens, counts, factor, frames, speed)


@dataclass(frozen=True)
class BatchLabels:
    """A `LabelSource` together with the speed of every utterance, by number of the batch."""

    source: LabelSource
    speeds: Sequence[Sequence[float]]

    def of(
        self, number: int, ids: Sequence[str], texts: Sequence[str], x_lens: Sequence[int]
    ) -> tuple[Tensor | None, Tensor | None]:
        """`Batch.ends` and `Batch.targets` of a batch, from its ids, transcripts and feature frames."""
        rows = list(zip(ids, texts, x_lens, self.speeds[number], strict=True))
        ends = _padded(self.source.ends(*row) for row in rows) if self.source.needs_ends else None
        targets = _padded(self.source.targets(*row) for row in rows) if self.source.needs_targets else None
        return ends, targets


def open_labels(
    config: Config, tokenizer: Tokenizer, set_names: Sequence[str], cuts: Iterable[tuple[Cut, float]]
) -> LabelSource | None:
    """Read the alignments that the losses of a recipe need; None if they need none.

    Args:
        set_names: the sets to read.
        cuts: their utterances that are used, each with the speed of its cut.

    Raises:
        UserError: alignments are missing or damaged, or belong to another transcript or to longer audio.
    """
    loss = config.loss
    if loss.alignments is None:
        return None
    alignments = read_alignments(loss.alignments, set_names)
    for cut, speed in cuts:
        # Its duration at natural speed.
        alignments.check(cut.id, cut.supervisions[0].text, cut.duration * speed)
    states = _states(loss)
    return LabelSource(
        alignments,
        states,
        tokenizer,
        config.model.frontend,
        needs_ends=loss.transducer == "restricted",
        needs_targets=loss.auxiliary is not None,
    )


def _states(loss: LossConfig) -> States | None:
    if loss.alignments is None or loss.auxiliary is None or loss.auxiliary.targets != "states":
        return None
    states = read_states(loss.alignments)
    check_states(loss.alignments, states)
    return states


def _padded(rows: Iterable[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=NONE)
