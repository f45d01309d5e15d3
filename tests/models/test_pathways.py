"""Pathways: the matrices that they cover, what is cut out of a model, its costs, and that dense weights never run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimasr.config.model import ModelConfig
from slimasr.data.batches.batch import Batch
from slimasr.elastic.blocks import expand
from slimasr.errors import UserError
from slimasr.methods.base import Pass, StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.models.pathways import prunable_matrices
from slimasr.models.prepared import prepare
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective
from slimasr.search.prefix import PrefixCache
from slimasr.supernet.list_space import ListSpace
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.space import WidthSpace
from slimasr.supernet.subnet import Subnet
from tests.models.pathway_kit import CTC, LANGUAGES, TRANSDUCERS, pathway_model
from tests.tiny import FULL_LOSS, VOCAB_SIZE, batch, features

FR = Subnet(pathway="fr")
every_model = pytest.mark.parametrize("config", [*TRANSDUCERS.values(), CTC], ids=[*TRANSDUCERS, "ctc"])


def masked_weights(model: SpeechModel, name: str) -> dict[str, Tensor]:
    """The matrices of a pathway, masked entry by entry."""
    assert model.pathways is not None
    found = {}
    for matrix, weight in prunable_matrices(model).items():
        mask = model.pathways.mask(name, matrix)
        rows, columns = (torch.arange(size) for size in weight.shape)
        block = model.pathways.block
        found[matrix] = weight.detach() * mask[rows.unsqueeze(1) // block[0], columns // block[1]]
    return found


def test_prunable_matrices_by_name() -> None:
    layer = "encoder.layers.0.parts"
    inside = [
        *(f"{layer}.{ffn}.{place}.weight" for ffn in ("ffn1", "ffn2") for place in ("inner", "outer")),
        *(f"{layer}.heads.{place}.weight" for place in ("in_proj", "out_proj", "position_proj")),
        *(f"{layer}.conv.{place}.weight" for place in ("gated", "pointwise")),
    ]
    lstm = [f"predictor.lstm.weight_{place}_l{number}" for place in ("ih", "hh") for number in (0, 1)]
    found = prunable_matrices(pathway_model(loss=FULL_LOSS))
    assert {name for name in found if ".layers.0." in name or "predictor" in name} == {*inside, *lstm}
    assert len(found) == 3 * len(inside) + len(lstm)
    assert all(weight.ndim == 2 for weight in found.values())


@every_model
@pytest.mark.parametrize("block", [(8, 1), (4, 3)])
def test_a_pathway_cut_out_equals_the_masked_model(config: ModelConfig, block: tuple[int, int]) -> None:
    model = pathway_model(config, block=block)
    x, lens = features((61, 40))
    for name in LANGUAGES:
        alone = model.extract(Subnet(pathway=name))
        masked = torch.func.functional_call(model, masked_weights(model, name), (x, lens))
        torch.testing.assert_close(alone(x, lens).out, masked.out, atol=1e-5, rtol=1e-5)
        dense = model(x, lens).out
        assert not torch.allclose(alone(x, lens).out, dense, atol=1e-2)
        assert alone.pathways is None and type(alone) is type(model)
        assert {type(a) for a in alone.modules()} <= {type(b) for b in model.modules()}


def test_the_predictor_of_a_pathway_is_that_of_the_masked_lstm() -> None:
    model = pathway_model()
    labels = torch.randint(1, VOCAB_SIZE, (3, 6))
    alone = model.extract(FR)
    assert isinstance(model, Transducer) and isinstance(alone, Transducer)
    weights = {key: value for key, value in masked_weights(model, "fr").items() if key.startswith("predictor.")}
    # torch's own LSTM, with the masked weights and the biases of the model
    reference = nn.LSTM(10, 12, 2, batch_first=True)
    reference.load_state_dict(
        model.predictor.lstm.state_dict() | {key.rpartition(".")[2]: value for key, value in weights.items()}
    )
    embedded = model.predictor.embedding(nn.functional.pad(labels, (1, 0)))
    expected, _ = reference(embedded)
    torch.testing.assert_close(alone.predictor(labels), expected, atol=1e-5, rtol=1e-5)
    # The step of a search is the twin of the whole sequence.
    state = alone.predictor.init_state(3, labels.device)
    out, _ = alone.predictor.step(torch.zeros(3, dtype=torch.int64), state)
    torch.testing.assert_close(out, expected[:, 0], atol=1e-5, rtol=1e-5)


@every_model
@pytest.mark.parametrize("sparsity", [0.2, 0.7])
def test_costs_are_those_of_what_is_kept(config: ModelConfig, sparsity: float) -> None:
    model = pathway_model(config, sparsity)
    alone = model.extract(FR)
    cost = model.count(FR)
    assert alone.count() == cost == model.count(FR)
    weights = prunable_matrices(alone)
    kept = {name: int((weight != 0).sum()) for name, weight in weights.items()}
    size = {name: weight.numel() for name, weight in weights.items()}
    # To the unit, as long as no kept weight is 0 by chance.
    assert cost.params - sum(kept.values()) == sum(p.numel() for p in alone.parameters()) - sum(size.values())
    dense = model.count()
    assert cost.paper_size == dense.params == dense.paper_size
    assert cost.macs == pytest.approx(dense.macs - saved_macs(alone, kept) / 10, rel=1e-9)
    lstm = [name for name in weights if name.startswith("predictor.")]
    assert cost.predictor_macs == dense.predictor_macs - sum(size[name] - kept[name] for name in lstm)
    # One byte per weight that is left out, against one bit per block of 8, in whole bytes per matrix.
    blocks = [math.ceil(weight.shape[0] / 8) * weight.shape[1] for weight in weights.values()]
    bits = sum(math.ceil(number / 8) for number in blocks)
    assert cost.int8_bytes == dense.int8_bytes - sum(size.values()) + sum(kept.values()) + bits


def saved_macs(model: SpeechModel, kept: dict[str, int]) -> float:
    """Products with pruned weights of the encoder in 10 s of audio, by the vectors that its layers are called with."""
    saved = 0

    def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Any) -> None:
            nonlocal saved
            weight = model.get_parameter(f"{name}.weight")
            saved += (args[0].numel() // args[0].shape[-1]) * (weight.numel() - kept[f"{name}.weight"])

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(count(name))
        for name in (key.removesuffix(".weight") for key in kept if key.startswith("encoder."))
    ]
    model(*features((1000,)))
    for handle in handles:
        handle.remove()
    return saved


def test_pruned_weights_are_zero_and_the_others_have_every_bit() -> None:
    model = pathway_model()
    alone = model.extract(FR)
    masked = {f"{name}": weight for name, weight in masked_weights(model, "fr").items()}
    for name, parameter in alone.named_parameters():
        expected = masked.get(name, model.get_parameter(name)).detach()
        # No negative zero either, although -0.3 * 0 is one.
        assert torch.equal(parameter, expected), name
        assert not bool((parameter == 0).logical_and(parameter.signbit()).any()), name
    again = alone.extract(Subnet())
    assert again.count() == alone.count()


def test_masks_are_part_of_the_weights() -> None:
    model = pathway_model()
    fresh = build_model(TRANSDUCERS["conformer"], None, VOCAB_SIZE, (1.0,), pathways=PathwaySpec(LANGUAGES, (8, 1)))
    assert fresh.pathways is not None and model.pathways is not None
    assert all(mask.all() for mask in fresh.pathways.expanded("nl").values())
    fresh.load_state_dict(model.state_dict())
    for matrix, mask in model.pathways.expanded("nl").items():
        assert torch.equal(fresh.pathways.expanded("nl")[matrix], mask)
        assert torch.equal(mask, expand(model.pathways.masks(matrix)[2], mask.shape, (8, 1)))


def test_a_pathway_never_runs_dense_weights() -> None:
    model = pathway_model(loss=FULL_LOSS)
    assert isinstance(model, Transducer)
    made = batch()
    encoded = model.encode(made.x, made.x_lens)
    objective = Objective(model, FULL_LOSS)
    runs: list[Callable[[], object]] = [
        lambda: model.encode(made.x, made.x_lens, FR),
        lambda: model.encoder.run_layers(encoded, (0,), FR),
        lambda: model.project_encoder(encoded.out, FR),
        lambda: model.ctc_logits(encoded.out, FR),
        lambda: objective(made, FR, ("transducer",)),
        lambda: PrefixCache(10**6, 1).encode(0, made, model, FR, FR),
    ]
    for run in runs:
        with pytest.raises(ValueError, match="pathway fr must be cut out"):
            run()
    with pytest.raises(ValueError, match="pathway fr must be cut out"):
        pathway_model(TRANSDUCERS["emformer"]).encoder.init_state(1, torch.device("cpu"), FR)


class MaskedPredictor(Slimmable):
    """Shares the predictor of all passes, and would mask it in one of them."""

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(Subnet(), self.losses)]

    def substitutes(self, objective: Objective, *args: Any) -> dict[str, Tensor]:
        return {f"model.{name}": weight for name, weight in masked_weights(objective.model, "fr").items()}


def test_a_shared_predictor_is_not_masked_in_vain() -> None:
    objective = Objective(pathway_model(loss=FULL_LOSS), FULL_LOSS)
    context = StepContext(0, 1, 1, random.Random(0))
    method = MaskedPredictor(WidthSpace((1.0,)), {"transducer": 1.0}, share_predictor=True)
    with pytest.raises(AssertionError, match="a shared predictor runs without the substitutes"):
        method.run(objective, batch(), context, 1.0, torch.autograd.backward)
    shared = Slimmable(ListSpace((FR,)), {"transducer": 1.0}, share_predictor=True)
    with pytest.raises(ValueError, match="pathway fr must be cut out"):
        shared.run(objective, batch(), context, 1.0, torch.autograd.backward)


def test_pathways_share_no_states_of_a_cache() -> None:
    model = pathway_model()
    made = batch()
    cache = PrefixCache(10**8, 1)
    for name in ("fr", "nl", "fr"):
        prepared = prepare(model, Subnet(pathway=name))
        found = cache.encode(0, made, prepared.model, prepared.active, prepared.subnet)
        expected = prepared.model(made.x, made.x_lens)
        torch.testing.assert_close(found.out, expected.out, atol=1e-5, rtol=1e-5)


def test_preparing() -> None:
    model = pathway_model()
    prepared = prepare(model, FR)
    assert prepared.active is None and prepared.subnet == FR and prepared.model is not model
    whole = prepare(model, Subnet())
    assert whole.model is model and whole.active == Subnet()
    for subnet, message in (
        (Subnet(pathway="it"), "there is no 'it'; the model has the pathways en, fr, nl"),
        (Subnet(1.0, (0, 1), pathway="fr"), "w1-l2-fr has a width, a path or units besides"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(model, subnet)
    with pytest.raises(ValueError, match="the model has no pathways"):
        prepare(model.extract(FR), FR)


def test_blocks_that_fit_no_matrix_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"space.block: no matrix of the model holds a block of 64 outputs and 1 inputs"
    ):
        pathway_model(block=(64, 1))
