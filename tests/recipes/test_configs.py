"""Every configuration of every recipe is valid and builds the model it claims."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import pytest
import torch

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.methods import build_method, resolve_config
from slimasr.methods.mask_learning import MaskLearning
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.models.pathways import prunable_matrices
from slimasr.supernet.build import build_space
from tests.recipes.conftest import EGS

CONFIGS = sorted(EGS.glob("*/conf/*.yaml"))


def built(config: Config, vocab_size: int | None = None) -> SpeechModel:
    """The model of a recipe, without memory for its weights."""
    loss, auxiliary = config.loss, config.loss.auxiliary
    if auxiliary is not None and auxiliary.targets == "states":
        # Training takes the number from the alignments.
        loss = loss.model_copy(update={"auxiliary": auxiliary.model_copy(update={"num_states": 300})})
    with torch.device("meta"):
        return build_model(
            config.model,
            loss,
            vocab_size or config.tokenizer.vocab_size,
            build_space(config).widths,
            head_names(config),
            pathway_spec(config),
        )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_builds_at_every_size(path: Path) -> None:
    """Small spaces are counted subnet by subnet; of large ones, some lie between min and max; budgets are possible."""
    config = load_config(path)
    space, rng = build_space(config), random.Random(0)
    model = built(config)
    if model.pathways is not None:
        # Their masks come from training, or from other experiments.
        assert [subnet.pathway for subnet in space] == [*model.pathways.names] == config.space.languages
        assert {*model.pathways.matrices} == {*prunable_matrices(model)}
        return
    method = build_method(config, space, model)
    if isinstance(method, MaskLearning):
        costs = method.division.costs
        assert costs.rest < costs.limits[-1] <= costs.limits[0] < costs.whole
        return
    small = space.count() <= 4
    subnets = list(space) if small else [space.max, *(space.sample(rng) for _ in range(20)), space.min]
    params = [model.count(subnet).params for subnet in subnets]
    assert params[0] == max(params) and params[-1] == min(params)
    assert params == sorted(set(params), reverse=True) if small else params[-1] < params[0]


@pytest.mark.parametrize("path", sorted(EGS.glob("*/results*.json")), ids=lambda path: f"{path.parts[-2]}-{path.stem}")
def test_recipes_with_results_name_their_threads(path: Path) -> None:
    """Otherwise two runs of a recipe could differ in rounding."""
    commands = [run["command"] for run in json.loads(path.read_text(encoding="utf-8"))["experiments"].values()]
    configs = {found for command in commands for found in re.findall(r"--config (\S+)", command)}
    assert configs
    for config in configs:
        assert isinstance(load_config(path.parent / config).training.num_threads, int), config


def test_names_are_unique_within_a_recipe() -> None:
    names = [load_config(path).name for path in CONFIGS]
    assert len(set(names)) == len(names)


def test_the_papers_model_has_the_papers_size() -> None:
    """paper 1: 30 M in all, 4 M of them in the predictor, 24 M in the encoder."""
    config = load_config(EGS / "librispeech" / "conf" / "slimmable_30M.yaml")
    model = build_model(config.model, None, config.tokenizer.vocab_size, (1.0,))
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    assert sum(sizes.values()) == pytest.approx(30, rel=0.06)
    assert sizes["encoder"] == pytest.approx(25.4, rel=0.05)


def test_the_960_hour_preset_covers_all_of_librispeech() -> None:
    config = load_config(EGS / "librispeech" / "conf" / "slimmable_30M_960h.yaml")
    assert config.data.train == ["train-clean-100", "train-clean-360", "train-other-500"]


@pytest.mark.parametrize("preset", ["todm", "todm_separate"])
def test_the_second_papers_models_have_the_papers_sizes(preset: str) -> None:
    """paper 2: from 29.1 to 99.9 M, and 4 choices for each of 9, 13 or 16 layers."""
    config = load_config(EGS / "librispeech" / "conf" / f"{preset}.yaml")
    space = build_space(config)
    with torch.device("meta"):
        model = build_model(config.model, None, config.tokenizer.vocab_size, space.widths)
    sizes = [model.count(subnet).params / 1e6 for subnet in (space.max, space.min)]
    assert sizes == pytest.approx([99.9, 29.1], abs=0.1)
    assert space.count() == 4**9 + 4**13 + 4**16


BASE, LAYER = 13_661_825, 3_153_408
"""Parameters of the third paper's model without its layers, and of one layer, counted by hand."""


