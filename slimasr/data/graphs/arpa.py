"""Back-off n-gram language models in ARPA format: checked reading, restriction to words, perplexity.

Files are read line by line, so that memory does not depend on their size.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from slimasr.errors import UserError
from slimasr.files import replacing

SENTENCE_START = "<s>"
SENTENCE_END = "</s>"
UNKNOWN_WORD = "<unk>"
Words = tuple[str, ...]

_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION = re.compile(r"\\(\d+)-grams:")
# A probability of 1 may have been rounded upwards.
_LARGEST_LOG10 = 1e-3


@dataclass(frozen=True)
class Ngram:
    """One line of an ARPA file.

    Attributes:
        words: the history and the word behind it.
        log10: logarithm of the word's probability after the history.
        backoff: logarithm of the factor by which shorter histories are weighted after these words.
    """

    words: Words
    log10: float
    backoff: float = 0.0


@dataclass(frozen=True)
class Perplexity:
    """How well a language model predicts a text.

    Attributes:
        value: perplexity of the sentences without unknown words, their ends included; None if there are none.
        sentences: number of these sentences.
        words: words of all sentences.
        unknown: the words that the model does not know, with their frequencies, the most frequent first.
    """

    value: float | None
    sentences: int
    words: int
    unknown: Mapping[str, int]


def read_arpa(path: Path) -> Iterator[Ngram]:
    """Yield the n-grams of an ARPA file, which may be compressed with gzip, in ascending order.

    Raises:
        UserError: the file is missing, damaged or cut short; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"language_model.arpa: {path}: there is no such file")
    try:
        with open_text(path) as file:
            yield from _parse(path, enumerate(file, start=1))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason}); convert the file to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy or make it again") from None


def restrict_arpa(source: Path, words: Collection[str], target: Path) -> tuple[int, ...]:
    """Write the n-grams of a model that have only the given words, in the plain form that all programs read.

    Returns:
        The number of n-grams of each order.

    Raises:
        UserError: see `read_arpa`; also if the model has no ``<s>`` or ``</s>``.
    """
    kept = {*words, SENTENCE_START, SENTENCE_END}
    counts: Counter[int] = Counter()
    marks = set()
    for ngram in read_arpa(source):
        if kept.issuperset(ngram.words):
            counts[len(ngram.words)] += 1
        if len(ngram.words) == 1 and ngram.words[0] in (SENTENCE_START, SENTENCE_END):
            marks.add(ngram.words[0])
    if len(marks) < 2:
        raise UserError(f"{source}: the model has no {SENTENCE_START} or no {SENTENCE_END}, so it knows no sentences")
    orders = range(1, max(counts) + 1)
    with replacing(target) as temporary, open(temporary, "w", encoding="utf-8") as file:
        write_ngrams(file, [counts[order] for order in orders], (n for n in read_arpa(source) if kept >= {*n.words}))
    return tuple(counts[order] for order in orders)


def write_ngrams(file: TextIO, counts: Iterable[int], ngrams: Iterable[Ngram]) -> None:
    """Write an ARPA file from n-grams in ascending order, of which there are ``counts`` of each order."""
    sizes = list(counts)
    file.write("\\data\\\n")
    for order, count in enumerate(sizes, start=1):
        file.write(f"ngram {order}={count}\n")
    begun = 0
    for ngram in ngrams:
        while begun < len(ngram.words):
            begun += 1
            file.write(f"\n\\{begun}-grams:\n")
        backoff = f"\t{ngram.backoff:.7g}" if ngram.backoff and begun < len(sizes) else ""
        file.write(f"{ngram.log10:.7g}\t{' '.join(ngram.words)}{backoff}\n")
    file.write("\n\\end\\\n")


def count_ngrams(path: Path) -> tuple[int, ...]:
    """The numbers of n-grams of each length that a file says it has.

    Raises:
        UserError: the file is no ARPA file.
    """
    with open_text(path) as file:
        return tuple(_header(path, enumerate(file, start=1)))


def vocabulary(path: Path) -> frozenset[str]:
    """The words of a model, without the marks of sentences and unknown words."""
    words = set()
    for ngram in read_arpa(path):
        if len(ngram.words) > 1:
            # The end of the file is checked when it is read as a whole.
            break
        words.add(ngram.words[0])
    return frozenset(words - {SENTENCE_START, SENTENCE_END, UNKNOWN_WORD, UNKNOWN_WORD.upper()})


def perplexity(path: Path, texts: Iterable[str], known: Collection[str]) -> Perplexity:
    """Measure a model on sentences; those with a word that is not ``known`` only count as such.

    Raises:
        UserError: see `read_arpa`.
    """
    sentences = [text.split() for text in texts]
    unknown = Counter(word for sentence in sentences for word in sentence if word not in known)
    scored = [(SENTENCE_START, *sentence, SENTENCE_END) for sentence in sentences if not unknown.keys() & set(sentence)]
    model = BackoffModel.of_sentences(path, scored)
    total = sum(model.log10_of(sentence) for sentence in scored)
    predicted = sum(len(sentence) - 1 for sentence in scored)
    ranked = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    return Perplexity(
        value=10.0 ** (-total / predicted) if predicted else None,
        sentences=len(scored),
        words=sum(map(len, sentences)),
        unknown=dict(ranked),
    )


