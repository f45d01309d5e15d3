"""Experiments with encoders that stream, and the result of whole audio by hand."""

from __future__ import annotations

from math import gcd
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly

from slimasr.config.schema import Config
from slimasr.config.search import DecodingConfig
from slimasr.data.features.frames import extract_frames, pad_with_silence
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.label_searches import label_search
from slimasr.decoding.streaming.stream import StreamResult
from slimasr.experiment import Experiment
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import RATE, config, write_data, write_experiment

EMFORMER = {
    "frontend": {"kind": "stack"},
    "encoder": {
        "kind": "emformer",
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "ffn_dim": 16,
        "segment": 4,
        "left_context": 6,
        "right_context": 1,
        "position": "relative",
    },
    "predictor": {"kind": "stateless", "dim": 8},
    "joiner": {"dim": 8},
}
MH_SSM = {
    "frontend": {"kind": "conv", "channels": 4},
    "encoder": {
        "kind": "mh_ssm",
        "d_model": 16,
        "num_layers": 2,
        "ssm_heads": 2,
        "ssm_state": 4,
        "ffn_dim": 16,
        "bidirectional": False,
    },
    "predictor": {"kind": "lstm", "dim": 8, "embedding_dim": 8, "num_layers": 1},
    "joiner": {"dim": 8},
}


def write_streaming(root: Path, model: dict[str, object]) -> Path:
    """Write an experiment and its data folder ``data`` beside it."""
    recipe: Config = config(model=model)
    return write_experiment(root, recipe, write_data(root, recipe))


@torch.no_grad()
def whole(
    experiment: Experiment,
    samples: np.ndarray,
    rate: int = RATE,
    subnet: Subnet | None = None,
    decoding: DecodingConfig | None = None,
) -> StreamResult:
    """Recognise (T,) samples at once."""
    seconds = len(samples) / rate
    if rate != RATE:
        samples = resample_poly(samples, RATE // gcd(rate, RATE), rate // gcd(rate, RATE))
    model = experiment.model
    features = extract_frames(make_extractor(80, RATE), samples[np.newaxis], RATE)
    if not len(features):
        return StreamResult(seconds, final=True)
    x = torch.from_numpy(pad_with_silence(features, model.config.frontend.min_frames)).unsqueeze(0)
    out = model.encode(x, torch.tensor([x.shape[1]]), subnet)
    search = label_search(model, decoding or experiment.config.decoding)
    (found,) = search_whole(search, model.project_encoder(out.out, subnet), out.lens)
    text = experiment.tokenizer.decode(found.tokens).strip()
    return StreamResult(seconds, text, found.tokens, tuple(round(0.04 * t, 3) for t in found.frames), final=True)
