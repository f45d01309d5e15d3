"""ONNX files in onnxruntime against the model in torch, and what onnxruntime stores against fake quantisation."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from kaldialign import edit_distance
from torch import Tensor

from slimasr.config.encoders import EmformerConfig
from slimasr.config.search import DecodingConfig
from slimasr.decoding.label_search import search_whole
from slimasr.decoding.label_searches import label_input, label_search
from slimasr.decoding.searchable import Searchable
from slimasr.errors import UserError
from slimasr.export.int8 import fake_quantized
from slimasr.export.onnx import TransducerFiles, export_onnx, quantize
from slimasr.export.runtime import OnnxCtc, OnnxTransducer, open_runtime
from slimasr.models.ctc import CtcModel
from slimasr.models.pathways import prunable_matrices
from slimasr.models.transducer import Transducer
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.subnet import Subnet
from tests.export.models import CONFIGS, make_model
from tests.models.pathway_kit import draw_masks
from tests.tiny import CTC_MODEL, features, randomize

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ABSENT = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
with_onnx = pytest.mark.skipif(bool(ABSENT), reason="the extra export is not installed")
VOCAB_SIZE = 40


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Transducer, Path]:
    """A model and the folder of its float32 and int8 files; the one with an Emformer is a pathway."""
    model, folder = make_model(request.param, vocab_size=VOCAB_SIZE), tmp_path_factory.mktemp("onnx")
    if request.param == "emformer":
        # A pathway, which has LSTM layers as well
        model.add_pathways(PathwaySpec(("fr",), (8, 1)))
        draw_masks(model, 0.7)
        model = model.extract(Subnet(pathway="fr"))
    with torch.no_grad():  # tokens that change along the utterance
        model.joiner.output.weight.mul_(4.0)
        model.joiner.encoder_proj.weight.mul_(2.0)
    quantize(export_onnx(model, folder), folder)
    return model, folder


def files(folder: Path, suffix: str) -> TransducerFiles:
    return TransducerFiles(*(folder / f"{part}.{suffix}" for part in ("encoder", "predictor", "joiner")))


def labels(model: Searchable, encoder_out: Tensor, lens: Tensor, config: DecodingConfig) -> list[list[int]]:
    found = search_whole(label_search(model, config), label_input(model, encoder_out), lens)
    return [list(hypothesis.tokens) for hypothesis in found]


def labels_in_torch(model: Transducer, x: Tensor, x_lens: Tensor, config: DecodingConfig) -> list[list[int]]:
    with torch.no_grad():
        encoded = model(x, x_lens)
        return labels(model, encoded.out, encoded.lens, config)


@with_onnx
def test_float_files_compute_what_torch_computes(exported: tuple[Transducer, Path]) -> None:
    model, folder = exported
    runtime = OnnxTransducer(files(folder, "onnx"), model)
    for seed, lens in enumerate([(203, 143), (61,), (300, 17, 120), (12,)]):
        x, x_lens = features(lens, seed)
        x = 3.0 * x - 8.0  # about where log-mel features lie
        with torch.no_grad():
            encoded = model(x, x_lens)
            expected = model.project_encoder(encoded.out)
        got = runtime.encode(x, x_lens)
        assert torch.equal(got.lens, encoded.lens)
        for row, length in enumerate(encoded.lens.tolist()):
            torch.testing.assert_close(got.out[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)
    am, labels, state = (
        torch.randn(1, 3, model.config.joiner.dim),
        torch.tensor([0, 5, 3]),
        model.predictor.init_state(3, torch.device("cpu")),
    )
    for _ in range(3):
        with torch.no_grad():
            out, after = model.predictor.step(labels, state)
            lm = model.joiner.project_predictor(out)
            logits = model.joiner(am, lm)
        got_lm, got_after = runtime.predictor.step(labels, state)
        torch.testing.assert_close(got_lm, lm, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(runtime.joiner(am, got_lm), logits, atol=1e-4, rtol=1e-4)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got_after.tensors, after.tensors, strict=True))
        labels, state = logits[0].argmax(-1), after


@with_onnx
def test_utterances_of_every_length_have_all_their_frames(exported: tuple[Transducer, Path]) -> None:
    """Whatever is left behind whole segments or stacks of frames."""
    model, folder = exported
    runtime = OnnxTransducer(files(folder, "onnx"), model)
    for length in range(8, 60, 3):
        x, x_lens = features((length,), seed=length)
        with torch.no_grad():
            encoded = model(x, x_lens)
            expected = model.project_encoder(encoded.out)
        got = runtime.encode(x, x_lens)
        assert torch.equal(got.lens, encoded.lens)
        torch.testing.assert_close(got.out, expected, atol=1e-4, rtol=1e-4)


@with_onnx
def test_a_ctc_model_is_one_file_with_log_probabilities_of_a_fixed_number_of_labels(tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = CTC_MODEL.model_copy(update={"encoder": CONFIGS["conformer"].encoder})
    model = randomize(CtcModel(config, VOCAB_SIZE)).eval()
    assert isinstance(model, CtcModel)
    made = export_onnx(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ctc.onnx"]
    runtime = open_runtime(made, model)
    assert isinstance(runtime, OnnxCtc)
    names = [entry.name for entry in runtime.session.session.get_outputs()]
    assert (runtime.session.names, names) == (["x", "x_lens"], ["log_probs", "lens"])
    assert runtime.session.session.get_outputs()[0].shape[-1] == VOCAB_SIZE
    for seed, lens in enumerate([(203, 143), (61,), (300, 17, 120)]):
        x, x_lens = features(lens, seed)
        with torch.no_grad():
            encoded = model(x, x_lens)
            expected = torch.nn.functional.linear(encoded.out, model.output.weight, model.output.bias).log_softmax(-1)
        got = runtime.encode(x, x_lens)
        assert torch.equal(got.lens, encoded.lens)
        for row, length in enumerate(encoded.lens.tolist()):
            torch.testing.assert_close(got.out[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)


@with_onnx
@pytest.mark.parametrize("kind", ["greedy", "modified_beam"])
def test_searches_find_the_same(exported: tuple[Transducer, Path], kind: str) -> None:
    model, folder = exported
    config = DecodingConfig(kind=kind)  # type: ignore[arg-type]
    x, x_lens = features((200, 120, 63), seed=7)
    runtime = OnnxTransducer(files(folder, "onnx"), model)
    encoded = runtime.encode(x, x_lens)
    expected = labels_in_torch(model, x, x_lens, config)
    assert sum(map(len, expected)) > 30
    assert labels(runtime, encoded.out, encoded.lens, config) == expected


def products_saturate() -> bool:
    """Whether onnxruntime's int8 products do on this processor."""
    import numpy as np
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


