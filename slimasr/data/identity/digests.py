"""The identity of a set of utterances: short digests that later products record, from manifests to results.

Stage 1 stores the size and modification time of every audio file in its cut, and with ``--check-audio`` the digest of
its content. `identify` computes digests of the cuts of a set. Each later product keeps the `Identity` of the sets from
which it was made, so that a mismatch is detected and the message says what has changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from slimasr.errors import UserError

# 64 bits: products are compared with a few others, not searched for among billions.
DIGITS = 16
_BLOCK_BYTES = 1 << 20
# Keys of ``cut.custom``.
_BYTES = "audio_bytes"
_MODIFIED = "audio_modified_ns"
_SHA256 = "audio_sha256"


@dataclass(frozen=True)
class Identity:
    """Digests of one set.

    Attributes:
        transcripts: utterance ids and texts, in the order of the manifest.
        utterances: ids, times, speakers, languages.
        audio: headers and sizes of the audio files.
        modified: modification times of the audio files.
        content: content of the audio files; empty if stage 1 did not read it.
    """

    transcripts: str
    utterances: str
    audio: str
    modified: str
    content: str = ""

    @property
    def fingerprint(self) -> str:
        """One digest of everything; modification times count only if the content is not known."""
        state = self.content or self.modified
        return digest_of([self.transcripts, self.utterances, self.audio, state])

    def changes(self, now: Identity) -> list[str]:
        """Describe in words what differs between this identity and the present one; empty if the data are the same.

        Audio is compared by content if both identities have it, otherwise by modification times.
        """
        found = []
        if self.transcripts != now.transcripts:
            found.append("transcripts")
        if self.utterances != now.utterances:
            # If ids or texts differ too, the whole set is another one.
            found.append("utterances" if found else "times, speakers or languages of utterances")
        if self.audio != now.audio:
            found.append("audio files")
        # Content decides: a copied file has another time, but the same content.
        elif self.content and now.content:
            found += ["content of audio files"] if self.content != now.content else []
        elif self.modified != now.modified:
            found.append("modification times of audio files")
        return found

    def to_dict(self) -> dict[str, str]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Identity:
        """Inverse of `to_dict`.

        Raises:
            KeyError: a digest is missing.
        """
        return cls(*(str(values[item.name]) for item in fields(cls)))


@dataclass(frozen=True)
class AudioStamp:
    """What identifies the state of an audio file.

    Attributes:
        num_bytes: size of the file.
        modified_ns: modification time, in nanoseconds since 1970.
        sha256: digest of its content, None if it was not read.
    """

    num_bytes: int
    modified_ns: int
    sha256: str | None = None

    @classmethod
    def of_file(cls, path: Path, *, content: bool = False) -> AudioStamp:
        """The stamp of the present state of a file.

        Args:
            content: read the whole file for its digest.
        """
        state = path.stat()
        return cls(state.st_size, state.st_mtime_ns, file_digest(path) if content else None)

    @classmethod
    def of_cut(cls, cut: Cut) -> AudioStamp | None:
        """The stamp that stage 1 stored in a cut; None in manifests from other sources."""
        # Mixed and padding cuts have no such field.
        return cls.from_custom(getattr(cut, "custom", None) or {})

    @classmethod
    def from_custom(cls, custom: Mapping[str, Any]) -> AudioStamp | None:
        """Inverse of `to_custom`; None if the entries are not there."""
        if _BYTES not in custom:
            return None
        return cls(int(custom[_BYTES]), int(custom[_MODIFIED]), custom.get(_SHA256))

    def to_custom(self) -> dict[str, Any]:
        """The entries of ``cut.custom`` that hold the stamp."""
        content = {} if self.sha256 is None else {_SHA256: self.sha256}
        return {_BYTES: self.num_bytes, _MODIFIED: self.modified_ns, **content}

    def is_touched(self, path: str) -> bool:
        """Whether a file has another size or modification time; false for a missing one."""
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            return False
        is_same = state.st_size == self.num_bytes and state.st_mtime_ns == self.modified_ns
        return not is_same and stat.S_ISREG(state.st_mode)

    def still_holds(self, path: str) -> bool:
        """Whether a file that is there is unchanged; it is read only if its modification time has changed."""
        now = AudioStamp.of_file(Path(path))
        if now.num_bytes != self.num_bytes:
            return False
        if now.modified_ns == self.modified_ns:
            return True
        return self.sha256 is not None and file_digest(Path(path)) == self.sha256


class AudioWatch:
    """Compares the audio files of a set with those that stage 1 read, one utterance at a time.

    Missing files are ignored: stored features do not need them.
    """

    def __init__(self) -> None:
        """No file has been seen."""
        # A file may hold many utterances, which mostly follow each other: it is looked at once for each such row.
        self._last = ""
        # Files with another modification time, which are read if there is a digest of their content.
        self._touched: set[str] = set()
        self._changed: list[str] = []

    def see(self, path: str, stamp: AudioStamp) -> None:
        """Compare the file of an utterance with its stamp."""
        if path == self._last or path in self._touched:
            return
        self._last = path
        if stamp.is_touched(path):
            self._touched.add(path)
            if not stamp.still_holds(path):
                self._changed.append(path)

    def finish(self, set_name: str) -> None:
        """Report what has been found.

        Raises:
            UserError: files have changed; the message has their number and names the first one.
        """
        if self._changed:
            files = "file has" if len(self._changed) == 1 else "files have"
            raise UserError(
                f"{set_name}: {len(self._changed)} audio {files} changed since stage 1, first {self._changed[0]}: "
                "run stages 1 (slimasr-prepare) and 2 (slimasr-features) again; with --check-audio, stage 1 compares "
                "content instead of modification times"
            )


def identify(cuts: Iterable[Cut]) -> Identity:
    """Compute the identity of a set from its cuts."""
    # One digest per kind of content, so that a mismatch can be named.
    transcripts, utterances, audio, modified, content = (hashlib.sha256() for _ in range(5))
    all_read = True
    for cut in cuts:
        supervisions = cut.supervisions
        _add(transcripts, [cut.id, [item.text for item in supervisions]])
        spoken = [[item.start, item.duration, item.speaker, item.language] for item in supervisions]
        _add(utterances, [cut.id, cut.start, cut.duration, spoken])
        _add(audio, [cut.id, audio_facts(cut)])
        stamp = AudioStamp.of_cut(cut)
        if stamp is not None:
            _add(modified, [cut.id, stamp.modified_ns])
            _add(content, [cut.id, stamp.sha256])
        # A single file without a digest of its content makes the whole digest incomparable.
        all_read = all_read and stamp is not None and stamp.sha256 is not None
    return Identity(
        transcripts=transcripts.hexdigest()[:DIGITS],
        utterances=utterances.hexdigest()[:DIGITS],
        audio=audio.hexdigest()[:DIGITS],
        modified=modified.hexdigest()[:DIGITS],
        content=content.hexdigest()[:DIGITS] if all_read else "",
    )


def audio_facts(cut: Cut) -> list[Any]:
    """Header and size of the audio of a cut, without the path of the file."""
    stamp = AudioStamp.of_cut(cut)
    # Without the path: moving a corpus does not change its identity.
    facts: list[Any] = [] if stamp is None else [stamp.num_bytes]
    if cut.has_recording:
        recording = cut.recording
        facts += [recording.sampling_rate, recording.num_samples, recording.num_channels]
    return facts


def audio_identity(cut: Cut) -> list[Any]:
    """Everything about a cut on which its features depend, without the path of its file."""
    stamp = AudioStamp.of_cut(cut)
    # The content decides if it is known, the modification time otherwise.
    state = None if stamp is None else stamp.sha256 or stamp.modified_ns
    transforms = [str(item) for item in cut.recording.transforms or []]
    return [cut.id, cut.start, cut.duration, cut.channel, audio_facts(cut), state, transforms]


def check_audio_unchanged(cuts: Iterable[Cut], set_name: str) -> None:
    """Compare the audio files of a set with those that stage 1 read (`AudioWatch`).

    Raises:
        UserError: files have changed.
    """
    watch = AudioWatch()
    for cut in cuts:
        stamp = AudioStamp.of_cut(cut)
        if stamp is not None and cut.has_recording:
            watch.see(cut.recording.sources[0].source, stamp)
    watch.finish(set_name)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class ContentDigest:
    """Digest of the content of a manifest that is read piece by piece."""

    def __init__(self) -> None:
        """Nothing has been read."""
        self._digest = hashlib.sha256()

    def update(self, content: bytes) -> None:
        """Add what has been read."""
        self._digest.update(content)

    @property
    def value(self) -> str:
        """The digest of what has been added, as `manifest_digest` returns it."""
        return self._digest.hexdigest()[:DIGITS]


def manifest_digest(path: Path) -> str:
    """Digest of the content of a compressed manifest; ``damaged`` if it cannot be read to its end."""
    digest = ContentDigest()
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except (OSError, EOFError, zlib.error):
        # This value equals no digest, so that the check of the caller fails.
        return "damaged"
    return digest.value


def digest_of(value: Any) -> str:
    """Short digest of plain JSON data; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _add(digest: Any, value: Any) -> None:
    # The line end separates entries, so that two of them never run into one.
    digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
