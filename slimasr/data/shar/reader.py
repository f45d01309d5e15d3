"""One reader of shards: the batches of its part of every block, made in the training process or in a worker of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut
from torch.utils.data import IterableDataset

from slimasr.config.schema import Config
from slimasr.data.audio.recordings import AudioError
from slimasr.data.augmentation.augment import DRAWN_AS, drawn_in_pass
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.collate import Collator
from slimasr.data.batches.filters import EncoderFrames, unusable
from slimasr.data.features.shards import at_speed
from slimasr.data.files import BadUtterance
from slimasr.data.manifests.normalise import Rules, normalised
from slimasr.data.memory.sampling import speed_of
from slimasr.data.shar.buckets import SPEED, DurationBuckets, sample_batches, speed_of_cut
from slimasr.data.shar.checks import checked_cut, decode
from slimasr.data.shar.files import read_listed, read_shard
from slimasr.data.shar.order import Piece, Pool, next_block, pieces_of
from slimasr.data.shar.place import Place
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError


@dataclass(frozen=True)
class Opened:
    """A block begins: the number of utterances in each of its batches, in order; None = they were not asked for."""

    lengths: tuple[int, ...] | None


@dataclass(frozen=True)
class Skipped:
    """A batch that is not made, because it was trained on before or none of its utterances can be decoded."""


@dataclass(frozen=True)
class Closed:
    """A block has ended: how many utterances this reader has seen in it, and those among them that cannot be used."""

    seen: int
    bad: tuple[BadUtterance, ...]


@dataclass(frozen=True)
class Failed:
    """Reading has ended with a `UserError`, whose message crosses the border of the process as text."""

    message: str


SHARD = "train_shard"
"""Key of ``cut.custom`` with the archive that holds a cut's features or audio."""

Item = Opened | Batch | Skipped | Closed | Failed


@dataclass(frozen=True)
class Reading:
    """What all readers of a run have in common.

    Attributes:
        config: the configuration that is trained.
        tokenizer: makes labels, and decides which transcripts can be used.
        encoder_frames: feature frames -> encoder frames.
        pools: the shards.
        buckets: batch sizes by duration.
        rules: ``data.text``, for transcripts that no stage has read.
        seed: seed of the run.
        collator: makes the `Collator` of a block, given its number and that of the reader.
    """

    config: Config
    tokenizer: Tokenizer
    encoder_frames: EncoderFrames
    pools: tuple[Pool, ...]
    buckets: DurationBuckets
    rules: Rules
    seed: int
    collator: Callable[[int, int], Collator]

    def problem(self, cut: Cut) -> str | None:
        """Why an utterance cannot be used at one of the training speeds, or None."""
        if len(cut.supervisions) != 1:
            return f"has {len(cut.supervisions)} supervisions, needs one"
        text = cut.supervisions[0].text or ""
        ids = self.tokenizer.encode(text)
        for speed in {min(self.speeds), max(self.speeds)}:
            reason = unusable(cut.duration / speed, text, ids, self.config, self.tokenizer, self.encoder_frames)
            if reason is not None:
                return reason
        return None

    @property
    def speeds(self) -> Sequence[float]:
        """Training speeds relative to the stored one."""
        return self.config.data.speeds if self.config.data.reads_audio else [1.0]


@dataclass
class Usable:
    """The usable utterances of a piece, each with its training speed; counts them, and keeps the others."""

    piece: Piece
    reading: Reading
    with_data: bool
    seen: int = 0
    bad: list[BadUtterance] = field(default_factory=list)

    def __iter__(self) -> Iterator[Cut]:
        piece = self.piece
        content = self.reading.config.data.shar.content
        cuts = read_shard(piece.shard, content) if self.with_data else read_listed(piece.shard)
        for number, cut in enumerate(cuts):
            if number % piece.parts != piece.part:
                continue
            self.seen += 1
            if piece.shard.is_given:
                for supervision in cut.supervisions:
                    supervision.text = normalised(supervision.text or "", self.reading.rules).text
            reason = self.reading.problem(cut)
            if reason is not None:
                self.bad.append(BadUtterance(cut.id, reason))
                continue
            # The manifest alone has no features or audio to check.
            ready = checked_cut(cut, self.reading.config, piece.shard) if self.with_data else cut
            speed = speed_of(cut.id, self.reading.speeds, self.reading.seed, piece.round)
            again = drawn_in_pass(cut.id, piece.round)
            ready.custom = {SPEED: speed, SHARD: piece.shard.data, DRAWN_AS: again}
            yield ready


