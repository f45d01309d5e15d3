"""A small classifier of feature frames, trained on an alignment to improve it (see `realign`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ClassifierOptions:
    """Size and training of the classifier.

    Attributes:
        offsets: the frames that it sees, relative to the frame that it classifies. Few of them, because a classifier
            that sees a whole character learns any shift of the alignment instead of correcting it.
        hidden_dim: channels of its hidden layer.
        epochs: passes over the training frames.
        share: share of the frames that are drawn for an epoch; neighbours of 10 ms are nearly equal.
        batch_frames: frames of an optimiser step.
        lr: largest learning rate of Adam, which falls to 0.
        dropout: dropout probability of the hidden layer.
    """

    offsets: tuple[int, ...] = tuple(range(-4, 5))
    hidden_dim: int = 256
    epochs: int = 5
    share: float = 0.34
    batch_frames: int = 512
    lr: float = 2e-3
    dropout: float = 0.1


@dataclass(frozen=True)
class Frames:
    """The features of many utterances, one after the other.

    Attributes:
        values: (M, F) features; the first and last frame of each utterance are repeated at its edges.
        centres: (K,) int64, the index of each frame of the utterances, without these repetitions.
        lengths: frames of each utterance.
    """

    values: Tensor
    centres: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, utterances: Sequence[Tensor], offsets: Sequence[int]) -> Frames:
        """Join (T, F) features of utterances, which have at least one frame each."""
        before, behind = max(0, -min(offsets)), max(0, max(offsets))
        parts, centres = [], []
        position = 0
        for x in utterances:
            parts += [x[:1].expand(before, -1), x, x[-1:].expand(behind, -1)]
            centres.append(torch.arange(len(x)) + position + before)
            position += before + len(x) + behind
        return cls(torch.cat(parts), torch.cat(centres), tuple(map(len, utterances)))

    def windows(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """(B,) rows of ``centres`` -> (B, offsets * F), the features that the classifier sees."""
        return self.values[self.centres[rows].unsqueeze(1) + offsets].flatten(1)


class FrameClassifier(nn.Module):
    """One hidden layer on a window of normalised features."""

    mean: Tensor
    std: Tensor
    offsets: Tensor

    def __init__(self, frames: Frames, num_classes: int, options: ClassifierOptions) -> None:
        super().__init__()
        self.register_buffer("mean", frames.values.mean(dim=0))
        # A bin that never varies must not divide by 0.
        self.register_buffer("std", frames.values.std(dim=0).clamp(min=1e-5))
        self.register_buffer("offsets", torch.tensor(options.offsets))
        self.inner = nn.Linear(len(options.offsets) * frames.values.shape[1], options.hidden_dim)
        self.dropout = nn.Dropout(options.dropout)
        self.outer = nn.Linear(options.hidden_dim, num_classes)

    def forward(self, frames: Frames, rows: Tensor) -> Tensor:
        """Return (B, V) scores of some frames, given by their rows."""
        windows = frames.windows(rows, self.offsets).unflatten(1, (len(self.offsets), -1))
        normalised = ((windows - self.mean) / self.std).flatten(1)
        hidden: Tensor = self.outer(self.dropout(F.relu(self.inner(normalised))))
        return hidden

    @torch.no_grad()
    def log_posteriors(self, frames: Frames) -> Tensor:
        """Return (K, V) log posteriors of all frames."""
        self.eval()
        return torch.cat(
            [self(frames, rows).log_softmax(dim=1) for rows in torch.arange(len(frames.centres)).split(8192)]
        )


def train_classifier(
    frames: Frames, targets: Tensor, num_classes: int, options: ClassifierOptions, seed: int
) -> FrameClassifier:
    """Train a classifier on (K,) int64 targets; the result depends on nothing but the arguments."""
    generator = torch.Generator().manual_seed(seed)
    # Initial weights and dropout use the global generator, whose state is restored.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FrameClassifier(frames, num_classes, options).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
        per_epoch = max(1, round(options.share * len(targets)))
        steps = options.epochs * -(-per_epoch // options.batch_frames)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / steps)
        for rows in _drawn(len(targets), per_epoch, options, generator):
            loss = F.cross_entropy(model(frames, rows), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def _drawn(total: int, per_epoch: int, options: ClassifierOptions, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of each optimiser step."""
    for _ in range(options.epochs):
        yield from torch.randperm(total, generator=generator)[:per_epoch].split(options.batch_frames)
