"""Tied states as frame targets: the record holds them, so that an experiment opens without its alignments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.load import load_config
from slimasr.config.loss import LossConfig
from slimasr.config.schema import Config
from slimasr.data.timelines.states import SILENCE, State, States, read_states, write_states
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.extract import extract_experiment
from slimasr.results.schema import Results
from slimasr.supernet.subnet import Subnet
from slimasr.training.checkpoint import save_checkpoint
from slimasr.training.distributed import World
from slimasr.training.record import begin_record, resolved
from tests.training.kit import make_objective, tiny_config, tiny_tokenizer

NAMES = "ABCDEFGHIJ"


def made(names: str) -> States:
    """Silence and one state for each unit."""
    states = (State(SILENCE), *(State(name) for name in names))
    return States(states, tuple(range(1, len(states) + 1)), min_count=1)


def recipe(tmp_path: Path, **auxiliary: Any) -> Config:
    auxiliary = {"layers": [], "output": True, "shared": True, "targets": "states", "hidden_dim": 4, **auxiliary}
    loss = {"transducer": "restricted", "alignments": str(tmp_path / "alignments"), "auxiliary": auxiliary}
    return tiny_config(loss=loss)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run with one checkpoint, made by a recipe that names no number of states."""
    (tmp_path / "alignments").mkdir()
    write_states(tmp_path / "alignments", made(NAMES))
    lang = tmp_path / "lang"
    lang.mkdir()
    tokenizer = tiny_tokenizer()
    (lang / "bpe.model").write_bytes(tokenizer.processor.serialized_model_proto())
    config, _ = resolved(recipe(tmp_path))
    begin_record(tmp_path / "exp", config, lang, Results(), World())
    model = make_objective(config, tokenizer).model
    save_checkpoint(tmp_path / "exp" / "final.pt", {"model": model.state_dict()})
    return tmp_path / "exp"


def test_an_experiment_opens_without_its_alignments(begun: Path) -> None:
    shutil.rmtree(begun.parent / "alignments")
    experiment = Experiment.open(begun)
    auxiliary = experiment.config.loss.auxiliary
    assert auxiliary is not None and auxiliary.num_states == 1 + len(NAMES)
    assert experiment.model.frame_heads["shared"].outer.weight.shape == (1 + len(NAMES), 4)
    assert read_states(begun) == made(NAMES)


def test_an_extracted_model_has_the_full_lattice_and_no_frame_targets(begun: Path) -> None:
    shutil.rmtree(begun.parent / "alignments")
    out = begun.parent / "small"
    extract_experiment(Experiment.open(begun), Subnet(0.5), out)
    small = Experiment.open(out)
    assert small.config.loss == LossConfig(transducer="full", ctc_weight=0.5, backend="torch")
    assert not small.model.has_training_heads
    assert not (out / "states.json").exists()


def test_a_run_goes_on_with_its_own_states_alone(begun: Path) -> None:
    folder, lang = begun.parent, begun.parent / "lang"
    config, _ = resolved(recipe(folder))
    assert config == load_config(begun / "config.yaml")
    assert begin_record(begun, config, lang, Results(), World())
    write_states(folder / "alignments", made(NAMES[::-1]))
    with pytest.raises(UserError, match=r"alignments/states.json: has other states than .*exp/states.json"):
        begin_record(begun, resolved(recipe(folder))[0], lang, Results(), World())
    write_states(folder / "alignments", made(NAMES[:-1]))
    with pytest.raises(UserError, match=r"loss.auxiliary.num_states: 11 against 10"):
        begin_record(begun, resolved(recipe(folder))[0], lang, Results(), World())


def test_a_wrong_number_of_states_is_refused(begun: Path) -> None:
    with pytest.raises(UserError, match=r"loss.auxiliary.num_states: is 7, but .*states.json has 11 states; leave"):
        resolved(recipe(begun.parent, num_states=7))
    tokens = recipe(begun.parent, targets="tokens")
    assert resolved(tokens) == (tokens, None)
    (begun.parent / "alignments" / "states.json").unlink()
    with pytest.raises(UserError, match=r"states.json is missing: run slimasr-align"):
        resolved(recipe(begun.parent))
