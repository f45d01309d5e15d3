"""A tiny corpus in TED-LIUM 2's layout: talks joined from real utterances, with their times, a dictionary, a text."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from slimasr.data.corpora import CORPORA

RATE = 16000
PAUSE = np.zeros(RATE // 4)
DICTIONARY = "TEDLIUM.152k.dic"


@dataclass(frozen=True)
class Spoken:
    """A real utterance: its samples, and its words in lower case, as the corpus has them."""

    samples: np.ndarray
    text: str


def spoken_utterances(librispeech: Path, number: int) -> list[Spoken]:
    """The shortest utterances of a small training set of LibriSpeech."""
    (listed,) = CORPORA["librispeech"].list_utterances(librispeech, ["train-clean-5"], {"shortest": number}).values()
    return [Spoken(soundfile.read(item.audio)[0], item.text.lower()) for item in listed]


def make_tedlium(root: Path, talks: Mapping[str, Mapping[str, Iterable[Spoken]]]) -> Path:
    """Write talks; dictionary and text have the words of all of them, pronounced as they are spelled."""
    texts = []
    for set_name, by_talk in talks.items():
        for talk, utterances in by_talk.items():
            spoken = list(utterances)
            texts += [item.text for item in spoken]
            write_talk(root / set_name, talk, spoken)
    words = sorted({word for text in texts for word in text.split()})
    lines = [f"{word}\t{' '.join(word.replace(chr(39), '') or 'a').upper()}" for word in words]
    (root / DICTIONARY).write_text("\n".join(lines) + "\n")
    (root / "LM").mkdir(exist_ok=True)
    with gzip.open(root / "LM" / "talks.en.gz", "wt") as file:
        file.writelines(f"{text} </s>\n" for text in texts)
    return root


def write_talk(folder: Path, talk: str, utterances: Iterable[Spoken]) -> None:
    """Write ``sph/TALK.sph`` and ``stm/TALK.stm``, with pauses between utterances."""
    parts, lines, at = [PAUSE], [], len(PAUSE)
    for item in utterances:
        end = at + len(item.samples)
        lines.append(f"{talk} 1 {talk} {at / RATE:.2f} {end / RATE:.2f} <o,f0,female> {item.text}")
        parts += [item.samples, PAUSE]
        at = end + len(PAUSE)
    for kind in ("sph", "stm"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "sph" / f"{talk}.sph", np.concatenate(parts), RATE, subtype="PCM_16", format="NIST")
    (folder / "stm" / f"{talk}.stm").write_text("\n".join(lines) + "\n")