@with_onnx
def test_int8_is_close_and_small(exported: tuple[Transducer, Path], tmp_path: Path) -> None:
    model, folder = exported
    if products_saturate():  # not what is tested here
        quantize(files(folder, "onnx"), tmp_path, reduce_range=True)
        runtime = OnnxTransducer(files(tmp_path, "int8.onnx"), model)
    else:
        runtime = OnnxTransducer(files(folder, "int8.onnx"), model)
    x, x_lens = features((200, 120, 63), seed=7)
    encoded = runtime.encode(x, x_lens)
    config = DecodingConfig()
    found = labels(runtime, encoded.out, encoded.lens, config)
    expected = labels_in_torch(model, x, x_lens, config)
    errors = sum(edit_distance(a, b)["total"] for a, b in zip(expected, found, strict=True))
    assert sum(map(len, found)) > 0
    assert errors <= 0.3 * sum(map(len, expected))
    assert files(folder, "int8.onnx").bytes < files(folder, "onnx").bytes


@with_onnx
def test_int8_files_hold_the_weights_of_fake_quantisation(exported: tuple[Transducer, Path]) -> None:
    """Every weight of a linear layer is found, level by level and scale by scale, in onnxruntime's files."""
    import onnx
    from onnx import numpy_helper

    model, folder = exported
    stored: dict[tuple[int, ...], list[Tensor]] = {}
    for part in ("encoder", "predictor", "joiner"):
        graph = onnx.load(folder / f"{part}.int8.onnx").graph
        values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        for name, levels in values.items():
            if levels.dtype == torch.int8 and levels.ndim == 2:
                scale = values[name.removesuffix("_quantized") + "_scale"]
                weight = (levels.float() * scale).T.contiguous()
                stored.setdefault(tuple(weight.shape), []).append(weight)
    rounded = fake_quantized(model)
    linears = [m.weight for m in rounded.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linears) > 10
    for weight in linears:
        candidates = stored[tuple(weight.shape)]
        assert any(torch.allclose(weight, other, rtol=1e-5, atol=1e-8) for other in candidates), weight.shape


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"onnx is not installed: pip install 'slimasr\[export\]'"):
        export_onnx(make_model("conformer"), tmp_path)


@with_onnx
def test_int8_files_of_a_pathway_keep_its_zeros(exported: tuple[Transducer, Path]) -> None:
    import onnx
    from onnx import numpy_helper

    model, folder = exported
    if not isinstance(model.config.encoder, EmformerConfig):
        pytest.skip("not a pathway")
    levels = []
    for part in ("encoder", "predictor", "joiner"):
        values = map(numpy_helper.to_array, onnx.load(folder / f"{part}.int8.onnx").graph.initializer)
        # Matrices are transposed in the files.
        levels += [torch.from_numpy(value.T.copy()) for value in values if value.dtype == "int8" and value.ndim == 2]
    for name, weight in prunable_matrices(model).items():
        assert 0.6 < float((weight == 0).double().mean()) < 0.8
        alike = [level for level in levels if level.shape == weight.shape and not level[weight == 0].any()]
        # Every 0 of a matrix is one in the file, which no other matrix has at the same places.
        assert len(alike) == 1 and alike[0].any(), name
