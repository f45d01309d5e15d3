"""What the segments of a batch see in an Emformer (Shi et al. 2021), the same in all of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Frames = TypeVar("Frames", int, Tensor)


@dataclass(frozen=True)
class Window:
    """What a segment sees, in frames of the encoder.

    Attributes:
        segment: c, frames of a segment, which are computed together.
        left: l, frames before the segment.
        right: r, frames behind it. Every layer computes copies of them that belong to this segment alone, so the
            look-ahead does not grow with the number of layers.
        memory: m, segments before this one of which a summary is seen; 0 = no summaries.
        history: k - 1, frames before a frame that its convolution sees.
    """

    segment: int = 4
    left: int = 30
    right: int = 1
    memory: int = 0
    history: int = 0

    def __post_init__(self) -> None:
        if self.segment < 1:
            raise ValueError(f"segment: must be at least 1, got {self.segment}")
        for name in ("left", "right", "memory", "history"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be below 0, got {getattr(self, name)}")

    @property
    def computed(self) -> int:
        """Frames that a layer computes per segment: the copies and the segment's own."""
        return self.right + self.segment

    @property
    def rows(self) -> int:
        """Vectors per segment that a layer projects: its frames, and the summary of an earlier layer if there are any.

        The number of queries is the same: those of the frames, and of the summary that this layer makes.
        """
        return self.computed + (1 if self.memory else 0)

    @property
    def cached(self) -> int:
        """Keys that a layer keeps between two chunks of a stream: of the summaries, and of the frames before."""
        return self.memory + self.left

    @property
    def keys(self) -> int:
        """Keys in the window of one segment."""
        return self.cached + self.computed

    @property
    def distances(self) -> int:
        """Number of different distances between a frame and a frame that it may see."""
        return self.left + 2 * self.computed - 1

    def segments(self, frames: Frames) -> Frames:
        """Return the number of segments of an utterance, or of many."""
        # Not ``-(-frames // segment)``, which ONNX export turns into a graph with another result.
        return (frames + self.segment - 1) // self.segment


@dataclass(frozen=True)
class Layout:
    """Windows of all segments of a batch, of whole utterances or of the next chunk of streams.

    The keys lie on one axis: first the ``cached`` ones of a stream [summaries | frames], none for whole utterances;
    then segment by segment [copies | its own frames | summary of the segment that the layer below made]. The window of
    a segment is [summaries | left context | copies | its own frames].

    Attributes:
        window: what a segment sees.
        frames: T, frames of the segments, with padding.
        masked: (N, 1, G, Q, K) bool, True where a query does not see a key. No query sees padding, and a summary sees
            no other summary.
        places: (G * K,) the keys of all windows on the axis of keys.
        columns: (r + c, K) the column of `EmformerAttention.position_bias` for every query of a frame and every key.
        own: (N, G, c) bool, True on the frames of the segments, False on padding.
        kept: (N, m + l) the keys on the axis of keys that the next chunk needs; None for whole utterances.
        recent: (N, k - 1) the frames whose convolution the next chunk needs, on the axis [k - 1 cached frames | frames
            of the segments]; None for whole utterances.
    """

    window: Window
    frames: int
    masked: Tensor
    places: Tensor
    columns: Tensor
    own: Tensor
    kept: Tensor | None
    recent: Tensor | None

    @property
    def segments(self) -> int:
        """Return G, the number of segments."""
        return self.window.segments(self.frames)

    def means(self, x: Tensor) -> Tensor:
        """(N, G, c, ...) -> (N, G, ...): the mean over the valid frames of every segment; 0 where there are none."""
        own = self.own.view(*self.own.shape, *[1] * (x.dim() - self.own.dim()))
        return x.masked_fill(~own, 0.0).sum(dim=2) / own.sum(dim=2).clamp(min=1)


def whole_layout(window: Window, frames: int, lens: Tensor) -> Layout:
    """Lay out whole utterances.

    Args:
        frames: T, frames of the padded batch.
        lens: (N,) frames of every utterance.
    """
    return _layout(window, frames, lens, lens, None)


