"""Confidence intervals of word error rates, and comparisons of two systems.

Utterances are drawn with replacement, as in Bisani and Ney, "Bootstrap estimates for confidence intervals in
ASR performance evaluation" (ICASSP 2004). They are sorted by id first: the draws depend on a seed, so the results do
not depend on the order of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import kaldialign
import numpy as np

from slimasr.errors import UserError
from slimasr.scoring.alignment import Utterance, align

REPLICATIONS = 10_000
# Sets that are drawn at a time, which bounds the memory: the indices of a chunk are (500, N).
_CHUNK = 500


@dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same utterances; rates and differences in percent points.

    Attributes:
        wer1: WER of the first system.
        wer2: WER of the second system.
        difference: ``wer2 - wer1``; negative if the second system is better.
        ci95: 95 % interval of the difference (percentiles over the resampled sets); None for a single utterance,
            because all resampled sets are copies of it.
        probability: fraction of resampled sets on which the second system makes fewer errors; None for a single
            utterance.
    """

    wer1: float
    wer2: float
    difference: float
    ci95: tuple[float, float] | None
    probability: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "ci95": None if self.ci95 is None else list(self.ci95)}


def wer_interval(
    utterances: Sequence[Utterance], *, replications: int = REPLICATIONS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of the WER in percent (normal approximation, limited to 0 and above), None if it does not exist.

    It does not exist if the references have no words, if a resampled set may have none, or for a single utterance,
    which resampling only repeats.
    """
    if len(utterances) < 2 or not any(u.ref for u in utterances):
        return None
    ordered = _ordered(utterances)
    refs = [u.ref for u in ordered]
    hyps = [u.hyp for u in ordered]
    interval = kaldialign.bootstrap_wer_ci(refs, hyps, replications=replications, seed=seed)
    low = 100 * interval["ci95min"]
    high = 100 * interval["ci95max"]
    # A resampled set without a word has no finite rate, and makes the whole interval undefined.
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return max(0.0, low), high


def compare(
    first: Sequence[Utterance],
    second: Sequence[Utterance],
    *,
    replications: int = REPLICATIONS,
    seed: int = 0,
) -> PairedComparison:
    """Compare two systems on the same utterances, resampling both together.

    A single utterance has a difference, but neither an interval nor a probability.

    Raises:
        UserError: the systems were not run on the same utterances and references, or no reference has a word.
    """
    partner = {u.id: u for u in second}
    for u in first:
        if u.id not in partner or partner[u.id].ref != u.ref:
            raise UserError(f"utterance {u.id}: the two systems need the same utterances and references")
    # All of the first are in the second here, so another length means that the second has more.
    if len(partner) != len(first):
        raise UserError("the two systems need the same utterances: the second one has more")
    pairs = [(u, partner[u.id]) for u in _ordered(first)]
    words = np.array([len(u.ref) for u, _ in pairs])
    if not words.sum():
        raise UserError("no reference has a word: the word error rate is undefined")
    # (N, 2): errors of each utterance by each system.
    errors = np.array([[align(u).counts().errors for u in pair] for pair in pairs])
    wer1, wer2 = (100.0 * errors.sum(0) / words.sum()).tolist()
    if len(pairs) < 2:
        return PairedComparison(wer1, wer2, wer2 - wer1, None, None)
    low, high = difference_interval(errors[:, 1] - errors[:, 0], words, replications, seed)
    # kaldialign gives the probability, but no interval of the difference.
    both = kaldialign.bootstrap_wer_ci(
        [a.ref for a, _ in pairs],
        [a.hyp for a, _ in pairs],
        [b.hyp for _, b in pairs],
        replications=replications,
        seed=seed,
    )
    return PairedComparison(wer1, wer2, wer2 - wer1, (low, high), float(both["p_s2_improv_over_s1"]))


def _ordered(utterances: Sequence[Utterance]) -> list[Utterance]:
    return sorted(utterances, key=lambda u: u.id)


def difference_interval(
    more_errors: np.ndarray, words: np.ndarray, replications: int = REPLICATIONS, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the WER difference of two systems in percent points, which kaldialign does not offer.

    It is the 2.5 and 97.5 percentiles of ``100 * sum(more_errors) / sum(words)`` over resampled utterances. Resampled
    sets without a word are left out.

    Args:
        more_errors: (N,) errors of one system minus those of the other, per utterance.
        words: (N,) reference words per utterance. With several seeds both are sums over the seeds: an utterance is
            drawn with all its seeds, as its difficulty is common to them.
        replications: how many sets are drawn.
        seed: the draws follow from it.
    """
    rng = np.random.default_rng(seed)
    differences = []
    for start in range(0, replications, _CHUNK):
        # (replications, N) indices of utterances, drawn with replacement.
        drawn = rng.integers(len(words), size=(min(_CHUNK, replications - start), len(words)))
        drawn_words = words[drawn].sum(axis=1)
        kept = drawn_words > 0
        differences.append(100.0 * more_errors[drawn].sum(axis=1)[kept] / drawn_words[kept])
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
    return float(low), float(high)
