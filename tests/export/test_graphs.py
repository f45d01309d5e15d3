"""The graphs of a bundle in onnxruntime against models that are cut out in torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from kaldialign import edit_distance
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.label_searches import label_input, label_search
from slimasr.decoding.searches.searchable import Searchable
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.parity import check_part
from slimasr.export.parts import Part, encoder_part
from slimasr.export.quantize import quantized
from slimasr.export.runtime import OnnxModel
from slimasr.export.session import Session
from slimasr.export.trace import IR_VERSION, OPSET, deployable
from slimasr.export.writer import BundleOptions, GraphWriter, encoder_file, write_graphs
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.subnet import Subnet
from tests.export.kit import opened
from tests.export.models import CONFIGS, make_model
from tests.models.pathway_kit import draw_masks
from tests.tiny import CTC_MODEL, features, randomize

if [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]:
    pytest.skip("the extra export is not installed", allow_module_level=True)

import onnx

VOCAB_SIZE = 40
CONTEXT = 6
SUBNETS = {
    "conformer": [Subnet(), Subnet(0.5)],
    "mh_ssm": [Subnet(0.5)],
    "emformer": [Subnet(pathway="fr"), Subnet(pathway="nl")],
}


@dataclass(frozen=True)
class Written:
    """Graphs of a model, and what they were made of."""

    model: Transducer
    subnets: list[Subnet]
    folder: Path

    def is_exact(self, labels: list[int]) -> bool:
        """Whether the decoder sees all of a history."""
        return self.model.config.predictor.kind != "lstm" or len(labels) <= CONTEXT

    def session(self, subnet: Subnet, *, int8: bool = False) -> Session:
        return Session(self.folder / encoder_file(subnet, int8=int8))

    def runtime(self, subnet: Subnet, *, int8: bool = False) -> OnnxModel:
        return opened(self.model, self.folder, subnet, CONTEXT, int8=int8)


@pytest.fixture(scope="module", params=CONFIGS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A supernet of two widths, one of state space layers, and one with a pathway for each of two languages."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    model = make_model(kind, (0.5, 1.0), VOCAB_SIZE)
    if kind == "emformer":
        model.add_pathways(PathwaySpec(("fr", "nl"), (8, 1)))
        draw_masks(model, 0.7)
    with torch.no_grad():  # tokens that change along the utterance
        model.joiner.output.weight.mul_(4.0)
        model.joiner.encoder_proj.weight.mul_(2.0)
    write_graphs(model, folder, SUBNETS[kind], BundleOptions(int8=True, context=CONTEXT))
    return Written(model, SUBNETS[kind], folder)


def test_floats_compute_what_extracted_models_compute(written: Written) -> None:
    for subnet in written.subnets:
        alone = written.model.extract(subnet)
        session = written.session(subnet)
        for seed, lens in enumerate([(203, 143), (61,), (300, 17, 120), (12,)]):
            x, x_lens = log_mel(lens, seed)
            with torch.no_grad():
                encoded = alone(x, x_lens)
                expected = alone.project_encoder(encoded.out)
            out, out_lens = session.run(x, x_lens)
            assert torch.equal(out_lens, encoded.lens)
            for row, length in enumerate(encoded.lens.tolist()):
                torch.testing.assert_close(out[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)


def test_utterances_of_every_length_have_all_their_frames(written: Written) -> None:
    """Whatever is left behind whole segments or stacks of frames; too short ones have one frame."""
    subnet = written.subnets[-1]
    alone = written.model.extract(subnet)
    session = written.session(subnet)
    shortest = alone.config.frontend.min_frames
    for length in [*range(1, 12), *range(12, 60, 5)]:
        x, x_lens = log_mel((length,), seed=length)
        out, out_lens = session.run(x, x_lens)
        # Any value behind the end.
        padded = torch.cat([x, torch.full((1, 40, x.shape[2]), 7.0)], dim=1)
        in_batch, _ = session.run(padded, x_lens)
        torch.testing.assert_close(in_batch[:, : int(out_lens)], out, atol=1e-4, rtol=1e-4)
        if length < shortest:
            assert out_lens.tolist() == [1]
            continue
        with torch.no_grad():
            encoded = alone(x, x_lens)
            expected = alone.project_encoder(encoded.out)
        assert torch.equal(out_lens, encoded.lens)
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_a_minute_of_audio_is_encoded_as_in_torch(written: Written) -> None:
    """The last subnet of each kind; files are written after a comparison of a few seconds alone."""
    subnet = written.subnets[-1]
    alone = written.model.extract(subnet)
    x, x_lens = log_mel((6000,), seed=5)
    with torch.no_grad():
        encoded = alone(x, x_lens)
        expected = alone.project_encoder(encoded.out)
    out, out_lens = written.session(subnet).run(x, x_lens)
    assert torch.equal(out_lens, encoded.lens) and int(out_lens) >= 1490
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["greedy", "modified_beam"])
def test_searches_find_the_same(written: Written, kind: str) -> None:
    config = DecodingConfig(kind=kind)  # type: ignore[arg-type]
    x, x_lens = features((90, 30, 22), seed=7)
    for subnet in written.subnets:
        alone = written.model.extract(subnet)
        runtime = written.runtime(subnet)
        with torch.no_grad():
            encoded = alone(x, x_lens)
            expected = labels(alone, encoded, config)
        assert sum(map(len, expected)) > 5
        # Longer histories than an LSTM's decoder has are another matter.
        expected = [found if written.is_exact(found) else [] for found in expected]
        assert any(expected)
        found = labels(runtime, runtime.encode(x, x_lens), config)
        assert [ours if theirs else [] for ours, theirs in zip(found, expected, strict=True)] == expected


def test_files_are_what_older_runtimes_read(written: Written) -> None:
    for path in written.folder.glob("*.onnx"):
        proto = onnx.load(path, load_external_data=False)
        assert proto.ir_version == IR_VERSION
        assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
        onnx.checker.check_model(str(path))
    subnet = written.subnets[0]
    proto = onnx.load(written.folder / encoder_file(subnet), load_external_data=False)
    assert [entry.name for entry in proto.graph.input] == ["x", "x_lens"]
    assert [entry.name for entry in proto.graph.output] == ["encoder_out", "encoder_out_lens"]
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert said["model_type"] == "conformer" and Subnet.from_json(said["subnet"]) == subnet
    decoder = onnx.load(written.folder / "decoder.onnx")
    said = {entry.key: entry.value for entry in decoder.metadata_props}
    assert said["vocab_size"] == str(VOCAB_SIZE) and int(said["context_size"]) >= 1


def test_weights_are_stored_once(written: Written) -> None:
    model = written.model
    numbers = sum(parameter.numel() for parameter in model.encoder.parameters())
    statistics = sum(buffer.numel() for buffer in model.encoder.buffers())
    projection = sum(parameter.numel() for parameter in model.joiner.encoder_proj.parameters())
    masks = 0 if model.pathways is None else sum(buffer.numel() for buffer in model.pathways.buffers())
    # Each tensor begins at a multiple of 64 or 4096 bytes; features' statistics are the only other ones.
    whole = 4 * (numbers + statistics + projection) + masks + 5000 * len(list(model.encoder.parameters()))
    assert (written.folder / "weights.bin").stat().st_size < whole
    for subnet in written.subnets:
        assert (written.folder / encoder_file(subnet)).stat().st_size < 100_000
        for tensor in onnx.load(written.folder / encoder_file(subnet), load_external_data=False).graph.initializer:
            assert tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.raw_data) < 256


def test_integers_have_the_scales_of_whole_rows(written: Written) -> None:
    """Every matrix of an encoder is found in its int8 file, whose levels times scales are within half a level of it."""
    weights = dict(deployable(written.model).named_parameters())
    for subnet in written.subnets:
        proto = onnx.load(written.folder / encoder_file(subnet, int8=True))
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        names = [name.partition(".int8")[0] for name in stored if name.endswith((".int8", ".int8.packed"))]
        assert len(names) >= 3
        for name in names:
            weight = weights[name.removeprefix("model.")].detach().numpy()
            scales = np.abs(weight).max(axis=1, keepdims=True) / 127
            levels, kept = levels_of(stored, f"{name}.int8", weight.shape)
            assert levels.dtype == np.int8 and levels.shape == weight.shape
            assert np.abs(levels * scales - weight * kept).max() <= scales.max() / 2 + 1e-6
            assert np.abs(levels).max() == 127 or not kept.all()
        # No matrix of a linear layer is left in float32.
        left = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2 and "linear" in tensor.name]
        assert not [tensor.name for tensor in left if tensor.data_type == onnx.TensorProto.FLOAT]


def levels_of(stored: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix of integers, and where it is kept; that of pathways may be stored as the blocks that are."""
    if name in stored:
        return stored[name], np.ones(shape, dtype=bool)
    packed = stored[f"{name}.packed"]
    block = packed.shape[1:]
    rows, columns = (-(-size // step) for size, step in zip(shape, block, strict=True))
    union = stored[f"{name}.union"].reshape(rows, columns)
    whole = np.zeros((rows * block[0], columns * block[1]), packed.dtype)
    for (row, column), values in zip(np.argwhere(union), packed[1:], strict=True):
        whole[row * block[0] : (row + 1) * block[0], column * block[1] : (column + 1) * block[1]] = values
    kept = np.kron(union, np.ones(block, dtype=bool))
    return whole[: shape[0], : shape[1]], kept[: shape[0], : shape[1]]


def test_int8_is_close(written: Written) -> None:
    if products_saturate():
        pytest.skip("sums of int8 products saturate on this processor")
    x, x_lens = features((90, 75, 60), seed=7)
    for subnet in written.subnets:
        floats = written.session(subnet).run(x, x_lens)[0]
        integers = written.session(subnet, int8=True).run(x, x_lens)[0]
        error = float((floats - integers).square().mean().sqrt())
        assert 0.0 < error < 0.1 * float(floats.std())
        config = DecodingConfig()
        expected, found = (
            labels(runtime, runtime.encode(x, x_lens), config)
            for runtime in (written.runtime(subnet), written.runtime(subnet, int8=True))
        )
        errors = sum(edit_distance(a, b)["total"] for a, b in zip(expected, found, strict=True))
        assert errors <= 0.3 * sum(map(len, expected))


def test_pathways_differ_and_have_decoders_of_their_own(written: Written) -> None:
    if written.model.pathways is None:
        pytest.skip("no pathways")
    x, x_lens = log_mel((90,), seed=3)
    french, dutch = (written.session(subnet).run(x, x_lens)[0] for subnet in written.subnets)
    assert not torch.allclose(french, dutch, atol=1e-2)
    assert (written.folder / "decoder.fr.onnx").is_file() and not (written.folder / "joiner.fr.onnx").is_file()


def test_altered_weights_are_noticed(written: Written, tmp_path: Path) -> None:
    for path in written.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    subnet = written.subnets[0]
    part = encoder_part(written.model.extract(subnet), Subnet())
    check_part(part, tmp_path / encoder_file(subnet))
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    numbers = np.frombuffer(content, dtype=np.float32)
    numbers[:] = np.where(np.abs(numbers) > 0.01, -numbers, numbers)
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UserError, match="computes something else than the model"):
        check_part(part, tmp_path / encoder_file(subnet))


def test_damaged_integers_are_noticed(written: Written, tmp_path: Path) -> None:
    for path in written.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    options = BundleOptions(int8=True, context=CONTEXT)
    writer = GraphWriter(tmp_path, deployable(written.model), options, None, None, None)
    writer.finish(written.subnets)
    content = bytearray((tmp_path / "weights.int8.bin").read_bytes())
    proto = onnx.load(tmp_path / encoder_file(written.subnets[0], int8=True), load_external_data=False)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(".int8"):
            place = {entry.key: entry.value for entry in tensor.external_data}
            integers = np.frombuffer(content, np.int8, int(place["length"]), int(place["offset"]))
            integers[:] = np.random.default_rng(0).permutation(integers)
    (tmp_path / "weights.int8.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"int8.onnx: computes something else than the model in float \(differs by"):
        writer.finish(written.subnets)


def test_a_joiner_of_wrong_integers_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("conformer")
    writer = GraphWriter(tmp_path, model, BundleOptions(int8=True, int8_joiner=True), None, None, None)

    def wrong(proto: onnx.ModelProto, bits: int) -> onnx.ModelProto:
        made = quantized(proto, bits)
        (scales,) = (tensor for tensor in made.graph.initializer if tensor.name.endswith(".scales"))
        scales.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(scales.dims), np.nan, np.float32), scales.name))
        return made

    monkeypatch.setattr("slimasr.export.writer.quantized", wrong)
    with pytest.raises(UserError, match=r"joiner.int8.onnx: computes something else .* \(differs by nan of its output"):
        writer.add_search(model, [Subnet()])


