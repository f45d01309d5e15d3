"""What a run begins with: random weights and the products of stages 2 and 3, or a trained model.

The digest of the weights of another experiment is part of the run's record (``data.json``). A run that resumes compares
it, because a method may need the same weights once more. ``init.json`` says what has been taken from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slimasr.config.schema import Config
from slimasr.data.features.stage import read_stats
from slimasr.data.files import DataFolder
from slimasr.data.identity.experiment import DataIdentity
from slimasr.data.sets import lang_of
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.elastic.norm import frozen_stats
from slimasr.errors import UserError
from slimasr.experiment.folder import DATA_FILE
from slimasr.experiment.initial import (
    KEY,
    WITHOUT_TOKENIZER,
    InitialWeights,
    check_unchanged,
    final_weights,
    initial_weights,
    origin_of,
    read_unchanged,
)
from slimasr.files import read_json
from slimasr.methods import build_method
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.models.matching import Taken
from slimasr.supernet.build import build_space
from slimasr.training.checkpoint import list_checkpoints
from slimasr.training.frozen import chosen_parameters, describe_counts, freeze, parameter_counts
from slimasr.training.logs import RunLog
from slimasr.training.record import DAMAGED, START, check_resumed_data, record_data, resolved
from slimasr.training.start_record import StartRecord, read_needed

Reader = Callable[[], Mapping[str, torch.Tensor]]


def read_start(config: Config, exp: Path, asked: Config | None = None) -> InitialWeights | None:
    """Read the weights of ``training.init``; None without that key, and for a run that resumes from a checkpoint.

    Args:
        config: the configuration that is trained.
        exp: the experiment folder of the run.
        asked: the recipe from which it follows (`initial_weights`).

    Raises:
        UserError: they are missing or do not fit the recipe.
    """
    goes_on = (exp / "final.pt").exists() or bool(list_checkpoints(exp / "checkpoints"))
    return None if goes_on else initial_weights(config, asked)


def lang_folder(config: Config, data_dir: Path) -> Path:
    """Return the folder of the tokenizer of which a new run takes a copy.

    Raises:
        UserError: the weights of ``training.init`` lie outside of an experiment, which has no tokenizer.
    """
    init = config.training.init
    if init is None or init.tokenizer == "own":
        return lang_of(config, DataFolder(data_dir))
    exp = origin_of(init.from_).exp
    if exp is None:
        raise UserError(f"{KEY}: {init.from_} {WITHOUT_TOKENIZER}")
    return exp / "lang"


def new_model(config: Config, data_dir: Path, tokenizer: Tokenizer, start: InitialWeights | None) -> SpeechModel:
    """Build the model of a run, with the weights and statistics with which it begins.

    Raises:
        UserError: stage 2 has not run, or a weight of ``training.init`` does not fit.
    """
    return _started(config, data_dir, tokenizer, start)[0]


def begun_model(
    config: Config, data_dir: Path, exp: Path, tokenizer: Tokenizer, start: InitialWeights | None, log: RunLog
) -> SpeechModel:
    """Build the model of a run, with its weights, and freeze those that are not trained.

    A run that begins now gets its ``init.json``.

    Args:
        config: the configuration that is trained.
        data_dir: see `new_model`.
        exp: the experiment folder, in which a run that resumes has a record of what is frozen.
        tokenizer: the tokenizer of the run.
        start: the weights of ``training.init`` for a run that begins now.
        log: gets notes for the user.

    Raises:
        UserError: see `new_model`; or a pattern of ``training.init.freeze`` chooses nothing.
    """
    model, taken = _started(config, data_dir, tokenizer, start)
    init = config.training.init
    notes: list[str] = []
    if start is not None and taken is not None and init is not None:
        frozen = chosen_parameters(model, init.freeze, taken.left)
        freeze(model, frozen)
        record = StartRecord.of(start, taken, frozen, frozen_stats(model) if frozen else ())
        freeze(model, (), record.fixed)
        notes = record.lines()
        if log.active:
            record.write(exp)
    elif init is not None and init.freeze:
        before = read_needed(exp)
        freeze(model, before.frozen, before.fixed)
    if init is not None and init.freeze:
        notes.append(describe_counts(parameter_counts(model, config.training.optimizer)))
    for note in notes:
        log.say(f"note: {note}")
    return model


def trained_parameters(asked: Config, data_dir: Path) -> dict[str, int]:
    """Return how many numbers each group of a recipe's optimiser trains, and how many are ``frozen``.

    Args:
        asked: the recipe.
        data_dir: see `new_model`; without tokenizer and start, the recipe's number of tokens counts.

    Raises:
        UserError: see `begun_model`.
    """
    config, _ = resolved(asked)
    start = initial_weights(config, asked)
    lang = lang_folder(config, data_dir)
    tokenizer = load_tokenizer(lang) if start is not None or lang.exists() else None
    model = _random_model(config, config.tokenizer.vocab_size if tokenizer is None else tokenizer.vocab_size)
    if start is not None and tokenizer is not None and config.training.init is not None:
        taken = start.take_into(model, config, tokenizer.fingerprint)
        freeze(model, chosen_parameters(model, config.training.init.freeze, taken.left))
    counts = parameter_counts(model, config.training.optimizer)
    for group in build_method(config, build_space(config), model).parameter_groups():
        counts[group.name] = sum(parameter.numel() for parameter in group.parameters)
    return counts


def _started(
    config: Config, data_dir: Path, tokenizer: Tokenizer, start: InitialWeights | None
) -> tuple[SpeechModel, Taken | None]:
    model = _random_model(config, tokenizer.vocab_size)
    init = config.training.init
    # A run that resumes has its statistics in the checkpoint; those of the data folder may be of other sets.
    if init is None or (start is not None and start.own_stats):
        model.set_feature_stats(*read_stats(config, data_dir))
    if start is None:
        return model, None
    return model, start.take_into(model, config, tokenizer.fingerprint)


def _random_model(config: Config, vocab_size: int) -> SpeechModel:
    names = head_names(config), pathway_spec(config)
    return build_model(config.model, config.loss, vocab_size, build_space(config).widths, *names)


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
    init = config.training.init
    if init is None:
        return None
    if start is not None:
        return partial(read_unchanged, init, start.digest, start.subnet)
    # Runs of earlier versions have no record, and extracted no subnets.
    record = StartRecord.read(exp)
    return partial(read_unchanged, init, _recorded(exp), None if record is None else record.extracted())


def _recorded(exp: Path) -> str | None:
    """Return the digest in the record of a run, None if the record was lost."""
    record: dict[str, Any] = read_json(exp / DATA_FILE, DAMAGED)
    return record.get(START)