class ShardReader(IterableDataset[Item]):
    """Yields, block after block and without end, `Opened`, the batches of its part of the block, and `Closed`."""

    def __init__(self, reading: Reading, number: int, place: Place, *, skip: int = 0, announce: bool = False) -> None:
        """Create the reader with this number of ``place.readers``.

        Args:
            reading: what readers have in common.
            number: of this reader, from 0.
            place: the block with which it begins.
            skip: number of batches of this block that are not made.
            announce: whether `Opened` has the lengths of batches, for which manifests are read twice.
        """
        super().__init__()
        self._reading = reading
        self._number = number
        self._place = place
        self._skip = skip
        self._announce = announce

    def __iter__(self) -> Iterator[Item]:
        place = self._place
        skip = self._skip
        try:
            while True:
                yield Opened(self.lengths(place) if self._announce else None)
                yield from self._block(place, skip)
                place = next_block(self._reading.pools, place)
                skip = 0
        except UserError as error:
            yield Failed(str(error))

    def lengths(self, place: Place) -> tuple[int, ...]:
        """Number of utterances in each batch of this reader's part of a block, from manifests alone."""
        return tuple(len(cuts) for cuts in self._batches(place, self._sources(place, with_data=False)))

    def _block(self, place: Place, skip: int) -> Iterator[Item]:
        sources = self._sources(place, with_data=True)
        collator = self._reading.collator(sum(place.starts), self._number)
        damaged: list[BadUtterance] = []
        for number, cuts in enumerate(self._batches(place, sources)):
            # A skipped batch is drawn, but its features are neither decoded nor computed.
            if number < skip:
                yield Skipped()
                continue
            batch, lost = self.batch(collator, (number, cuts))
            if batch is None and self._announce:
                # All processes need as many batches as they have announced.
                batch, _ = self.batch(collator, (number, [self._first_whole(place, lost[0])]))
            damaged += lost
            yield Skipped() if batch is None else batch
        bad = [item for source in sources for item in source.bad]
        yield Closed(sum(source.seen for source in sources), (*bad, *damaged))

    def batch(
        self, collator: Collator, drawn: tuple[int, Iterable[Cut]], speed: float | None = None
    ) -> tuple[Batch | None, list[BadUtterance]]:
        """Make a batch of the utterances that can be decoded, None if none can be, and list the others.

        Args:
            collator: of the block.
            drawn: number of the batch in the block, and its utterances.
            speed: see `ready`.

        Raises:
            UserError: something else than the utterances is damaged.
        """
        number, cuts = drawn
        try:
            return collator[number, self.ready(cuts, speed)], []
        except UserError:
            # Utterances are decoded one by one only after an error, because this decodes them a second time.
            found = [(cut, self._damage(cut)) for cut in cuts]
            lost = [BadUtterance(cut.id, damage) for cut, damage in found if damage is not None]
            if not lost:
                raise
            kept = [cut for cut, damage in found if damage is None]
            return collator[number, self.ready(kept, speed)] if kept else None, lost

    def _damage(self, cut: Cut) -> str | None:
        """Why a drawn utterance cannot be decoded, or None."""
        try:
            decode(next(iter(self.ready([cut]))), self._reading.config.data.shar.content, cut.custom[SHARD])
        except AudioError as error:
            return str(error)
        return None

    def _first_whole(self, place: Place, lost: BadUtterance) -> Cut:
        """The first utterance of this reader's part of a block that can be decoded."""
        whole = next((cut for cut in self.usable(place) if self._damage(cut) is None), None)
        if whole is None:
            raise UserError(
                f"data.train: no utterance of a block of shards can be decoded, as {lost.id}: {lost.reason}"
            )
        return whole

    def usable(self, place: Place) -> Iterator[Cut]:
        """The usable utterances of this reader's part of a block, with their data, shard after shard."""
        for source in self._sources(place, with_data=True):
            yield from source

    def ready(self, cuts: Iterable[Cut], speed: float | None = None) -> CutSet:
        """The cuts of a batch at the sampling rate of the recipe and at a training speed; None = each at its own."""
        rate = self._reading.config.data.sampling_rate
        at_speeds = (at_speed(cut, speed_of_cut(cut) if speed is None else speed) for cut in cuts)
        return CutSet.from_items([cut if cut.sampling_rate == rate else cut.resample(rate) for cut in at_speeds])

    def _sources(self, place: Place, *, with_data: bool) -> list[Usable]:
        pieces = pieces_of(self._reading.pools, place, self._number, self._reading.seed)
        return [Usable(piece, self._reading, with_data) for piece in pieces]

    def _batches(self, place: Place, sources: Sequence[Iterable[Cut]]) -> Iterator[CutSet]:
        if not sources:
            return
        data = self._reading.config.data
        seed = f"batches/{self._reading.seed}/{sum(place.starts)}/{self._number}"
        lazy = [CutSet(source) for source in sources]
        yield from sample_batches(lazy, self._reading.buckets, data.shar.buffer_cuts, seed)


def as_it_is(item: Any) -> Any:
    """Return what a loader should hand on without changing it."""
    return item