@pytest.mark.parametrize(
    ("preset", "layers", "millions"),
    [
        ("collaborative", 44, 152.41),
        ("collaborative_pj", 62, 209.17),
        ("collaborative_three", 29, 105.11),
        ("collaborative_three_unshared", 41, 142.95),
        ("collaborative_two", 28, 101.96),
    ],
)
def test_the_third_papers_trees_have_the_papers_sizes(preset: str, layers: int, millions: float) -> None:
    config = load_config(EGS / "librispeech" / "conf" / f"{preset}.yaml")
    space = build_space(config)
    with torch.device("meta"):
        model = build_model(config.model, None, config.tokenizer.vocab_size, space.widths)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == BASE + layers * LAYER
    assert total / 1e6 == pytest.approx(millions, abs=0.005)
    assert config.model.encoder.tree is not None
    expected = [BASE + depth * LAYER for depth in config.model.encoder.tree.depths]
    assert [model.count(subnet).params for subnet in space] == expected


def test_the_third_papers_separate_models_have_the_papers_sizes() -> None:
    """paper 3, table 3: 76.7, 70.4, 57.8, 45.2 and 35.7 M."""
    path = EGS / "librispeech" / "conf" / "collaborative_separate.yaml"
    found = []
    for depth in (20, 18, 14, 10, 7):
        config, _ = resolve_config(load_config(path, [f"method.subnet=l{depth}"]))
        with torch.device("meta"):
            model = build_model(config.model, None, config.tokenizer.vocab_size, (1.0,))
        assert model.count(None).params == BASE + depth * LAYER
        found.append(round(model.count(None).params / 1e6, 1))
    assert found == [76.7, 70.4, 57.8, 45.2, 35.7]


def test_the_fourth_papers_separate_models_have_the_papers_sizes() -> None:
    """paper 4, tables 1 and 4: 12, 8, 6 and 4 blocks; the paper has two tokens less, each of 384 weights and a bias."""
    path = EGS / "tedlium2" / "conf" / "separate.yaml"
    found = {}
    for subnet in build_space(load_config(path)):
        config, _ = resolve_config(load_config(path, [f"method.subnet={subnet.id}"]))
        with torch.device("meta"):
            model = build_model(config.model, None, config.tokenizer.vocab_size, (1.0,))
        found[config.model.encoder.num_layers] = model.count(None).params - 2 * (384 + 1)
    assert found == {12: 42_066_991, 8: 28_407_343, 6: 21_577_519, 4: 14_747_695}


DATA_FOLDER = """
cd "$1"
recipe_main() { :; }
. <(sed 's/^cd .*//; s/^[.] .*recipe.sh//' run.sh)
for config in conf/*.yaml; do echo "$config $(data_of "$config")"; done
"""


def test_librispeech_presets_share_a_data_folder_only_if_they_share_the_data() -> None:
    """Statistics, subwords and stored features of one train set would overwrite those of another."""
    folder = EGS / "librispeech"
    done = subprocess.run(["bash", "-c", DATA_FOLDER, "bash", folder], capture_output=True, text=True, check=True)
    sets: dict[str, set[tuple[str, ...]]] = {}
    for line in done.stdout.splitlines():
        path, data = line.split()
        config = load_config(folder / path).data
        sets.setdefault(data, set()).add((config.storage, *config.train))
    assert len(sets) == 4
    assert all(len(kinds) == 1 for kinds in sets.values()), sets


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_presets_state_the_sizes_of_their_models(name: str) -> None:
    path = EGS / "own" / "conf" / f"{name}.yaml"
    config = load_config(path)
    model = built(config)
    sizes = [model.count(subnet).params / 1e6 for subnet in build_space(config)][::-1]
    row = re.search(rf"^\| `conf/{name}\.yaml` \|.*$", (EGS / "own" / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    *_, parameters, tokens = (cell.strip() for cell in row[0].strip("|").split("|"))
    stated = parameters.removesuffix(" M").split(", ")
    assert stated == [f"{size:.{len(text.partition('.')[2])}f}" for size, text in zip(sizes, stated, strict=True)]
    assert int(tokens) == config.tokenizer.vocab_size
    assert f" {stated[-1]} M parameters at width 1" in path.read_text()
