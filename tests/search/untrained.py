"""An experiment with random weights on a corpus of noise: real files, made in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse import MonoCut, Recording, SupervisionSegment

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, write_cuts
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.experiment.checkpoints import structure_in_words
from slimasr.experiment.record import write_record
from slimasr.models.build import build_model, pathway_spec
from slimasr.models.packed import weights_of
from slimasr.results.schema import Results
from slimasr.supernet.build import build_space
from tests.models.pathway_kit import draw_masks
from tests.tiny import model_config, randomize

TEXTS = ("yes no", "no", "yes yes no", "no yes")
SETS = {"train": 4, "dev": 5, "test": 3}


LAYERS = {"kind": "layers", "depths": [3, 2, 1], "units": {"ffn1": [16, 32], "ffn2": [8, 16, 32]}}
"""A space of 6^3 + 6^2 + 6 = 258 subnets."""


def make_config(
    name: str,
    widths: list[float],
    transducer: str = "full",
    space: dict[str, object] | None = None,
    search: dict[str, object] | None = None,
    method: dict[str, object] | None = None,
    **model: object,
) -> Config:
    """A tiny recipe; one width makes a separate model, unless another space is given."""
    tiny = model_config().model_copy(update=model).model_dump(mode="json") | {"num_mel_bins": 80}
    kind = "separate" if widths == [1.0] and space is None else "slimmable"
    return parse_config(
        {
            "name": name,
            "data": {"corpus": "digits"},
            "tokenizer": {"kind": "char", "vocab_size": 10},
            "model": tiny,
            "space": space or {"widths": widths},
            "method": method or {"kind": kind},
            "loss": {"transducer": transducer, "ctc_weight": 0.5},
            "search": {"rtf_seconds": 0.5, **(search or {})},
        }
    )


def make_data(root: Path) -> Path:
    """A recipe's data folder after stages 1 to 3."""
    rng = np.random.default_rng(0)
    folder = DataFolder(root / "data")
    config = make_config("data", [1.0])
    for name, number in SETS.items():
        cuts = []
        for index in range(number):
            path = root / "audio" / f"{name}-{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = 0.6 + 0.1 * index
            soundfile.write(path, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
            recording = Recording.from_file(path)
            text = TEXTS[index % len(TEXTS)]
            said = SupervisionSegment(path.stem, recording.id, 0.0, recording.duration, text=text)
            cuts.append(MonoCut(path.stem, 0.0, recording.duration, 0, [said], recording=recording))
        write_cuts(folder.raw_cuts(name), cuts)
    compute_features(config, folder.root, 1, lambda items, *_: items)
    train_tokenizer(config, folder.root)
    return folder.root


def make_experiment(root: Path, data: Path, widths: list[float], seed: int = 0, **options: Any) -> Path:
    """An experiment folder as training leaves it, but for what training learns."""
    config = make_config(root.name, widths, **options)
    lang = DataFolder(data).lang(config.tokenizer.kind, config.tokenizer.vocab_size)
    write_record(root, config, lang, Results(separate_of="w1" if config.method.kind == "separate" else None))
    tokenizer = load_tokenizer(lang)
    torch.manual_seed(seed)
    space = build_space(config)
    kinds = space.widths, (), pathway_spec(config)
    model = randomize(build_model(config.model, config.loss, tokenizer.vocab_size, *kinds), seed)
    if model.pathways is not None:
        draw_masks(model, 0.7)
    made_for = {"tokenizer": tokenizer.fingerprint, **structure_in_words(model)}
    torch.save({**weights_of(model), **made_for}, root / "final.pt")
    return root


def copy_of(experiment: Path, target: Path) -> Path:
    """A copy that a test may write into."""
    shutil.copytree(experiment, target)
    return target


def edit_distance(ref: list[str], hyp: list[str]) -> int:
    """Levenshtein's recursion, plainly."""
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, start=1):
        previous, row[0] = row[0], i
        for j, heard in enumerate(hyp, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != heard))
    return row[-1]
