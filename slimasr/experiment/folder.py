"""The experiment folder is the record of a run: its configuration, checkpoints and results.

::

    exp/<name>/config.yaml         the resolved configuration, the only configuration that later stages read
               lang/               the tokenizer
               checkpoints/        epoch-003.pt, epoch-003-step-00000120.pt, best.pt
               final.pt            averaged weights with re-estimated batch norms
               data.json           the data and the tokenizer of the run
               results.json        every measured subnet, and how the run was made
               experiment.lock     the process that is training or extracting (`slimasr.locking`)
               versions.json, train.log, train_log.jsonl, bad_utterances.jsonl, tensorboard/
               search/, decode/, export/
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.data.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import check_tokenizer_of, fingerprint, load_checkpoint, load_weights
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from slimasr.supernet.space import SearchSpace, build_space

DATA_FILE = "data.json"
UNVERIFIED = "does not name its tokenizer and data (an earlier version wrote it); that they match is not verified"
LOCK_FILE = "experiment.lock"


@dataclass(frozen=True)
class Experiment:
    """A trained run, open for search, decoding, extraction and reports.

    Attributes:
        dir: the experiment folder.
        model: in evaluation mode, with the weights of the checkpoint.
        checkpoint: name of the checkpoint the weights come from.
        data: fingerprint of the training data, None if it is not recorded.
        notes: what could not be verified, for the user.
    """

    dir: Path
    config: Config
    space: SearchSpace
    tokenizer: Tokenizer
    model: Transducer
    checkpoint: str
    data: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, exp: Path, checkpoint: str = "final") -> Experiment:
        """Load a run.

        Args:
            exp: experiment folder.
            checkpoint: ``final``, ``best``, or the name of one in ``checkpoints/`` such as ``epoch-003``.

        Raises:
            UserError: a file is missing (the message names the stage that makes it) or does not fit the others.
        """
        another = "" if exp.is_dir() else ", or name an experiment folder that exists"
        config = load_config(needed(exp / "config.yaml", another))
        needed(exp / "lang")
        tokenizer = Tokenizer.load(exp / "lang")
        space = build_space(config.space)
        path = _checkpoint_path(exp, checkpoint)
        needed(path, _other_checkpoints(exp))
        saved = load_checkpoint(path)
        check_tokenizer_of(saved, tokenizer, path)
        loss = config.loss if saved.get("training_heads", True) else None
        model = build_model(config.model, loss, tokenizer.vocab_size, space.widths)
        load_weights(model, saved["model"], path)
        notes = () if "tokenizer" in saved else (f"{path}: {UNVERIFIED}",)
        return cls(exp, config, space, tokenizer, model.eval(), checkpoint, saved.get("data"), notes)

    @cached_property
    def weights_digest(self) -> str:
        """Digest of ``final.pt``, computed once: only results that were measured on these weights are used.

        Raises:
            UserError: there is no final checkpoint yet.
        """
        return fingerprint(_checkpoint_path(self.dir, "final"))


def _checkpoint_path(exp: Path, checkpoint: str) -> Path:
    if checkpoint == "final":
        return exp / "final.pt"
    return exp / "checkpoints" / f"{checkpoint.removesuffix('.pt')}.pt"


def _other_checkpoints(exp: Path) -> str:
    names = [name for name in ("final",) if _checkpoint_path(exp, name).exists()]
    names += sorted(path.stem for path in (exp / "checkpoints").glob("*.pt"))
    return f"; checkpoints that exist: {', '.join(names)}" if names else ""


def needed(path: Path, advice: str = "") -> Path:
    """Return the path if it exists.

    Args:
        path: a file or folder that stage 4 makes.
        advice: what else the user can do, which ends the message.

    Raises:
        UserError: it is missing; the message names the stage that makes it.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first{advice}")
    return path
