"""Decoders of finite context against the predictor step by step, in torch and in onnxruntime."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from slimasr.config.model import StatelessPredictorConfig
from slimasr.errors import UserError
from slimasr.export.context import ContextDecoder, context_decoder
from slimasr.models.build import build_model
from slimasr.models.predictor import LstmPredictor
from slimasr.models.transducer import Transducer
from tests.export.models import LSTM
from tests.tiny import MODEL, randomize

VOCAB_SIZE = 12
LAST = VOCAB_SIZE - 1
"""The token whose row an index of -1 would read."""
TABLE = "predictor.embedding.weight"
PREDICTORS = {
    "lstm": LSTM,
    "one layer": LSTM.model_copy(update={"num_layers": 1}),
    "stateless 1": StatelessPredictorConfig(dim=8, context_size=1),
    "stateless 3": StatelessPredictorConfig(dim=8, context_size=3),
}


def make(predictor: str, context: int = 3) -> tuple[Transducer, ContextDecoder]:
    torch.manual_seed(3)
    model = build_model(MODEL.model_copy(update={"predictor": PREDICTORS[predictor]}), None, VOCAB_SIZE, (1.0,))
    assert isinstance(model, Transducer)
    randomize(model)
    with torch.no_grad():  # so that a label is felt many labels later
        model.get_parameter(TABLE).mul_(4.0)
    return model.eval(), context_decoder(model, context).eval()


def tokens(length: int) -> list[int]:
    return [3 + (5 * i + length) % (LAST - 3) for i in range(length)]


def context_of(emitted: Sequence[int], size: int) -> list[int]:
    """What sherpa-onnx feeds: ..., -1, -1, blank and the tokens so far, of which the last ones are kept."""
    return [*[-1] * (size - 1), 0, *emitted][-size:]


@torch.no_grad()
def by_steps(model: Transducer, emitted: Sequence[int]) -> Tensor:
    """(J,) output after blank and these tokens, one step for each."""
    state = model.predictor.init_state(1, torch.device("cpu"))
    for label in (0, *emitted):
        out, state = model.predictor.step(torch.tensor([label]), state)
    return model.joiner.project_predictor(out)[0]


@torch.no_grad()
def decoded(decoder: ContextDecoder, histories: Sequence[Sequence[int]]) -> Tensor:
    return decoder(torch.tensor([context_of(history, decoder.context_size) for history in histories]))


@pytest.mark.parametrize("context", [1, 2, 5, 16])
@pytest.mark.parametrize("predictor", ["lstm", "one layer"])
def test_an_lstm_of_finite_context_is_exact_up_to_so_many_tokens(predictor: str, context: int) -> None:
    model, decoder = make(predictor, context)
    histories = [tokens(length) for length in range(context + 1)]
    expected = torch.stack([by_steps(model, history) for history in histories])
    torch.testing.assert_close(decoded(decoder, histories), expected, atol=1e-5, rtol=0)
    # The histories differ by more than that, so that a decoder that lost a label would be seen.
    assert (expected[1:] - expected[:-1]).abs().amax(1).min() > 1e-2


def test_an_lstm_that_has_forgotten_starts_anew_with_the_labels_that_it_sees() -> None:
    model, decoder = make("lstm", 3)
    long = tokens(9)
    torch.testing.assert_close(decoded(decoder, [long])[0], by_steps(model, long[-3:]), atol=1e-5, rtol=0)
    assert (decoded(decoder, [long])[0] - by_steps(model, long)).abs().max() > 1e-4


def test_an_lstm_of_finite_context_is_torchs_own_layer() -> None:
    model, decoder = make("lstm", 8)
    history = tokens(8)
    assert isinstance(model.predictor, LstmPredictor)
    with torch.no_grad():
        out, _ = model.predictor.lstm(model.predictor.embedding(torch.tensor([[0, *history]])))
        expected = model.joiner.project_predictor(out[0, -1])
    torch.testing.assert_close(decoded(decoder, [history])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predictor", ["stateless 1", "stateless 3"])
def test_a_stateless_predictor_keeps_its_own_context(predictor: str) -> None:
    model, decoder = make(predictor, context=7)
    assert decoder.context_size == model.predictor.context_size
    histories = [tokens(length) for length in range(6)]
    expected = torch.stack([by_steps(model, history) for history in histories])
    torch.testing.assert_close(decoded(decoder, histories), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_no_label_is_no_row_of_the_table(predictor: str) -> None:
    model, decoder = make(predictor)
    histories = [tokens(length) for length in range(4)]
    before = decoded(decoder, histories)
    with torch.no_grad():
        model.get_parameter(TABLE)[LAST] = math.nan
    assert torch.equal(decoded(decoder, histories), before)


@pytest.fixture(scope="module", params=["lstm", "stateless 3"])
def exported(request: pytest.FixtureRequest) -> tuple[Transducer, ContextDecoder, bytes]:
    """A decoder and its ONNX file; the last row of its table is not a number."""
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    model, decoder = make(request.param)
    spoilt = copy.deepcopy(decoder)
    with torch.no_grad():
        spoilt.get_parameter(f"predictor.{TABLE}")[LAST] = math.nan
        program = torch.onnx.export(
            spoilt,
            (torch.tensor([[-1, 0, 3], [4, 5, 6], [7, 8, 3]])[:, -decoder.context_size :],),
            dynamo=True,
            opset_version=18,
            dynamic_shapes={"y": {0: Dim.DYNAMIC}},
            input_names=["y"],
            output_names=["decoder_out"],
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.ir_version = 8
    assert [opset.version for opset in proto.opset_import if not opset.domain] == [18]
    return model, decoder, proto.SerializeToString()


def test_the_file_computes_what_torch_computes(exported: tuple[Transducer, ContextDecoder, bytes]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    model, decoder, file = exported
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    histories = [tokens(length) for length in range(decoder.context_size + 3)]
    contexts = torch.tensor([context_of(history, decoder.context_size) for history in histories])
    for rows in (contexts[:1], contexts):
        (found,) = session.run(["decoder_out"], {"y": rows.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), decoder(rows).detach(), atol=1e-5, rtol=0)
    expected = torch.stack([by_steps(model, history) for history in histories[: decoder.context_size + 1]])
    torch.testing.assert_close(torch.from_numpy(found)[: len(expected)], expected, atol=1e-5, rtol=0)


def test_a_decoder_without_labels_is_refused() -> None:
    with pytest.raises(UserError, match="--context 0"):
        make("lstm", 0)
