"""Data folders of any size for benchmarks: few real recordings that many utterances under other ids share.

Every utterance has a path of its own to its recording, as in a corpus, because folders are links to one folder. The
manifests have the layout and the records of the stages, which are written here without their work.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import LilcomChunkyWriter
from made_up_recipe import SET

from slimasr.config.schema import Config
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.identity.digests import AudioStamp, Identity, manifest_digest
from slimasr.data.tokens.subwords import MODEL_FILE, train_model
from slimasr.files import write_json_atomic

SAMPLING_RATE = 16000
NUM_RECORDINGS = 200
NUM_SPEAKERS = 2000
VOCABULARY = 2000
# The records of the stages are compared with each other, not with the utterances.
IDENTITY = Identity(*(digit * 16 for digit in "1234"))


@dataclass(frozen=True)
class Recorded:
    """One of the real recordings: its name, length, and where its features are stored."""

    name: str
    num_samples: int
    num_frames: int
    key: str
    stamp: AudioStamp

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.num_samples / SAMPLING_RATE


def make_data(root: Path, count: int, config: Config) -> None:
    """Make a data folder with ``count`` training utterances of 1.3 to 24.5 s, at natural speed, and a tokenizer."""
    features = root / "features"
    features.mkdir(parents=True)
    (root / "manifests").mkdir()
    recordings = _record(root / "audio", features / "features.lca", config)
    rng = random.Random(0)
    words = _words(rng)
    texts = [_text(rng, words, 13.0) for _ in range(3000)]
    lang = root / "lang_bpe_500"
    lang.mkdir()
    (lang / MODEL_FILE).write_bytes(train_model(texts, config.tokenizer))
    links = [root / "corpus" / f"{number:05d}" for number in range(-(-count // NUM_RECORDINGS))]
    (root / "corpus").mkdir()
    for link in links:
        link.symlink_to(root / "audio", target_is_directory=True)
    raw, stored = root / "manifests" / f"cuts_{SET}.jsonl.gz", features / f"cuts_{SET}.jsonl.gz"
    with gzip.open(raw, "wt", compresslevel=6) as raw_file, gzip.open(stored, "wt", compresslevel=6) as stored_file:
        for cut in itertools.islice(_cuts(rng, recordings, links, words, config), count):
            stored_file.write(json.dumps(cut) + "\n")
            raw_file.write(json.dumps({key: value for key, value in cut.items() if key != "features"}) + "\n")
    _write_records(root, raw, stored, config)


def _write_records(root: Path, raw: Path, stored: Path, config: Config) -> None:
    made_by = {"data.corpus": "librispeech", "data.options": {}, "data.sampling_rate": SAMPLING_RATE}
    identity = IDENTITY.to_dict()
    record = {**made_by, "identity": identity, "manifest": manifest_digest(raw)}
    write_json_atomic(root / "manifests" / f"identity_{SET}.json", record)
    settings = {"features.num_mel_bins": config.features.num_mel_bins, "data.sampling_rate": SAMPLING_RATE}
    record = {**settings, "made_from": identity, "manifest": manifest_digest(stored)}
    write_json_atomic(root / "features" / f"identity_{SET}.json", record)


def _record(folder: Path, archive: Path, config: Config) -> list[Recorded]:
    """Write the recordings and their features. Lengths are those of LibriSpeech: most are 12 to 16 s long."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    extractor = make_extractor(config.features.num_mel_bins, SAMPLING_RATE)
    recordings = []
    with LilcomChunkyWriter(str(archive)) as writer:
        for number in range(NUM_RECORDINGS):
            seconds = rng.normal(14.5, 1.4) if rng.random() < 0.66 else rng.uniform(1.3, 14.0)
            num_samples = int(SAMPLING_RATE * min(24.5, seconds))
            # Few bits of noise, so that the files are small.
            samples = np.round(3 * rng.standard_normal((1, num_samples))) / 2**15
            path = folder / f"{number}.flac"
            soundfile.write(path, samples[0], SAMPLING_RATE, subtype="PCM_16")
            rows = extract_frames(extractor, samples.astype(np.float32), SAMPLING_RATE, num_samples / SAMPLING_RATE)
            key = writer.write(path.stem, rows)
            recordings.append(Recorded(path.stem, num_samples, len(rows), key, AudioStamp.of_file(path)))
    return recordings


def _cuts(
    rng: random.Random, recordings: list[Recorded], links: list[Path], words: list[str], config: Config
) -> Iterator[dict[str, Any]]:
    """Cuts as `Cut.to_dict` writes them, without end."""
    for number in itertools.count():
        recorded = recordings[number % NUM_RECORDINGS]
        speaker = number % NUM_SPEAKERS
        name = f"{1000 + speaker}-{120000 + number // NUM_SPEAKERS}-{number % 61:04d}"
        duration = recorded.duration
        supervision = {
            "id": name,
            "recording_id": name,
            "start": 0.0,
            "duration": duration,
            "channel": 0,
            "text": _text(rng, words, duration),
            "language": "en",
            "speaker": str(1000 + speaker),
        }
        features = {
            "type": "kaldi-fbank",
            "num_frames": recorded.num_frames,
            "num_features": config.features.num_mel_bins,
            "frame_shift": 0.01,
            "sampling_rate": SAMPLING_RATE,
            "start": 0.0,
            "duration": duration,
            "storage_type": "lilcom_chunky",
            "storage_path": "features.lca",
            "storage_key": recorded.key,
            "recording_id": name,
            "channels": 0,
        }
        path = (
            links[number // NUM_RECORDINGS] / f"{recorded.name}.flac" if number // NUM_RECORDINGS < len(links) else ""
        )
        recording = {
            "id": name,
            "sources": [{"type": "file", "channels": [0], "source": str(path)}],
            "sampling_rate": SAMPLING_RATE,
            "num_samples": recorded.num_samples,
            "duration": duration,
            "channel_ids": [0],
        }
        yield {
            "id": name,
            "start": 0.0,
            "duration": duration,
            "channel": 0,
            "supervisions": [supervision],
            "features": features,
            "recording": recording,
            "custom": recorded.stamp.to_custom(),
            "type": "MonoCut",
        }


def _words(rng: random.Random) -> list[str]:
    """Made-up words of two to nine letters."""
    syllables = ["".join(pair) for pair in itertools.product("BDFGHLMNPRST", "AEIOU")]
    return ["".join(rng.choices(syllables, k=rng.choice([1, 2, 2, 3]))) for _ in range(VOCABULARY)]


def _text(rng: random.Random, words: list[str], seconds: float) -> str:
    """Nearly three words a second, frequent and rare ones."""
    count = max(1, round(2.7 * seconds))
    return " ".join(words[int(VOCABULARY * rng.random() ** 3)] for _ in range(count))


def remove(root: Path) -> None:
    """Remove a made-up data folder."""
    shutil.rmtree(root)
