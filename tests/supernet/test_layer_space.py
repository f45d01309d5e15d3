"""The space of depths and sizes per layer, against enumeration by hand."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from slimasr.config.load import parse_config
from slimasr.errors import UserError
from slimasr.supernet.build import build_space
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet

PAPER = LayerSpace((16, 13, 9), (("ffn", (512, 1024, 2048, 4096)),))
SMALL = LayerSpace((3, 1), (("ffn1", (4, 8)), ("ffn2", (2, 4, 8))), (1.0, 0.5))
SPACES = {
    "small": SMALL,
    "depth alone": LayerSpace((4, 2, 1)),
    "channels alone": LayerSpace((2,), (("ffn", (1, 2, 3)),)),
}


def enumerate_by_hand(space: LayerSpace) -> set[tuple[float, int, tuple[tuple[int, ...], ...]]]:
    """(width, depth, absolute sizes layer by layer) of all subnets, by nested products."""
    per_layer = list(itertools.product(*(sizes for _, sizes in space.units)))
    return {
        (width, depth, tuple(tuple(int(size * width) for size in layer) for layer in layers))
        for width in space.choices
        for depth in space.depths
        for layers in itertools.product(per_layer, repeat=depth)
    }


def spelled_out(space: LayerSpace, subnet: Subnet) -> tuple[float, int, tuple[tuple[int, ...], ...]]:
    """The same of a subnet, from its public genes alone."""
    depth = max(space.depths) if subnet.path is None else len(subnet.path)
    layers = []
    for layer in range(depth):
        chosen = [(subnet.units_of(layer, module), max(sizes)) for module, sizes in space.units]
        layers.append(tuple(int(top * subnet.width) if units is None else int(units) for units, top in chosen))
    return subnet.width, depth, tuple(layers)


def test_the_papers_space_is_counted_exactly() -> None:
    assert PAPER.count() == 4**16 + 4**13 + 4**9
    assert LayerSpace((16,), PAPER.units).count() == 4**16


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_iteration_gives_each_network_once(space: LayerSpace) -> None:
    subnets = list(space)
    assert len(subnets) == len(set(subnets)) == space.count()
    networks = [spelled_out(space, subnet) for subnet in subnets]
    assert set(networks) == enumerate_by_hand(space)
    assert subnets[0] == space.max == Subnet()
    assert subnets[-1] == space.min
    assert all(subnet in space for subnet in subnets)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_draws_stay_inside_and_reach_everything(space: LayerSpace) -> None:
    rng = random.Random(0)
    everything = set(space)
    assert {space.sample(rng) for _ in range(40 * len(everything))} == everything
    subnet = space.max
    for _ in range(500):
        child = space.mutate(subnet, rng, 0.5)
        other = space.crossover(child, space.sample(rng), rng)
        assert child in everything and other in everything
        assert space.canonical(child) == child
        subnet = other


def test_draws_from_the_papers_space_are_canonical() -> None:
    rng = random.Random(1)
    for _ in range(200):
        a, b = PAPER.sample(rng), PAPER.mutate(PAPER.min, rng, 0.3)
        child = PAPER.crossover(a, b, rng)
        for subnet in (a, b, child):
            assert subnet in PAPER and PAPER.canonical(subnet) == subnet
            assert PAPER.from_genes(PAPER.genes_of(subnet)) == subnet
            assert len(PAPER.genes_of(subnet)) == 2 + len(subnet.path or range(16))


def test_mutation_without_probability_copies_and_crossover_takes_from_parents_alone() -> None:
    rng = random.Random(2)
    a, b = PAPER.sample(rng), PAPER.sample(rng)
    assert PAPER.mutate(a, rng, 0.0) == a
    for _ in range(50):
        child = PAPER.genes_of(PAPER.crossover(a, b, rng))
        parents = PAPER.genes_of(a), PAPER.genes_of(b)
        assert all(value in [p[name] for p in parents if name in p] for name, value in child.items())


def test_genes_name_everything_there_is_to_choose() -> None:
    genes = SMALL.genes
    assert list(genes) == ["width", "depth", *(f"{i}.{m}" for i in range(3) for m in ("ffn1", "ffn2"))]
    combined = {
        SMALL.from_genes(dict(zip(genes, values, strict=True))) for values in itertools.product(*genes.values())
    }
    assert combined == set(SMALL)


def test_equal_networks_are_one_subnet_whatever_the_spelling() -> None:
    full = Subnet(1.0, (0, 1, 2), (("0.ffn1", 8), ("1.ffn2", 2)))
    assert full in SMALL
    assert SMALL.canonical(full) == Subnet(1.0, None, (("1.ffn2", 2),)) == SMALL.parse(full.to_json())
    # The same channels, counted at half width.
    half = Subnet(0.5, (0,), (("0.ffn1", 4), ("0.ffn2", 2)))
    assert SMALL.canonical(half) == Subnet(0.5, (0,), (("0.ffn2", 2),))


@pytest.mark.parametrize(
    "outside",
    [
        Subnet(0.25),
        Subnet(1.0, (0, 1)),
        Subnet(1.0, (1,)),
        Subnet(1.0, None, (("0.ffn1", 5),)),
        Subnet(1.0, None, (("0.heads", 4),)),
        Subnet(0.5, None, (("0.ffn1", 8),)),
        "w1",
    ],
)
def test_what_is_outside(outside: object) -> None:
    assert outside not in SMALL


@pytest.mark.parametrize("text", ["max", "1.0", "w1", "min", "w0.5", "w1-l1", '{"width": 1.0, "path": [0]}'])
def test_parse(text: str) -> None:
    expected = {"max": SMALL.max, "min": SMALL.min, "w0.5": Subnet(0.5), "w1-l1": Subnet(1.0, (0,))}
    expected |= {'{"width": 1.0, "path": [0]}': Subnet(1.0, (0,))}
    assert SMALL.parse(text) == expected.get(text, Subnet())


@pytest.mark.parametrize(
    "text", ["w1-l2", "w1-l9-00000000", "0.3", "{", '{"path": [0, 1]}', '{"units": {"0.ffn1": 5}}', '{"depth": 3}']
)
def test_parse_says_what_the_space_holds(text: str) -> None:
    with pytest.raises(UserError, match=r"depth 3/1, ffn1 8/4, ffn2 8/4/2"):
        SMALL.parse(text)


def test_built_from_configuration() -> None:
    space = {"kind": "layers", "depths": [9, 16, 13], "units": {"ffn": [512, 4096, 1024, 2048]}}
    encoder = {"kind": "mh_ssm", "num_layers": 16, "ffn_dim": 4096}
    config = parse_config({"name": "t", "data": {"corpus": "digits"}, "model": {"encoder": encoder}, "space": space})
    assert build_space(config) == PAPER


def test_subnets_of_a_depth_with_an_output_of_its_own_name_it() -> None:
    space = LayerSpace((4, 3, 2), (("ffn", (2, 4)),), exits=(2, 4))
    everything = set(space)
    assert len(everything) == space.count() == 16 + 8 + 4
    for subnet in space:
        depth = 4 if subnet.path is None else len(subnet.path)
        assert subnet.head == ("exit2" if depth == 2 else None)
        assert space.from_genes(space.genes_of(subnet)) == subnet == space.parse(subnet.to_json())
        # As earlier versions wrote it
        assert space.parse(replace(subnet, head=None).to_json()) == subnet
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(40)]
    children = [space.mutate(subnet, rng, 0.5) for subnet in drawn]
    children += [space.crossover(a, b, rng) for a, b in itertools.pairwise(drawn)]
    assert {*drawn, *children} <= everything
