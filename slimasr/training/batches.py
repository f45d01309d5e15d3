"""The data that the trainer reads: training batches, the dev set, and the tokenizer that made their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from slimasr.config.schema import Config
from slimasr.data.alignments import check_aligned_sets
from slimasr.data.batch import Batch
from slimasr.data.dataloading import BatchSource, eval_batches
from slimasr.data.evaluation_notes import evaluation_notes
from slimasr.data.files import DataFolder, describe_left_out
from slimasr.data.filters import write_bad_utterances
from slimasr.data.identity import Identity
from slimasr.data.provenance import DataIdentity, checked_identity, set_identity
from slimasr.data.sampling import EpochPart
from slimasr.data.tokenizer import Tokenizer
from slimasr.encoders.base import Encoder
from slimasr.errors import UserError
from slimasr.training.distributed import World
from slimasr.training.languages import LANGUAGE, check_enough, key_of_batches


class TrainingBatches(Protocol):
    """Source of training batches, deterministic in seed, epoch and rank.

    All ranks get the same number of batches, because each step ends with a collective reduction.
    """

    def num_train_batches(self, epoch: int, parts: Sequence[EpochPart] = ()) -> int:
        """Return the number of batches per process of an epoch (counted from 1), without those of earlier parts."""

    def train_batches(self, epoch: int, skip: int = 0, parts: Sequence[EpochPart] = ()) -> Iterator[Batch]:
        """Iterate over these batches, without the first ``skip``."""

    def worst_batches(self) -> list[Batch]:
        """Return the largest batches of the training data."""


@dataclass(frozen=True)
class TrainingData:
    """The data of one run.

    Attributes:
        train: this process's training batches.
        dev: starts an iteration over the whole dev set, equal on all processes.
        tokenizer: converts labels to words.
        left_out: one line about training utterances that cannot be used; None if all can.
        notes: notes on the dev set for the user.
        fingerprint: digest of the data (`slimasr.data.provenance.DataIdentity`).
    """

    train: TrainingBatches
    dev: Callable[[], Iterator[Batch]]
    tokenizer: Tokenizer
    left_out: str | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


def open_data(
    config: Config,
    data_dir: Path,
    exp: Path,
    tokenizer: Tokenizer,
    encoder: Encoder,
    key: str | None,
    world: World,
    identity: DataIdentity,
) -> TrainingData:
    """Open the products of stages 1 to 3; utterances that cannot be used are listed in ``bad_utterances.jsonl``.

    Args:
        config: the configuration that is trained.
        data_dir: manifests, features and tokenizers of stages 1 to 3.
        exp: experiment folder.
        tokenizer: the run's own copy of the tokenizer.
        encoder: determines how many encoder frames an utterance has.
        world: this process among all of the run's.
        key: supervision field by which the method groups batches (`Method.batch_key`).
        identity: identity of the data that the run's record names.

    Raises:
        UserError: a product is missing or unusable, or a language has too few utterances.
    """
    key = key_of_batches(config, key)
    if config.loss.alignments is not None:
        folder = DataFolder(data_dir)
        # Alignments fit only the utterances from which they were made.
        names = [*config.data.train, config.data.dev]
        fingerprints = {name: set_identity(config, folder, name).fingerprint for name in names}
        check_aligned_sets(config.loss.alignments, fingerprints)
    source = BatchSource(
        config,
        data_dir,
        tokenizer,
        rank=world.rank,
        world_size=world.size,
        key=key,
        encoder_frames=encoder.output_frames,
    )
    if key == LANGUAGE:
        check_enough(source.languages, world.size)
    listing = exp / "bad_utterances.jsonl"
    bad = source.bad_utterances
    # Every process finds the same utterances; one of them writes the list.
    if world.is_main:
        write_bad_utterances(listing, bad)
    left_out = describe_left_out(bad, source.num_utterances + len(bad), "+".join(config.data.train), listing)
    dev = partial(dev_batches, config, data_dir, tokenizer, identity.dev)
    notes = evaluation_notes(config, data_dir, config.data.dev, tokenizer, losses=True)
    unaligned = source.unaligned
    if unaligned:
        verb = "has" if len(unaligned) == 1 else "have"
        notes.append(
            f"{'+'.join(config.data.train)}: {len(unaligned)} of {source.num_utterances} utterances {verb} no "
            f"alignment and no frame targets, first {unaligned[0]}"
        )
    return TrainingData(source, dev, tokenizer, left_out, tuple(notes), identity.fingerprint)


def dev_batches(config: Config, data_dir: Path, tokenizer: Tokenizer, begun_on: Identity) -> Iterator[Batch]:
    """Iterate over the dev set, after checking that it is still the one with which the run began.

    Raises:
        UserError: it has changed in the meantime; results on two dev sets cannot be compared.
    """
    name = config.data.dev
    changes = begun_on.changes(checked_identity(config, data_dir, name))
    if changes:
        raise UserError(
            f"{name}: the {' and '.join(changes)} have changed while this run was training; the epoch is saved: "
            "restore them, or run the same command with --accept-changed-data"
        )
    return eval_batches(config, data_dir, name, tokenizer, config.decoding.batch_seconds, aligned=True)
