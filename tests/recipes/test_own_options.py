"""How egs/own passes on what the user says, and how it chooses a preset, with programs in place of the stages."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from slimasr.config.load import load_config
from tests.recipes.conftest import EGS, Run

STAGES = ("prepare", "features", "bpe", "train", "search", "decode", "score", "report")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's folder with a difficult name, and programs that note how they were called."""
    root = tmp_path / "it's my place"
    (root / "bin").mkdir(parents=True)
    for name in STAGES:
        program = root / "bin" / f"slimasr-{name}"
        program.write_text(f'#!/bin/bash\nfor a; do printf "%s\\n" "$a"; done > "$(dirname "$0")/{name}"\n')
        program.chmod(0o755)
    for name in ("slimasr", "slimasr-graph"):
        (root / "bin" / name).write_text("#!/bin/bash\n")
        (root / "bin" / name).chmod(0o755)
    return root


def called(place: Path, name: str) -> list[str]:
    return (place / "bin" / name).read_text().splitlines()


def config_of(arguments: list[str]) -> Path:
    return Path(arguments[arguments.index("--config") + 1])


def resolved(arguments: list[str]) -> dict[str, object]:
    overrides = [value for option, value in pairwise(arguments) if option == "--set"]
    return load_config(config_of(arguments), overrides).model_dump(mode="json")


def record_hours(place: Path, hours: float) -> None:
    (place / "data" / "manifests").mkdir(parents=True, exist_ok=True)
    record = {"data.corpus": "own", "utterances": 3, "seconds": 3600.0 * hours, "text": {}}
    (place / "data" / "manifests" / "identity_train.json").write_text(json.dumps(record, indent=2))


def test_paths_are_those_of_the_users_folder(recipe: Run, place: Path) -> None:
    """Names that YAML or the shell could misread; the commands run in the user's folder, too."""
    names = ["my train", 'a "b" \\c: {d}', "tést.tsv", "more"]
    for name in [*names, "a b"]:
        (place / name).mkdir()
    options = ["--train", f"below/../{names[0]}", "--train", names[3], "--dev", names[1], f"--test={place / names[2]}"]
    more = ["--split", "0.1,0.2", "--format", "csv", "--channel", "1", "--language", "it", "--allow-pipes"]
    more += ["--audio-root", "a b", "--set", "data.options.split_seed=7"]
    record_hours(place, 1)
    (place / "exp" / "small").mkdir(parents=True)
    (place / "below").mkdir()
    done = recipe("own", *options, *more, first=place / "bin", folder=place)
    assert done.returncode == 0, done.stderr
    for stage in ("prepare", "features", "bpe", "train"):
        config = resolved(called(place, stage))
        assert config["data"]["sources"] == {
            "train": [str(place / names[0]), str(place / names[3])],
            "dev": [str(place / names[1])],
            "test": [str(place / names[2])],
        }
        assert config["data"]["options"] == {
            "split": "0.1,0.2",
            "format": "csv",
            "channel": "1",
            "language": "it",
            "allow_pipes": True,
            "audio_root": str(place / "a b"),
            "split_seed": 7,
        }
    assert called(place, "decode")[0] == "exp/small"
    assert "--data" in called(place, "decode") and "data" in called(place, "decode")


@pytest.mark.parametrize(
    ("hours", "preset"), [(0.3, "small"), (10, "small"), (10.1, "medium"), (200, "medium"), (201, "large")]
)
def test_the_preset_follows_the_hours(recipe: Run, place: Path, hours: float, preset: str) -> None:
    record_hours(place, hours)
    done = recipe("own", "--train", "data", "--stage", 4, "--stop-stage", 5, first=place / "bin", folder=place)
    assert done.returncode == 0, done.stderr
    assert config_of(called(place, "train")) == EGS / "own" / "conf" / f"{preset}.yaml"
    assert called(place, "search")[0] == f"exp/{preset}"
    assert f"preset: conf/{preset}.yaml, because the training set has {hours:.2f} h" in done.stderr


def test_a_named_configuration_is_used_whatever_the_hours(recipe: Run, place: Path) -> None:
    """The user's own file comes first, then one of the recipe; it may name the sources itself."""
    record_hours(place, 1)
    (place / "mine.yaml").write_text(yaml.safe_dump({"include": str(EGS / "own" / "conf" / "small.yaml")}))
    for given, found in (("mine.yaml", Path("mine.yaml")), ("conf/medium.yaml", EGS / "own" / "conf" / "medium.yaml")):
        done = recipe("own", "--config", given, "--stage", 4, "--stop-stage", 4, first=place / "bin", folder=place)
        assert done.returncode == 0, done.stderr
        assert config_of(called(place, "train")) == found
        assert "preset" not in done.stderr


def test_a_trained_model_to_begin_with(recipe: Run, place: Path) -> None:
    (place / "exp" / "old one").mkdir(parents=True)
    options = ["--train", "bin", "--init", "exp/old one", "--config", "conf/small.yaml", "--stop-stage", "0"]
    done = recipe("own", *options, first=place / "bin", folder=place)
    assert done.returncode == 0, done.stderr
    assert resolved(called(place, "prepare"))["training"]["init"]["from"] == str(place / "exp/old one")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--train PATH is needed"),
        (["--train", "none"], "--train none: there is no such file or folder"),
        (["--train", "bin", "--init", "none"], "--init none: there is no such file or folder"),
        (["--train", "bin", "--audio-root", "none"], "--audio-root none: there is no such file or folder"),
        (["--train"], "--train needs a value"),
        (["--corpus-dir", "x"], "unknown option --corpus-dir"),
        (["--train", "bin", "--stage", "2"], "data/manifests/identity_train.json is missing: run stage 1 first"),
    ],
)
def test_wrong_options_are_named(recipe: Run, place: Path, options: list[str], message: str) -> None:
    done = recipe("own", *options, first=place / "bin", folder=place)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_presets_share_what_the_first_stages_depend_on() -> None:
    """Stage 1 runs before the preset is chosen."""
    presets = [load_config(EGS / "own" / "conf" / f"{name}.yaml") for name in ("small", "medium", "large")]
    keys = {"corpus", "sampling_rate", "resample", "text", "max_bad_share", "speeds", "train", "dev", "test", "options"}
    assert len({str(config.data.model_dump(include=keys)) for config in presets}) == 1
    assert all(config.tokenizer.allow_fewer for config in presets)


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_subnets_reach_from_a_tenth_to_the_whole(name: str) -> None:
    from slimasr.supernet.build import build_space
    from tests.recipes.test_configs import built

    config = load_config(EGS / "own" / "conf" / f"{name}.yaml")
    model, space = built(config), build_space(config)
    assert 0.08 < model.count(space.min).params / model.count(space.max).params < 0.12
