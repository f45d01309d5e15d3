"""The search graph of a data folder, which stage 3 writes: its files and its record.

::

    <data>/graph_<kind>_<size>/lexicon.txt  words and their labels, one pronunciation per line
                               words.txt    word and number, the graph's output symbols
                               lm.arpa      the language model in the graph
                               HLG.fst      the graph (`slimasr.data.graphs.hlg`)
                               graph.json   what it was made of, and what it knows of the dev and test sets
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.identity.digests import DIGITS, file_digest
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import read_json, understanding, write_json_atomic
from slimasr.textfiles import read_lines

GRAPH_FILE = "HLG.fst"
WORDS_FILE = "words.txt"
LANGUAGE_MODEL_FILE = "lm.arpa"
RECORD_FILE = "graph.json"
STAGE = "stage 3 (slimasr-graph)"


@dataclass(frozen=True)
class Graph:
    """A search graph that belongs to a tokenizer.

    Attributes:
        path: the file of the graph, whose input symbols are token ids + 1.
        words: output symbol -> word; 0 is epsilon.
        digest: digest of the file, which results record.
    """

    path: Path
    words: tuple[str, ...]
    digest: str

    def lexicon(self) -> Lexicon:
        """The pronunciations of the graph's words.

        Raises:
            UserError: the file is missing or damaged.
        """
        return Lexicon.read(self.path.parent)


@dataclass(frozen=True)
class SetReport:
    """What a search graph knows of a set.

    Attributes:
        words: words of the set.
        perplexity: of the utterances without words that the language model does not know; None if there are none.
        utterances: number of these utterances.
        oov: words that the language model does not know, with their frequencies, the most frequent first.
        without_pronunciation: words that the lexicon lacks, likewise; no search can find them.
    """

    words: int
    perplexity: float | None
    utterances: int
    oov: Mapping[str, int]
    without_pronunciation: Mapping[str, int]

    def describe(self) -> str:
        """One line for the user."""
        value = "no perplexity" if self.perplexity is None else f"perplexity {self.perplexity:.1f}"
        oov, missing = (sum(counts.values()) for counts in (self.oov, self.without_pronunciation))
        return (
            f"{value} ({self.utterances} utterances without OOV words), {oov} of {self.words} words OOV, "
            f"{missing} without pronunciation"
        )


@dataclass(frozen=True)
class GraphRecord:
    """What a search graph was made of and how large it is.

    Attributes:
        tokenizer: fingerprint of the tokenizer whose tokens are the input symbols.
        made_from: digest of lexicon, transcripts, language model and settings.
        digest: digest of the graph's file.
        num_words: words of the lexicon that the graph contains.
        num_pronunciations: their pronunciations.
        num_labels: tokens that occur in them.
        ngrams: number of n-grams of each length.
        states, arcs: size of the graph.
        sets: name of a dev or test set -> what the graph knows of it.
    """

    tokenizer: str
    made_from: str
    digest: str
    num_words: int
    num_pronunciations: int
    num_labels: int
    ngrams: tuple[int, ...]
    states: int
    arcs: int
    sets: Mapping[str, SetReport]

    def write(self, folder: Path) -> None:
        """Write ``graph.json``."""
        write_json_atomic(folder / RECORD_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> GraphRecord:
        """Read what `write` wrote.

        Raises:
            UserError: it is missing or damaged.
        """
        path = folder / RECORD_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing: run {STAGE} first, with a tokenizer.lexicon in the configuration")
        content: dict[str, Any] = read_json(path, f"run {STAGE} again")
        with understanding(path, f"run {STAGE} again"):
            sets = {name: SetReport(**report) for name, report in content.pop("sets").items()}
            return cls(sets=sets, ngrams=tuple(content.pop("ngrams")), **content)


def load_graph(folder: Path, tokenizer: Tokenizer) -> Graph:
    """Open the search graph in a folder for a model with this tokenizer.

    Raises:
        UserError: it is missing, damaged, or was made for another tokenizer.
    """
    record = GraphRecord.read(folder)
    if record.tokenizer != tokenizer.fingerprint:
        raise UserError(
            f"{folder}: the search graph was made for another tokenizer ({record.tokenizer}) than that of the model "
            f"({tokenizer.fingerprint}); run {STAGE} with the model's data and configuration"
        )
    path = folder / GRAPH_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: run {STAGE} again")
    if graph_digest(path) != record.digest:
        raise UserError(f"{path} has changed since stage 3 wrote it: run {STAGE} again")
    return Graph(path, read_words(folder), record.digest)


def graph_digest(path: Path) -> str:
    """Digest of the file of a graph."""
    return file_digest(path)[:DIGITS]


def words_text(words: Sequence[str]) -> str:
    """The content of ``words.txt``, with lines ``word number``."""
    return "".join(f"{word} {number}\n" for number, word in enumerate(words))


def read_words(folder: Path) -> tuple[str, ...]:
    """Output symbol -> word.

    Raises:
        UserError: ``words.txt`` is missing or damaged.
    """
    path = folder / WORDS_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: run {STAGE} again")
    words = []
    for number, line in enumerate(read_lines(path)):
        word, _, written = line.text.partition(" ")
        if not word or written != str(number):
            raise UserError(f"{line.where}: damaged, expected a word and the number {number}; run {STAGE} again")
        words.append(word)
    return tuple(words)