class Twice(torch.nn.Module):
    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> tuple[Tensor, Tensor]:
        return encoder_out, decoder_out


def test_what_is_not_a_number_behind_a_sound_output_is_noticed(tmp_path: Path) -> None:
    make = onnx.helper
    values = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "abcd"]
    unsound = onnx.numpy_helper.from_array(np.array(np.nan, np.float32), "unsound")
    nodes = [make.make_node("Identity", ["a"], ["c"]), make.make_node("Mul", ["b", "unsound"], ["d"])]
    graph = make.make_graph(nodes, "unsound", values[:2], values[2:], [unsound])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    part = Part(Twice(), {"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}, {}, ("c", "d"), {})
    with pytest.raises(UserError, match="a.onnx: computes something else than the model .differs by nan"):
        check_part(part, tmp_path / "a.onnx")


def test_a_ctc_model_has_log_probabilities_of_a_fixed_number_of_labels(tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = CTC_MODEL.model_copy(update={"encoder": CONFIGS["conformer"].encoder})
    model = randomize(CtcModel(config, VOCAB_SIZE)).eval()
    assert isinstance(model, CtcModel)
    write_graphs(model, tmp_path, [Subnet()], BundleOptions(standalone=True))
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.w1.onnx"]
    proto = onnx.load(tmp_path / "encoder.w1.onnx")
    assert [entry.name for entry in proto.graph.output] == ["log_probs", "log_probs_lens"]
    assert proto.graph.output[0].type.tensor_type.shape.dim[-1].dim_value == VOCAB_SIZE
    session = Session(tmp_path / "encoder.w1.onnx")
    for seed, lens in enumerate([(203, 143), (61,)]):
        x, x_lens = features(lens, seed)
        with torch.no_grad():
            encoded = model(x, x_lens)
            expected = torch.nn.functional.linear(encoded.out, model.output.weight, model.output.bias).log_softmax(-1)
        out, out_lens = session.run(x, x_lens)
        assert torch.equal(out_lens, encoded.lens)
        for row, length in enumerate(encoded.lens.tolist()):
            torch.testing.assert_close(out[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)


def log_mel(lens: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Random features about where log-mel energies lie."""
    x, x_lens = features(lens, seed)
    return 3.0 * x - 8.0, x_lens


def labels(model: Searchable, encoded: EncoderOutput, config: DecodingConfig) -> list[list[int]]:
    found = search_whole(label_search(model, config), label_input(model, encoded.out), encoded.lens)
    return [list(hypothesis.tokens) for hypothesis in found]


def products_saturate() -> bool:
    """Whether onnxruntime's int8 products do on this processor."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((64, 16), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "largest_product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 16])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 64), 255, np.uint8)})
    return bool((found != 64 * 255 * 127).any())
