"""The lines of cut manifests, kept compressed in memory; a cut is made of its line when a batch needs it.

A cut as an object of lhotse takes about 4 kB, its line about 1 kB, and a line within a compressed block 0.2 kB. A run
keeps its own copy of the manifests, so that stage 2 may write them again during the run.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse.cut import Cut
from lhotse.serialization import decode_json_line, deserialize_item

from slimasr.data.features.shards import at_speed
from slimasr.files import understanding

BLOCK_LINES = 32
"""Lines of a block, all of which are decompressed for one of them, in a fraction of a millisecond."""

_FAST = 1


class Lines:
    """Lines in the order in which they were added, in compressed blocks."""

    def __init__(self) -> None:
        """There is no line yet."""
        self._blocks: list[bytes] = []
        self._last: list[bytes] = []

    def __len__(self) -> int:
        return BLOCK_LINES * len(self._blocks) + len(self._last)

    def add(self, line: bytes) -> None:
        """Append a line, with or without its end."""
        self._last.append(line.rstrip(b"\n"))
        if len(self._last) == BLOCK_LINES:
            self._blocks.append(zlib.compress(b"\n".join(self._last), _FAST))
            self._last = []

    def __getitem__(self, number: int) -> bytes:
        block, place = divmod(number, BLOCK_LINES)
        lines = zlib.decompress(self._blocks[block]).split(b"\n") if block < len(self._blocks) else self._last
        return lines[place]


@dataclass(frozen=True)
class StoredCuts:
    """The cuts of all utterances at one speed.

    Attributes:
        lines: lines of the manifests.
        places: (N,) int32, number of the line of each utterance.
        durations: (N,) float64, seconds at this speed.
        features: folder to which paths of features are relative.
    """

    lines: Lines
    places: np.ndarray
    durations: np.ndarray
    features: Path

    def extended(self, places: np.ndarray, durations: np.ndarray) -> StoredCuts:
        """These cuts and, behind them, those with these places and durations, whose lines have been added."""
        return StoredCuts(
            self.lines,
            np.concatenate([self.places, places]),
            np.concatenate([self.durations, durations]),
            self.features,
        )

    def line(self, row: int) -> bytes:
        """The line of an utterance."""
        return self.lines[int(self.places[row])]


@dataclass(frozen=True)
class LazyCuts:
    """The cuts of a batch, which are made of their lines wherever they are iterated over: in a loader's worker.

    Attributes:
        lines: one line of a manifest for each cut.
        speeds: the speed factor by which each stored cut is changed.
        features: folder to which paths of features are relative.
    """

    lines: Sequence[bytes]
    speeds: Sequence[float]
    features: Path

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Cut]:
        for line, speed in zip(self.lines, self.speeds, strict=True):
            yield at_speed(cut_of(line, self.features), speed)


def cut_of(line: bytes, features: Path) -> Cut:
    """The cut of a line, with the absolute path of its features.

    Args:
        features: folder to which paths in the manifest are relative.

    Raises:
        UserError: the line is not a cut.
    """
    with understanding(features, "a line of a manifest is not a cut; run stage 2 (slimasr-features) again"):
        cut: Cut = deserialize_item(decode_json_line(line))
        # Manifests hold relative paths, so that the data folder can be moved.
        return cut.with_features_path_prefix(features) if cut.has_features else cut
