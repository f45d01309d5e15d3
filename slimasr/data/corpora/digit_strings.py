"""Strings of digits, made of recordings of single digits by one speaker, which are joined without pauses.

They lie in the layout of `slimasr.data.corpora.made`, at 8 kHz.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from slimasr.config.corpora import SpokenDigitsOptions
from slimasr.data.audio.file import AudioError, open_audio
from slimasr.data.corpora.base import ListedUtterance, Progress
from slimasr.data.corpora.made import AUDIO, make_once, read_list, write_list
from slimasr.data.identity.digests import digest_of
from slimasr.errors import UserError
from slimasr.files import writing
from slimasr.locking import Lock

SAMPLING_RATE = 8000
LISTING = "strings.tsv"
# To be increased whenever the same recordings and options give other strings.
VERSION = 1


@dataclass(frozen=True)
class DigitString:
    """An utterance and the recordings of one speaker of which it is made."""

    id: str
    set: str
    recordings: tuple[ListedUtterance, ...]

    @property
    def speaker(self) -> str:
        """The speaker of all recordings."""
        return self.recordings[0].speaker

    @property
    def text(self) -> str:
        """The digits."""
        return " ".join(item.text for item in self.recordings)


def make_strings(
    target: Path, sets: Mapping[str, Sequence[ListedUtterance]], options: SpokenDigitsOptions, progress: Progress
) -> None:
    """Make strings in ``target``, unless they exist.

    Args:
        sets: set name with language -> recordings of one digit each.

    Raises:
        UserError: a recording cannot be read.
    """
    files = [[name, item.id, str(item.audio), _size(item.audio)] for name, items in sets.items() for item in items]
    receipt = {"version": VERSION, **options.model_dump(), "recordings": digest_of(files)}
    make_once(target, receipt, partial(_make, target, list(plan_strings(sets, options)), progress))


def list_strings(folder: Path, sets: Iterable[str]) -> dict[str, list[ListedUtterance]]:
    """Set name -> the strings that were made.

    Args:
        sets: the names of all sets that there may be, each with its language.
    """
    found: dict[str, list[ListedUtterance]] = {name: [] for name in sets}
    for line, (name, utterance, speaker, text) in read_list(folder / LISTING, found):
        language = name.rpartition("-")[2]
        audio = folder / AUDIO / f"{utterance}.flac"
        item = ListedUtterance(utterance, audio, text, speaker, language, source=line.where)
        found[name].append(item)
    return found


def plan_strings(sets: Mapping[str, Sequence[ListedUtterance]], options: SpokenDigitsOptions) -> Iterator[DigitString]:
    """Plan strings of ``options.strings`` digits in random order; the last one of a speaker may be shorter.

    Every recording is used once, in training sets ``options.rounds`` times.
    """
    for name, items in sets.items():
        by_speaker: dict[str, list[ListedUtterance]] = {}
        for item in items:
            by_speaker.setdefault(item.speaker, []).append(item)
        rounds = options.rounds if name.startswith("train-") else 1
        for speaker, own in by_speaker.items():
            # The order of the draws is part of the strings: a change of it needs a new `VERSION`.
            rng = random.Random(f"{options.seed}/{name}/{speaker}")
            chunks = [chunk for _ in range(rounds) for chunk in _chunks(own, options.strings, rng)]
            for number, chunk in enumerate(chunks):
                yield DigitString(f"{speaker}-{name}-{number:05d}", name, chunk)


def _chunks(items: Sequence[ListedUtterance], length: int, rng: random.Random) -> Iterator[tuple[ListedUtterance, ...]]:
    shuffled = rng.sample(items, len(items))
    for start in range(0, len(shuffled), length):
        yield tuple(shuffled[start : start + length])


def _make(target: Path, plan: Sequence[DigitString], progress: Progress, lock: Lock) -> None:
    for item in progress(plan, len(plan), "strings of digits"):
        lock.check()
        samples = np.concatenate([_read(recording.audio) for recording in item.recordings])
        _write(target / AUDIO / f"{item.id}.flac", samples)
    lock.verify()
    write_list(target / LISTING, ((item.set, item.id, item.speaker, item.text) for item in plan))


def _size(path: Path) -> int | None:
    """In bytes; None if there is no such file, which is an error only when it is read."""
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> np.ndarray:
    """(num_samples,) of a mono recording, at `SAMPLING_RATE`."""
    try:
        with open_audio(path) as file:
            if file.num_channels != 1:
                raise UserError(f"{path}: has {file.num_channels} channels, needs to be mono")
            samples = np.concatenate(list(file.blocks()), axis=1)[0]
            rate = file.sampling_rate
    except AudioError as error:
        raise UserError(str(error)) from None
    if rate == SAMPLING_RATE:
        return samples
    divisor = np.gcd(SAMPLING_RATE, rate)
    resampled: np.ndarray = resample_poly(samples, SAMPLING_RATE // divisor, rate // divisor)
    return resampled


def _write(path: Path, samples: np.ndarray) -> None:
    content = io.BytesIO()
    # Resampling may exceed full scale.
    soundfile.write(content, np.clip(samples, -1.0, 1.0), SAMPLING_RATE, subtype="PCM_16", format="FLAC")
    with writing(path):
        path.write_bytes(content.getbuffer())
