"""What is kept of every utterance of a set that is inspected: some numbers, and neither audio nor transcripts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from lhotse.cut import Cut

from slimasr.data.audio.recordings import AudioError, audio_path
from slimasr.data.identity.digests import AudioStamp
from slimasr.data.inspection.sounds import Sound

AudioFigures = Sound | AudioError | None
"""Figures of the sound of an utterance, why it could not be read, or None if it was not read."""

UNKNOWN = ""
"""The language or speaker of utterances that name none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance.

    Attributes:
        file: the audio file, with the times of the utterance in it if it is a segment.
        words, characters: numbers of its words and characters, without white space.
        text: 64 bits of a digest of its transcript.
        audio: 64 bits of a digest: of the samples, of the file, or of the place of the audio if neither was read.
        sound: figures of its audio; None if it was not read.
        unreadable: why its audio could not be read; empty if it could, or was not.
    """

    id: str
    file: str
    seconds: float
    words: int
    characters: int
    speaker: str
    language: str
    text: int
    audio: int
    sound: Sound | None = None
    unreadable: str = ""


@dataclass
class Tally:
    """Utterances and seconds of a part of a set."""

    utterances: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more utterance."""
        self.utterances += 1
        self.seconds += seconds


@dataclass
class Gathered:
    """One set, utterance by utterance and counted.

    Attributes:
        speakers, languages, rates, channels, formats: value -> the utterances that have it; rates are those of the
            files, in Hz, and channels the number of channels of the files.
        words: word -> its occurrences.
        characters: character -> its occurrences, without white space.
    """

    rows: list[Row] = field(default_factory=list)
    speakers: dict[str, Tally] = field(default_factory=dict)
    languages: dict[str, Tally] = field(default_factory=dict)
    rates: dict[int, Tally] = field(default_factory=dict)
    channels: dict[int, Tally] = field(default_factory=dict)
    formats: dict[str, Tally] = field(default_factory=dict)
    words: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

    @property
    def has_audio(self) -> bool:
        """Whether audio was read."""
        return any(row.sound is not None for row in self.rows)


def gather(cuts: Iterable[tuple[Cut, AudioFigures]]) -> Gathered:
    """Read cuts one at a time, each with the figures of its sound."""
    found = Gathered()
    for cut, figures in cuts:
        spoken = cut.supervisions[0] if cut.supervisions else None
        text = (spoken.text or "") if spoken is not None else ""
        language = (spoken.language or UNKNOWN) if spoken is not None else UNKNOWN
        speaker = (spoken.speaker or UNKNOWN) if spoken is not None else UNKNOWN
        words = text.split()
        sound = figures if isinstance(figures, Sound) else None
        recording = getattr(cut, "recording", None)
        found.rows.append(
            Row(
                id=cut.id,
                file=_place(cut, recording),
                seconds=cut.duration,
                words=len(words),
                characters=sum(map(len, words)),
                speaker=speaker,
                language=language,
                text=_digest(" ".join(words)),
                audio=_audio_digest(cut) if sound is None else sound.digest,
                sound=sound,
                unreadable=str(figures) if isinstance(figures, AudioError) else "",
            )
        )
        found.words.update(words)
        _add(found.speakers, speaker, cut.duration)
        _add(found.languages, language, cut.duration)
        if recording is not None:
            _add(found.rates, file_rate(recording), cut.duration)
            _add(found.channels, recording.num_channels, cut.duration)
            _add(found.formats, _format(cut, sound), cut.duration)
    # Once for each different word, which is faster.
    for word, number in found.words.items():
        for character in word:
            found.characters[character] += number
    return found


def file_rate(recording: Any) -> int:
    """The sampling rate of a recording's file in Hz, before lhotse resamples it."""
    for transform in recording.transforms or ():
        rate = getattr(transform, "source_sampling_rate", None)
        if rate is not None:
            return int(rate)
    return int(recording.sampling_rate)


def _add(tallies: dict[Any, Tally], value: Any, seconds: float) -> None:
    tally = tallies.get(value)
    if tally is None:
        tally = tallies[value] = Tally()
    tally.add(seconds)


def _place(cut: Cut, recording: Any) -> str:
    path = audio_path(cut)
    if recording is None or (cut.start == 0 and abs(cut.duration - recording.duration) < 0.01):
        return path
    return f"{path} ({cut.start:.2f} to {cut.start + cut.duration:.2f} s)"


def _format(cut: Cut, sound: Sound | None) -> str:
    """Container and encoding, or the ending of the file's name if the audio was not read."""
    if sound is not None and sound.encoding:
        return sound.encoding
    source = cut.recording.sources[0]
    # os.path is several times as fast as pathlib, which counts for millions of utterances.
    return os.path.splitext(str(source.source))[1][1:].lower() if source.type == "file" else str(source.type)


def _audio_digest(cut: Cut) -> int:
    stamp = AudioStamp.of_cut(cut)
    # A digest of the file that stage 1 has stored, or the file itself; either with the place of the utterance in it.
    file = audio_path(cut) if stamp is None or stamp.sha256 is None else stamp.sha256
    return _digest(f"{file}\n{cut.start}\n{cut.duration}\n{getattr(cut, 'channel', 0)}")


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).digest(), "big")
