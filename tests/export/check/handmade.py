"""A bundle of an untrained transducer, and copies of it that are damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from slimasr.data.shards import make_extractor
from slimasr.decoding.greedy import start_predictor
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import fingerprint
from slimasr.export.check.audio import synthetic_audio
from slimasr.export.check.reference import Reference
from slimasr.export.features import features_model
from slimasr.export.parts import Part, encoder_part, joiner_part
from slimasr.export.trace import traced
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.search.untrained import make_experiment
from tests.tiny import encoder_config

SIZES = (Subnet(1.0), Subnet(0.5))
QUANTIZED = "w0.5"
"""The size that has int8 files, too."""


class Decoder(nn.Module):
    """Stateless predictor and projection."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, y: Tensor) -> Tensor:
        hidden = self.model.predictor.over_history(y)  # type: ignore[operator]
        return self.model.joiner.project_predictor(hidden.squeeze(1))


def talkative_experiment(folder: Path, data: Path) -> Path:
    """An experiment whose model, though it is untrained, finds other tokens from frame to frame."""
    exp = make_experiment(folder, data, [0.5, 1.0], encoder=encoder_config(num_layers=1))
    experiment = Experiment.open(exp)
    model = experiment.model
    assert isinstance(model, Transducer)
    audio = synthetic_audio(16000)
    references = [Reference.of(experiment, subnet, 2) for subnet in SIZES]
    features = torch.from_numpy(np.concatenate([references[0].features(heard) for heard in audio]))
    model.set_feature_stats(features.mean(0), features.std(0))
    am = torch.cat([reference.encoded(heard)[0][0] for reference in references for heard in audio])
    with torch.no_grad():
        # What has been said weighs little beside what is heard.
        model.joiner.predictor_proj.weight.mul_(0.2)
        lm, _ = start_predictor(model, 1, torch.device("cpu"))
        logits = model.joiner(am, lm)
        output = model.joiner.output
        scale = 4.0 / logits.std(0)
        output.weight.mul_(scale.unsqueeze(1))
        output.bias.copy_((output.bias - logits.mean(0)) * scale)
        output.bias[0] += 2.0
        # The mark of a sentence never is a token of trained models.
        output.bias[1] -= 20.0
    saved = torch.load(exp / "final.pt", weights_only=True)
    saved["model"] |= {name: value for name, value in model.state_dict().items() if name in saved["model"]}
    torch.save(saved, exp / "final.pt")
    return exp


def make_bundle(exp: Path, folder: Path) -> Path:
    """Write the sizes of an experiment, each with weights of its own, and the manifest."""
    folder.mkdir(parents=True)
    experiment = Experiment.open(exp)
    model = experiment.model
    assert isinstance(model, Transducer)
    for subnet in SIZES:
        write(traced(encoder_part(model, subnet)), folder / f"encoder.{subnet.id}.onnx")
    quantize_dynamic(
        folder / f"encoder.{QUANTIZED}.onnx",
        folder / f"encoder.{QUANTIZED}.int8.onnx",
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
    )
    context = model.predictor.context_size
    sizes = {"vocab_size": str(model.vocab_size), "context_size": str(context)}
    y = torch.zeros(2, context, dtype=torch.int64)  # type: ignore[arg-type]
    write(traced(Part(Decoder(model), {"y": y}, {"y": (0,)}, ("decoder_out",), sizes)), folder / "decoder.onnx")
    write(traced(joiner_part(model)), folder / "joiner.onnx")
    write(features_model(make_extractor(80, 16000).config), folder / "features.onnx")
    lines = [f"{token} {number}\n" for number, token in enumerate(experiment.tokenizer.tokens)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    write_manifest(folder, exp)
    return folder


def write(model: ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString())


def write_manifest(folder: Path, exp: Path) -> None:
    """Write the manifest of the files that are in the folder."""
    experiment = Experiment.open(exp)
    model = experiment.model
    sizes: list[dict[str, Any]] = []
    for subnet in SIZES:
        cost = model.count(subnet)
        size = {"id": subnet.id, "subnet": subnet.to_dict(), "language": None, "params": cost.params, "macs": cost.macs}
        quantized = _variant(folder, f"encoder.{subnet.id}.int8.onnx") if subnet.id == QUANTIZED else None
        sizes.append({**size, "float": _variant(folder, f"encoder.{subnet.id}.onnx"), "int8": quantized})
    files = {path.name: _entry(path) for path in sorted(folder.iterdir()) if path.suffix != ".json"}
    content = {
        "format": "slimasr-bundle",
        "version": 1,
        "kind": "transducer",
        "model": {"name": "tiny", "weights": fingerprint(exp / "final.pt"), "architecture": "0" * 64},
        "audio": {"sample_rate": 16000, "num_mel_bins": 80, "frame_shift": 0.01},
        "tokens": "tokens.txt",
        "vocab_size": model.vocab_size,
        "blank_id": 0,
        "unk_id": 2,
        "context_size": 2,
        "subsampling_factor": 4,
        "features": "features.onnx",
        "decoder": "decoder.onnx",
        "joiner": "joiner.onnx",
        "joiner_int8": None,
        "graph": None,
        "streaming": None,
        "languages": None,
        "sizes": sizes,
        "files": files,
        "versions": {},
        "revision": None,
    }
    (folder / "manifest.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def _variant(folder: Path, name: str) -> dict[str, Any]:
    total = sum((folder / part).stat().st_size for part in (name, "decoder.onnx", "joiner.onnx"))
    return {"encoder": name, "weights": None, "bytes": total, "wer": {}, "forced": False}


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def rewrite(path: Path, change: Callable[[ModelProto], None]) -> None:
    """Change an ONNX file in place."""
    model = onnx.load(path)
    change(model)
    write(model, path)
