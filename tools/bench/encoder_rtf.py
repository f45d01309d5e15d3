"""Encoder time of extracted models, width 0.25 against width 1.0, with one thread and one utterance of 10 s.

Sizes are those of the 30 M preset of LibriSpeech and of the preset of AN4. Weights are random, as time does not depend
on them. MACs are those of the whole model.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from common import median_seconds, report

from slimasr.config.load import load_config
from slimasr.measure.runtime import noise_features
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet

EGS = Path(__file__).resolve().parents[2] / "egs"
NARROW, WIDE = 0.25, 1.0
SECONDS = 10.0
REPEATS = 9
TARGET_30M = 0.2


def encode(model: SpeechModel) -> None:
    """Run the encoder once."""
    features = noise_features(model, SECONDS)
    with torch.inference_mode():
        model.encode(features.unsqueeze(0), torch.tensor([len(features)]))


def measure(name: str, preset: Path, target: float | None) -> None:
    """Time both widths and print the result."""
    config = load_config(preset)
    torch.manual_seed(0)
    model = build_model(config.model, None, config.tokenizer.vocab_size, build_space(config).widths).eval()
    rtf = {
        width: median_seconds(partial(encode, model.extract(Subnet(width))), REPEATS, warm_ups=2) / SECONDS
        for width in (NARROW, WIDE)
    }
    macs = model.count(Subnet(NARROW)).macs / model.count(Subnet(WIDE)).macs
    report(
        f"encoder RTF at width {NARROW} against {WIDE:g}, {name}",
        rtf[NARROW],
        rtf[WIDE],
        rtf[NARROW] / rtf[WIDE],
        target,
        macs_ratio=macs,
    )


def main() -> None:
    """Measure both presets."""
    torch.set_num_threads(1)
    measure("30 M preset", EGS / "librispeech/conf/slimmable_30M.yaml", TARGET_30M)
    measure("AN4 preset", EGS / "an4/conf/slimmable.yaml", None)


if __name__ == "__main__":
    main()
