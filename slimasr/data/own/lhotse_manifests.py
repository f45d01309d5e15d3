"""Manifests of lhotse as JSON lines: cuts, or recordings and supervisions, plain or compressed.

Lines are read one by one and turned into lhotse's objects by lhotse; its own readers of whole files would not say which
line is wrong, and would also open addresses and run commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.serialization import deserialize_item
from lhotse.utils import to_list

from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.own.find import JSON_LINES, lhotse_kind
from slimasr.data.own.jsonl import parse_object
from slimasr.data.own.kaldi import command_output
from slimasr.data.own.lines import read_lines
from slimasr.data.own.reading import Reading, find_audio
from slimasr.errors import UserError

PARTNERS = {"recordings": "supervisions", "supervisions": "recordings"}
_WHOLE_SECONDS = 1e-3
# What changes nothing that stage 1 does not do itself: it resamples to data.sampling_rate.
_HARMLESS = {"Resample"}


@dataclass(frozen=True)
class _Part:
    """An utterance's part of its recording: start and duration in seconds, and channels."""

    start: float
    duration: float
    channels: list[int]


@dataclass(frozen=True)
class _Place:
    """The recording of an utterance, the line that names it, and against which folder paths are read."""

    recording: Recording
    where: str
    folder: Path
    reading: Reading


def read(path: Path, reading: Reading) -> Iterator[ListedUtterance]:
    """Yield the utterance of each supervision, in the order of the manifest.

    A cut with one supervision is an utterance as a whole; of a cut with several, each supervision is one.

    Raises:
        UserError: the manifests are incomplete, a line cannot be read, or its audio is no file.
    """
    files = _files(path)
    if "cuts" in files:
        yield from read_cuts(files["cuts"], reading)
    else:
        yield from _read_supervisions(files["recordings"], files["supervisions"], reading)


def read_cuts(path: Path, reading: Reading, shown: Path | None = None) -> Iterator[ListedUtterance]:
    """Yield the utterances of a manifest of cuts.

    Args:
        shown: a manifest with the same lines, which messages name instead.
    """
    for cut, where in _items(path, shown):
        if not isinstance(cut, MonoCut | MultiCut):
            raise UserError(
                f"{where}: a {type(cut).__name__} cannot be read; write its audio to a file first (lhotse's "
                "CutSet.save_audios)"
            )
        if cut.recording is None:
            raise UserError(f"{where}: cut {cut.id} has no recording, and features of lhotse are not used")
        place = _Place(cut.recording, where, path.parent, reading)
        if len(cut.supervisions) < 2:
            spoken = cut.supervisions[0] if cut.supervisions else None
            yield _utterance(cut.id, spoken, _Part(cut.start, cut.duration, _channels(cut, spoken)), place)
            continue
        for item in cut.supervisions:
            start = max(round(cut.start + item.start, ndigits=8), 0.0)
            yield _utterance(item.id, item, _Part(start, item.duration, _channels(cut, item)), place)


def _channels(cut: MonoCut | MultiCut, spoken: SupervisionSegment | None) -> list[int]:
    """The channels of an utterance: that of its cut, or of a cut with several, those that its supervision names."""
    return to_list(cut.channel if isinstance(cut, MonoCut) or spoken is None else spoken.channel)


def _files(path: Path) -> dict[str, Path]:
    """The manifests of a source by their kinds: ``cuts``, or ``recordings`` and ``supervisions``."""
    if path.is_dir():
        listed = [file for file in sorted(path.iterdir()) if file.name.endswith(JSON_LINES)]
        found = [(kind, file) for file in listed if (kind := lhotse_kind(file)) is not None]
        for kind in ("cuts", *PARTNERS):
            names = [file.name for other, file in found if other == kind]
            if len(names) > 1:
                raise UserError(
                    f"{path}: holds {len(names)} manifests of {kind} ({', '.join(names[:5])}); name the one to read in "
                    "data.sources"
                )
        files = dict(found)
    else:
        kind = lhotse_kind(path)
        if kind is None:
            raise UserError(f"{path}: holds no manifest of lhotse; name one of cuts, recordings or supervisions")
        files = {kind: path}
        # lhotse's recipes name the two manifests of a set alike.
        partner = path.with_name(path.name.replace(kind, PARTNERS.get(kind, kind)))
        if kind in PARTNERS and partner != path and partner.is_file():
            files[PARTNERS[kind]] = partner
    if "cuts" in files:
        return {"cuts": files["cuts"]}
    missing = next((kind for kind in PARTNERS if kind not in files), None)
    if missing is not None:
        there = files.get(PARTNERS[missing], path)
        raise UserError(f"{there}: the manifest of {missing} is missing beside it; lhotse's recipes write both")
    return files


