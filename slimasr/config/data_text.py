"""``data.text``: how transcripts are changed before anything is made from them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from slimasr.config.section import Section, Text


class TextConfig(Section):
    """Changes of all transcripts in stage 1, in the order of these keys; the log and the manifests' records count
    them."""

    unicode: Literal["NFC", "NFKC"] | None = None
    """The Unicode normal form of transcripts: NFC composes letters with their accents, NFKC also replaces ligatures,
    full-width letters and the like; null = as they are."""

    drop: list[Text] = []
    """Regular expressions whose matches are removed, such as ``<[^>]*>`` for marks of noise; case matters."""

    map: Text | None = None
    """Path of a file with lines ``old<TAB>new``: a single character is replaced everywhere, longer text where it stands
    as whole words, by what may be empty; a sign that becomes a word is set off by spaces; case matters; null = none."""

    case: Literal["keep", "upper", "lower"] = "keep"
    """Whether transcripts are turned into upper or lower case, or keep theirs."""

    remove_punctuation: bool = False
    """Whether every punctuation mark becomes a space, except an apostrophe between two letters, which becomes ``'``."""

    @field_validator("drop")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
            if compiled.match("") is not None:
                raise ValueError(f"{pattern!r} matches the empty text, so it would remove nothing or everything")
        return patterns
