"""A small corpus in the layout of Multilingual LibriSpeech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import soundfile

from slimasr.data.corpora.mls import LANGUAGES
from slimasr.files import append

Recorded = tuple[Path, str]
"""An audio file and its text."""

COUNTS = {"train": 4, "dev": 1, "test": 1}
"""Utterances in each part of each language."""


def make_mls(root: Path, recorded: Sequence[Recorded], languages: Sequence[str], *, opus: bool = False) -> Path:
    """Write languages below ``root``, each from the next recordings; every recording is used once."""
    rest = iter(recorded)
    for number, language in enumerate(languages):
        folder = root / f"mls_{LANGUAGES[language]}{'_opus' if opus else ''}"
        for part, count in COUNTS.items():
            names = [_write(folder / part, 100 * number + index, next(rest), opus=opus) for index in range(count)]
            if part == "train":
                _limit(folder / part / "limited_supervision", names)
    return root


def _write(part: Path, number: int, recorded: Recorded, *, opus: bool) -> str:
    """Add an utterance to a part, and return its name."""
    audio, text = recorded
    # Speakers differ between parts.
    speaker, book = f"{len(part.name)}{number}", f"{7 * number}"
    name = f"{speaker}_{book}_{number:06d}"
    samples, rate = soundfile.read(audio, dtype="int16")
    path = part / "audio" / speaker / book / f"{name}.{'opus' if opus else 'flac'}"
    path.parent.mkdir(parents=True)
    soundfile.write(path, samples, rate, **({"format": "OGG", "subtype": "OPUS"} if opus else {}))
    append(part / "transcripts.txt", f"{name}\t{text.lower()}\n")
    append(part.parent / "metainfo.txt", f" {speaker} | F | {part.name} | 1 | {book} | Title | Chapter\n")
    return name


def _limit(folder: Path, names: Sequence[str]) -> None:
    """All utterances but the last two are in the subset of nine hours, these in two parts of the one of one hour."""
    for path, chosen in (("9hr", names[:-2]), ("1hr/0", names[-2:-1]), ("1hr/1", names[-1:])):
        (folder / path).mkdir(parents=True)
        (folder / path / "handles.txt").write_text("".join(f"{name}\n" for name in chosen))
