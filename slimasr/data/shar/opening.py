"""Open the shards of a recipe's training sets for a run."""

from __future__ import annotations

from dataclasses import dataclass

from lhotse import CutSet

from slimasr.config.schema import Config
from slimasr.data.augmentation.augment import AugmentationSource, read_augmentation
from slimasr.data.batches.collate import Collator, NoiseMixer
from slimasr.data.batches.filters import EncoderFrames
from slimasr.data.files import MUSAN_SET, DataFolder
from slimasr.data.manifests.normalise import read_rules
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.shar.buckets import DurationBuckets
from slimasr.data.shar.files import read_listed
from slimasr.data.shar.order import make_pools
from slimasr.data.shar.reader import Reading
from slimasr.data.shar.record import read_shards
from slimasr.data.shar.sample import sample_cuts
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError

DURATION_SAMPLE = 5000
"""Number of utterances whose durations decide which ones are batched together."""


@dataclass(frozen=True)
class BlockCollators:
    """Makes the `Collator` of a block for a reader, with random numbers of its own for what is drawn per batch."""

    config: Config
    tokenizer: Tokenizer
    noise: CutSet | None = None
    augmentation: AugmentationSource | None = None

    def __call__(self, block: int, reader: int) -> Collator:
        """The collator of the block with this number."""
        seed = self.config.seed
        mixer = None
        if self.noise is not None and self.config.data.musan is not None:
            mixer = NoiseMixer(self.noise, self.config.data.musan, f"{seed}/block {block}/{reader}")
        # Unlike batches, utterances are changed in the same way whatever blocks a pass is divided into.
        changes = None if self.augmentation is None else self.augmentation.of_passes(seed)
        return Collator(self.config, self.tokenizer, mixer, changes=changes)


def open_reading(config: Config, folder: DataFolder, tokenizer: Tokenizer, encoder_frames: EncoderFrames) -> Reading:
    """Read the records of the training sets' shards, and a sample of their manifests.

    What this takes does not depend on the number of utterances.

    Raises:
        UserError: stage 2 has not run or ran with other settings, or a shard is missing or damaged.
    """
    sets = {name: read_shards(config, folder, name) for name in config.data.train}
    pools = make_pools(sets, config.data.set_weights)
    every = [shard for pool in pools for shard in pool.shards]
    low, high = config.data.min_cut_seconds, config.data.max_cut_seconds
    sampled = (cut.duration for _, cut in sample_cuts(every, DURATION_SAMPLE, read_listed))
    usual = [seconds for seconds in sampled if low <= seconds <= high]
    if not usual:
        raise UserError(
            f"data.train: no utterance in a sample of the shards is between data.min_cut_seconds {low:g} and "
            f"data.max_cut_seconds {high:g} long"
        )
    noise = None if config.data.musan is None else read_feature_cuts(folder, MUSAN_SET)
    collators = BlockCollators(config, tokenizer, noise, read_augmentation(config, folder))
    buckets = DurationBuckets.of(usual, config.data)
    rules = read_rules(config.data.text)
    return Reading(config, tokenizer, encoder_frames, pools, buckets, rules, config.seed, collators)
