"""Check that training sets share no utterances with the sets on which models are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lhotse.cut import Cut

from slimasr.config.data import DataConfig
from slimasr.data.identity import AudioStamp, audio_facts, file_digest
from slimasr.errors import UserError


def check_overlap(config: DataConfig, cuts_of: Mapping[str, Sequence[Cut]], sources: Mapping[str, str]) -> None:
    """Compare training sets with dev and test sets, by utterance ids and by audio files.

    Args:
        cuts_of: set name -> its cuts from stage 1.
        sources: utterance id -> the file and line that list it, for the message.

    Raises:
        UserError: sets share utterances; the message names the sets, the number of utterances and one of them.
    """
    for train in dict.fromkeys(config.train):
        for other in dict.fromkeys([config.dev, *config.test]):
            shared = shared_utterances(cuts_of[train], cuts_of[other])
            if shared:
                raise UserError(
                    f"data: training set {train} and set {other} share {len(shared)} utterances (same id or same "
                    f"audio), for example {shared[0]} ({sources[shared[0]]}); error rates on {other} would "
                    "not be meaningful: use disjoint sets, or set data.allow_overlap to true if this is intended"
                )


def shared_utterances(train: Sequence[Cut], other: Sequence[Cut]) -> list[str]:
    """Ids of the utterances of ``other`` that are also in ``train``, with the same id or the same audio.

    Audio files are the same if they are one file, or have equal headers, sizes and content. Only files with equal
    headers and sizes are read.
    """
    ids = {cut.id for cut in train}
    paths = {_path(cut) for cut in train}
    shared = [cut for cut in other if cut.id in ids or _path(cut) in paths]
    rest = [cut for cut in other if cut.id not in ids and _path(cut) not in paths]
    # Only what neither id nor path has decided is compared by content.
    copies = set(_copies(train, rest))
    found = {cut.id for cut in shared} | copies
    # In the order of the set, so that the example in the message does not change from run to run.
    return [cut.id for cut in other if cut.id in found]


def _copies(train: Sequence[Cut], other: Sequence[Cut]) -> Iterator[str]:
    """Ids of the utterances of ``other`` whose audio is a copy of one in ``train``."""
    by_size = _by_size(train)
    for size, cuts in _by_size(other).items():
        candidates = by_size.get(size, [])
        if not candidates:
            continue
        contents = {_content(cut) for cut in candidates}
        yield from (cut.id for cut in cuts if _content(cut) in contents)


def _by_size(cuts: Iterable[Cut]) -> dict[str, list[Cut]]:
    groups: dict[str, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(str(audio_facts(cut)), []).append(cut)
    return groups


def _content(cut: Cut) -> str:
    stamp = AudioStamp.of_cut(cut)
    # Stage 1 with --check-audio has stored the digest.
    if stamp is not None and stamp.sha256 is not None:
        return stamp.sha256
    return file_digest(_path(cut))


def _path(cut: Cut) -> Path:
    return Path(cut.recording.sources[0].source).resolve()
