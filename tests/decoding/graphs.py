"""Random lexicons, language models and CTC scores, and the best words by enumeration."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise, product
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from slimasr.config.model import CtcConfig
from slimasr.data.graphs.hlg import build_hlg, word_table
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.supernet.subnet import Subnet

WORDS = ("A", "B", "C")


@dataclass
class Scores:
    """A CTC model whose encoder output are the scores of the labels."""

    vocab_size: int
    log_prior: Tensor = field(default_factory=lambda: torch.zeros(()))
    blank_id: int = 0
    config: CtcConfig = field(default_factory=CtcConfig)

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        return encoder_out

    def ctc_head_of(self, subnet: Subnet | None) -> SimpleNamespace:
        return SimpleNamespace(log_prior=self.log_prior.expand(self.vocab_size))


@dataclass(frozen=True)
class Language:
    """Pronunciations, and a bigram model with back-off: probabilities and back-off factors as base 10 logarithms."""

    tokenizer: PhonemeTokenizer
    ngrams: Mapping[tuple[str, ...], float]
    backoffs: Mapping[tuple[str, ...], float]

    @classmethod
    def draw(cls, seed: int) -> Language:
        """Draw words with up to two pronunciations, some of which are equal, and some bigrams."""
        rng = random.Random(seed)
        labels = "xyz"
        shapes = ["x", "y", "xx", "xy", "yxz", "zy", "zz", "yy"]
        chosen = {word: tuple({tuple(rng.choice(shapes)) for _ in range(rng.choice((1, 2)))}) for word in WORDS}
        # All labels occur, so that they have tokens, and one pronunciation has two words.
        chosen["C"] = (*chosen["C"], tuple(labels), chosen["A"][0])
        lexicon = Lexicon({word: tuple(dict.fromkeys(variants)) for word, variants in chosen.items()})
        ngrams = {(word,): -rng.uniform(0.3, 1.5) for word in (*WORDS, "</s>")} | {("<s>",): -99.0}
        pairs = product(("<s>", *WORDS), (*WORDS, "</s>"))
        backoffs = {(word,): -rng.uniform(0.0, 0.7) for word in ("<s>", *WORDS)}
        # A graph may back off although it has the bigram, so that this must be less probable, as it is in text.
        backed = {pair: backoffs[pair[:1]] + ngrams[pair[1:]] for pair in pairs}
        ngrams |= {pair: value * rng.uniform(0.2, 0.9) for pair, value in backed.items() if rng.random() < 0.5}
        return cls(PhonemeTokenizer.of(lexicon), ngrams, backoffs)

    @property
    def lexicon(self) -> Lexicon:
        return self.tokenizer.lexicon

    def write_arpa(self, path: Path) -> None:
        parts = {length: {k: v for k, v in self.ngrams.items() if len(k) == length} for length in (1, 2)}
        lines = ["\\data\\", *(f"ngram {length}={len(found)}" for length, found in parts.items())]
        for length, found in parts.items():
            lines += ["", f"\\{length}-grams:"]
            for words, value in found.items():
                backoff = f"\t{self.backoffs[words]:.6f}" if words in self.backoffs else ""
                lines.append(f"{value:.6f}\t{' '.join(words)}{backoff}")
        path.write_text("\n".join([*lines, "", "\\end\\", ""]))

    def graph(self, folder: Path) -> SearchGraph:
        """Build the graph as stage 3 does."""
        self.write_arpa(folder / "lm.arpa")
        table = word_table(self.lexicon.words)
        ids = {label: number for number, label in enumerate(self.tokenizer.tokens) if number > 2}
        return SearchGraph(build_hlg(self.lexicon, ids, folder / "lm.arpa", table), table, "abc")

    def log_probability(self, words: tuple[str, ...]) -> float:
        """Natural logarithm of the probability of a sentence."""
        sentence = ("<s>", *words, "</s>")
        total = 0.0
        for pair in pairwise(sentence):
            known = pair in self.ngrams
            total += self.ngrams[pair] if known else self.backoffs[pair[:1]] + self.ngrams[pair[1:]]
        return total * math.log(10)

    @cached_property
    def _spoken(self) -> list[tuple[str, tuple[str, ...]]]:
        return list(self.lexicon.entries())

    def readings(self, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Every word sequence that is pronounced so."""
        if not labels:
            yield ()
        for word, pronunciation in self._spoken:
            if labels[: len(pronunciation)] == pronunciation:
                for rest in self.readings(labels[len(pronunciation) :]):
                    yield (word, *rest)

    def best(self, scores: Tensor) -> dict[tuple[str, ...], float]:
        """Return the score of every word sequence on (T, V) scores of labels: that of its best path."""
        symbols = [0, *range(3, scores.shape[1])]
        best: dict[tuple[str, ...], float] = {}
        for path in product(symbols, repeat=len(scores)):
            acoustic = sum(float(scores[frame, symbol]) for frame, symbol in enumerate(path))
            labels = tuple(self.tokenizer.tokens[symbol] for symbol, _ in groupby(path) if symbol)
            for words in self.readings(labels):
                best[words] = max(best.get(words, -math.inf), acoustic + self.log_probability(words))
        return best
