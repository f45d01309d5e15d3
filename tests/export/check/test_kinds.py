"""Models of every kind in sherpa-onnx."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slimasr.config.model import LstmPredictorConfig
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import fingerprint
from slimasr.export.check.audio import AudioSet, Heard, synthetic_audio
from slimasr.export.check.bundle import CheckedBundle
from slimasr.export.check.check import Terms, check_bundle
from slimasr.export.check.reference import Reference
from slimasr.export.check.runtime import Run, recognize
from slimasr.export.check.streams import StreamReference, computed_frames
from slimasr.export.device import open_bundle
from slimasr.export.manifest import StreamingNote
from slimasr.export.parts import decoder_part
from slimasr.export.trace import traced
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.export import test_device, tiny_bundle
from tests.export.check.conftest import Place
from tests.export.check.test_files import change_manifest, check
from tests.export.models import SSM
from tests.search.untrained import make_experiment
from tests.tiny import encoder_config


@pytest.mark.parametrize(
    ("kind", "carrier"), [("transducer", None), ("ctc", None), ("transducer", "lstm"), ("transducer", "conformer")]
)
def test_each_kind_runs_alone_and_in_batches(tmp_path: Path, kind: str, carrier: str | None) -> None:
    """Made-up bundles in sherpa-onnx, beside the numpy code of `slimasr.export.device`."""
    pytest.importorskip("sherpa_onnx")
    folder = tiny_bundle.make_bundle(tmp_path / "bundle", kind, carrier)
    bundle = CheckedBundle.open(folder)
    # Whole encoder frames, as the made-up encoders do not know what is padding.
    audio = [Heard(str(seed), test_device.sounds(1.0 + 0.32 * seed, seed)) for seed in range(4)]
    # That of the carrier `conformer` takes one stream.
    batches = (1, 1) if carrier == "conformer" else (3, 16)
    recognizer = test_device.WithFeaturesOfLhotse(open_bundle(folder), "w0.5")
    ours = [recognizer.transcribe(heard.samples).tokens for heard in audio]
    (variant,) = [one for one in bundle.variants() if str(one) == "w0.5 float"]
    table = {token.replace("\u2581", " "): number for number, token in enumerate(tiny_bundle.TOKENS)}
    for ran in recognize(bundle.client(variant), audio, [Run(), *(Run(batch=batch) for batch in batches)]):
        assert [tuple(table[token] for token in said.tokens) for said in ran.said] == ours
        assert ran.load_seconds > 0 and ran.seconds > 0 and 0 < ran.before_bytes <= ran.peak_bytes
    assert sum(map(len, ours)) > 20


def test_frames_of_streams_are_those_that_the_runtime_computes() -> None:
    for window, chunk in ((35, 32), (32, 32), (48, 32), (11, 8)):
        note = StreamingNote(carrier="lstm", chunk_frames=chunk, window_frames=window, tail_seconds=0.0, states=[])
        for frames in range(200):
            # The loop of a client: while the recogniser is ready, decode.
            processed = given = 0
            while processed + window < frames:
                given = processed + window
                processed += chunk
            assert computed_frames(frames, note) == given


def test_an_lstm_predictor_with_the_context_of_the_bundle(place: Place) -> None:
    """The bundle of a model that differs in its predictor alone, so only the decoder is exported again."""
    lstm = LstmPredictorConfig(dim=8, num_layers=1, embedding_dim=6)
    exp = make_experiment(
        place.exp.parent / "lstm", place.data, [0.5, 1.0], encoder=encoder_config(num_layers=1), predictor=lstm
    )
    saved, other = (torch.load(folder / "final.pt", weights_only=True) for folder in (exp, place.exp))
    saved["model"] |= {name: value for name, value in other["model"].items() if not name.startswith("predictor.")}
    torch.save(saved, exp / "final.pt")
    model = Experiment.open(exp).model
    assert isinstance(model, Transducer)
    part = decoder_part(model, 2)
    (place.bundle / "decoder.onnx").write_bytes(part.described(traced(part)).SerializeToString())
    from tests.export.check.handmade import sign

    sign(place.bundle)
    note = json.loads((place.bundle / "manifest.json").read_text())["model"]
    sizes = json.loads((place.bundle / "manifest.json").read_text())["sizes"]
    weights = fingerprint(exp / "final.pt")
    change_manifest(place.bundle, model=note | {"weights": weights}, sizes=[size | {"int8": None} for size in sizes])
    result = check(Place(exp, place.data, place.bundle))
    assert result.exit_code == 0, result.output
    models = json.loads((place.bundle / "check.json").read_text())["sizes"]["w0.5"]["models"]
    assert models["float"]["sets"]["synthetic"]["identical"] == 7
    assert models["float"]["sets"]["synthetic"]["tokens"] > 50
    # With the full history, torch finds other tokens.
    whole = Reference.of(Experiment.open(exp), Subnet(0.5), 100).recognize(synthetic_audio(16000))
    short = Reference.of(Experiment.open(exp), Subnet(0.5), 2).recognize(synthetic_audio(16000))
    assert whole["greedy_search"] != short["greedy_search"]


def test_missing_packages_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr("slimasr.export.check.check.version", absent)
    result = check(place)
    assert result.exit_code == 1
    assert "sherpa-onnx is not installed: pip install 'slimasr[export]'" in result.stderr
    # They would read every file.
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        assert check(place).stderr == f"error: {package} is not installed: pip install 'slimasr[export]'\n"


def test_streams_in_torch_hear_what_the_runtime_computes(place: Place) -> None:
    """An encoder that only looks back gives the frames of a stream at once: those of the cut features."""
    causal = SSM.model_copy(update={"bidirectional": False})
    exp = make_experiment(place.exp.parent / "ssm", place.data, [1.0], encoder=causal)
    experiment = Experiment.open(exp)
    note = StreamingNote(carrier="lstm", chunk_frames=32, window_frames=35, tail_seconds=0.37, states=[])
    audio = synthetic_audio(16000)
    found = StreamReference.of(experiment, Subnet(), note, 2, 4).recognize(audio)
    whole = Reference.of(experiment, Subnet(), 2)
    features = [whole.features(silent_after(heard, 0.37)) for heard in audio]
    cut = [torch.from_numpy(one[: computed_frames(len(one), note)]).unsqueeze(0) for one in features]
    with torch.no_grad():
        outs = [whole.model.encode(x, torch.tensor([x.shape[1]])).out for x in cut]
    assert found == whole.search([whole.scoring(out) for out in outs])
    assert sum(len(one.ids) for one in found["greedy_search"]) > 20


def silent_after(heard: Heard, seconds: float) -> Heard:
    return Heard(heard.name, np.pad(heard.samples, (0, round(seconds * 16000))))


def test_a_pathway_is_tried_on_utterances_in_its_language(place: Place) -> None:
    sizes = json.loads((place.bundle / "manifest.json").read_text())["sizes"]
    change_manifest(place.bundle, sizes=[size | {"language": "fr"} for size in sizes])
    bundle = CheckedBundle.open(place.bundle)
    heard = synthetic_audio(16000)[3]
    spoken = [replace(heard, name=language, language=language) for language in ("nl", "fr", "")]
    tried = check_bundle(bundle, Experiment.open(place.exp), [AudioSet("both", tuple(spoken))], Terms())
    assert [one.model.sets["both"].utterances for one in tried if one.model is not None] == [2, 2]
    other = AudioSet("other", (spoken[0],))
    assert not list(check_bundle(bundle, Experiment.open(place.exp), [other], Terms()))
