"""A bundle of an untrained transducer, and copies of it that are damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import soundfile
import torch
from onnx import ModelProto

from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_cuts, write_cuts
from slimasr.decoding.searches.greedy import start_predictor
from slimasr.experiment import Experiment
from slimasr.export.bundle import BundleOptions, write_bundle
from slimasr.export.check.audio import Heard, hum, set_audio, synthetic_audio
from slimasr.export.check.reference import Reference
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.search.untrained import make_experiment
from tests.tiny import encoder_config

SIZES = (Subnet(0.5),)


def talkative_experiment(folder: Path, data: Path) -> Path:
    """An untrained experiment with a talkative model."""
    exp = make_experiment(folder, data, [0.5, 1.0], encoder=encoder_config(num_layers=1))
    make_talkative(exp, SIZES)
    return exp


def make_talkative(exp: Path, subnets: Sequence[Subnet], audio: Sequence[Heard] = ()) -> None:
    """Change a transducer so that it finds other tokens from frame to frame of some audio (none named = synthetic)."""
    experiment = Experiment.open(exp)
    model = experiment.model
    assert isinstance(model, Transducer)
    audio = audio or synthetic_audio(16000)
    references = [Reference.of(experiment, subnet, 2) for subnet in subnets]
    features = torch.from_numpy(np.concatenate([references[0].features(heard) for heard in audio]))
    model.set_feature_stats(features.mean(0), features.std(0))
    am = torch.cat([reference.scores(heard)[0] for reference in references for heard in audio])
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


def said_by(exp: Path, data: Path) -> None:
    """Give the test set hums, and the transcripts that the model finds in them, so that its word error rate is 0."""
    path = DataFolder(data).raw_cuts("test")
    rng = np.random.default_rng(0)
    for cut in read_cuts(path, ""):
        soundfile.write(cut.recording.sources[0].source, hum(cut.recording.num_samples, 16000, rng), 16000)
    audio = set_audio(data, "test")
    experiment = Experiment.open(exp)
    texts = [ours.text for ours in Reference.of(experiment, SIZES[0], 2).recognize(audio)["greedy_search"]]
    cuts = list(read_cuts(path, ""))
    for cut, text in zip(cuts, texts, strict=True):
        cut.supervisions[0].text = text
    write_cuts(path, cuts)
    compute_features(experiment.config, data, 1, lambda items, *_: items)


def make_bundle(exp: Path, folder: Path, options: BundleOptions | None = None) -> Path:
    """Write the bundle of an experiment's sizes."""
    folder.mkdir(parents=True)
    write_bundle(Experiment.open(exp), SIZES, folder, options or BundleOptions(int8=True))
    return folder


def sign(folder: Path) -> None:
    """Write the sizes and the checksums of the files as they are now into the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def rewrite(path: Path, change: Callable[[ModelProto], object]) -> None:
    """Change an ONNX file in place."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
