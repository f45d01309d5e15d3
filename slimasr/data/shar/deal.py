"""How the batches that several readers make of a block become equally many on all processes. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One batch of a training process: a batch of one of its readers, or a part of it.

    Attributes:
        reader: index of the reader among those of the process.
        number: number of the reader's batch in the block.
        rows: indices of the utterances that are used; None = all.
    """

    reader: int
    number: int
    rows: tuple[int, ...] | None = None


def deal(lengths: Sequence[Sequence[int]], wanted: int) -> list[Turn]:
    """Let the readers of a process take turns, and divide batches until there are as many as wanted.

    All processes need the same number of batches, because each optimiser step ends with a reduction over them, and no
    utterance may occur twice; so a process whose part of a block makes fewer batches divides some of its batches. Only
    a process with fewer utterances than batches are wanted uses its last utterance again.

    Args:
        lengths: for each reader, the number of utterances in each of its batches.
        wanted: number of turns, at least that of all batches.
    """
    order = list(_in_turn(lengths))
    sizes = [lengths[reader][number] for reader, number in order]
    turns: list[Turn] = []
    for (reader, number), size, parts in zip(order, sizes, _parts_of(sizes, wanted), strict=True):
        divided = [tuple(range(part, size, parts)) for part in range(parts)]
        turns += [Turn(reader, number, rows) for rows in divided] if parts > 1 else [Turn(reader, number)]
    return turns + turns[-1:] * (wanted - len(turns))


def _parts_of(sizes: Sequence[int], wanted: int) -> list[int]:
    """Into how many parts each batch is divided: the largest batches into one part more, until there are enough."""
    parts = [1] * len(sizes)
    missing = min(wanted, sum(sizes)) - len(sizes)
    while missing > 0:
        largest = sorted(range(len(sizes)), key=lambda index: -sizes[index] / parts[index])
        for index in [index for index in largest if parts[index] < sizes[index]][:missing]:
            parts[index] += 1
            missing -= 1
    return parts


def _in_turn(lengths: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """(reader, number of its batch), one batch of each reader that has one left after the other."""
    for number in range(max((len(own) for own in lengths), default=0)):
        yield from ((reader, number) for reader, own in enumerate(lengths) if number < len(own))


def consumed(turns: Sequence[Turn], readers: int) -> list[int]:
    """For each reader, the number of batches that these turns have used up; a divided batch counts with its last part.

    Args:
        turns: the turns that have been taken, and the one that comes next if there is one.
        readers: number of readers.
    """
    *taken, following = turns
    needed = {(following.reader, following.number)}
    used = {(turn.reader, turn.number) for turn in taken} - needed
    return [sum(reader == other for other, _ in used) for reader in range(readers)]
