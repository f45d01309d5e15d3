"""A bundle whose files are exported by torch alone, so that the tests of the check do not lean on our exporter."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from slimasr.data.shards import make_extractor
from slimasr.experiment import Experiment
from slimasr.export.features import features_model
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet

FRAMES = 203


class Encoder(nn.Module):
    """Encoder and projection of a stand-alone transducer."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.model.encode(x, x_lens)
        return self.model.project_encoder(encoded.out), encoded.lens


class Decoder(nn.Module):
    """Stateless predictor and projection."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.model.joiner.project_predictor(self.model.predictor.over_history(y).squeeze(1))  # type: ignore[operator]
        return out


class Joiner(nn.Module):
    """The joiner without its projections."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        logit: Tensor = self.model.joiner(encoder_out, decoder_out)
        return logit


def write_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    free: Mapping[str, int],
    outputs: list[str],
    path: Path,
    **metadata: str,
) -> None:
    """Export a module: ``free`` says how many leading axes of each input have any size."""
    dynamic = {name: dict.fromkeys(range(count), Dim.DYNAMIC) for name, count in free.items()}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=dynamic,
            input_names=list(example),
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.ir_version = 8
    onnx.helper.set_model_props(proto, metadata)
    path.write_bytes(proto.SerializeToString())


def make_bundle(exp: Path, folder: Path, subnets: list[Subnet]) -> Path:
    """Write float sizes of an experiment, each with weights of its own, and the manifest."""
    folder.mkdir(parents=True)
    experiment = Experiment.open(exp)
    model = experiment.model
    assert isinstance(model, Transducer)
    dim, context = model.config.joiner.dim, model.config.predictor.context_size  # type: ignore[union-attr]
    for subnet in subnets:
        alone = model.extract(subnet)
        x, lens = torch.zeros(2, FRAMES, 80), torch.tensor([FRAMES, FRAMES - 60])
        metadata = {"model_type": "conformer", "version": "1", "model_author": "slimasr", "comment": subnet.id}
        write_onnx(
            Encoder(alone),
            {"x": x, "x_lens": lens},
            {"x": 2, "x_lens": 1},
            ["encoder_out", "encoder_out_lens"],
            folder / f"encoder.{subnet.id}.onnx",
            **metadata,
        )
    sizes = {"vocab_size": str(model.vocab_size), "context_size": str(context)}
    y = torch.zeros(2, context, dtype=torch.int64)
    write_onnx(Decoder(model), {"y": y}, {"y": 1}, ["decoder_out"], folder / "decoder.onnx", **sizes)
    pair = {"encoder_out": torch.zeros(2, dim), "decoder_out": torch.zeros(2, dim)}
    write_onnx(Joiner(model), pair, dict.fromkeys(pair, 1), ["logit"], folder / "joiner.onnx")
    lines = [f"{token} {number}\n" for number, token in enumerate(experiment.tokenizer.tokens)]
    features = features_model(make_extractor(80, 16000).config)
    (folder / "features.onnx").write_bytes(features.SerializeToString())
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    write_manifest(folder, experiment, subnets)
    return folder


def write_manifest(folder: Path, experiment: Experiment, subnets: list[Subnet]) -> None:
    """Write the manifest of the files that are in the folder."""
    model = experiment.model
    shared = sum((folder / name).stat().st_size for name in ("decoder.onnx", "joiner.onnx"))
    sizes: list[dict[str, Any]] = []
    for subnet in subnets:
        encoder = folder / f"encoder.{subnet.id}.onnx"
        variant = {"encoder": encoder.name, "weights": None, "wer": {}, "forced": False}
        variant["bytes"] = shared + encoder.stat().st_size
        cost = model.count(subnet)
        size = {"id": subnet.id, "subnet": subnet.to_dict(), "language": None, "params": cost.params, "macs": cost.macs}
        sizes.append({**size, "float": variant, "int8": None})
    files = {path.name: _entry(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    content = {
        "format": "slimasr-bundle",
        "version": 1,
        "kind": "transducer",
        "model": {"name": "tiny", "weights": experiment.weights_digest, "architecture": "0" * 64},
        "audio": {"sample_rate": 16000, "num_mel_bins": 80, "frame_shift": 0.01},
        "tokens": "tokens.txt",
        "vocab_size": model.vocab_size,
        "blank_id": 0,
        "unk_id": 2,
        "context_size": model.config.predictor.context_size,  # type: ignore[union-attr]
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


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