def chunk_layout(window: Window, frames: int, lens: Tensor, available: Tensor, seen: Tensor) -> Layout:
    """Lay out the next chunk of streams, which may have different ages and ends.

    Args:
        frames: T, frames of the chunk without its look-ahead, with padding.
        lens: (n,) frames of every stream among these; a multiple of the segment, but for the last chunk of a stream.
        available: (n,) frames of every stream together with its look-ahead.
        seen: (n,) frames of every stream before the chunk.
    """
    return _layout(window, frames, lens, available, seen)


def _layout(window: Window, frames: int, lens: Tensor, available: Tensor, seen: Tensor | None) -> Layout:
    """Lay out segments; streams have ``seen`` frames before them, whole utterances (None) have no cache."""
    front = 0 if seen is None else window.cached
    groups = _count(window.segments(frames), lens).unsqueeze(1)
    # Frames and segments are numbered from the first of this call, so those of a cache have negative numbers: (G, ...)
    memory = groups - window.memory + _count(window.memory, lens)
    start = groups * window.segment
    left = start - window.left + _count(window.left, lens)
    own = start + _count(window.segment, lens)
    right = start + window.segment + _count(window.right, lens)
    copies = front + groups * window.rows + _count(window.right, lens)
    places = torch.cat(
        [_place_of_memory(window, memory, front), _place(window, left, front), copies, _place(window, own, front)],
        dim=1,
    )
    # (N, 1, 1) against (G, ...)
    end, limit = lens.view(-1, 1, 1), available.view(-1, 1, 1)
    age = torch.zeros_like(end) if seen is None else seen.view(-1, 1, 1)
    own_valid = own < end
    valid = torch.cat([memory >= -window.segments(age), (left >= -age) & (left < end), right < limit, own_valid], dim=2)
    return Layout(
        window,
        frames,
        _masked(window, valid),
        # Without a cache there is nothing before the first frame: such keys are masked, wherever they point.
        places.clamp(min=0).flatten(),
        _columns(window, lens),
        own_valid,
        None if seen is None else _kept(window, lens),
        # Frame t of a chunk lies at k - 1 + t. So the frames before number ``lens`` begin at the place ``lens``.
        None if seen is None else lens.unsqueeze(1) + _count(window.history, lens),
    )


def _kept(window: Window, lens: Tensor) -> Tensor:
    """Return (N, m + l): where the summaries and frames are that the next chunk may see."""
    front = window.cached
    memory = _place_of_memory(window, _last(window.memory, window.segments(lens)), front)
    return torch.cat([memory, _place(window, _last(window.left, lens), front)], dim=1)


def _count(number: int, like: Tensor) -> Tensor:
    return torch.arange(number, device=like.device)


def _last(number: int, end: Tensor) -> Tensor:
    """Return (N, number) consecutive numbers, of which the last is ``end - 1``."""
    return end.unsqueeze(1) - number + _count(number, end)


def _place(window: Window, frames: Tensor, front: int) -> Tensor:
    """Return where the keys of frames are on the axis of keys."""
    segment = frames // window.segment
    new = front + segment * window.rows + window.right + frames - segment * window.segment
    # Frames are the last part of the cache.
    return torch.where(frames < 0, front + frames, new)


def _place_of_memory(window: Window, segments: Tensor, front: int) -> Tensor:
    """Return where the keys of the segments' summaries are on the axis of keys."""
    new = front + segments * window.rows + window.computed
    return torch.where(segments < 0, front - window.left + segments, new)


def _masked(window: Window, valid: Tensor) -> Tensor:
    """(N, G, K), True where a frame sees a key -> (N, 1, G, Q, K), True where a query does not."""
    rows = ~valid.unsqueeze(2).expand(-1, -1, window.rows, -1)
    if window.memory:
        rows = rows.clone()
        rows[:, :, -1, : window.memory] = True
    return rows.unsqueeze(1)


def _columns(window: Window, like: Tensor) -> Tensor:
    """Return the columns of the position bias: distances from the most negative, then summaries from the newest."""
    right = window.segment + _count(window.right, like)
    own = _count(window.segment, like)
    queries = torch.cat([right, own]).unsqueeze(1)
    keys = torch.cat([_count(window.left, like) - window.left, right, own])
    distances = queries - keys + window.computed - 1
    ages = window.memory - 1 - _count(window.memory, like)
    return torch.cat([(window.distances + ages).expand(window.computed, -1), distances], dim=1)
