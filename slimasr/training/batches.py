"""The data that the trainer reads: training batches, the dev set, and the tokenizer that made their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from slimasr.config.schema import Config
from slimasr.config.training import TrainingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.batches.filters import write_bad_utterances
from slimasr.data.files import DataFolder, describe_left_out
from slimasr.data.identity.digests import Identity
from slimasr.data.identity.experiment import DataIdentity, checked_identity
from slimasr.data.identity.provenance import set_identity
from slimasr.data.memory.dataloading import BatchSource, eval_batches
from slimasr.data.memory.sampling import EpochPart, RankInfo
from slimasr.data.shar.left_out import LeftOut
from slimasr.data.shar.opening import open_reading
from slimasr.data.shar.place import Place
from slimasr.data.shar.source import ShardSource
from slimasr.data.timelines.folder import check_aligned_sets
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.encoders.base import Encoder
from slimasr.errors import UserError
from slimasr.training.checkpoint import RunState, list_checkpoints
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


class Flow(Protocol):
    """The training batches of a run, in the order in which it trains on them."""

    def rest_of_epoch(self, state: RunState) -> Iterator[Batch]:
        """Iterate over the batches of the running epoch on which the run has not trained."""

    def left_out(self) -> str | None:
        """Return one line about utterances that have turned out to be unusable since the last call, or None."""


@dataclass(frozen=True)
class EpochFlow:
    """Epochs that are passes over all utterances, planned one by one."""

    train: TrainingBatches

    def rest_of_epoch(self, state: RunState) -> Iterator[Batch]:
        """Iterate over the batches of the epoch after those that the state has counted."""
        return self.train.train_batches(state.epoch + 1, state.batch, state.parts)

    def left_out(self) -> None:
        """Return None: unusable utterances were found before the run began."""


class StreamFlow:
    """Epochs that are parts of an endless stream of shards, which continues from one to the next."""

    def __init__(self, source: ShardSource, listing: LeftOut) -> None:
        self._source = source
        self._listing = listing
        self._batches: Iterator[Batch] | None = None
        self._place: Place | None = None

    def rest_of_epoch(self, state: RunState) -> Iterator[Batch]:
        """Iterate from the state's place on, over as many batches as are left of its epoch."""
        # The stream is the same wherever it is opened; it only takes a while until its first batch.
        if self._batches is None or self._place != state.place:
            self._batches = self._source.batches_at(state.place)
        for batch in islice(self._batches, state.num_batches - state.batch):
            self._place = batch.place
            yield batch

    def left_out(self) -> str | None:
        """Return the number of unusable utterances if it has grown."""
        return self._listing.note()


@dataclass(frozen=True)
class TrainingData:
    """The data of one run.

    Attributes:
        train: this process's training batches.
        dev: starts an iteration over the whole dev set, equal on all processes.
        tokenizer: converts labels to words.
        left_out: one line about training utterances that cannot be used; None if all can.
        notes: notes on the dev set for the user.
        fingerprint: digest of the data (`slimasr.data.identity.experiment.DataIdentity`).
        stream: the batches of ``train`` as a stream; None = its epochs are passes over all utterances.
        longest_seconds: length of the longest training utterance at the lowest speed; None = not known.
    """

    train: TrainingBatches
    dev: Callable[[], Iterator[Batch]]
    tokenizer: Tokenizer
    left_out: str | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    stream: StreamFlow | None = None
    longest_seconds: float | None = None

    @property
    def flow(self) -> Flow:
        """The order of the batches of the run."""
        return self.stream or EpochFlow(self.train)


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
    dev = partial(dev_batches, config, data_dir, tokenizer, identity.dev)
    notes = evaluation_notes(config, data_dir, config.data.dev, tokenizer, losses=True)
    if config.data.storage == "shar":
        stream, unusable = open_stream(config, data_dir, exp, tokenizer, encoder, key, world)
        flow = StreamFlow(stream, unusable)
        return TrainingData(stream, dev, tokenizer, None, tuple(notes), identity.fingerprint, flow)
    source = _in_memory(config, data_dir, tokenizer, encoder, key, world)
    bad = source.bad_utterances
    listing = exp / "bad_utterances.jsonl"
    # Every process finds the same utterances; one of them writes the list.
    if world.is_main:
        write_bad_utterances(listing, bad)
    left_out = describe_left_out(bad, source.num_utterances + len(bad), "+".join(config.data.train), listing)
    return TrainingData(
        source,
        dev,
        tokenizer,
        left_out,
        (*notes, *_unaligned_notes(config, source)),
        identity.fingerprint,
        longest_seconds=source.longest_seconds,
    )


def _in_memory(
    config: Config, data_dir: Path, tokenizer: Tokenizer, encoder: Encoder, key: str | None, world: World
) -> BatchSource:
    """Read the records of the training sets; the arguments are those of `open_data`."""
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
    return source


def _unaligned_notes(config: Config, source: BatchSource) -> list[str]:
    """Return a note on training utterances without the alignment that a loss needs."""
    unaligned = source.unaligned
    if not unaligned:
        return []
    verb = "has" if len(unaligned) == 1 else "have"
    return [
        f"{'+'.join(config.data.train)}: {len(unaligned)} of {source.num_utterances} utterances {verb} no "
        f"alignment and no frame targets, first {unaligned[0]}"
    ]


def open_stream(
    config: Config, data_dir: Path, exp: Path, tokenizer: Tokenizer, encoder: Encoder, key: str | None, world: World
) -> tuple[ShardSource, LeftOut]:
    """Open the shards of the training sets, and the list of their utterances that cannot be used.

    The arguments are those of `open_data`.

    Raises:
        UserError: stage 2 has not run or ran with other settings, a shard is missing or damaged, or the method needs
            batches of one kind of utterances.
    """
    if key is not None:
        raise UserError(
            f"data.storage: shar does not draw batches of one {key}, which method {config.method.kind} needs; use "
            "another storage"
        )
    folder = exp / "checkpoints"
    listing = exp / "bad_utterances.jsonl"
    # A run without checkpoints starts a new list.
    if world.is_main and not list_checkpoints(folder):
        listing.unlink(missing_ok=True)
    names = "+".join(config.data.train)
    left_out = LeftOut(listing, names, config.data.max_bad_share, world.gather, writes=world.is_main)
    process = RankInfo(world.rank, world.size)
    reading = open_reading(config, DataFolder(data_dir), tokenizer, encoder.output_frames)
    batches = batches_of_epochs(config.training)
    return ShardSource(reading, process, batches, world.gather, left_out.add), left_out


def batches_of_epochs(config: TrainingConfig) -> list[int]:
    """Return the number of batches of each epoch of a run of ``num_steps``, per process."""
    assert config.num_steps is not None, "shards are read for a number of steps"
    whole, rest = divmod(config.num_steps, config.epoch_steps)
    steps = [config.epoch_steps] * whole + ([rest] if rest else [])
    return [count * config.accumulate for count in steps]


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
