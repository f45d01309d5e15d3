"""Equal amounts of text of each language, so that a tokenizer has units for all of them (``tokenizer.balance``)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lhotse.cut import Cut

from slimasr.errors import UserError


def balanced_texts(cuts: Iterable[Cut]) -> list[str]:
    """Return transcripts with equally many characters of each language, up to the last transcript of each.

    All transcripts occur, so that the tokenizer knows every character. Those of all languages but the largest repeat.

    Raises:
        UserError: an utterance has no language.
    """
    texts: dict[str, list[str]] = {}
    for cut in cuts:
        supervision = cut.supervisions[0]
        if not supervision.language:
            raise UserError(f"{cut.id}: has no language, which tokenizer.balance needs; leave that key out")
        texts.setdefault(supervision.language, []).append(supervision.text)
    return list(balance(texts))


def balance(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the texts of every language, repeated in new orders until it has as many characters as the largest."""
    sizes = {language: sum(map(len, found)) for language, found in texts.items()}
    for language, found in sorted(texts.items()):
        if not sizes[language]:
            continue
        missing = max(sizes.values())
        for text in _repeated(language, found):
            if missing <= 0:
                break
            missing -= len(text)
            yield text


def _repeated(language: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield texts without end, in an order of its own each time."""
    # The order depends on nothing else, so that equal transcripts make equal tokenizers.
    rng = random.Random(language)
    order = list(texts)
    while True:
        yield from order
        rng.shuffle(order)
