"""Utterances of shards that cannot be used: counted and listed as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimasr.data.files import BadUtterance
from slimasr.errors import UserError
from slimasr.files import append, to_json, write_atomic


class LeftOut:
    """The list of a run's unusable utterances, which is known when the utterances have been seen.

    Every process counts all of them; one writes them. A run that resumes continues the list, in which every
    utterance is once.
    """

    def __init__(
        self, listing: Path, sets: str, max_share: float, gather: Callable[[Any], list[Any]], *, writes: bool
    ) -> None:
        """Begin the list of a run, or continue it.

        Args:
            listing: the file, one JSON object per line.
            sets: the training sets, for messages.
            max_share: ``data.max_bad_share``.
            gather: gathers a value from every process.
            writes: whether this process writes the file.
        """
        self._listing = listing
        self._sets = sets
        self._max_share = max_share
        self._gather = gather
        self._writes = writes
        self._known = set(_lines(listing)) if writes else set()
        self._noted = 0
        self._seen = 0
        self._bad = 0
        if writes:
            write_atomic(listing, "".join(f"{line}\n" for line in sorted(self._known)))

    def add(self, seen: int, bad: Sequence[BadUtterance]) -> None:
        """Take in a block of every process.

        Raises:
            UserError: too large a share of the utterances cannot be used, or the list cannot be written.
        """
        everywhere = self._gather((seen, [asdict(item) for item in bad]))
        found = [BadUtterance(**item) for _, items in everywhere for item in items]
        self._seen += sum(count for count, _ in everywhere)
        self._bad += len(found)
        if self._writes:
            self._append(found)
        if self._bad > self._max_share * self._seen:
            first = f"; first: {found[0].id}: {found[0].reason}" if found else ""
            raise UserError(
                f"{self._sets}: {self._bad} of the {self._seen} training utterances read so far cannot be used, above "
                f"data.max_bad_share {self._max_share:g}{first}"
            )

    def note(self) -> str | None:
        """One line about the utterances that are listed, if there are more than at the last call."""
        if len(self._known) == self._noted:
            return None
        self._noted = len(self._known)
        return f"{self._sets}: {self._noted} of the utterances read so far cannot be used ({self._listing})"

    def _append(self, found: Iterable[BadUtterance]) -> None:
        # An utterance is found again in every pass.
        lines = dict.fromkeys(to_json(asdict(item)) for item in found)
        new = [line for line in lines if line not in self._known]
        self._known.update(new)
        if new:
            append(self._listing, "".join(f"{line}\n" for line in new))


def _lines(listing: Path) -> list[str]:
    if not listing.is_file():
        return []
    lines = listing.read_text(encoding="utf-8").splitlines(keepends=True)
    # A run that was killed may have left a line without its end.
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]
