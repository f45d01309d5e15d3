"""Streaming encoders: files chunk by chunk against `encoder.stream`, and in sherpa-onnx against our own search."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from slimasr.config.encoders import EmformerConfig, MhSsmConfig
from slimasr.config.model import ConvFrontendConfig, StackFrontendConfig, TransducerConfig
from slimasr.config.search import DecodingConfig
from slimasr.data.corpora import CORPORA
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.label_searches import label_search
from slimasr.errors import UserError
from slimasr.export.parts import decoder_part, joiner_part
from slimasr.export.streaming import Stream, online_encoder, stream_of, streaming_part
from slimasr.export.trace import deployable, traced
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import CTC_MODEL, MODEL, encoder_config, randomize

RATE = 16000
SUBNET = Subnet(0.5)
"""A part of the supernet, so that the graphs slice its weights."""
VOCAB_SIZE = 20
SSM = MhSsmConfig(d_model=32, num_layers=1, ssm_heads=2, ssm_state=8, ffn_dim=32, dropout=0.0, bidirectional=False)
EMFORMER = EmformerConfig(
    d_model=32,
    num_layers=1,
    num_heads=4,
    ffn_dim=32,
    segment=4,
    left_context=6,
    right_context=2,
    conv_kernel=5,
    memory=2,
).model_copy(update={"dropout": 0.0})
CONFIGS = {
    "conv": (SSM, ConvFrontendConfig(channels=4)),
    "stack": (SSM, StackFrontendConfig()),
    "emformer": (EMFORMER, StackFrontendConfig()),
}


def config_of(kind: str, **changes: object) -> TransducerConfig:
    encoder, frontend = CONFIGS[kind]
    changed = {"encoder": encoder.model_copy(update=changes), "frontend": frontend, "num_mel_bins": 80}
    return MODEL.model_copy(update=changed)


def make_model(kind: str, **changes: object) -> Transducer:
    torch.manual_seed(4)
    model = randomize(build_model(config_of(kind, **changes), None, VOCAB_SIZE, (1.0, 0.5))).eval()
    assert isinstance(model, Transducer)
    return model


@dataclass(frozen=True)
class Speech:
    """Recorded speech: files, and their features when the silence of a model follows them."""

    files: list[Path]

    def features(self, tail_seconds: float) -> list[Tensor]:
        extractor = make_extractor(80, RATE)
        found = []
        for file in self.files:
            samples, _ = soundfile.read(file, dtype="float32")
            padded = np.pad(samples, (0, round(tail_seconds * RATE)))
            found.append(torch.from_numpy(extract_frames(extractor, padded[np.newaxis], RATE)))
        return found


@pytest.fixture(scope="module")
def speech(corpus: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("wav")
    files = []
    for utterance in CORPORA["an4"].list_utterances(corpus("an4"), ["test"], {})["test"][:6]:
        samples, _ = soundfile.read(utterance.audio, dtype="float32")
        files.append(folder / f"{utterance.id}.wav")
        soundfile.write(files[-1], samples, RATE, subtype="FLOAT")
    return Speech(files)


@dataclass(frozen=True)
class Exported:
    """A model, its kind, how its encoder is fed, and the folder of its files."""

    kind: str
    model: Transducer
    stream: Stream
    folder: Path


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    for name in ("onnxscript", "onnxruntime", "sherpa_onnx"):
        pytest.importorskip(name)
    model, folder = make_model(request.param), tmp_path_factory.mktemp(request.param)
    everything = torch.cat(speech.features(0.0))
    with torch.no_grad():
        model.set_feature_stats(everything.mean(dim=0), everything.std(dim=0))
        # Tokens that change along the utterance
        model.joiner.output.weight.mul_(4.0)
        model.joiner.encoder_proj.weight.mul_(2.0)
    ready = deployable(model)
    assert isinstance(ready, Transducer)
    parts = {
        "encoder": streaming_part(ready, SUBNET),
        "decoder": decoder_part(ready, 2),
        "joiner": joiner_part(ready),
    }
    for name, part in parts.items():
        (folder / f"{name}.onnx").write_bytes(traced(part).SerializeToString())
    symbols = ["<blk>", "<sos/eos>", "<unk>", *(f"t{number}" for number in range(3, VOCAB_SIZE))]
    lines = [f"{symbol} {number}\n" for number, symbol in enumerate(symbols)]
    (folder / "tokens.txt").write_text("".join(lines))
    return Exported(request.param, model, stream_of(ready, SUBNET), folder)


def streamed(model: Transducer, x: Tensor, pieces: int) -> Tensor:
    """(T, F) features -> (1, T', J), by our own streaming form, fed with pieces of some frames."""
    state, outputs = model.encoder.init_state(1, x.device, SUBNET), []
    with torch.no_grad():
        for piece in model.normalize(x).split(pieces):
            out, state = model.encoder.stream(piece.unsqueeze(0), state, SUBNET)
            outputs.append(out)
        return model.project_encoder(torch.cat(outputs, dim=1), SUBNET)


def chunks(frames: int, stream: Stream) -> range:
    """First frames of the windows that the runtime feeds: it waits for one frame more."""
    return range(0, frames - stream.window_frames, stream.chunk_frames)


def test_a_file_chunk_by_chunk_is_the_stream_of_its_encoder(exported: Exported, speech: Speech) -> None:
    import onnxruntime

    stream = exported.stream
    session = onnxruntime.InferenceSession(str(exported.folder / "encoder.onnx"))
    names = [entry.name for entry in session.get_inputs()]
    x = torch.stack([features[:150] for features in speech.features(0.0)[:3]])
    axis = {"lstm": 1, "conformer": 2}[stream.carrier]
    states = [np.repeat(np.zeros(shape, np.float32), len(x), axis) for shape in stream.states]
    outputs = []
    for first in chunks(x.shape[1], stream):
        window = x[:, first : first + stream.window_frames].numpy()
        processed = [np.full(len(x), first)] if stream.carrier == "conformer" else []
        out, *states = session.run(None, dict(zip(names, (window, *states, *processed), strict=True)))
        outputs.append(torch.from_numpy(out))
    got = torch.cat(outputs, dim=1)
    assert got.shape[1] >= 24
    for row in range(len(x)):
        want = streamed(exported.model, x[row], 7)
        torch.testing.assert_close(got[row : row + 1], want[:, : got.shape[1]], atol=1e-4, rtol=1e-4)


def test_tokens_in_sherpa_onnx_are_those_of_our_stream(exported: Exported, speech: Speech) -> None:
    """Whatever pieces arrive, one stream alone and several at once."""
    model, stream = exported.model, exported.stream
    search = label_search(model, DecodingConfig(kind="greedy"))
    want = []
    for x in speech.features(stream.tail_seconds):
        am = streamed(model, x, 50)[:, : len(chunks(len(x), stream)) * stream.chunk_frames // 4]
        (found,) = search_whole(search, am, torch.tensor([am.shape[1]]))
        want.append([f"t{token}" for token in found.tokens])
    assert sum(map(len, want)) > 60
    for piece, chosen in ((1600, speech.files), (123, speech.files[:1]), (100_000, speech.files)):
        assert in_sherpa(exported, piece, chosen) == want[: len(chosen)], piece


def in_sherpa(exported: Exported, piece: int, files: list[Path]) -> list[list[str]]:
    script = Path(__file__).with_name("sherpa_online.py")
    arguments = [str(exported.folder), str(exported.stream.tail_seconds), str(piece), *map(str, files)]
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def operations(encoder: Path, loaded: Path) -> list[str]:
    """Types of the operations that onnxruntime runs; those on weights alone are done as the file is loaded."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(loaded)
    onnxruntime.InferenceSession(str(encoder), options)
    return [node.op_type for node in onnx.load(loaded).graph.node]


def test_a_layer_of_a_loaded_file_has_few_operations(exported: Exported, tmp_path: Path) -> None:
    one_layer = operations(exported.folder / "encoder.onnx", tmp_path / "one.onnx")
    assert not set(one_layer) & {"Sin", "Cos", "Pow"}
    # That of the Emformer also has the operations for the age of its states, which all layers share.
    assert exported.stream.carrier == "conformer" or len(one_layer) <= 150
    deeper = deployable(make_model(exported.kind, num_layers=2))
    assert isinstance(deeper, Transducer)
    (tmp_path / "encoder.onnx").write_bytes(traced(streaming_part(deeper, SUBNET)).SerializeToString())
    two_layers = operations(tmp_path / "encoder.onnx", tmp_path / "two.onnx")
    assert 0 < len(two_layers) - len(one_layer) <= 150


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_of_the_audio_has_been_in_a_chunk(kind: str) -> None:
    model = deployable(make_model(kind))
    for chunk_frames in (None,) if kind == "emformer" else (None, 4, 64, 320):
        stream = stream_of(model, SUBNET, chunk_frames)
        tail = round(100 * stream.tail_seconds)
        for frames in range(1, 400, 7):
            # One frame less, as the last one of the audio needs samples behind it.
            done = len(chunks(frames + tail - 1, stream)) * stream.chunk_frames
            assert frames <= done < frames + 2 * stream.window_frames


def test_chunks_that_are_not_possible_are_errors() -> None:
    model = deployable(make_model("conv"))
    for frames in (30, 0, -4):
        with pytest.raises(UserError, match=f"--chunk-frames {frames}: must be a multiple of 4"):
            streaming_part(model, SUBNET, frames)
    with pytest.raises(UserError, match="--chunk-frames 32: the segments of this encoder are 16 frames"):
        streaming_part(deployable(make_model("emformer")), SUBNET, 32)
    assert online_encoder(model, Subnet()).state_size == 2 * 32 * 8


def test_models_without_a_streaming_form_say_so() -> None:
    whole = MODEL.model_copy(update={"encoder": encoder_config()})
    for model in (make_model("conv", bidirectional=True), build_model(whole, None, VOCAB_SIZE, (1.0,))):
        with pytest.raises(UserError, match="needs whole utterances; to stream, train kind mh_ssm"):
            streaming_part(model, Subnet())
    with pytest.raises(UserError, match="--streaming: exists for transducers alone"):
        streaming_part(build_model(CTC_MODEL, None, VOCAB_SIZE, (1.0,)), Subnet())
