"""Small own data: the same utterances in every format that corpus ``own`` reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.shar import SharWriter

RATE = 16000
SEED_OF_OTHERS = 100


@dataclass(frozen=True)
class Spoken:
    """An utterance that is a file of its own; ``seconds`` long."""

    id: str
    text: str
    speaker: str = "ann"
    language: str = "it"
    seconds: float = 0.3

    @property
    def file(self) -> str:
        return f"{self.speaker}/{self.id}.wav"


SPOKEN = (
    Spoken("ann-1", "uno due"),
    Spoken("ann-2", 'è "tre", no', seconds=0.35),
    Spoken("bob-1", "quattro", "bob", "fr"),
)
OTHERS = (Spoken("eve-1", "sei", "eve"),)
"""For dev and test sets."""


def write_audio(folder: Path, spoken: Iterable[Spoken] = SPOKEN, rate: int = RATE, first_seed: int = 0) -> None:
    """Write a file of noise for each utterance."""
    for number, item in enumerate(spoken):
        write_wav(folder / item.file, int(item.seconds * rate), rate, seed=first_seed + number)


def write_wav(path: Path, num_samples: int = RATE // 4, rate: int = RATE, channels: int = 1, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((num_samples, channels))
    soundfile.write(path, samples, rate, format="WAV" if path.suffix == ".wav" else None)
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def kaldi(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    spoken = list(spoken)
    write_lines(folder / "wav.scp", (f"{item.id} {audio / item.file}" for item in spoken))
    write_lines(folder / "text", (f"{item.id} {item.text}" for item in spoken))
    write_lines(folder / "utt2spk", (f"{item.id} {item.speaker}" for item in spoken))
    write_lines(folder / "utt2lang", (f"{item.id} {item.language}" for item in spoken))
    return folder


def recordings_of(audio: Path, spoken: Iterable[Spoken]) -> list[Recording]:
    return [Recording.from_file(audio / item.file, recording_id=item.id) for item in spoken]


def supervisions_of(spoken: Iterable[Spoken]) -> list[SupervisionSegment]:
    return [
        SupervisionSegment(
            item.id, item.id, 0.0, item.seconds, text=item.text, speaker=item.speaker, language=item.language
        )
        for item in spoken
    ]


def cuts_of(audio: Path, spoken: Iterable[Spoken]) -> CutSet:
    spoken = list(spoken)
    pairs = zip(recordings_of(audio, spoken), supervisions_of(spoken), strict=True)
    return CutSet(
        MonoCut(recording.id, 0.0, recording.duration, 0, recording=recording, supervisions=[supervision])
        for recording, supervision in pairs
    )


def lhotse_pair(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    folder.mkdir(parents=True)
    RecordingSet.from_items(recordings_of(audio, spoken)).to_file(folder / "my_recordings_train.jsonl.gz")
    SupervisionSet.from_items(supervisions_of(spoken)).to_file(folder / "my_supervisions_train.jsonl.gz")
    return folder


def lhotse_cuts(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    folder.mkdir(parents=True)
    cuts_of(audio, spoken).to_file(folder / "train.jsonl")
    return folder / "train.jsonl"


def shar(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN, cuts_per_shard: int = 2) -> Path:
    folder.mkdir(parents=True)
    with SharWriter(str(folder), {"recording": "flac"}, shard_size=cuts_per_shard) as writer:
        for cut in cuts_of(audio, spoken):
            writer.write(cut)
    return folder


def nemo(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    rows = (
        {
            "audio_filepath": str(audio / item.file),
            "text": item.text,
            "duration": round(item.seconds + 0.004, 2),
            "speaker": item.speaker,
            "lang": item.language,
            "id": item.id,
        }
        for item in spoken
    )
    return write_lines(folder / "train.jsonl", (json.dumps(row) for row in rows))


def common_voice(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    """Write a table with tabs, whose quotes mean nothing."""
    rows = (f"{item.speaker}\t{audio / item.file}\t{item.text}\t{item.language}\t{item.id}" for item in spoken)
    return write_lines(folder / "validated.tsv", ["client_id\tpath\tsentence\tlocale\tid", *rows])


def comma_table(folder: Path, audio: Path, spoken: Iterable[Spoken] = SPOKEN) -> Path:
    folder.mkdir(parents=True)
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["utt_id", "wav", "transcript", "spk", "language"])
        writer.writerows([item.id, audio / item.file, item.text, item.speaker, item.language] for item in spoken)
    return folder / "train.csv"


Writer = Callable[[Path, Path], Path]
WRITERS: dict[str, Writer] = {
    "kaldi": kaldi,
    "lhotse pair": lhotse_pair,
    "lhotse cuts": lhotse_cuts,
    "shar": shar,
    "nemo": nemo,
    "common voice": common_voice,
    "commas": comma_table,
}
"""Name -> (folder to write, folder of the audio) -> the path to read."""
