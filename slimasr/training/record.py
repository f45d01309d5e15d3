"""The record of a run: its configuration and data, the check that a resumed run matches them, and its last facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimasr.config.load import first_difference, load_config, save_config
from slimasr.config.loss import needs_states
from slimasr.config.schema import Config
from slimasr.data.files import DataFolder
from slimasr.data.identity.experiment import DataIdentity, data_identity
from slimasr.data.identity.provenance import check_features, stored_speeds
from slimasr.data.languages import check_trained_languages, check_validated_languages
from slimasr.data.sets import noise_sets, streamed_sets
from slimasr.data.shar.record import read_shards
from slimasr.data.timelines.states import STATES_FILE, read_states
from slimasr.data.tokens.record import check_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.experiment.folder import DATA_FILE
from slimasr.experiment.initial import InitialWeights
from slimasr.experiment.record import write_record
from slimasr.files import read_json, understanding, write_json_atomic
from slimasr.methods import resolve_config
from slimasr.results.schema import Results
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import ANY_LANGUAGE
from slimasr.training.checkpoint import RunState
from slimasr.training.distributed import World

DAMAGED = "restore it, or choose another --exp"
START = "init"
"""Key of ``data.json`` with the digest of the weights of ``training.init``."""
INPUTS = "inputs"
"""Key of ``data.json`` with the digests of what the method has read of other experiments."""


def resolved(config: Config) -> tuple[Config, str | None]:
    """Return the configuration that is trained and recorded, and the id of a separate model's subnet.

    Raises:
        UserError: a setting does not fit the search space or the alignments.
    """
    config, separate_of = resolve_config(config)
    return _with_num_states(config), separate_of


def _with_num_states(config: Config) -> Config:
    """Return the configuration with the number of states of its frame targets, which an experiment needs to open.

    Raises:
        UserError: the recipe names another number than ``states.json`` has, or there is no such file.
    """
    auxiliary = config.loss.auxiliary
    if auxiliary is None or not needs_states(config.loss):
        return config
    assert config.loss.alignments is not None, "frame targets need alignments"
    count = read_states(config.loss.alignments).count
    if auxiliary.num_states not in (None, count):
        path = config.loss.alignments / STATES_FILE
        raise UserError(
            f"loss.auxiliary.num_states: is {auxiliary.num_states}, but {path} has {count} states; "
            "leave the key out, or give the folder of the other alignments"
        )
    known = auxiliary.model_copy(update={"num_states": count})
    return config.model_copy(update={"loss": config.loss.model_copy(update={"auxiliary": known})})


def begin_record(exp: Path, config: Config, lang: Path, facts: Results, world: World) -> bool:
    """Start the record, or check that the folder's configuration is the requested one.

    The record of a run that failed before its first checkpoint is written again, because nothing depends on it.

    Returns:
        Whether the folder holds a run that has begun.

    Raises:
        UserError: the folder has another configuration (the message names the first key that differs) or other states
            of frame targets, or the tokenizer is missing.
    """
    stored = exp / "config.yaml"
    # A complete run may have had its checkpoints removed, but it has its final weights.
    # Names that begin with a dot are those of files whose writing was killed.
    resumed = stored.exists() and ((exp / "final.pt").exists() or any((exp / "checkpoints").glob("[!.]*.pt")))
    if resumed:
        before = load_config(stored)
        difference = first_difference(with_changeable_keys(before, config), config)
        if difference is not None:
            raise UserError(
                f"{stored} differs from the configuration given: {difference}; "
                "give the same one to resume this run, or another --exp"
            )
        _check_states(exp, config)
        # Only changeable keys can differ here; the record takes the new values.
        if before != config and world.is_main:
            save_config(config, stored)
    elif not lang.exists():
        raise UserError(f"{lang} is missing: run stage 3 (slimasr-bpe) first")
    elif world.is_main:
        write_record(exp, config, lang, facts)
    # The other processes read what the main one has written.
    world.barrier()
    return resumed


def _check_states(exp: Path, config: Config) -> None:
    """Compare the states of a resumed run's frame targets with those of the alignments.

    Raises:
        UserError: they differ, so that the targets mean something else than the classifier has learnt.
    """
    if not needs_states(config.loss):
        return
    assert config.loss.alignments is not None, "frame targets need alignments"
    if read_states(exp).states != read_states(config.loss.alignments).states:
        place = config.loss.alignments / STATES_FILE
        raise UserError(f"{place}: has other states than {exp / STATES_FILE}; restore it, or choose another --exp")


def with_changeable_keys(config: Config, other: Config) -> Config:
    """Return a configuration with those keys of another one that a resumed run may change.

    ``decoding.batch_seconds`` and ``training.num_threads`` affect results by no more than rounding. A run whose
    validation does not fit into memory must be able to lower the first, and one that continues on a machine with fewer
    free processors the second. The experiment from which a run began (``training.init.from``) may have moved; that its
    weights are the same is checked by their digest.
    """
    decoding = config.decoding.model_copy(update={"batch_seconds": other.decoding.batch_seconds})
    init = config.training.init
    if init is not None and other.training.init is not None:
        init = init.model_copy(update={"from_": other.training.init.from_})
    training = config.training.model_copy(update={"num_threads": other.training.num_threads, "init": init})
    return config.model_copy(update={"decoding": decoding, "training": training})


def check_data(config: Config, data_dir: Path, *, tokenizer: Tokenizer | None) -> DataIdentity:
    """Check that the products of stages 1 to 3 that a run reads belong together, and return their identity.

    Args:
        tokenizer: the tokenizer of a run that begins now, which is that of stage 3 unless the run keeps that of the
            model with which it begins; None = it is not checked.

    Raises:
        UserError: a product is missing or was made from others (the message names the stage to run again), or a
            language lacks what its training and validation need.
    """
    folder = DataFolder(data_dir)
    streamed = streamed_sets(config)
    for name in config.data.train:
        if name in streamed:
            read_shards(config, folder, name)
            continue
        for speed in stored_speeds(config):
            check_features(config, folder, name, speed)
    for name in [config.data.dev, *noise_sets(config)]:
        check_features(config, folder, name)
    pathways = build_space(config).pathways
    # A pathway for every language trains on all utterances, whatever their language.
    if ANY_LANGUAGE in pathways:
        pathways = ()
    check_trained_languages(data_dir, config.data.train, pathways)
    check_validated_languages(data_dir, config.data.dev, pathways)
    init = config.training.init
    if tokenizer is not None and (init is None or init.tokenizer == "own"):
        check_tokenizer(config, folder, tokenizer.fingerprint)
    return data_identity(config, data_dir)


def record_data(exp: Path, now: DataIdentity, tokenizer: Tokenizer, start: InitialWeights | None = None) -> None:
    """Write ``data.json``, the data and the weights with which a new run begins."""
    begun_with = {} if start is None else {START: start.digest}
    record = {"data": now.to_dict(), "tokenizer": tokenizer.fingerprint, "accepted": [], **begun_with}
    write_json_atomic(exp / DATA_FILE, record)


def check_resumed_data(exp: Path, now: DataIdentity, tokenizer: Tokenizer, *, accept_changes: bool) -> list[str]:
    """Compare the present data with those of the resumed run, and record accepted changes.

    A complete run keeps its record, because it was not trained on the changed data.

    Args:
        accept_changes: record the changes in ``data.json`` instead of refusing them.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the data have changed, and changes are not accepted.
    """
    path = exp / DATA_FILE
    complete = (exp / "final.pt").exists()
    # Earlier versions wrote no such file. From here on, the run's data are known.
    if not path.is_file():
        if not complete:
            record_data(exp, now, tokenizer)
        return [f"{exp}: was begun by a version that did not record its data; that they are the same is not verified"]
    record: dict[str, Any] = read_json(path, DAMAGED)
    with understanding(path, DAMAGED):
        changes = DataIdentity.from_dict(record["data"]).changes(now)
    if not changes:
        return []
    if not accept_changes:
        raise UserError(
            f"{exp}: the data have changed since this run began ({', '.join(changes)}); restore them, choose another "
            "--exp, or give --accept-changed-data to resume with the data as they are now"
        )
    if complete:
        return [f"the data have changed since this run, which is complete, was trained: {', '.join(changes)}"]
    # The history keeps every earlier state of the data, so that it stays known on what the run was trained.
    accepted = [*record.get("accepted", ()), {"changes": changes, "before": record["data"]}]
    write_json_atomic(path, {**record, "data": now.to_dict(), "accepted": accepted})
    return [f"the data have changed since this run began, as accepted: {', '.join(changes)}"]


def check_inputs(exp: Path, inputs: Mapping[str, str]) -> None:
    """Compare what a method has read of other experiments (`Method.inputs`) with the record, or record it.

    Raises:
        UserError: something has changed since the run began.
    """
    path = exp / DATA_FILE
    record: dict[str, Any] = read_json(path, DAMAGED)
    # Earlier versions recorded nothing. From here on, it is known.
    known = record.get(INPUTS, inputs)
    for name, digest in inputs.items():
        if known.get(name) != digest:
            raise UserError(
                f"{exp}: {name} has changed since this run began; restore it, or choose another --exp to begin with "
                "the present one"
            )
    if inputs and INPUTS not in record:
        write_json_atomic(path, {**record, INPUTS: dict(inputs)})


def epoch_entry(config: Config, state: RunState, world: World) -> dict[str, Any]:
    """Return the log entry of a finished epoch, without its validation; all processes call it together."""
    sums = world.sum_by_key(state.sums)
    units = world.sum_by_key(state.units)
    entry: dict[str, Any] = {
        "epoch": state.epoch,
        "step": state.step,
        "lr": state.lr,
        "processes": world.size,
        "nonfinite": state.nonfinite,
        "train": {name: value / max(1.0, units[name]) for name, value in sums.items()},
    }
    unrestricted = round(world.sum(state.unrestricted))
    if config.loss.transducer == "restricted":
        entry["unrestricted"] = unrestricted
    return entry


def final_facts(state: RunState, longest_seconds: float | None, more: Mapping[str, Any]) -> Results:
    """Return what results.json gets when the run is complete.

    Args:
        longest_seconds: length of the longest training utterance; None = not known.
        more: what the method adds (`Method.facts`).
    """
    facts = Results(
        **more,
        epochs=state.epoch,
        steps=state.step,
        train_minutes=round(state.minutes, 3),
        train_threads=state.num_threads,
        train_seconds={part: round(seconds, 3) for part, seconds in state.seconds.items()},
        nonfinite_steps=state.nonfinite,
        longest_seconds=None if longest_seconds is None else round(longest_seconds, 3),
    )
    if state.energy is None:
        return facts
    return facts.model_copy(update={"energy": {"train": state.energy.to_entry()}})
