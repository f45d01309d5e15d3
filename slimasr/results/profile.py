"""The layout of a profile of a device, which ``run.py profile --json`` of a bundle writes on that device."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from slimasr.errors import UserError
from slimasr.files import read_json
from slimasr.results.entry import Entry, File, Genes, Number, Whole

FORMAT = "slimasr-profile"
"""Value of the key `format`, which tells profiles from other JSON files."""

Precision = Literal["float", "int8"]


class ProfiledModel(Entry):
    """The model whose subnets were profiled."""

    name: str = ""
    """Name of the experiment."""

    architecture: str
    """Digest of the model's sizes, its search space and the size of its vocabulary."""


class MachineEntry(Entry):
    """The device on which the subnets were profiled."""

    name: str | None = None
    """Name of the machine."""

    processor: str | None = None
    """Its processor."""

    system: str | None = None
    """Its operating system."""

    python: str | None = None
    """Version of Python; null in a browser."""

    onnxruntime: str | None = None
    """Version of onnxruntime."""


class ProfiledAudio(Entry):
    """The audio with which the subnets were profiled."""

    source: str | None = None
    """Where it comes from."""

    seconds: tuple[Number, ...] = ()
    """Length of each utterance in seconds."""


class ProfileRow(Entry):
    """One subnet, run at one precision on one number of threads."""

    size: str
    """Id of the subnet."""

    subnet: Genes
    """The subnet's genes, as in results.json."""

    precision: Precision
    """Precision of the weights: `float` or `int8`."""

    threads: Whole
    """Threads of the encoder."""

    encoder_ms: Number | None
    """Median time of the encoder for an utterance of the audio in milliseconds; null where it was not measured."""


class FedEntry(Entry):
    """This says how encoders that take speech chunk by chunk are fed."""

    carrier: str
    """The kind of model that the runtime takes them for."""

    chunk_frames: Whole
    """Feature frames of a chunk."""


class DeviceProfile(File):
    """A profile of a device."""

    PLACE: ClassVar[str] = "profile.json"
    ADVICE: ClassVar[str] = "profile the bundle again (python run.py profile --json FILE)"

    format: Literal["slimasr-profile"]
    """Kind of the file."""

    model: ProfiledModel
    """The model whose subnets were profiled."""

    streaming: FedEntry | None = None
    """How the encoders were fed; null = with whole utterances. Profiles of older versions lack it."""

    machine: MachineEntry = MachineEntry()
    """The device."""

    audio: ProfiledAudio = ProfiledAudio()
    """The audio."""

    rows: tuple[ProfileRow, ...]
    """A row per subnet, precision and number of threads."""


def read_profile(path: Path) -> DeviceProfile:
    """Read a profile of a device.

    Raises:
        UserError: the file cannot be read, is not a profile, is damaged or empty, or a newer version wrote it.
    """
    content: dict[str, Any] = read_json(path, DeviceProfile.ADVICE)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: is not a profile of a device ('format' is not {FORMAT!r}); {DeviceProfile.ADVICE}")
    profile = DeviceProfile.parse(content, path)
    if not profile.rows:
        raise UserError(f"{path}: holds no subnet; {DeviceProfile.ADVICE}")
    for row in profile.rows:
        if row.encoder_ms is not None and not 0 < row.encoder_ms < math.inf:
            raise UserError(
                f"{path}: damaged, encoder_ms of {row.size} needs to be a time above 0, not {row.encoder_ms}; "
                f"{DeviceProfile.ADVICE}"
            )
    return profile
