"""What a run begins with: random weights and the products of stages 2 and 3, or another experiment.

The digest of another experiment's weights is part of the run's record (``data.json``). A run that resumes compares it,
because a method may need the same weights once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slimasr.config.schema import Config
from slimasr.data.features import read_stats
from slimasr.data.files import DataFolder
from slimasr.data.provenance import DataIdentity
from slimasr.data.tokenizer import Tokenizer
from slimasr.experiment.folder import DATA_FILE
from slimasr.experiment.initial import (
    InitialWeights,
    check_unchanged,
    final_weights,
    initial_weights,
    read_unchanged,
)
from slimasr.files import read_json
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.supernet.build import build_space
from slimasr.training.checkpoint import list_checkpoints
from slimasr.training.record import DAMAGED, START, check_resumed_data, record_data

Reader = Callable[[], Mapping[str, torch.Tensor]]


def read_start(config: Config, exp: Path) -> InitialWeights | None:
    """Read the weights of ``training.init``; None without that key, and for a run that resumes from a checkpoint.

    Raises:
        UserError: they are missing or do not fit the recipe.
    """
    goes_on = (exp / "final.pt").exists() or bool(list_checkpoints(exp / "checkpoints"))
    return None if goes_on else initial_weights(config)


def lang_folder(config: Config, data_dir: Path) -> Path:
    """Return the folder of the tokenizer of which a new run takes a copy."""
    if config.training.init is not None:
        return config.training.init.from_ / "lang"
    return DataFolder(data_dir).lang(config.tokenizer.kind, config.tokenizer.vocab_size)


def new_model(config: Config, data_dir: Path, tokenizer: Tokenizer, start: InitialWeights | None) -> SpeechModel:
    """Build the model of a run, with the weights and statistics with which it begins.

    Raises:
        UserError: stage 2 has not run, or a weight of ``training.init`` does not fit.
    """
    space = build_space(config)
    names = head_names(config), pathway_spec(config)
    model = build_model(config.model, config.loss, tokenizer.vocab_size, space.widths, *names)
    if start is not None:
        start.load_into(model)
    # A run that resumes has its statistics in the checkpoint; those of the data folder may be of other sets.
    elif config.training.init is None:
        model.set_feature_stats(*read_stats(config, data_dir))
    return model


def record_inputs(
    config: Config,
    exp: Path,
    identity: DataIdentity,
    tokenizer: Tokenizer,
    start: InitialWeights | None,
    *,
    resumed: bool,
    accept_changes: bool,
) -> list[str]:
    """Record what a new run begins with, or compare it with the record of a resumed one.

    Args:
        accept_changes: record changes of the data instead of refusing them.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the data have changed, and changes are not accepted, or the weights of ``training.init`` have.
    """
    if not resumed:
        record_data(exp, identity, tokenizer, start)
        return []
    notes = check_resumed_data(exp, identity, tokenizer, accept_changes=accept_changes)
    # A completed run no longer needs them.
    return notes if (exp / "final.pt").exists() else [*notes, *check_resumed_start(config, exp)]


def check_resumed_start(config: Config, exp: Path) -> list[str]:
    """Compare the weights of ``training.init`` with those with which a resumed run began.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: they have changed.
    """
    if config.training.init is None:
        return []
    path = final_weights(config.training.init.from_)
    # Most methods go on without it; one that needs it says so when it does.
    if not path.is_file():
        return [f"{path} is gone, with which this run began; a method that returns to these weights will need it"]
    digest = _recorded(exp)
    if digest is None:
        return [f"{exp}: does not record the weights with which it began; that {path} has them is not verified"]
    check_unchanged(path, digest)
    return []


def initial_reader(config: Config, exp: Path, start: InitialWeights | None) -> Reader | None:
    """Return the function that reads the initial weights again, None for a run that began with random ones.

    It raises `UserError` if they are gone or have changed.

    Args:
        start: the weights of a run that begins now, None for one that resumes.
    """
    if config.training.init is None:
        return None
    digest = _recorded(exp) if start is None else start.digest
    return partial(read_unchanged, final_weights(config.training.init.from_), digest)


def _recorded(exp: Path) -> str | None:
    """Return the digest in the record of a run, None if the record was lost."""
    record: dict[str, Any] = read_json(exp / DATA_FILE, DAMAGED)
    return record.get(START)
