"""Shapes of subnets whose layers differ in heads and convolutions, counted by hand."""

from __future__ import annotations

import pytest

from slimasr.report.architecture import architecture_of, is_same, largest_sizes, name_of, varying_modules
from slimasr.supernet.subnet import Subnet

FULL = [{"ffn1": 8, "heads": 4, "conv": 6, "ffn2": 8}] * 3
UNITS = (("0.ffn1", ((2, 4), (6, 8))), ("0.conv", 0), ("1.heads", ((1, 2),)), ("2.heads", 0), ("2.ffn2", 0))
SUBNET = Subnet(units=UNITS)
SHAPE = architecture_of(SUBNET, FULL)


def test_index_sets_are_counted_module_by_module() -> None:
    assert SHAPE == (
        {"ffn1": 4, "heads": 4, "conv": 0, "ffn2": 8},
        {"ffn1": 8, "heads": 1, "conv": 6, "ffn2": 8},
        {"ffn1": 8, "heads": 0, "conv": 6, "ffn2": 0},
    )
    assert largest_sizes([SHAPE]) == {"ffn": 8, "heads": 4, "conv": 6}


def test_modules_are_named_where_subnets_differ_in_them() -> None:
    whole = architecture_of(Subnet(), FULL)
    assert varying_modules([whole]) == ("ffn1", "ffn2")
    assert varying_modules([whole, SHAPE]) == ("ffn1", "heads", "conv", "ffn2")


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        ((), "3 layers, FFN 6"),
        (("ffn1", "heads", "conv", "ffn2"), "3 layers, FFN 6, heads 1.7, conv in 2"),
    ],
)
def test_names_have_means_or_the_number_of_layers(modules: tuple[str, ...], name: str) -> None:
    assert name_of(SHAPE, modules) == name


def test_all_layers_of_one_size_have_no_number_of_layers() -> None:
    assert name_of(architecture_of(Subnet(), FULL), ("conv", "heads")) == "3 layers, FFN 8, conv 6.0, heads 4.0"


def test_modules_that_an_encoder_does_not_have_are_not_named() -> None:
    assert name_of(architecture_of(Subnet(), FULL), ("ssm", "heads")) == "3 layers, FFN 8, heads 4.0"


def test_shapes_of_older_versions_are_compared_by_their_feed_forward_modules() -> None:
    older = architecture_of(SUBNET, [{"ffn1": 8, "ffn2": 8}] * 3)
    assert is_same(SHAPE, older) and not is_same(SHAPE, architecture_of(Subnet(), FULL))
    assert not is_same((), ())
