"""Find the words of a set with characters or pronunciations that a tokenizer lacks, which no model can recognise."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from slimasr.data.character_names import named
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.tokenizer import SPECIAL, Tokenizer

NUM_EXAMPLES = 5
WORTH_NAMING = 0.5
"""A normalisation is proposed if it covers at least this fraction of the uncovered words."""
# SentencePiece's mark of a space, which starts the tokens that begin a word.
_SPACE = "\u2581"


@dataclass(frozen=True)
class Coverage:
    """The words of some texts that a tokenizer does not cover, because it lacks characters or pronunciations.

    Attributes:
        words: words of all texts.
        utterances: number of texts.
        uncovered_words: words with a character that the tokenizer lacks, or without pronunciation.
        uncovered_utterances: texts with such a word.
        characters: the characters that it lacks, the most frequent first; empty if it lacks pronunciations.
        examples: some of the uncovered words, the most frequent first.
        cure: a normalisation in words, for example ``in lower case``, and how many of the uncovered words it covers;
            None if no normalisation helps enough.
    """

    words: int
    utterances: int
    uncovered_words: int
    uncovered_utterances: int
    characters: tuple[str, ...]
    examples: tuple[str, ...]
    cure: tuple[str, int] | None

    def describe(self) -> str:
        """Describe the coverage in one line for the user."""
        percentage = 100.0 * self.uncovered_words / self.words
        line = (
            f"{self.uncovered_words} of {self.words} words ({percentage:.1f} %) in {self.uncovered_utterances} of "
            f"{self.utterances} utterances {self._lack()}; for example {', '.join(self.examples)}"
        )
        if self.cure is not None:
            line += f"; {self.cure[1]} of these words would be covered {self.cure[0]}"
        return line

    def _lack(self) -> str:
        if not self.characters:
            return "have no pronunciation, and can never be recognised"
        more = ", ..." if len(self.characters) > NUM_EXAMPLES else ""
        lacking = ", ".join(map(named, self.characters[:NUM_EXAMPLES]))
        return f"hold characters that the tokenizer lacks, and can never be recognised: {lacking}{more}"


def coverage_notes(data_dir: Path, set_names: Iterable[str], tokenizer: Tokenizer) -> Iterator[str]:
    """Yield one line for each set that a tokenizer does not cover; sets that stage 1 has not prepared are skipped."""
    lexicon = tokenizer.lexicon if isinstance(tokenizer, PhonemeTokenizer) else None
    known = alphabet(tokenizer.tokens) if lexicon is None else frozenset(lexicon.words)
    for name in dict.fromkeys(set_names):
        path = DataFolder(data_dir).raw_cuts(name)
        if not path.is_file():
            continue
        cuts = read_cuts(path, "stage 1 (slimasr-prepare)")
        coverage = measure_coverage(
            (cut.supervisions[0].text or "" for cut in cuts), known, by_words=lexicon is not None
        )
        if coverage.uncovered_words:
            yield f"{name}: {coverage.describe()}"


def alphabet(tokens: Iterable[str]) -> frozenset[str]:
    """All characters that tokens can decode to; the special tokens come first and have no text."""
    pieces = list(tokens)[len(SPECIAL) :]
    return frozenset("".join(pieces)) - {_SPACE}


def measure_coverage(texts: Iterable[str], known: frozenset[str], *, by_words: bool = False) -> Coverage:
    """Count words and utterances with characters or words that are not among the known ones.

    Args:
        texts: transcripts, one per utterance.
        known: `alphabet` of a tokenizer, or the words of its lexicon.
        by_words: whether ``known`` holds words instead of characters.
    """
    covers: Callable[[str], bool] = known.__contains__ if by_words else known.issuperset
    words: Counter[str] = Counter()
    utterances = 0
    uncovered_utterances = 0
    for text in texts:
        spoken = text.split()
        words.update(spoken)
        utterances += 1
        uncovered_utterances += not all(map(covers, spoken))
    # Each distinct word is examined once and weighted by its occurrences, which is fast for large corpora.
    uncovered = Counter({word: number for word, number in words.items() if not covers(word)})
    lacking: Counter[str] = Counter()
    for word, number in uncovered.items():
        for character in word:
            if not by_words and character not in known:
                lacking[character] += number
    return Coverage(
        words=words.total(),
        utterances=utterances,
        uncovered_words=uncovered.total(),
        uncovered_utterances=uncovered_utterances,
        characters=tuple(character for character, _ in _ranked(lacking)),
        examples=tuple(word for word, _ in _ranked(uncovered)[:NUM_EXAMPLES]),
        cure=_find_cure(uncovered, covers),
    )


def _find_cure(uncovered: Counter[str], covers: Callable[[str], bool]) -> tuple[str, int] | None:
    """The normalisation that covers most of the words; among equal ones, the one that changes least."""
    best: tuple[str, int] | None = None
    most = 0
    for names, apply in _normalisations():
        covered = sum(number for word, number in uncovered.items() if covers(apply(word)))
        # The simplest normalisations come first, and only a strictly better one replaces them.
        if covered >= WORTH_NAMING * uncovered.total() and covered > most:
            most = covered
            best = (" and ".join(names), covered)
    return best


def _normalisations() -> list[tuple[list[str], Callable[[str], str]]]:
    """Common normalisations, in words and as functions of a word, the simplest first."""
    cases: Mapping[str, Callable[[str], str]] = {"": str, "in lower case": str.lower, "in upper case": str.upper}
    forms: Mapping[str, Callable[[str], str]] = {
        "": str,
        "in Unicode form NFC": lambda word: unicodedata.normalize("NFC", word),
        "in Unicode form NFD": lambda word: unicodedata.normalize("NFD", word),
        "in Unicode form NFKC": lambda word: unicodedata.normalize("NFKC", word),
    }
    marks: Mapping[str, Callable[[str], str]] = {"": str, "without punctuation": _without_punctuation}
    found = []
    for case, form, mark in product(cases, forms, marks):
        # The Unicode form comes first, because it can change the case and the category of a character.
        steps = (forms[form], cases[case], marks[mark])
        names = [name for name in (case, form, mark) if name]
        found.append((names, _chain(steps)))
    return sorted(found, key=lambda entry: len(entry[0]))


def _chain(steps: Iterable[Callable[[str], str]]) -> Callable[[str], str]:
    kept = tuple(steps)

    def apply(word: str) -> str:
        for step in kept:
            word = step(word)
        return word

    return apply


def _without_punctuation(word: str) -> str:
    return "".join(character for character in word if not unicodedata.category(character).startswith("P"))


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
