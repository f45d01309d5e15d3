"""Train n-gram language models on transcripts and prune them to a size, by the library kaldingram."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from slimasr.data.graphs.arpa import SENTENCE_END, UNKNOWN_WORD
from slimasr.errors import UserError
from slimasr.files import replacing

USUAL_DISCOUNT = 0.75
"""Replaces a discount of 1, which follows from a text without repetitions, and would make its n-grams impossible."""

_ROUNDING = 1e-12
_RAISE = 1.3
"""Factor between thresholds of pruning, if the first one leaves too many n-grams."""
_NOTHING = 1e-99
"""A probability that is written as 0 (logarithm -99)."""


def train_arpa(texts: Iterable[str], order: int, words: Iterable[str], target: Path) -> frozenset[str]:
    """Train a back-off model with Kneser-Ney smoothing and write it in ARPA format.

    Words of the texts that are not among ``words`` become ``<unk>``. Words that do not occur in the texts share the
    probability that I. Good's and A. Turing's estimate leaves to them, in the distribution without history.

    Args:
        order: length of the longest n-grams.
        words: the words that a search can find.

    Returns:
        The words that occur in the texts.

    Raises:
        UserError: there is no text, the extra ``graph`` is not installed, or the file cannot be written.
    """
    train, _ = _kaldingram()
    possible = frozenset(words)
    counts = train.NgramCounts(order)
    seen: Counter[str] = Counter()
    for text in texts:
        sentence = [word if word in possible else UNKNOWN_WORD for word in text.split()]
        if sentence:
            seen.update(sentence)
            counts.add_raw_counts_from_line(" ".join(sentence))
    if not seen:
        raise UserError("the training sets have no text, so no language model can be trained")
    with _without_progress_bars():
        counts.cal_discounting_constants()
        counts.d = [discount if discount < 1.0 else USUAL_DISCOUNT for discount in counts.d]
        counts.cal_f()
        _share_with_unseen(counts, seen, sorted(possible - seen.keys()))
        counts.cal_bow()
        _close_full_histories(counts)
        with replacing(target) as temporary, open(temporary, "w", encoding="utf-8") as file:
            counts.print_as_arpa(fout=file)
    return frozenset(seen) - {UNKNOWN_WORD}


def prune_arpa(path: Path, max_ngrams: int) -> None:
    """Prune a model to at most so many n-grams by A. Stolcke's entropy criterion (1998); the file is replaced.

    N-grams of one word are kept.

    Raises:
        UserError: even the single words are too many, or the model cannot be pruned.
    """
    _, prune = _kaldingram()
    with _without_progress_bars():
        (model,) = prune.ArpaParser().loadf(path, encoding="utf-8")
        words = dict(model.counts())[1]
        if words > max_ngrams:
            raise UserError(
                f"language_model.max_ngrams {max_ngrams}: is below the {words} words of the model; raise it, or give a "
                "smaller dictionary"
            )
        try:
            _prune(prune, model, max_ngrams)
        # Of a logarithm of 0, if a history leaves nothing to other words.
        except (ValueError, ZeroDivisionError, KeyError) as error:
            raise UserError(f"{path}: cannot be pruned ({error}); prune it elsewhere") from None
        with replacing(path) as temporary:
            prune.ArpaParser().dumpf(model, temporary, encoding="utf-8")


def _prune(prune: Any, model: Any, max_ngrams: int) -> None:
    """Prune with the threshold that should leave the wanted number, and with larger ones as long as it does not.

    N-grams that begin longer ones are kept whatever they contribute, so that the first threshold may leave more.
    """
    changes = sorted(_changes(prune, model))
    surplus = _size(model) - max_ngrams
    threshold = max(changes[surplus - 1] * (1.0 + _ROUNDING), _ROUNDING)
    while _size(model) > max_ngrams:
        prune.prune(model, threshold, 2)
        threshold *= _RAISE


def _changes(prune: Any, model: Any) -> Iterator[float]:
    """The relative increases of perplexity that the removals of the n-grams of two and more words would cause."""
    for length in range(1, model.order()):
        # The library's structures: histories of a length -> the words behind each and their log10-probabilities.
        for history, after in model._ngrams[length].items():
            seen, lower = prune.compute_numerator_denominator(model, history)
            share = 10.0 ** model.log_joint_prob(history)
            backoff = model._log_bo(history) or 0.0
            for word, log10 in after.items():
                shorter = model.log_p_raw((*history[1:], word))
                raised = math.log10(seen + 10.0**log10) - math.log10(lower + 10.0**shorter)
                change = 10.0**log10 * (shorter + raised - log10) + seen * (raised - backoff)
                yield float(10.0 ** (-share * change) - 1.0)


def _size(model: Any) -> int:
    return sum(count for _, count in model.counts())


def _share_with_unseen(counts: Any, seen: Counter[str], unseen: list[str]) -> None:
    """Give words that do not occur a part of the unigram distribution."""
    if not unseen:
        return
    unigrams = counts.counts[0][()]
    rarest = min(share for share in unigrams.word_to_f.values() if share > 0.0)
    # New words are about as frequent as words that were seen once (I. Good, 1953), but none more than a seen one.
    once = max(1, sum(number == 1 for number in seen.values()))
    share = min(rarest, once / (seen.total() + once) / len(unseen))
    for word in unigrams.word_to_f:
        unigrams.word_to_f[word] *= 1.0 - share * len(unseen)
    for word in unseen:
        unigrams.word_to_count[word] = 0
        unigrams.word_to_f[word] = share


def _close_full_histories(counts: Any) -> None:
    """Let histories behind which all words occur leave nothing to shorter ones, instead of everything."""
    for length, histories in enumerate(counts.counts[:-1]):
        for history, after in histories.items():
            for word, backoff in after.word_to_bow.items():
                if backoff is None and word != SENTENCE_END and (*history, word) in counts.counts[length + 1]:
                    after.word_to_bow[word] = _NOTHING


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    # The library's bars cannot be switched off; they are written to stderr.
    with redirect_stderr(io.StringIO()):
        yield


def _kaldingram() -> tuple[Any, Any]:
    """The modules that train and prune.

    Raises:
        UserError: the extra ``graph`` is not installed.
    """
    try:
        from kaldingram import prune, train
    except ImportError:
        raise UserError("kaldingram is not installed: pip install 'slimasr[graph]'") from None
    return train, prune
