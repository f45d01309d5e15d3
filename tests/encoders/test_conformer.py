"""The Conformer: paper's sizes, exact extraction, padding without effect, parts equal to the whole."""

from __future__ import annotations

import pytest
import torch

from slimasr.config.encoders import ConformerConfig
from slimasr.config.model import ConvFrontendConfig, TransducerConfig
from slimasr.encoders.conformer import Conformer
from slimasr.encoders.frontend import ConvFrontend
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
from tests.tiny import ENCODER, WIDTHS, encoder_config, features, model_config, randomize

PAPER = {1.0: 25.4, 0.75: 14.3, 0.5: 6.4, 0.25: 1.6}
PAPER_PLAIN = {1.0: 24.4, 0.75: 13.8, 0.5: 6.15, 0.25: 1.57}
PIECES = Subnet(0.5, (0, 2), (("0.ffn1", (3, 5, 9)), ("0.heads", 1), ("2.conv", (0, 5, 7)), ("2.ffn2", 0)))


def conformer(**changes: object) -> Conformer:
    """A tiny encoder in evaluation mode with random weights."""
    encoder = randomize(Conformer(encoder_config(**changes), ConvFrontendConfig(channels=4), 20, WIDTHS)).eval()
    assert isinstance(encoder, Conformer)
    return encoder


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
    pieces = [PIECES] if norm == "per_width" else []
    assert_extraction_is_exact(config, WIDTHS, [*map(Subnet, WIDTHS), *pieces])


def test_an_extracted_model_can_be_extracted_again() -> None:
    assert_extracted_twice(model_config(), WIDTHS, PIECES, Subnet(1.0, (0,)))


@pytest.mark.parametrize("attention", ["relative", "plain"])
def test_a_padded_batch_equals_utterances_run_alone(attention: str) -> None:
    assert_padding_has_no_effect(conformer(attention=attention), map(Subnet, WIDTHS))


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
    encoder, subnet = conformer(), Subnet(0.5)
    assert_parts_equal_the_whole(encoder, subnet)
    x, lens = features((50, 33))
    branch = encoder(x, lens, Subnet(0.5, (0, 2)))
    start = encoder.run_layers(encoder.embed(x, lens, subnet), (0,), subnet)
    torch.testing.assert_close(encoder.run_layers(start, (2,), subnet).out, branch.out)


@pytest.mark.parametrize("frames", [7, 8, 9, 10, 11, 100, 101])
def test_frontend_lengths_are_those_of_the_output(frames: int) -> None:
    frontend = ConvFrontend(ConvFrontendConfig(channels=4), 20, 8, 0.0)
    out = frontend(torch.randn(1, frames, 20), torch.tensor([frames]), 1.0, 8)
    assert out.shape[1] == int(frontend.output_lens(torch.tensor(frames)))


def test_impossible_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="whole number"):
        Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, (1.0, 0.3))
    with pytest.raises(ValueError, match="whole number"):
        Transducer(TransducerConfig(), 10, (1.0, 0.6))


def test_unit_groups_name_everything_that_can_be_chosen() -> None:
    encoder = Conformer(ENCODER, ConvFrontendConfig(channels=4), 20, WIDTHS).eval()
    groups = encoder.unit_groups()
    assert groups["0.ffn1"] == 32 and groups["2.heads"] == 4 and groups["1.conv"] == 16 and len(groups) == 12
    assert_units_can_be_chosen(encoder)
    assert_the_first_half_depends_on_its_own_units(encoder)
