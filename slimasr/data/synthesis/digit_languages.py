"""The digits of each language: how they are written, and the accents in which espeak-ng speaks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ENGLISH = "en"


@dataclass(frozen=True)
class DigitLanguage:
    """A language of digits.

    Attributes:
        words: the digits from zero to nine, as transcripts spell them.
        accents: languages of espeak-ng; () = it is not synthesised.
    """

    words: tuple[str, ...]
    accents: tuple[str, ...] = ()


DIGIT_LANGUAGES: Mapping[str, DigitLanguage] = MappingProxyType(
    {
        # Without vowel marks.
        "ar": DigitLanguage(
            ("صفر", "واحد", "اثنان", "ثلاثة", "أربعة", "خمسة", "ستة", "سبعة", "ثمانية", "تسعة"),
        ),
        ENGLISH: DigitLanguage(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            (
                "en",
                "en-us",
                "en-gb-x-rp",
                "en-gb-scotland",
                "en-gb-x-gbclan",
                "en-gb-x-gbcwmd",
                "en-029",
                "en-us-nyc",
            ),
        ),
        "fr": DigitLanguage(
            ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
            ("fr", "fr-be", "fr-ch"),
        ),
        "it": DigitLanguage(
            ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
            ("it",),
        ),
        # Without its accents, the word for 1 would be read as the article.
        "nl": DigitLanguage(
            ("nul", "één", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen"),
            ("nl",),
        ),
    }
)
"""Code of a language -> its digits. The order of words and accents is part of synthesised corpora."""
