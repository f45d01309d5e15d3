"""The Conformer: paper's sizes, exact extraction, padding without effect, parts equal to the whole."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.schema import ConformerConfig, ConvFrontendConfig, ModelConfig
from slimasr.encoders.conformer import Conformer
from slimasr.encoders.frontend import ConvFrontend
from slimasr.models.transducer import Transducer, shrink_model_config
from slimasr.supernet.subnet import Subnet
from tests.tiny import ENCODER, VOCAB_SIZE, WIDTHS, encoder_config, features, model_config, randomize

PAPER = {1.0: 25.4, 0.75: 14.3, 0.5: 6.4, 0.25: 1.6}
PAPER_PLAIN = {1.0: 24.4, 0.75: 13.8, 0.5: 6.15, 0.25: 1.57}
PIECES = Subnet(0.5, (0, 2), (("0.ffn1", (3, 5, 9)), ("0.heads", 1), ("2.conv", (0, 5, 7)), ("2.ffn2", 0)))


def paper_params(attention: str, width: float) -> float:
    """Millions of parameters of the paper-sized encoder without front end."""
    config = ConformerConfig(attention=attention)  # type: ignore[arg-type]
    encoder = Conformer(config, ConvFrontendConfig(), 80, WIDTHS)
    subnet = Subnet(width)
    whole = encoder.count(subnet, 100).params
    return (whole - encoder.frontend.count(width, encoder.width_of(subnet), 100).params) / 1e6


def test_parameter_counts_of_the_paper() -> None:
    for width, millions in PAPER_PLAIN.items():
        assert abs(paper_params("plain", width) - millions) < 0.06, width
    for width, millions in PAPER.items():
        # Counted with W_R shrinking on both sides; here R keeps its 256 dimensions at every width.
        kept_columns = 16 * (256 * width) * (256 - 256 * width) / 1e6
        assert abs(paper_params("relative", width) - kept_columns - millions) < 0.06, width


@pytest.mark.parametrize("attention", ["relative", "plain"])
@pytest.mark.parametrize("slimming", ["head_count", "head_size"])
@pytest.mark.parametrize("norm", ["per_width", "shared", "recalibrated"])
def test_extraction_is_exact(attention: str, slimming: str, norm: str) -> None:
    config = model_config(attention=attention, slimming=slimming, norm=norm)
    model = randomize(Transducer(config, VOCAB_SIZE, WIDTHS)).eval()
    assert isinstance(model, Transducer)
    x, lens = features((61, 40))
    pieces = [PIECES] if norm == "per_width" else []
    for subnet in [*map(Subnet, WIDTHS), *pieces]:
        alone = model.extract(subnet)
        want, got = model(x, lens, subnet), alone(x, lens)
        torch.testing.assert_close(got.out, want.out, atol=1e-5, rtol=1e-5)
        built = Transducer(shrink_model_config(config, subnet), VOCAB_SIZE)
        shapes = {name: value.shape for name, value in built.state_dict().items()}
        assert shapes == {name: value.shape for name, value in alone.state_dict().items()}
        built.load_state_dict(alone.state_dict())
        torch.testing.assert_close(built.eval()(x, lens).out, want.out, atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params == alone.count().params


def test_an_extracted_model_can_be_extracted_again() -> None:
    model = randomize(Transducer(model_config(), VOCAB_SIZE, WIDTHS)).eval()
    assert isinstance(model, Transducer)
    x, lens = features((40,))
    once = model.extract(PIECES)
    again = once.extract(Subnet(1.0, (0,)))
    torch.testing.assert_close(again(x, lens).out, once(x, lens, Subnet(1.0, (0,))).out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["relative", "plain"])
def test_a_padded_batch_equals_utterances_run_alone(attention: str) -> None:
    encoder = randomize(
        Conformer(encoder_config(attention=attention), ConvFrontendConfig(channels=4), 20, WIDTHS)
    ).eval()
    x, lens = features((61, 40, 7))
    x[1, 40:], x[2, 7:] = 1e4, -1e4
    for width in WIDTHS:
        together = encoder(x, lens, Subnet(width))
        for i, length in enumerate(lens.tolist()):
            alone = encoder(x[i : i + 1, :length], lens[i : i + 1], Subnet(width))
            assert alone.out.shape[1] == int(together.lens[i])
            torch.testing.assert_close(together.out[i, : alone.out.shape[1]], alone.out[0], atol=1e-4, rtol=1e-4)


def test_padding_does_not_reach_batch_statistics() -> None:
    encoder = Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, WIDTHS).train()
    x, lens = features((61, 40))
    results = []
    for filling in (0.0, 77.0):
        x[1, 40:] = filling
        torch.manual_seed(0)
        results.append(encoder(x, lens, Subnet(0.5)).out[1, : int(encoder.output_lens(lens)[1])])
    torch.testing.assert_close(results[0], results[1])


def test_parts_equal_the_whole_and_taps_are_hidden_states() -> None:
    encoder = randomize(Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, WIDTHS)).eval()
    assert isinstance(encoder, Conformer)
    x, lens = features((50, 33))
    subnet = Subnet(0.5)
    whole = encoder(x, lens, subnet, taps=(0, 2))
    shared = encoder.run_layers(encoder.embed(x, lens, subnet), (0, 1), subnet, taps=(0,))
    torch.testing.assert_close(encoder.run_layers(shared, (2,), subnet).out, whole.out)
    torch.testing.assert_close(shared.taps[0], whole.taps[0])
    torch.testing.assert_close(whole.taps[2], whole.out)
    branch = encoder(x, lens, Subnet(0.5, (0, 2)))
    start = encoder.run_layers(encoder.embed(x, lens, subnet), (0,), subnet)
    torch.testing.assert_close(encoder.run_layers(start, (2,), subnet).out, branch.out)


@pytest.mark.parametrize("frames", [7, 8, 9, 10, 11, 100, 101])
def test_frontend_lengths_are_those_of_the_output(frames: int) -> None:
    frontend = ConvFrontend(ConvFrontendConfig(channels=4), 20, 8, 0.0)
    out = frontend(torch.randn(1, frames, 20), 1.0, 8)
    assert out.shape[1] == int(frontend.output_lens(torch.tensor(frames)))


def test_impossible_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="whole number"):
        Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, (1.0, 0.3))
    with pytest.raises(ValueError, match="whole number"):
        Transducer(ModelConfig(), 10, (1.0, 0.6))


def test_unit_groups_name_everything_that_can_be_chosen() -> None:
    encoder = Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, WIDTHS)
    groups = encoder.unit_groups()
    assert groups["0.ffn1"] == 32 and groups["2.heads"] == 4 and groups["1.conv"] == 16 and len(groups) == 12
    x, lens = features((30,))
    for name, size in groups.items():
        before = encoder.eval()(x, lens).out
        assert not torch.allclose(encoder(x, lens, Subnet(units=((name, size - 1),))).out, before), name
        torch.testing.assert_close(encoder(x, lens, Subnet(units=((name, size),))).out, before)
