"""Free Spoken Digit Dataset: isolated English digits, 6 speakers, 8 kHz.

Native layout: ``recordings/{digit}_{speaker}_{index}.wav``. Its own split: index 0 to 4 test, 5 to 49 train.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slimasr.config.corpora import FsddOptions
from slimasr.data.corpora.base import Corpus, Options, Utterance, only_sets, parse_options
from slimasr.errors import UserError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_INDICES = range(0, 5)
DEV_INDICES = range(5, 10)
NAME = re.compile(r"^(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)$")


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[Utterance]]:
    """Sets ``test`` (index 0 to 4), ``dev`` (5 to 9) and ``train`` (the rest); all speakers are in each."""
    parse_options(FsddOptions, options, "fsdd")
    utterances: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for path in sorted((corpus_dir / "recordings").glob("*.wav")):
        match = NAME.match(path.stem)
        if match is None:
            raise UserError(f"{path}: not named DIGIT_SPEAKER_INDEX.wav")
        index = int(match["index"])
        part = "test" if index in TEST_INDICES else "dev" if index in DEV_INDICES else "train"
        utterances[part].append(Utterance(path.stem, path, WORDS[int(match["digit"])], match["speaker"]))
    return only_sets(utterances, sets, "fsdd")


def _archives(sets: Sequence[str]) -> list[str]:
    return ["https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.tar.gz"]


CORPUS = Corpus(
    "fsdd",
    ("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset-master"),
    "recordings/*.wav",
    list_utterances,
    _archives,
)