@dataclass(frozen=True)
class BackoffModel:
    """The part of a model that some sentences need.

    Attributes:
        order: length of the longest n-grams.
        ngrams: words -> their n-gram.
    """

    order: int
    ngrams: Mapping[Words, Ngram]

    @classmethod
    def of_sentences(cls, path: Path, sentences: Iterable[Words]) -> BackoffModel:
        """Read the n-grams that occur in sentences, which include their marks."""
        longest = 1
        # All lengths up to those of common models; longer ones are looked up as they are needed.
        wanted = {part for sentence in sentences for part in _parts(sentence, 10)}
        found = {}
        for ngram in read_arpa(path):
            longest = max(longest, len(ngram.words))
            if ngram.words in wanted:
                found[ngram.words] = ngram
        return cls(longest, found)

    def log10_of(self, sentence: Words) -> float:
        """Logarithm of the probability of a sentence, whose first word is given."""
        return sum(
            self.log10(sentence[max(0, place + 1 - self.order) : place + 1]) for place in range(1, len(sentence))
        )

    def log10(self, words: Words) -> float:
        """Logarithm of the probability of the last word after the others."""
        ngram = self.ngrams.get(words)
        if ngram is not None:
            return ngram.log10
        if len(words) == 1:
            return -math.inf
        history = self.ngrams.get(words[:-1])
        return (0.0 if history is None else history.backoff) + self.log10(words[1:])


def open_text(path: Path) -> TextIO:
    """Open a UTF-8 text file that may be compressed with gzip."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def _parts(sentence: Words, longest: int) -> Iterator[Words]:
    """All sequences of at most ``longest`` neighbouring words."""
    for end in range(1, len(sentence) + 1):
        for start in range(max(0, end - longest), end):
            yield sentence[start:end]


def _parse(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Ngram]:
    counts = _header(path, lines)
    order = 1
    seen = 0
    for number, line in lines:
        text = line.strip()
        if not text:
            continue
        if not text.startswith("\\"):
            yield _ngram(path, number, text, order)
            seen += 1
            continue
        _check_section(path, order, seen, counts)
        if text == "\\end\\" and order == len(counts):
            return
        section = _SECTION.fullmatch(text)
        # A word may begin with a backslash only in an n-gram, behind its probability.
        if section is None or int(section[1]) != order + 1 or order == len(counts):
            expected = "\\end\\" if order == len(counts) else f"\\{order + 1}-grams:"
            raise UserError(f"{path}:{number}: expected {expected}, not {text[:40]!r}")
        order, seen = order + 1, 0
    _check_section(path, order, seen, counts)
    raise UserError(f"{path}: is cut short, {_missing_end(order, len(counts))}; copy or make the file again")


def _missing_end(order: int, orders: int) -> str:
    return "it has no \\end\\" if order == orders else f"it has no {order + 1}-grams"


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    """The numbers of n-grams of each order, up to the first section."""
    counts: list[int] = []
    for number, line in lines:
        text = line.strip()
        count = _COUNT.fullmatch(text)
        if count is not None:
            if int(count[1]) != len(counts) + 1:
                raise UserError(f"{path}:{number}: expected the number of {len(counts) + 1}-grams, not {text!r}")
            counts.append(int(count[2]))
        elif text == "\\1-grams:" and counts:
            return counts
        elif counts and text:
            raise UserError(f"{path}:{number}: expected \\1-grams:, not {text[:40]!r}")
    raise UserError(f"{path}: is no language model in ARPA format, or is cut short before its 1-grams")


def _check_section(path: Path, order: int, seen: int, counts: list[int]) -> None:
    if order <= len(counts) and seen != counts[order - 1]:
        raise UserError(
            f"{path}: is cut short or damaged, it has {seen} of {counts[order - 1]} {order}-grams; "
            "copy or make the file again"
        )


def _ngram(path: Path, number: int, text: str, order: int) -> Ngram:
    fields = text.split()
    ngram = None
    try:
        if len(fields) == order + 1:
            ngram = Ngram(tuple(fields[1:]), float(fields[0]))
        elif len(fields) == order + 2:
            ngram = Ngram(tuple(fields[1:-1]), float(fields[0]), float(fields[-1]))
    except ValueError:
        pass
    if ngram is None:
        raise UserError(
            f"{path}:{number}: is no {order}-gram with its probability, or the file is cut short: {text[:80]!r}"
        )
    # Also false for values that are not a number.
    if not (ngram.log10 <= _LARGEST_LOG10 and ngram.backoff < math.inf):
        raise UserError(
            f"{path}:{number}: the logarithm of a probability must be a number of at most 0, and that of a back-off "
            f"a number: {text[:80]!r}; make the file again"
        )
    return ngram
