"""The batch that training steps, validation and decoding receive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slimasr.data.shar.place import Place


@dataclass(frozen=True)
class Batch:
    """Utterances of one step, padded on the right.

    Lengths and ends stay on the CPU wherever the other tensors are (`to`), because Python needs their sums and maxima,
    and reading these from a device would wait for all work queued there.

    Attributes:
        x: (N, T, F) float32 log-mel features, padded with `LOG_EPSILON`.
        x_lens: (N,) int64, frames; on the CPU.
        y: (N, U) int64 token ids, padded with 0 (blank).
        y_lens: (N,) int64, tokens; on the CPU.
        ids: utterance ids.
        texts: reference transcripts.
        key: what all utterances of a monolingual batch share (`Method.batch_key`), else None.
        ends: (N, U) int64, the last encoder frame of each token; -1 after the last token and in utterances without an
            alignment; on the CPU; None = no loss of the recipe needs alignments.
        targets: (N, T') int64, the frame target of each encoder frame: a token or a tied state, as the recipe says; -1
            behind the last frame and where there is none. T' is at least the number of encoder frames of the longest
            utterance. None = no loss of the recipe needs frame targets.
        unscored: ids of utterances that are left out of the losses; they are recognised and count in the WER.
        pieces: lengths in frames of the pieces in which a single utterance is recognised (`parts`) that is too long for
            the model at once; it is left out of the losses. Empty = the batch is recognised as a whole.
        unheard: ids of utterances shorter than one feature frame. They are replaced by silence, and their hypothesis is
            empty.
        language: the language of all utterances, as supervisions name it; "" = several, or not known.
        place: where the run stands after a training batch from shards; None for all other batches.
    """

    x: Tensor
    x_lens: Tensor
    y: Tensor
    y_lens: Tensor
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    key: str | None = None
    ends: Tensor | None = None
    targets: Tensor | None = None
    unscored: frozenset[str] = frozenset()
    unheard: frozenset[str] = frozenset()
    pieces: tuple[int, ...] = ()
    language: str = ""
    place: Place | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        """Number of tokens in all utterances."""
        return int(self.y_lens.sum())

    @property
    def scored_rows(self) -> list[int]:
        """Indices of the utterances on which losses are computed."""
        return [row for row, name in enumerate(self.ids) if name not in self.unscored]

    def searched_lens(self, lens: Tensor) -> Tensor:
        """(N,) number of encoder frames to decode: all frames, but none of an utterance without audio."""
        rows = [row for row, name in enumerate(self.ids) if name in self.unheard]
        # Out of place, because callers keep using lens.
        return lens.index_fill(0, torch.tensor(rows, device=lens.device), 0) if rows else lens

    def parts(self) -> list[Batch]:
        """The batches that a model encodes one at a time: this batch, or the pieces of its one utterance, in order."""
        if not self.pieces:
            return [self]
        assert len(self) == 1, "an utterance in pieces has a batch of its own"
        # One (1,) tensor per piece; x is (1, T, F) and is split along time.
        lengths = self.x_lens.new_tensor(self.pieces).split(1)
        pieces = zip(self.x.split(self.pieces, dim=1), lengths, strict=True)
        return [replace(self, x=x, x_lens=x_lens, pieces=()) for x, x_lens in pieces]

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``, except lengths and ends; the copies are queued and not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU copies without the CPU; the data loader calls this method."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with all tensors changed, except lengths and ends."""
        targets = None if self.targets is None else change(self.targets)
        return replace(self, x=change(self.x), y=change(self.y), targets=targets)

    def select(self, rows: Sequence[int]) -> Batch:
        """The utterances with these indices, padding trimmed to the longest of them; `targets` keeps its padding."""
        chosen = torch.tensor(list(rows), dtype=torch.int64)
        x_lens = self.x_lens[chosen]
        y_lens = self.y_lens[chosen]
        index = chosen.to(self.x.device, non_blocking=True)
        # May be 0, if none of the utterances has a token.
        tokens = int(y_lens.max())
        return replace(
            self,
            x=self.x[index, : int(x_lens.max())],
            x_lens=x_lens,
            y=self.y[index, :tokens],
            y_lens=y_lens,
            ids=tuple(self.ids[i] for i in rows),
            texts=tuple(self.texts[i] for i in rows),
            ends=None if self.ends is None else self.ends[chosen, :tokens],
            # A batch does not know how many encoder frames its front end makes.
            targets=None if self.targets is None else self.targets[index],
        )


def single(features: Tensor) -> Batch:
    """A batch of one utterance without reference, from its (T, F) features."""
    x_lens = torch.tensor([len(features)])
    y = torch.zeros((1, 0), dtype=torch.int64, device=features.device)
    return Batch(features.unsqueeze(0), x_lens, y, torch.zeros_like(x_lens), ("",), ("",))
