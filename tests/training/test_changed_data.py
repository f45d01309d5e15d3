"""A run resumed after its data have changed, through `train`: refused, or continued to the end of its own plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, read_cuts, write_cuts
from slimasr.data.identity.experiment import checked_identity
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.experiment.extract import extract_experiment
from slimasr.progress import silent
from slimasr.training.batches import dev_batches
from slimasr.training.trainer import train
from tests.decoding.made_up import config, write_data


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and ``exp/``, a run of two epochs that was stopped after the first."""
    root = tmp_path_factory.mktemp("begun")
    recipe = short_recipe()
    write_data(root, recipe)
    train(recipe, root / "data", root / "exp")
    stop_after_first_epoch(root / "exp")
    return root


@pytest.fixture
def place(begun: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(begun, tmp_path / "place"))


def short_recipe() -> Config:
    return config(training={"num_epochs": 2, "keep_last": 2, "num_threads": 1, "calibration_batches": 1})


def stop_after_first_epoch(exp: Path) -> None:
    for path in (exp / "final.pt", exp / "checkpoints" / "epoch-002.pt"):
        path.unlink()


def drop_utterances(data: Path, number: int) -> None:
    """Take utterances out of the training set, and run stages 2 and 3 again."""
    path = DataFolder(data).raw_cuts("train")
    write_cuts(path, list(read_cuts(path, "stage 1"))[number:])
    compute_features(short_recipe(), data, 1, silent)
    train_tokenizer(short_recipe(), data)


def test_checkpoints_name_their_data_and_tokenizer(begun: Path) -> None:
    saved = load_checkpoint(begun / "exp" / "checkpoints" / "epoch-001.pt")
    assert saved["tokenizer"] == json.loads((begun / "exp" / "data.json").read_text())["tokenizer"]
    assert saved["data"]


def test_changed_data_is_refused_unless_accepted(place: Path) -> None:
    recipe, data, exp = short_recipe(), place / "data", place / "exp"
    drop_utterances(data, 1)
    with pytest.raises(UserError, match=r"transcripts of train, utterances of train.*--accept-changed-data"):
        train(recipe, data, exp)
    assert not (exp / "final.pt").exists()
    train(recipe, data, exp, accept_changed_data=True)
    assert "as accepted" in (exp / "train.log").read_text()
    before = load_checkpoint(exp / "checkpoints" / "epoch-001.pt")
    assert Experiment.open(exp).data not in (None, before["data"])
    train(recipe, data, exp)  # complete, and on the data that were accepted


def test_unchanged_data_made_again_is_resumed(place: Path) -> None:
    recipe, data, exp = load_config(place / "exp" / "config.yaml"), place / "data", place / "exp"
    drop_utterances(data, 0)
    train(recipe, data, exp)
    assert (exp / "final.pt").exists()


def test_a_complete_run_keeps_its_record(place: Path) -> None:
    recipe, data, exp = short_recipe(), place / "data", place / "exp"
    train(recipe, data, exp)
    record = (exp / "data.json").read_text()
    drop_utterances(data, 1)
    with pytest.raises(UserError, match="have changed since this run began"):
        train(recipe, data, exp)
    train(recipe, data, exp, accept_changed_data=True)
    assert (exp / "data.json").read_text() == record
    assert "which is complete" in (exp / "train.log").read_text()


def test_a_dev_set_that_changes_while_a_run_trains_is_refused(place: Path) -> None:
    recipe, data = short_recipe(), place / "data"
    folder, tokenizer = DataFolder(data), load_tokenizer(place / "exp" / "lang")
    begun_on = checked_identity(recipe, data, "dev")
    assert next(dev_batches(recipe, data, tokenizer, begun_on)).ids
    cuts = list(read_cuts(folder.raw_cuts("dev"), "stage 1"))
    cuts[0].supervisions[0].text = "NO"
    write_cuts(folder.raw_cuts("dev"), cuts)
    compute_features(recipe, data, 1, silent)
    with pytest.raises(UserError, match="dev: the transcripts have changed while this run was training"):
        dev_batches(recipe, data, tokenizer, begun_on)


def test_extraction_keeps_what_a_model_was_trained_on(place: Path) -> None:
    train(short_recipe(), place / "data", place / "exp")
    experiment = Experiment.open(place / "exp")
    extract_experiment(experiment, experiment.space.min, place / "small")
    small = Experiment.open(place / "small")
    assert (small.data, small.notes) == (experiment.data, ())
