"""The presets of paper 4: the rows of its tables, the sizes of its models."""

from __future__ import annotations

import pytest

from slimasr.config.load import load_config
from slimasr.config.method import MaskLearningConfig
from slimasr.config.schema import Config
from slimasr.methods import build_method, resolve_config
from slimasr.methods.mask_learning import MaskLearning
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from tests.recipes.conftest import EGS
from tests.recipes.test_configs import built

TABLES_1_AND_4 = {
    ("top_k", "none", "layer"),
    ("top_k", "params", "layer"),
    ("top_k", "params", "component"),
    ("top_k", "macs", "layer"),
    ("top_k", "macs", "component"),
    ("l0", "params", "layer"),
    ("l0", "params", "component"),
    ("orthosoftmax", "none", "layer"),
    ("orthosoftmax", "params", "layer"),
    ("orthosoftmax", "params", "component"),
    ("orthosoftmax", "macs", "layer"),
    ("orthosoftmax", "macs", "component"),
}
"""Learner, criterion and granularity of each row; sparsity is called params, and FLOPs are called macs."""

TABLE_2 = {
    ("focal", 0.5, 0.5),
    ("focal", 1.0, 1.0),
    ("focal", 1.5, 1.5),
    ("focal", 0.0, 1.0),
    (0.1, 0.0, 1.0),
    (0.5, 0.0, 1.0),
    (1.0, 0.0, 1.0),
}
"""Scale of the subnets' losses, and weight of the orthogonality penalty at the beginning and at the end of step 1."""


def preset(corpus: str, name: str, *settings: str) -> Config:
    return load_config(EGS / corpus / "conf" / f"{name}.yaml", settings)


def mask_learning() -> dict[str, tuple[Config, MaskLearningConfig]]:
    """The presets of AN4 that learn masks, by name."""
    configs = {path.stem: load_config(path) for path in EGS.glob("an4/conf/orthosoftmax*.yaml")}
    return {n: (c, c.method) for n, c in configs.items() if isinstance(c.method, MaskLearningConfig)}


def test_every_row_of_the_papers_tables_has_a_preset() -> None:
    methods = [method for _, method in mask_learning().values()]
    rows = [(method.learner.kind, method.criterion, method.granularity) for method in methods]
    assert {*rows} == TABLES_1_AND_4
    weights = set()
    for method, row in zip(methods, rows, strict=True):
        if row == ("orthosoftmax", "macs", "component"):
            assert method.learner.kind == "orthosoftmax"
            weights.add((method.subnet_scale, method.learner.orthogonality_start, method.learner.orthogonality_end))
    assert weights == TABLE_2


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no_annealing", {"method.learner.temperature_min"}),
        ("no_adaptive_dropout", {"model.encoder.adaptive_dropout"}),
        ("no_layer_dropout", {"method.layer_dropout"}),
        ("four", {"method.budgets"}),
        ("one", {"method.budgets"}),
        ("macs_layer", {"method.granularity"}),
        ("params_component", {"method.criterion"}),
        ("scale_0.1", {"method.subnet_scale"}),
    ],
)
def test_a_row_differs_from_the_main_one_only_in_what_it_is_about(name: str, changed: set[str]) -> None:
    main = _flat(preset("an4", "orthosoftmax").model_dump(mode="json"))
    row = _flat(preset("an4", f"orthosoftmax_{name}").model_dump(mode="json"))
    assert {key for key in main.keys() | row.keys() if main.get(key) != row.get(key)} == {"name", *changed}


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {name: value for key in tree for name, value in _flat(tree[key], f"{prefix}{key}.").items()}


@pytest.mark.parametrize(
    ("corpus", "name", "components", "layers"),
    [("an4", "orthosoftmax", 78, 24), ("librispeech", "orthosoftmax", 204, 48), ("tedlium2", "orthosoftmax", 180, 48)],
)
def test_encoders_are_cut_into_the_papers_numbers_of_groups(
    corpus: str, name: str, components: int, layers: int
) -> None:
    for granularity, number in (("component", components), ("layer", layers)):
        config = preset(corpus, name, f"method.granularity={granularity}")
        method = build_method(config, build_space(config), built(config))
        assert isinstance(method, MaskLearning)
        assert len(method.division.groups) == number


def test_the_model_for_an4_has_1_4_million_parameters() -> None:
    model = built(preset("an4", "orthosoftmax_separate"))
    assert model.count(None).params == pytest.approx(1.4e6, rel=0.03)


def test_models_for_librispeech_have_the_papers_sizes() -> None:
    """paper 4, table 5: 74.2, 49.9 and 25.7 M with 79 labels."""
    found = []
    for subnet in ("max", "w1-l8", "w1-l4"):
        config, _ = resolve_config(preset("librispeech", "orthosoftmax_separate", f"method.subnet={subnet}"))
        found.append(built(config, vocab_size=79).count(None).params)
    assert found == [74_152_495, 49_910_319, 25_668_143]


@pytest.mark.parametrize(
    ("corpus", "name", "blocks"),
    [
        ("librispeech", "orthosoftmax", (4, 8)),
        ("librispeech", "orthosoftmax_four", (2, 4, 6, 9)),
        ("librispeech", "orthosoftmax_params_layer", (4, 8)),
        ("tedlium2", "orthosoftmax", (6,)),
        ("tedlium2", "orthosoftmax_two", (4, 8)),
        ("tedlium2", "orthosoftmax_two_params", (4, 8)),
        ("tedlium2", "orthosoftmax_four", (1, 3, 5, 8)),
    ],
)
def test_the_papers_budgets_are_those_of_whole_blocks(corpus: str, name: str, blocks: tuple[int, ...]) -> None:
    config = preset(corpus, name)
    model = built(config, vocab_size=79)
    method = build_method(config, build_space(config), model)
    assert isinstance(method, MaskLearning)
    limits = [limit / method.division.costs.whole for limit in method.division.costs.limits]
    criterion = method.config.criterion
    whole, *costs = (
        getattr(model.count(subnet, method.config.cost_seconds), criterion)
        for subnet in (None, *(Subnet(path=tuple(range(number))) for number in reversed(blocks)))
    )
    assert limits == pytest.approx([cost / whole for cost in costs], abs=0.01)
