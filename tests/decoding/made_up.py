"""An experiment as training leaves it, with random weights, and the data folder that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch

from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.data.corpora import ListedUtterance
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder, write_cuts
from slimasr.data.manifests.stage import build_cuts
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.experiment.checkpoints import structure_in_words
from slimasr.models.build import build_model, pathway_spec
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet

RATE = 16000
TEXTS = ("YES NO", "TEN", "ONE TEN", "NO YES")


def config(**changes: object) -> Config:
    """A recipe for a one-layer Conformer with widths 0.5 and 1."""
    encoder = {"d_model": 16, "num_layers": 1, "num_heads": 2, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3}
    tree: dict[str, object] = {
        "name": "tiny",
        "data": {"corpus": "an4"},
        "tokenizer": {"kind": "char", "vocab_size": 12},
        "model": {
            "frontend": {"channels": 4},
            "encoder": encoder,
            "predictor": {"kind": "stateless", "dim": 8},
            "joiner": {"dim": 8},
        },
        "space": {"widths": [0.5, 1.0]},
        "loss": {"transducer": "full"},
    }
    return parse_config({**tree, **changes})


def noise(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Noise whose colour changes five times a second, so that features differ from frame to frame."""
    rng = np.random.default_rng(seed)
    pieces = [
        np.convolve(rng.normal(size=rate // 5), rng.normal(size=8), mode="same") * rng.uniform(0.01, 0.05)
        for _ in range(int(np.ceil(5 * seconds)))
    ]
    return np.concatenate(pieces)[: round(seconds * rate)].astype(np.float32)


def write_data(
    root: Path, recipe: Config, test_texts: tuple[str, ...] = TEXTS, languages: tuple[str, ...] = ("en",)
) -> Path:
    """Manifests, features and tokenizer of three sets of four utterances by two speakers, in languages by turns."""
    folder = DataFolder(root / "data")
    for number, set_name in enumerate(("train", "dev", "test")):
        utterances = []
        for i, text in enumerate(test_texts if set_name == "test" else TEXTS):
            spoken = languages[i % len(languages)]
            audio = root / "audio" / f"{set_name}{i}.wav"
            audio.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(audio, noise(0.8 + 0.3 * i, seed=10 * number + i), RATE)
            utterances.append(ListedUtterance(f"{set_name}{i}", audio, text, f"speaker{i % 2}", language=spoken))
        cuts, bad = build_cuts(utterances, recipe.data)
        assert not bad
        write_cuts(folder.raw_cuts(set_name), cuts)
    compute_features(recipe, folder.root, 1, lambda items, *_: items)
    train_tokenizer(recipe, folder.root)
    return folder.root


def let_emit(model: CtcModel, subnets: Iterable[Subnet]) -> None:
    """Scale the outputs of subnets and take their mean away, so that the best label changes from frame to frame."""
    model.eval()
    x = torch.randn(2, 200, len(model.feature_mean)) * model.feature_std + model.feature_mean
    for subnet in subnets:
        out = model.encode(x, torch.tensor([200, 200]), subnet).out
        head = model.ctc_head_of(subnet)
        head.weight.mul_(20)
        head.bias.copy_(-torch.nn.functional.linear(out.mean(dim=(0, 1)), head.weight[:, : out.shape[2]]))


def write_experiment(root: Path, recipe: Config, data: Path) -> Path:
    """``exp/`` with configuration, tokenizer and ``final.pt``: random weights that emit something."""
    exp = root / "exp"
    lang = DataFolder(data).lang(recipe.tokenizer.kind, recipe.tokenizer.vocab_size)
    (exp / "lang").mkdir(parents=True)
    for file in lang.iterdir():
        (exp / "lang" / file.name).write_bytes(file.read_bytes())
    tokenizer = load_tokenizer(lang)
    torch.manual_seed(4)
    sizes = tokenizer.vocab_size, build_space(recipe).widths, (), pathway_spec(recipe)
    model = build_model(recipe.model, recipe.loss, *sizes)
    model.set_feature_stats(*read_stats(recipe, data))
    with torch.no_grad():
        if isinstance(model, Transducer):
            model.joiner.output.weight.mul_(20)
            model.joiner.encoder_proj.weight.mul_(3)
        if isinstance(model, CtcModel):
            let_emit(model, build_space(recipe))
    made_for = {"tokenizer": tokenizer.fingerprint, **structure_in_words(model)}
    torch.save({"model": model.state_dict(), **made_for}, exp / "final.pt")
    save_config(recipe, exp / "config.yaml")
    return exp
