"""Recipes of pathways, masks and starts that do not fit, through the command line: one line that names what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import train as cli_train
from slimasr.cli.common import command_app
from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.training.step import Stepper
from slimasr.training.trainer import train
from tests.cli.test_bad_input import error_of
from tests.data.corpus import make_an4
from tests.data.languages import recipe, speak_languages, stages
from tests.methods.pathway_kit import recipe as pathway_recipe
from tests.training.test_initial import train_until

TRAIN = ["train-en", "train-fr"]


def recipe_of(languages: Sequence[str], start: Path | None = None, **method: Any) -> Config:
    """A run of a few steps; its dev set holds its training sets, and has words in all its languages."""
    base = pathway_recipe().model_dump(mode="json")
    spoken = [f"train-{language}" for language in languages] or TRAIN
    tree = recipe(
        {"train": spoken, "dev": "+".join(sorted(spoken)), "test": [], "max_cuts": 3, "allow_overlap": True}
    ).model_dump(mode="json")
    training = {**base["training"], "num_epochs": 2, "checkpoint_minutes": 1e-9}
    if start is not None:
        training["init"] = {"from": str(start)}
    own = {
        "model": base["model"],
        "loss": base["loss"],
        "training": training,
        "tokenizer": {**tree["tokenizer"], "sets": TRAIN},
        "features": {**tree["features"], "sets": TRAIN},
        "space": {"widths": [1.0]},
        "method": {"kind": "separate"},
    }
    if languages:
        own["space"] = {"kind": "pathways", "languages": list(languages), "block": [8, 1]}
        own["method"] = {"kind": "pathways", "adapt_interval": 1000, "prune_interval": 0.3, "levels": [0.5], **method}
    return parse_config({**tree, **own})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/``; ``dense/``; ``lth_fr/``, which was pruned by half and rewound; to read only."""
    root = tmp_path_factory.mktemp("trained")
    every = recipe_of(())
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        stages(every, root / "data", make_an4(root / "an4"))
    train(every, root / "data", root / "dense")
    train(recipe_of(["fr"], root / "dense", rewind=True), root / "data", root / "lth_fr")
    return root


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy, to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def fails(config: Config, place: Path, *settings: str) -> str:
    """The error of stage 4."""
    save_config(config, place / "recipe.yaml")
    options = ["--config", str(place / "recipe.yaml"), "--data", str(place / "data"), "--exp", str(place / "exp")]
    changes = [item for text in settings for item in ("--set", text)]
    result = CliRunner().invoke(command_app(cli_train.run), [*options, *changes])
    return error_of((result.exit_code, result.stdout, result.stderr))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method.levels=[0.5, 0.2]"], "method.levels: must rise"),
        (["method.prune_interval=0.9"], "method.levels: 1 prunings, each after another 0.9 of the run, need 0.9 of it"),
        (["training.average_start=0.5"], "training.average_start: must be at least 0.8"),
        (["method.rewind=true"], "method.rewind: needs the weights to which it goes back; give training.init"),
        (["method.masks_from=exp/a"], "must be an experiment folder and a sparsity such as exp/lap@0.5"),
        (["method.masks_from={en: exp/a@0.5}"], "method.masks_from: must name every language of space.languages, fr"),
        (["space.languages=[en, fr]", "model.encoder.conv_norm=batch"], "model.encoder.conv_norm"),
        (["method.prune_interval=0.01"], "do not fit into its"),
        (
            ["space.languages=[it]"],
            "train-fr: utterance speakerg-0 has the language fr, but space.languages has it; add",
        ),
        (["data.dev=train-en"], "train-en: utterance speakera-0 has the language en, but space.languages has fr; add"),
    ],
)
def test_recipes_that_cannot_be_trained(trained: Path, tmp_path: Path, settings: list[str], message: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "data").symlink_to(trained / "data")
    assert message in fails(recipe_of(["fr"]), place, *settings)


def test_masks_that_are_missing_or_do_not_fit(place: Path) -> None:
    def error(languages: Sequence[str] = ("fr",), *settings: str, level: float = 0.5, name: str = "lth_fr") -> str:
        config = recipe_of(languages, levels=[], masks_from=f"{place / name}@{level}")
        return fails(config, place, *settings)

    assert f"method.masks_from, fr: {place / 'lth_fr'} has no masks of sparsity 0.7; it has masks of 0.5" in error(
        level=0.7
    )
    assert "method.masks_from, fr: there is no experiment folder" in error(name="lth_nl")
    assert "has no masks of sparsity 0.5; it has no masks of any sparsity" in error(name="dense")
    assert "has no mask of en, only of fr" in error(["fr", "en"])
    assert "masks of 8 x 1 blocks do not fit space.block, 4 x 1" in error(["fr"], "space.block=[4, 1]")
    assert "weights, not" in error(["fr"], "model.predictor.dim=16")
    (place / "lth_fr" / "masks" / "level-0.5.pt").write_bytes(b"PK damaged")
    assert "level-0.5.pt: damaged file of masks" in error()


def test_a_pruned_start_needs_its_own_masks(place: Path) -> None:
    """Weights that the start has pruned would be zero inside of other masks."""
    shutil.copytree(place / "lth_fr", place / "lth_other")
    config = recipe_of(["fr"], place / "lth_fr", levels=[], masks_from=f"{place / 'lth_other'}@0.5")
    error = fails(config, place)
    assert error.startswith(f"error: training.init.from: {place / 'lth_fr'} has pruned weights, and the mask comes")
    assert f"begin with the dense model, or with masks of {place / 'lth_fr'}" in error
    own = recipe_of(["fr"], place / "lth_fr", levels=[], masks_from=f"{place / 'lth_fr'}@0.5")
    train(own, place / "data", place / "own")
    from_dense = recipe_of(["fr"], place / "dense", levels=[], masks_from=f"{place / 'lth_fr'}@0.5")
    train(from_dense, place / "data", place / "from_dense")
    assert (place / "own" / "final.pt").exists() and (place / "from_dense" / "final.pt").exists()


def shift_weights(path: Path) -> None:
    content = load_checkpoint(path)
    content["model"]["feature_mean"] += 1.0
    torch.save(content, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "is gone, with which this run began (training.init.from); restore it"),
        (shift_weights, "has changed since this run began with it (training.init.from); restore it"),
    ],
)
def test_a_run_that_rewinds_needs_its_start(place: Path, spoil: Callable[[Path], None], message: str) -> None:
    """The start is lost or replaced while the run goes on."""
    path = place / "dense" / "final.pt"
    step = Stepper.step
    spoilt: list[Path] = []

    def spoiling(self: Stepper, *arguments: Any) -> Any:
        if not spoilt:
            spoil(path)
            spoilt.append(path)
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Stepper, "step", spoiling)
        assert f"{path} {message}" in fails(recipe_of(["fr"], place / "dense", rewind=True), place)


def test_masks_that_have_changed_since_a_run_began(place: Path) -> None:
    config = recipe_of(["fr"], place / "dense", levels=[], masks_from=f"{place / 'lth_fr'}@0.5")
    train_until(1, config, place / "data", place / "exp")
    path = place / "lth_fr" / "masks" / "level-0.5.pt"
    before = path.read_bytes()
    content = torch.load(path, weights_only=True)
    content["masks"] = {name: mask.flip(1) for name, mask in content["masks"].items()}
    torch.save(content, path)
    error = fails(config, place)
    assert "the mask of fr (method.masks_from) has changed since this run began; restore it" in error
    path.write_bytes(before)
    train(config, place / "data", place / "exp")
    assert (place / "exp" / "final.pt").exists()
