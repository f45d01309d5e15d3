"""``data.options``: the options of each corpus.

They are declared here and not in `slimasr.data.corpora`, so that `slimasr config` can list them without the code of
the corpora.
"""

from __future__ import annotations

from typing import Annotated

from slimasr.config.section import Bounds, Section

NumUtterances = Annotated[int, Bounds(1, 10**6)]
NumDigits = Annotated[int, Bounds(1, 100)]
NumKept = Annotated[int, Bounds(0)]


class DigitsOptions(Section):
    """Sizes and seed of the synthetic digits; the corpus is made again when they change."""

    num_train: NumUtterances = 1500
    """Number of training utterances."""

    num_dev: NumUtterances = 150
    """Number of dev utterances."""

    num_test: NumUtterances = 200
    """Number of test utterances."""

    max_digits: NumDigits = 7
    """Largest number of digits in an utterance; the number is drawn uniformly from 1 on."""

    seed: int = 0
    """Seed of texts, voices, noise and reverberation."""


class FsddOptions(Section):
    """FSDD has no options."""


class An4Options(Section):
    """AN4 has no options."""


class LibriSpeechOptions(Section):
    """Options to train on a few utterances of LibriSpeech."""

    shortest: NumKept = 0
    """Number of utterances to keep of each part, those with the shortest transcripts; 0 = all."""


class TedLium2Options(Section):
    """TED-LIUM 2 has no options."""


CORPUS_OPTIONS: dict[str, type[Section]] = {
    "digits": DigitsOptions,
    "fsdd": FsddOptions,
    "an4": An4Options,
    "librispeech": LibriSpeechOptions,
    "tedlium2": TedLium2Options,
}
"""``data.corpus`` -> the section of its options."""
