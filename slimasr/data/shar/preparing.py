"""Stage 1 of training sets that consist of given shards: a manifest of a sample of their utterances.

The shards stay where they are, and training reads the utterances from them. The sample takes the place of the manifest
for everything that needs transcripts: the tokenizer, the table of characters and language models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slimasr.config.data import DataConfig
from slimasr.data.files import BadUtterance, DataFolder, write_bad, write_cuts
from slimasr.data.identity.digests import digest_of, identify
from slimasr.data.identity.manifest_record import write_manifest_record
from slimasr.data.manifests.listing import text_problem
from slimasr.data.manifests.normalise import Counts, Rules, normalised, read_rules
from slimasr.data.shar.files import ShardFiles, read_listed
from slimasr.data.shar.found import given_shards
from slimasr.data.shar.record import sizes
from slimasr.data.shar.sample import sample_cuts
from slimasr.errors import UserError

TRANSCRIPT_SAMPLE = 100_000
"""Number of utterances of a set of given shards in its manifest."""


@dataclass(frozen=True)
class GivenSet:
    """A set of given shards.

    Attributes:
        utterances: number of all its utterances.
        cuts: those of the sample that have a transcript.
        bad: the others of the sample.
    """

    utterances: int
    cuts: list[Cut]
    bad: list[BadUtterance]

    def note(self, set_name: str) -> str | None:
        """Say that figures are those of a sample, if there are more utterances."""
        sampled = len(self.cuts) + len(self.bad)
        if sampled == self.utterances:
            return None
        return f"{set_name}: the figures are those of a sample of {sampled:,} of {self.utterances:,} utterances"


def prepare_given(config: DataConfig, folder: DataFolder, set_name: str) -> GivenSet:
    """Write the sample of a set, the utterances of it that have no transcript, and the record of both.

    Raises:
        UserError: a shard is missing or damaged, or no utterance of the sample has a transcript.
    """
    shards = given_shards(config, set_name)
    total = sum(shard.num_cuts for shard in shards)
    cuts, bad, counts = _sample(shards, read_rules(config.text))
    if not cuts:
        reason = f", first {bad[0].id}: {bad[0].reason}" if bad else ""
        raise UserError(f"data.sources: no utterance in a sample of the shards of {set_name} has a transcript{reason}")
    write_cuts(folder.raw_cuts(set_name), cuts)
    # The sample says nothing about utterances that are not in it; the sizes of all files do.
    files = digest_of([[asdict(shard), sizes(shard)] for shard in shards])
    identity = replace(identify(cuts), audio=files)
    write_manifest_record(folder, set_name, config, cuts, counts, identity=identity, utterances=total)
    write_bad(folder.raw_bad(set_name), bad)
    return GivenSet(total, cuts, bad)


def _sample(shards: Sequence[ShardFiles], rules: Rules) -> tuple[list[Cut], list[BadUtterance], Counts]:
    """The utterances of a sample that have a transcript, the others, and the changes that ``data.text`` made."""
    cuts: list[Cut] = []
    bad: list[BadUtterance] = []
    counts = Counts()
    for _, cut in sample_cuts(shards, TRANSCRIPT_SAMPLE, read_listed):
        changed = normalised((cut.supervisions[0].text or "") if len(cut.supervisions) == 1 else "", rules)
        counts.add(changed.counts)
        text = changed.text
        problem = text_problem(text)
        if problem is not None:
            bad.append(BadUtterance(cut.id, problem))
            continue
        supervision = fastcopy(cut.supervisions[0], text=text)
        cuts.append(fastcopy(cut, supervisions=[supervision], features=None, recording=None, custom=None))
    return cuts, bad, counts