def _items(path: Path, shown: Path | None = None) -> Iterator[tuple[Any, str]]:
    """The object and ``file:line`` of each line of a manifest."""
    for line in read_lines(path):
        where = f"{shown or path}:{line.number}"
        values = parse_object(line)
        with _understanding(where):
            item = deserialize_item(values)
        yield item, where


@contextmanager
def _understanding(where: str) -> Iterator[None]:
    """Turn an error about a value of the wrong type inside the block into a `UserError` that names the line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(f"{where}: lhotse cannot read this item ({type(error).__name__}: {error})") from None


def _read_supervisions(recordings: Path, supervisions: Path, reading: Reading) -> Iterator[ListedUtterance]:
    by_id: dict[str, Recording] = {}
    for item, where in _items(recordings):
        if not isinstance(item, Recording):
            raise UserError(f"{where}: is no recording")
        if item.id in by_id:
            raise UserError(f"{where}: recording {item.id} is listed twice; keep one of them")
        by_id[item.id] = item
    for item, where in _items(supervisions):
        if not isinstance(item, SupervisionSegment):
            raise UserError(f"{where}: is no supervision")
        recording = by_id.get(item.recording_id)
        if recording is None:
            raise UserError(f"{where}: recording {item.recording_id} is not in {recordings}; add it there")
        place = _Place(recording, where, recordings.parent, reading)
        yield _utterance(item.id, item, _Part(item.start, item.duration, to_list(item.channel)), place)


def _utterance(name: str, spoken: SupervisionSegment | None, part: _Part, place: _Place) -> ListedUtterance:
    # lhotse does not check the types of all values.
    with _understanding(place.where):
        audio, command, channel = _source(part.channels, place)
        start, duration = float(part.start), float(part.duration)
        is_whole = start == 0.0 and abs(duration - place.recording.duration) < _WHOLE_SECONDS
    return ListedUtterance(
        id=_text(name, "id", place),
        audio=audio,
        # A cut without a supervision has no text, which is reported as any other empty transcript.
        text=_text(spoken.text if spoken else None, "text", place),
        speaker=_text(spoken.speaker if spoken else None, "speaker", place),
        language=_text(spoken.language if spoken else None, "language", place),
        source=place.where,
        start=start,
        duration=None if is_whole else duration,
        channel=channel,
        command=command,
    )


def _text(value: Any, what: str, place: _Place) -> str:
    """A value of a manifest, whose types lhotse does not check; empty if there is none."""
    if value is None:
        return ""
    # Not NaN, which pandas writes where a value is missing.
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise UserError(f"{place.where}: {what}: needs a text, not {value!r}")
    return str(value)


def _source(channels: list[int], place: _Place) -> tuple[Path, str, int | None]:
    """The file of an utterance, the command whose output it keeps if there is one, and the channel within the file.

    The channel is None if the recording has only one, or if the manifest names several for the utterance.
    """
    recording, where = place.recording, place.where
    _check_transforms(recording, where)
    sources = [source for source in recording.sources if set(channels) <= set(source.channels)]
    if not sources:
        raise UserError(f"{where}: no file of recording {recording.id} holds the channels {channels}")
    source = sources[0]
    command = ""
    if source.type == "file":
        # lhotse reads relative paths against the folder in which it is started.
        audio = find_audio(source.source, where, place.folder, place.reading.options.audio_root, (Path(),))
    elif source.type == "command":
        command = source.source
        audio = command_output(command, f"{where}: recording {recording.id}", place.reading)
    else:
        raise UserError(
            f"{where}: the audio of recording {recording.id} is of type {source.type!r}, not a file; write it to files "
            "first (lhotse's CutSet.save_audios), or to Shar folders"
        )
    is_single = len(channels) == 1 and len(source.channels) > 1
    return audio, command, source.channels.index(channels[0]) if is_single else None


def _check_transforms(recording: Recording, where: str) -> None:
    transforms = [item if isinstance(item, Mapping) else item.to_dict() for item in recording.transforms or []]
    changed = [str(item.get("name")) for item in transforms if item.get("name") not in _HARMLESS]
    if changed:
        raise UserError(
            f"{where}: recording {recording.id} is to be changed by {', '.join(changed)}; write the changed audio to "
            "files first (lhotse's CutSet.save_audios), or list it unchanged"
        )
