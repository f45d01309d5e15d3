"""Split utterances into characters, for character error rates."""

from __future__ import annotations

from collections.abc import Iterable

from wcwidth import iter_graphemes

from slimasr.scoring.alignment import Utterance


def in_characters(utterance: Utterance) -> Utterance:
    """Replace the words of an utterance by characters: extended grapheme clusters, without the spaces between words.

    A cluster (Unicode Standard Annex 29) is what readers perceive as one character: a letter with its accents, an Indic
    consonant with its signs, a Hangul syllable of several jamo, an emoji of several parts. Clusters are equal if their
    code points are: ``\u00e9`` and ``e\u0301`` are not.
    """
    return Utterance(utterance.id, _clusters(utterance.ref), _clusters(utterance.hyp))


def _clusters(words: Iterable[str]) -> tuple[str, ...]:
    # ESPnet's character files write the space between words as a separate word.
    spoken = (word for word in words if word != "<space>")
    clusters: list[str] = []
    for word in spoken:
        # Every ASCII character is a cluster, which saves the slow search for their boundaries.
        clusters.extend(word if word.isascii() else iter_graphemes(word))
    return tuple(clusters)
