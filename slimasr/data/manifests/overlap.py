"""Check that training sets share no utterances with the sets on which models are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from lhotse.cut import Cut
from lhotse.utils import to_list

from slimasr.config.data import DataConfig
from slimasr.data.identity.digests import AudioStamp, audio_facts, file_digest
from slimasr.errors import UserError

K = TypeVar("K")

SHARED_TIME = 0.5
"""Segments of one recording are the same speech if they share more than this fraction of the shorter one; neighbours
may overlap a little, as lists round times."""


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
    headers and sizes are read. Segments of one recording are the same if they share most of their time.
    """
    ids = {cut.id for cut in train}
    by_path = _grouped(train, _path)
    found = {cut.id for cut in other if cut.id in ids or _is_among(cut, by_path.get(_path(cut), []))}
    # Only what neither id nor path has decided is compared by content.
    found |= set(_copies(train, [cut for cut in other if cut.id not in found]))
    # In the order of the set, so that the example in the message does not change from run to run.
    return [cut.id for cut in other if cut.id in found]


def _copies(train: Sequence[Cut], other: Sequence[Cut]) -> Iterator[str]:
    """Ids of the utterances of ``other`` whose audio is a copy of one in ``train``."""
    by_size = _grouped(train, lambda cut: str(audio_facts(cut)))
    for size, cuts in _grouped(other, lambda cut: str(audio_facts(cut))).items():
        candidates = by_size.get(size, [])
        # A file is not compared with itself.
        if not candidates or len({_path(cut) for cut in (*candidates, *cuts)}) == 1:
            continue
        # A recording may hold many utterances, and is read once.
        content_of = {path: _content(found[0]) for path, found in _grouped([*candidates, *cuts], _path).items()}
        by_content = _grouped(candidates, partial(_content_by_path, content_of))
        yield from (cut.id for cut in cuts if _is_among(cut, by_content.get(content_of[_path(cut)], [])))


def _content_by_path(content_of: Mapping[Path, str], cut: Cut) -> str:
    return content_of[_path(cut)]


def _is_among(cut: Cut, others: Iterable[Cut]) -> bool:
    """Whether one of these utterances of the same recording is the same speech."""
    return any(_is_same_speech(cut, other) for other in others)


def _is_same_speech(cut: Cut, other: Cut) -> bool:
    if set(to_list(cut.channel)).isdisjoint(to_list(other.channel)):
        return False
    shared = min(cut.start + cut.duration, other.start + other.duration) - max(cut.start, other.start)
    return shared > SHARED_TIME * min(cut.duration, other.duration)


def _grouped(cuts: Iterable[Cut], key: Callable[[Cut], K]) -> dict[K, list[Cut]]:
    groups: dict[K, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(key(cut), []).append(cut)
    return groups


def _content(cut: Cut) -> str:
    stamp = AudioStamp.of_cut(cut)
    # Stage 1 with --check-audio has stored the digest.
    if stamp is not None and stamp.sha256 is not None:
        return stamp.sha256
    return file_digest(_path(cut))


def _path(cut: Cut) -> Path:
    return Path(cut.recording.sources[0].source).resolve()
