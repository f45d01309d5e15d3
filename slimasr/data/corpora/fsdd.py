"""Free Spoken Digit Dataset: isolated English digits, 6 speakers, 8 kHz.

Native layout: ``recordings/{digit}_{speaker}_{index}.wav``. The data set's own split has index 0 to 4 in test and
5 to 49 in train.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slimasr.config.corpora import FsddOptions
from slimasr.data.corpora.base import Corpus, ListedUtterance, Options, only_sets, parse_options
from slimasr.data.synthesis.digit_languages import DIGIT_LANGUAGES, ENGLISH
from slimasr.errors import UserError
from slimasr.files import matching

WORDS = DIGIT_LANGUAGES[ENGLISH].words
TEST_INDICES = range(0, 5)
DEV_INDICES = range(5, 10)
NAME = re.compile(r"^(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)$")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the sets ``test`` (index 0 to 4), ``dev`` (5 to 9) and ``train`` (the rest); all speakers are in each."""
    parse_options(FsddOptions, options, "fsdd")
    utterances: dict[str, list[ListedUtterance]] = {"train": [], "dev": [], "test": []}
    for path in matching(corpus_dir / "recordings", "*.wav"):
        match = NAME.match(path.stem)
        if match is None:
            raise UserError(f"{path}: not named DIGIT_SPEAKER_INDEX.wav")
        word = WORDS[int(match["digit"])]
        utterances[_set_of(int(match["index"]))].append(ListedUtterance(path.stem, path, word, match["speaker"]))
    return only_sets(utterances, sets, "fsdd")


def _set_of(index: int) -> str:
    if index in TEST_INDICES:
        return "test"
    # The data set has no dev set: it is taken from the training recordings.
    return "dev" if index in DEV_INDICES else "train"


def _archives(sets: Sequence[str], options: Options) -> list[str]:
    return ["https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.tar.gz"]


CORPUS = Corpus(
    "fsdd",
    ("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset-master"),
    "recordings/*.wav",
    list_utterances,
    _archives,
)
