"""The utterances of an epoch as columns: one array per property instead of one object per utterance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """An utterance as a sample of one epoch: its speed, its duration at that speed in seconds, and its batch key."""

    id: str
    speed: float
    duration: float
    key: str | None = None


@dataclass(frozen=True)
class Labels:
    """One text for each of many rows, of which few differ.

    Attributes:
        values: the different texts, in the order of their first rows.
        codes: (N,) int32, index into ``values`` for each row.
    """

    values: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> Labels:
        """The labels of rows with these texts."""
        known: dict[str, int] = {}
        codes = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int32)
        return cls(tuple(known), codes)

    def __getitem__(self, row: int) -> str:
        return self.values[self.codes[row]]


class Samples(Sequence[Sample]):
    """A sequence of `Sample` in columns; an item is made when it is asked for.

    Attributes:
        names: ids of all utterances.
        rows: (N,) intp, index into ``names`` for each sample.
        speeds: (N,) float64, speed factors.
        durations: (N,) float64, seconds at these speeds.
        keys: batch keys of all utterances; None = there are none.
    """

    def __init__(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        speeds: np.ndarray,
        durations: np.ndarray,
        keys: Labels | None = None,
    ) -> None:
        """See the attributes."""
        self.names = names
        self.rows = rows
        self.speeds = speeds
        self.durations = durations
        self.keys = keys

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Samples:
        """Columns of these samples, of which all have keys or none."""
        if isinstance(samples, Samples):
            return samples
        return cls(
            [item.id for item in samples],
            np.arange(len(samples)),
            np.array([item.speed for item in samples], dtype=np.float64),
            np.array([item.duration for item in samples], dtype=np.float64),
            None if all(item.key is None for item in samples) else Labels.of(item.key or "" for item in samples),
        )

    def take(self, places: np.ndarray | Sequence[int]) -> Samples:
        """The samples at these places, in their order."""
        chosen = np.asarray(places, dtype=np.intp)
        return Samples(self.names, self.rows[chosen], self.speeds[chosen], self.durations[chosen], self.keys)

    @property
    def ids(self) -> list[str]:
        """Utterance id of each sample."""
        return [self.names[row] for row in self.rows.tolist()]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> Samples: ...

    def __getitem__(self, place: int | slice) -> Sample | Samples:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        row = int(self.rows[place])
        key = None if self.keys is None else self.keys[row]
        return Sample(self.names[row], float(self.speeds[place]), float(self.durations[place]), key)

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    # Arrays can change, so that there is no lasting hash.
    __hash__ = None  # type: ignore[assignment]


def group_samples(samples: Sequence[Sample]) -> dict[str, Samples]:
    """Samples by key, sorted by key; without keys, there is one group."""
    columns = Samples.of(samples)
    if columns.keys is None:
        return {"": columns} if len(columns) else {}
    codes = columns.keys.codes[columns.rows]
    # Keys may have no sample, if the samples are the rest of an epoch.
    found = {columns.keys.values[code]: code for code in np.unique(codes).tolist()}
    return {key: columns.take(np.flatnonzero(codes == found[key])) for key in sorted(found)}
