"""The layout of decode.json: with what a set was recognised."""

from __future__ import annotations

from typing import ClassVar

from slimasr.results.entry import File, Genes

STREAMING = ", streaming"
"""The end of the description of a search that ran chunk by chunk; it finds what it finds in whole utterances."""


class Decoded(File):
    """Decoding notes in `decode/<subnet id>/<set>/` how the words there were recognised."""

    PLACE: ClassVar[str] = "decode.json"
    ADVICE: ClassVar[str] = "run stage 6 (slimasr-decode) again"

    subnet: Genes
    """The genes of the subnet that recognised the set, as in results.json."""

    checkpoint: str
    """Checkpoint of the weights: `final`, `best`, or the name of one in `checkpoints/`."""

    decoding: str
    """The search for the words, in words."""

    data: str | None = None
    """Fingerprint of the set; null where it is not known. Files of older versions lack it."""
