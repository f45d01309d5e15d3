"""What results.json says of the latency of a subnet whose encoder streams."""

from __future__ import annotations

from collections.abc import Mapping

from slimasr.results.entry import Entry, Number, Whole


class DelayEntry(Entry):
    """This is how long after their end the words of a set were recognised, in streams without time for computing. Only
    words that were recognised correctly count."""

    words: Whole
    """Words that count."""

    p50: Number | None
    """Median delay in milliseconds; below 0 where words were recognised before they ended, null without words."""

    p90: Number | None
    """90th percentile of the delay in milliseconds."""

    last_word: Number | None
    """Median delay of the last words of utterances, in milliseconds."""

    first_partial: Number | None
    """Median time from the start of an utterance until its first token was known, in milliseconds."""

    data: str | None = None
    """Fingerprint of the set."""

    checkpoint: str | None = None
    """Checkpoint of the weights."""

    decoding: str = ""
    """The search for the words, in words."""

    alignments: str | None = None
    """Folder of the alignments that say when words end."""


class LatencyEntry(Entry):
    """This is how late a subnet is whose encoder streams. Times are in milliseconds."""

    algorithmic: Number | None = None
    """Time that a frame waits for audio behind it, on average: half a segment and the look-ahead."""

    worst: Number | None = None
    """The longest such time: a segment and the look-ahead."""

    chunk: Number | None = None
    """Audio in a chunk, which is a segment."""

    chunk_p50: Number | None = None
    """Computing of a chunk on one thread: features, encoder and search; median."""

    chunk_p95: Number | None = None
    """95th percentile of the computing of a chunk."""

    rtf: Number | None = None
    """Seconds of computing per second of audio of one stream."""

    delays: Mapping[str, DelayEntry] = {}
    """Delays of words by the name of the set; absent unless `slimasr-decode --stream --alignments` was asked for
    them."""
