"""MH-SSM encoder: the paper's sizes, exact extraction, padding without effect, streaming equal to the whole."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.encoders import MhSsmConfig
from slimasr.config.model import (
    FrontendConfig,
    JoinerConfig,
    LstmPredictorConfig,
    StackFrontendConfig,
    TransducerConfig,
)
from slimasr.elastic.blocked import block_macs
from slimasr.elastic.convolution import convolution_macs
from slimasr.encoders.base import EncoderState, Known
from slimasr.encoders.conformer import Conformer
from slimasr.encoders.mh_ssm import MhSsm, MhSsmLayer
from slimasr.errors import UserError
from slimasr.models.build import shrink_model_config
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.encoders.kit import (
    assert_extracted_twice,
    assert_extraction_is_exact,
    assert_padding_has_no_effect,
    assert_parts_equal_the_whole,
    assert_the_first_half_depends_on_its_own_units,
    assert_units_can_be_chosen,
)
from tests.tiny import MODEL, encoder_config, features, randomize
from tests.training.kit import TinyBatches, make_trainer, tiny_config, tiny_tokenizer

WIDTHS = (1.0, 0.5)
STACK = StackFrontendConfig()
CONFIG = MhSsmConfig(d_model=16, num_layers=3, ssm_state=8, ffn_dim=32, dropout=0.0)
PIECES = Subnet(0.5, (0, 2), (("0.ffn", 5), ("2.ffn", (1, 3, 9))))
SUBNETS = [
    Subnet(),
    Subnet(0.5),
    Subnet(1.0, (0, 1)),
    Subnet(0.5, (0,)),
    Subnet(1.0, None, (("0.ffn", 8), ("2.ffn", 24))),
    Subnet(1.0, (0, 1), (("0.ffn", 8), ("1.ffn", 8))),
    Subnet(1.0, None, (("1.ffn", 0),)),
    PIECES,
]

PAPER = TransducerConfig(
    frontend=StackFrontendConfig(factor=4),
    encoder=MhSsmConfig(d_model=512, num_layers=16, ssm_heads=1, ssm_stacks=2, ssm_state=32, ffn_dim=4096),
    predictor=LstmPredictorConfig(dim=512, num_layers=3, embedding_dim=512),
    joiner=JoinerConfig(dim=1024, activation="relu"),
)
PAPER_VOCAB = 4097
PAPER_SIZES = {
    (16, 4096): 99.9,
    (16, 1024): 49.5,
    (8, 1024): 31.6,
    (16, 512): 41.1,
    (9, 512): 29.1,
    (12, 2048): 53.1,
    (8, 2048): 40.0,
}


def config(**changes: object) -> MhSsmConfig:
    return MhSsmConfig(**{**CONFIG.model_dump(), **changes})


def mh_ssm(frontend: FrontendConfig = STACK, **changes: object) -> MhSsm:
    encoder = randomize(MhSsm(config(**changes), frontend, 20, WIDTHS)).eval()
    assert isinstance(encoder, MhSsm)
    return encoder


def model_config(**changes: object) -> TransducerConfig:
    return MODEL.model_copy(update={"frontend": STACK, "encoder": config(**changes)})


@functools.cache
def paper_model() -> Transducer:
    """Shapes without memory."""
    with torch.device("meta"):
        return Transducer(PAPER, PAPER_VOCAB)


def test_parameter_counts_of_the_paper() -> None:
    supernet = paper_model()
    for (depth, hidden), millions in PAPER_SIZES.items():
        subnet = Subnet(1.0, tuple(range(depth)), tuple((f"{layer}.ffn", hidden) for layer in range(depth)))
        with torch.device("meta"):
            built = Transducer(shrink_model_config(PAPER, subnet), PAPER_VOCAB)
        params = sum(p.numel() for p in built.parameters())
        assert abs(params / 1e6 - millions) < 0.1, (depth, hidden)
        assert supernet.count(subnet).params == params == built.count().params
        assert supernet.count(subnet).paper_size == params


def test_shares_of_the_paper() -> None:
    """Encoder 86.9 %, predictor 8.9 %, joiner 4.2 % of the largest model (paper 2)."""
    model = paper_model()
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    projections = {
        name: sum(p.numel() for p in getattr(model.joiner, name).parameters())
        for name in ("encoder_proj", "predictor_proj", "output")
    }
    total = sum(size.values())
    shares = (
        size["encoder"] + projections["encoder_proj"],
        size["predictor"] + projections["predictor_proj"],
        projections["output"],
    )
    for share, percent in zip(shares, (86.9, 8.9, 4.2), strict=True):
        assert abs(100 * share / total - percent) < 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bidirectional": False, "ssm_stacks": 1},
        {"ssm_heads": 4, "spread_heads": True},
        {"ssm_heads": 2, "norm": "shared", "adaptive_dropout": True},
        {"convolution": "real"},
        {"ffn_dims": [32, 16, 24]},
    ],
)
def test_extraction_is_exact(changes: dict[str, object]) -> None:
    assert_extraction_is_exact(model_config(**changes), WIDTHS, (Subnet(0.5), PIECES) if changes else SUBNETS)


def test_a_layer_is_the_papers_formula() -> None:
    """x + MHSSM(LN x), then LN(x + FFN(LN x)), by torch's own functions on the layer's weights."""
    layer = mh_ssm().layers[1]
    assert isinstance(layer, MhSsmLayer) and layer.ffn is not None
    x, padding = torch.randn(2, 9, CONFIG.d_model), torch.arange(9) >= torch.tensor([[9], [6]])
    weights = dict(layer.named_parameters())

    def norm(name: str, value: Tensor) -> Tensor:
        scale, shift = (weights[f"norms.{name}.affine.{CONFIG.d_model}.{part}"] for part in ("weight", "bias"))
        return functional.layer_norm(value, value.shape[-1:], scale, shift)

    def linear(name: str, value: Tensor) -> Tensor:
        return functional.linear(value, weights[f"ffn.{name}.weight"], weights[f"ffn.{name}.bias"])

    with torch.no_grad():
        y = x + layer.ssm(norm("ssm", x), padding)
        y = norm("out", y + linear("outer", functional.gelu(linear("inner", norm("ffn", y)))))
        torch.testing.assert_close(layer(x, padding, 1.0, None), y, atol=1e-6, rtol=1e-5)


def test_an_extracted_model_can_be_extracted_again() -> None:
    assert_extracted_twice(model_config(), WIDTHS, PIECES, Subnet(1.0, (0,)))


def test_sizes_are_written_down_where_layers_differ() -> None:
    apart = MhSsm.shrink(CONFIG, SUBNETS[4])
    assert apart.ffn_dims == [8, 32, 24] and apart.num_layers == 3
    alike = MhSsm.shrink(CONFIG, SUBNETS[5])
    assert alike.ffn_dims is None and alike.ffn_dim == 8 and alike.num_layers == 2
    assert MhSsm.shrink(CONFIG, PIECES).ffn_dims == [5, 3] and MhSsm.shrink(CONFIG, SUBNETS[6]).ffn_dims == [32, 0, 32]
    for subnet in SUBNETS:
        assert MhSsmConfig(**MhSsm.shrink(CONFIG, subnet).model_dump()) == MhSsm.shrink(CONFIG, subnet)


@pytest.mark.parametrize("changes", [{}, {"ssm_heads": 2}, {"bidirectional": False}, {"convolution": "real"}])
def test_a_padded_batch_equals_utterances_run_alone(changes: dict[str, object]) -> None:
    assert_padding_has_no_effect(mh_ssm(**changes), (Subnet(), Subnet(0.5), PIECES))


def test_real_arithmetic_gives_the_same() -> None:
    by_fft, directly = mh_ssm(), mh_ssm(convolution="real")
    assert directly.load_state_dict(by_fft.state_dict())
    x, lens = features((301, 100))
    for subnet in (Subnet(), PIECES):
        torch.testing.assert_close(directly(x, lens, subnet).out, by_fft(x, lens, subnet).out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frontend", [STACK, MODEL.frontend], ids=["stack", "conv"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("chunks", [(61,), (1,) * 61, (3, 0, 17, 41), (4, 8, 9, 40)])
def test_streaming_equals_the_whole(frontend: FrontendConfig, heads: int, chunks: tuple[int, ...]) -> None:
    encoder = mh_ssm(frontend, bidirectional=False, ssm_heads=heads)
    x, _ = features((61, 61))
    for subnet in (None, Subnet(0.5), PIECES):
        state, outputs = encoder.init_state(2, x.device, subnet), []
        for chunk in x.split(chunks, dim=1):
            out, state = encoder.stream(chunk, state, subnet)
            outputs.append(out)
        want = encoder(x, torch.tensor([61, 61]), subnet).out
        torch.testing.assert_close(torch.cat(outputs, dim=1), want, atol=1e-4, rtol=1e-4)
        assert state.frames.shape[1] == 61 - encoder.frontend.subsampling_factor * want.shape[1]
        assert state.seen.tolist() == [want.shape[1]] * 2
        out, state = encoder.stream(x[:, :0], state, subnet, final=True)
        # Nothing waits for look-ahead, and an incomplete output frame is dropped.
        assert out.shape[1] == 0 and state.frames.shape[1] == 0


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("subnet", SUBNETS[:3])
def test_blocks_equal_kernels(subnet: Subnet, heads: int) -> None:
    """With padding, and with what runs of several subnets may share."""
    x, lens = features((1200, 700))
    whole, blocks = (mh_ssm(MODEL.frontend, convolution=kind, ssm_heads=heads) for kind in ("fft", "blocked"))
    blocks.load_state_dict(whole.state_dict())
    want = whole(x, lens, subnet)
    for known in (None, Known()):
        got = blocks(x, lens, subnet, known=known)
        for row, length in enumerate(want.lens.tolist()):
            torch.testing.assert_close(got.out[row, :length], want.out[row, :length], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", [1, 2])
def test_blocks_stream(heads: int) -> None:
    encoder = mh_ssm(MODEL.frontend, bidirectional=False, ssm_heads=heads, convolution="blocked")
    x, lens = features((61, 61))
    state, outputs = encoder.init_state(2, x.device), []
    for chunk in x.split((3, 0, 17, 41), dim=1):
        out, state = encoder.stream(chunk, state)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), encoder(x, lens).out, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frontend", [STACK, MODEL.frontend], ids=["stack", "conv"])
def test_streams_of_different_age_run_in_one_batch(frontend: FrontendConfig) -> None:
    encoder = mh_ssm(frontend, bidirectional=False)
    step = encoder.chunk_frames
    x, lens = features((15 * step, 15 * step, 15 * step))
    states, outputs = [], []
    # The streams have run for 2, 5 and 9 chunks when they meet.
    ages = [2, 5, 9]
    for row, age in enumerate(ages):
        out, state = encoder.stream(x[row : row + 1, : age * step], encoder.init_state(1, x.device))
        states.append(state)
        outputs.append([out])
    together = EncoderState.stack(states)
    assert len(together) == 3 and len(set(together.seen.tolist())) == 3
    for chunk in range(5):
        pieces = [x[row, (age + chunk) * step : (age + chunk + 1) * step] for row, age in enumerate(ages)]
        out, together = encoder.stream(torch.stack(pieces), together)
        for row in range(3):
            outputs[row].append(out[row : row + 1])
    # One of them goes on alone to its end.
    alone = together.select([1])
    out, _ = encoder.stream(x[1:2, 10 * step :], alone, final=True)
    outputs[1].append(out)
    want = encoder(x, lens).out
    for row, parts in enumerate(outputs):
        got = torch.cat(parts, dim=1)
        torch.testing.assert_close(got, want[row : row + 1, : got.shape[1]], atol=1e-4, rtol=1e-4)
    assert torch.cat(outputs[1], dim=1).shape[1] == want.shape[1]


def test_streams_with_other_waiting_frames_cannot_be_stacked() -> None:
    encoder = mh_ssm(bidirectional=False)
    x, _ = features((8,))
    young = encoder.init_state(1, x.device)
    _, older = encoder.stream(x[:, :1], young)
    with pytest.raises(ValueError, match="0, 1"):
        EncoderState.stack([young, older])


def test_gradients_under_autocast_are_those_of_float32() -> None:
    """The systems stay in float32: their gradients differ by no more than bfloat16 makes of the layers around."""
    encoder, (x, lens), found = mh_ssm(), features((40, 30)), []
    for enabled in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = encoder(x, lens).out
        out.float().square().sum().backward()
        system = encoder.layers[2].ssm.heads[0].units[1].systems[1]
        found.append(torch.cat([p.grad.flatten() for p in system.parameters()]))
    assert found[1].dtype == torch.float32
    assert (found[1] - found[0]).norm() < 0.05 * found[0].norm()


def test_forward_form_sees_no_future() -> None:
    encoder, (x, lens) = mh_ssm(bidirectional=False), features((40,))
    before = encoder(x, lens).out
    x[:, 24:] = 7.0
    after = encoder(x, lens).out
    torch.testing.assert_close(after[:, :6], before[:, :6])
    assert not torch.allclose(after[:, 6:], before[:, 6:])


def test_encoders_that_need_whole_utterances_say_so() -> None:
    x, _ = features((8,))
    for encoder in (mh_ssm(), Conformer(encoder_config(), MODEL.frontend, 20, (1.0,))):
        with pytest.raises(UserError, match="needs whole utterances; to stream, train kind mh_ssm"):
            encoder.init_state(1, x.device)
        with pytest.raises(UserError, match="needs whole utterances"):
            encoder.stream(x, EncoderState(x[:, :0], torch.zeros(1, dtype=torch.int64), ()))
        with pytest.raises(UserError, match="or kind emformer"):
            _ = encoder.chunk_frames
        assert not encoder.can_stream


def test_parts_equal_the_whole_and_taps_are_hidden_states() -> None:
    assert_parts_equal_the_whole(mh_ssm(), Subnet(0.5))


@pytest.mark.parametrize("subnet", [Subnet(), PIECES, Subnet(0.5, (0, 1))])
@pytest.mark.parametrize("heads", [1, 2])
def test_macs_are_those_of_the_products_that_run(subnet: Subnet, heads: int) -> None:
    """torch's counter sees every product of the real form; of the FFT form, all but the transforms; and of the blocks,
    those with matrices."""
    x, lens = features((61,))
    counted = {}
    for kind in ("real", "fft", "blocked"):
        encoder = mh_ssm(convolution=kind, ssm_heads=heads)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            encoder(x, lens, subnet)
        counted[kind] = flops.get_total_flops() / 2
        macs = encoder.count(subnet, 61).macs
        units = 2 * len(encoder.path_of(subnet))
        channels = encoder.width_of(subnet)
        if kind == "fft":
            macs -= units * heads * convolution_macs(channels // heads, 2, 15, "fft")
        elif kind == "blocked":
            # A single block of 16 frames: products with its triangle and with the 8 numbers of the state
            matrices = 16 * (16 + 2 * 8)
            macs += units * 2 * channels * matrices - units * block_macs(2 * channels, 8, 15)
        assert macs == counted[kind], kind
    assert counted["real"] > counted["fft"]


def test_weights_outside_the_slice_get_zero_gradient() -> None:
    encoder, (x, lens) = mh_ssm(), features((30, 20))
    encoder(x, lens, PIECES).out.square().sum().backward()
    layer = encoder.layers[2]
    inner, outer, mix = layer.ffn.inner.weight.grad, layer.ffn.outer.weight.grad, layer.ssm.heads[0].units[0].mix
    rows = torch.zeros(32, dtype=torch.bool)
    rows[[1, 3, 9]] = True
    assert (inner[~rows] == 0).all() and (inner[:, 8:] == 0).all() and (inner[rows, :8] != 0).any()
    assert (outer[8:] == 0).all() and (outer[:, ~rows] == 0).all() and (outer[:8, rows] != 0).any()
    assert (mix.weight.grad[8:] == 0).all() and (mix.weight.grad[:, 8:16] == 0).all()
    assert (mix.weight.grad[:8, 16:24] != 0).any()
    assert all(p.grad is None for p in encoder.layers[1].parameters())
    assert all((p.grad is None) == (".affine.16." in name) for name, p in layer.named_parameters())


def test_unit_groups_name_everything_that_can_be_chosen() -> None:
    encoder = mh_ssm()
    assert encoder.unit_groups() == {"0.ffn": 32, "1.ffn": 32, "2.ffn": 32}
    assert_units_can_be_chosen(encoder)
    assert_the_first_half_depends_on_its_own_units(encoder)


def test_impossible_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="whole number"):
        MhSsm(CONFIG, STACK, 20, (1.0, 0.3))
    with pytest.raises(ValueError, match="4 channels cannot be divided among 8 heads"):
        MhSsm(config(ssm_heads=8), STACK, 20, (1.0, 0.25))
    with pytest.raises(ValueError, match="stacked frames"):
        MhSsm(config(d_model=24), STACK, 20, (1.0, 0.25))


def test_adaptive_dropout_reaches_the_layers() -> None:
    encoder = MhSsm(config(dropout=0.4, adaptive_dropout=True), STACK, 20, WIDTHS)
    conformer = Conformer(encoder_config(dropout=0.4, adaptive_dropout=True), MODEL.frontend, 20, WIDTHS)
    modules = [encoder.layers[0].ffn, *(conformer.layers[0].parts[name] for name in ("ffn1", "ffn2"))]
    for module in modules:
        assert module.hidden_dropout(8) == pytest.approx(0.1) and module.hidden_dropout(32) == pytest.approx(0.4)


def test_slimmable_training_lowers_the_loss_of_every_width(tmp_path: Path) -> None:
    encoder = {"kind": "mh_ssm", "d_model": 16, "num_layers": 2, "ssm_state": 4, "ffn_dim": 32}
    tiny = tiny_config(
        model={"frontend": {"kind": "stack"}, "encoder": encoder},
        training={"spec_augment": None, "optimizer": {"lr": 1e-2}},
    )
    trainer = make_trainer(tiny, tmp_path)
    assert isinstance(trainer.objective.model.encoder, MhSsm)
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b", "c"])
    reports = [trainer.stepper.step([batch], trainer.context()).report for _ in range(15)]
    first, last = reports[0].losses, reports[-1].losses
    assert first.keys() == last.keys() and len(first) == 4
    assert all(last[name] < 0.6 * first[name] for name in first)
