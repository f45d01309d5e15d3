"""Folders of audio without transcripts, which augmentation needs: noise and room impulse responses (stage 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lhotse import MonoCut
from lhotse.cut import Cut

from slimasr.config.data import DataConfig
from slimasr.data.audio.recordings import AudioError, read_recording
from slimasr.data.files import NOISE_SET, ROOMS_SET, DataFolder, write_cuts
from slimasr.data.identity.digests import AudioStamp
from slimasr.data.identity.manifest_record import write_manifest_record
from slimasr.errors import UserError
from slimasr.files import walk

PIECE_SECONDS = 10.0
"""Long recordings of noise are cut into pieces, so that features are read in small parts."""

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aif", ".aiff", ".au"}
"""Endings of audio files, in lower case; other files in a folder are ignored."""


@dataclass(frozen=True)
class ListedFolder:
    """The audio of a folder: the set that it becomes, the folder as the recipe names it, and its cuts."""

    set_name: str
    source: str
    cuts: list[Cut]

    def write(self, folder: DataFolder) -> None:
        """Write the manifest of the set, and the record of what it was made from."""
        write_cuts(folder.raw_cuts(self.set_name), self.cuts)
        write_manifest_record(folder, self.set_name, None, self.cuts, source=self.source)


def list_folders(config: DataConfig) -> list[ListedFolder]:
    """List the audio of the folders that ``data.noise`` and ``data.reverb`` name; nothing is written.

    Raises:
        UserError: a folder is missing, holds no audio, or holds audio that cannot be used.
    """
    found = []
    if config.noise is not None:
        cuts = _cuts_of(config.noise.folder, "data.noise.folder", config)
        pieces = [piece for cut in cuts for piece in in_pieces(cut)]
        found.append(ListedFolder(NOISE_SET, config.noise.folder, pieces))
    if config.reverb is not None and config.reverb.folder is not None:
        cuts = _cuts_of(config.reverb.folder, "data.reverb.folder", config)
        found.append(ListedFolder(ROOMS_SET, config.reverb.folder, cuts))
    return found


def cut_of_file(path: Path, name: str, sampling_rate: int) -> Cut:
    """Return the cut of a whole audio file, resampled when it is read, without a transcript.

    Args:
        path: the file.
        name: id of the cut.
        sampling_rate: of the cut in Hz.

    Raises:
        UserError: the file cannot be read or is not mono.
    """
    try:
        recording = read_recording(path.resolve(), name)
    except AudioError as error:
        raise UserError(str(error)) from error
    stamp = AudioStamp.of_file(path)
    cut: Cut = MonoCut(name, 0.0, recording.duration, 0, recording=recording, custom=stamp.to_custom())
    return cut if cut.sampling_rate == sampling_rate else cut.resample(sampling_rate)


def in_pieces(cut: Cut) -> Iterator[Cut]:
    """Yield the pieces of a cut; they share its recording, only their times differ."""
    for number, piece in enumerate(cut.cut_into_windows(PIECE_SECONDS)):
        yield piece.with_id(f"{cut.id}-{number}")


def _cuts_of(named: str, key: str, config: DataConfig) -> list[Cut]:
    """The cuts of all audio files below a folder, in the order of their paths, with their paths as ids."""
    root = Path(named)
    if not root.is_dir():
        raise UserError(f"{key}: {root} is no folder; name one with audio files")
    below = (Path(folder, name) for folder, _, names in walk(root) for name in names)
    files = sorted(path for path in below if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{key}: {root} holds no audio file (such as .wav or .flac)")
    return [cut_of_file(path, path.relative_to(root).as_posix(), config.sampling_rate) for path in files]
