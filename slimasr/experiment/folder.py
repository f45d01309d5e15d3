"""The experiment folder is the record of a run: its configuration, checkpoints and results.

::

    exp/<name>/config.yaml         the resolved configuration, the only configuration that later stages read
               lang/               the tokenizer
               states.json         the states of the frame targets, if they are states
               checkpoints/        epoch-003.pt, epoch-003-step-00000120.pt, best.pt
               final.pt            averaged weights with re-estimated batch norms
               subnets.json        the subnets that the training has learnt, if its space is learnt
               data.json           the data and the tokenizer of the run, and the weights with which it began
               init.json           what the run has taken from the model with which it began, and what is frozen
               results.json        every measured subnet, and how the run was made
               experiment.lock     the process that is training or extracting (`slimasr.locking`)
               versions.json, train.log, train_log.jsonl, bad_utterances.jsonl, tensorboard/
               search/, decode/, export/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import (
    check_structure_of,
    check_tokenizer_of,
    fingerprint,
    load_checkpoint,
    load_weights,
)
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.models.packed import mark_stored
from slimasr.results.graph import read_graph_file
from slimasr.supernet.build import build_space
from slimasr.supernet.list_space import LearntSubnet, ListSpace, learnt_space
from slimasr.supernet.space import SearchSpace

DATA_FILE = "data.json"
UNVERIFIED = "does not name its tokenizer and data (an earlier version wrote it); that they match is not verified"
LOCK_FILE = "experiment.lock"
"""Held by the process that writes the folder."""


@dataclass(frozen=True)
class Experiment:
    """A trained run, open for search, decoding, extraction and reports.

    Attributes:
        dir: the experiment folder.
        config: the resolved configuration of the run.
        space: the subnets of the model.
        tokenizer: the tokenizer of the run.
        model: in evaluation mode, with the weights of the checkpoint.
        checkpoint: name of the checkpoint that the weights come from.
        data: fingerprint of the training data, None if it is not recorded.
        notes: what could not be verified, for the user.
    """

    dir: Path
    config: Config
    space: SearchSpace
    tokenizer: Tokenizer
    model: SpeechModel
    checkpoint: str
    data: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, exp: Path, checkpoint: str = "final") -> Experiment:
        """Open a run: read its configuration and tokenizer, and load a checkpoint into its model.

        Args:
            exp: experiment folder.
            checkpoint: ``final``, ``best``, or the name of one in ``checkpoints/`` such as ``epoch-003``.

        Raises:
            UserError: a file is missing (the message names the stage that creates it) or does not fit the others.
        """
        another = "" if exp.is_dir() else ", or name an experiment folder that exists"
        needed(exp / "config.yaml", another)
        config = stored_config(exp)
        needed(exp / "lang")
        tokenizer = load_tokenizer(exp / "lang")
        path = _checkpoint_path(exp, checkpoint)
        needed(path, _other_checkpoints(exp))
        saved = load_checkpoint(path)
        space = space_of(config, saved, path)
        check_tokenizer_of(saved, tokenizer, path)
        check_structure_of(saved, config, path)
        # The loss decides which training-only heads are built. An extracted model says that it has none.
        loss = config.loss if saved.get("training_heads", True) else None
        pathways = pathway_spec(config)
        model = build_model(config.model, loss, tokenizer.vocab_size, space.widths, head_names(config), pathways)
        load_weights(model, saved["model"], path)
        mark_stored(model, saved)
        notes = [f"{path}: {UNVERIFIED}"] if "tokenizer" not in saved else []
        if isinstance(space, ListSpace) and space.pending:
            notes.append(f"only the max subnet can be used: {space.pending}")
        return cls(exp, config, space, tokenizer, model.eval(), checkpoint, saved.get("data"), tuple(notes))

    @cached_property
    def weights_digest(self) -> str:
        """Digest of ``final.pt``, computed once. Only results that were measured on these weights are used.

        It does not depend on the checkpoint that is open: searches and their results belong to the final weights.

        Raises:
            UserError: there is no final checkpoint yet.
        """
        return fingerprint(_checkpoint_path(self.dir, "final"))


def space_of(config: Config, saved: Mapping[str, Any], path: Path) -> SearchSpace:
    """Return the search space of a checkpoint: that of the recipe, or the subnets that the training had learnt by then.

    Args:
        config: the configuration of the run.
        saved: the checkpoint.
        path: its file, for error messages.

    Raises:
        UserError: the subnets in the checkpoint are damaged.
    """
    if config.space.kind != "learnt":
        return build_space(config)
    try:
        learnt = [LearntSubnet.from_dict(content) for content in saved.get("subnets") or ()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged checkpoint (its subnets: {error}); use another checkpoint") from None
    return learnt_space(learnt, f"{path} is from before the training chose its subnets; use a later checkpoint")


def stored_config(exp: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of a run, with the scales that ``slimasr-decode --tune`` has chosen.

    Args:
        exp: experiment folder.
        overrides: ``<key>=<value>``, which go before both.

    Raises:
        UserError: a file is damaged or an override impossible.
    """
    tuned = read_graph_file(exp).tuned
    scales = {} if tuned is None else {name: getattr(tuned, name) for name in ("acoustic_scale", "prior_scale")}
    chosen = [f"decoding.graph.{name}={scale:g}" for name, scale in scales.items()]
    return load_config(exp / "config.yaml", [*chosen, *overrides])


def _checkpoint_path(exp: Path, checkpoint: str) -> Path:
    if checkpoint == "final":
        return exp / "final.pt"
    return exp / "checkpoints" / f"{checkpoint.removesuffix('.pt')}.pt"


def _other_checkpoints(exp: Path) -> str:
    """Return the end of an error message that lists the checkpoints of a run, or nothing if there are none."""
    names = ["final"] if _checkpoint_path(exp, "final").exists() else []
    names += sorted(path.stem for path in (exp / "checkpoints").glob("*.pt"))
    return f"; checkpoints that exist: {', '.join(names)}" if names else ""


def needed(path: Path, advice: str = "") -> Path:
    """Return the path if it exists.

    Args:
        path: a file or folder that stage 4 creates.
        advice: what else the user can do; it ends the message.

    Raises:
        UserError: the path does not exist; the message names the stage that creates it.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first{advice}")
    return path
