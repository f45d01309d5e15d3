"""A tiny corpus in AN4's layout, noise for speech, and the stages run on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.corpora import an4
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.features.stage import compute_features
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer

SPEAKERS = tuple(f"speaker{letter}" for letter in "abcdefghij")
WORDS = ("ONE", "TWO", "NINE", "STOP", "YES")


def config(**data: Any) -> Config:
    """A recipe for the tiny corpus; ``data`` changes that section."""
    section = {"corpus": "an4", "max_cuts": 4, "num_buckets": 3, "max_bad_share": 0.2, **data}
    return parse_config(
        {
            "name": "tiny",
            "data": section,
            "features": {"num_mel_bins": 20},
            "model": {"num_mel_bins": 20},
            "tokenizer": {"kind": "char", "vocab_size": 20},
            "loss": {"transducer": "full", "ctc_weight": 1.0},
        }
    )


def encoder_frames(num_frames: int) -> int:
    """Behind two unpadded convolutions of kernel 3 and stride 2, as `config` has them."""
    return max(0, ((num_frames - 1) // 2 - 1) // 2)


def batch_source(recipe: Config, data_dir: Path, tokenizer: Tokenizer, **options: Any) -> BatchSource:
    """Training batches as the encoder of `config` would ask for them."""
    return BatchSource(recipe, data_dir, tokenizer, encoder_frames=encoder_frames, **options)


def quiet(items: Iterable[Any], total: int, label: str) -> Iterable[Any]:
    """Progress that shows nothing."""
    return items


def make_an4(root: Path, utterances_per_speaker: int = 4, rate: int = 16000, suffix: str = ".flac") -> Path:
    """Ten train speakers (one of them dev by the corpus's rule) and one test speaker; 0.5 to 2 s each."""
    rng = np.random.default_rng(0)
    (root / "etc").mkdir(parents=True)
    for part, folder, speakers in (("train", "an4_clstk", SPEAKERS), ("test", "an4test_clstk", ("tester",))):
        fileids, lines = [], []
        for speaker in speakers:
            for number in range(utterances_per_speaker):
                name = f"{speaker}-{number}"
                path = audio_path(root, name, suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = 0.1 * rng.standard_normal(int(rate * rng.uniform(0.5, 2.0)))
                write_audio(path, samples, rate)
                text = " ".join(rng.choice(WORDS, size=rng.integers(1, 4)))
                fileids.append(f"{folder}/{speaker}/{name}")
                lines.append(f"<s> {text} </s> ({name})" if part == "train" else f"{text} ({name})")
        (root / "etc" / f"an4_{part}.fileids").write_text("\n".join(fileids) + "\n")
        (root / "etc" / f"an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    return root


def write_audio(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write 16-bit audio in the format of the file's ending."""
    container = "NIST" if path.suffix == ".sph" else None
    soundfile.write(path, samples, rate, subtype="PCM_16", format=container)


def audio_path(root: Path, name: str, suffix: str = ".flac") -> Path:
    """Where an utterance's audio lies."""
    speaker = name.split("-")[0]
    folder = "an4test_clstk" if speaker == "tester" else "an4_clstk"
    return root / "wav" / folder / speaker / f"{name}{suffix}"


def set_text(root: Path, part: str, name: str, text: str) -> None:
    """Replace one transcript."""
    path = root / "etc" / f"an4_{part}.transcription"
    lines = [f"{text} ({name})" if line.endswith(f"({name})") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def in_languages(monkeypatch: pytest.MonkeyPatch, language: Callable[[str], str | None]) -> None:
    """Let the utterances of the tiny corpus have the languages that a function gives to their ids."""
    corpus = an4.CORPUS

    def listed(corpus_dir: Path, sets: Sequence[str], options: Any) -> dict[str, list[ListedUtterance]]:
        found = corpus.list_parts(corpus_dir, sets, options)
        return {name: [replace(item, language=language(item.id)) for item in items] for name, items in found.items()}

    monkeypatch.setattr(an4, "CORPUS", replace(corpus, list_parts=listed))


def run_stages(recipe: Config, data_dir: Path, corpus_dir: Path) -> Tokenizer:
    """Stages 1 to 3."""
    prepare(recipe.data, data_dir, corpus_dir, False, quiet)
    compute_features(recipe, data_dir, 1, quiet)
    return train_tokenizer(recipe, data_dir)
