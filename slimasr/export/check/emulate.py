"""Runs the encoders of a bundle on a processor that is not at hand: qemu emulates its instructions.

What int8 costs depends on the processor. Without the instructions of VNNI, sums of products saturate, which changes
what the encoder computes. Decoder and joiner are float in most bundles, so the encoder alone is emulated, utterance by
utterance, and its output is searched here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from slimasr.errors import UserError
from slimasr.export.check.audio import Heard
from slimasr.export.check.compare import Theirs
from slimasr.export.check.reference import Reference
from slimasr.export.check.runtime import Run, last_words, status

WORKER = "slimasr.export.check.encoder_worker"


@dataclass(frozen=True)
class Processor:
    """A processor that qemu emulates.

    Attributes:
        program: the emulator.
        cpu: qemu's name of the processor.
        package: Debian's package of the emulator.
    """

    program: str
    cpu: str
    package: str


PROCESSORS: Mapping[str, Processor] = {
    # AVX2 without VNNI, as of laptops from 2013 on
    "haswell": Processor("qemu-x86_64", "Haswell", "qemu-user"),
}


def emulator(name: str) -> list[str]:
    """Return the command behind which a program runs on a processor.

    Raises:
        UserError: the emulator is not installed.
    """
    processor = PROCESSORS[name]
    found = shutil.which(processor.program)
    if found is None:
        raise UserError(
            f"--emulate {name}: {processor.program} is not installed: install Debian's package {processor.package}, or "
            "leave the option out"
        )
    return [found, "-cpu", processor.cpu]


def recognize_emulated(name: str, encoder: Path, reference: Reference, audio: Sequence[Heard]) -> list[Theirs]:
    """Recognise utterances one by one, with the encoder on an emulated processor and the searches here.

    Raises:
        UserError: the emulator is not installed, or the encoder does not run in it.
    """
    found = reference.search(_encoded(emulator(name), encoder, reference, audio))
    return [Theirs(Run(method), tuple(of_method)) for method, of_method in found.items()]


def _encoded(command: Sequence[str], encoder: Path, reference: Reference, audio: Sequence[Heard]) -> list[Tensor]:
    """Return the (1, T', C) output of an encoder for each utterance."""
    features = [reference.features(heard) for heard in audio]
    with TemporaryDirectory(prefix="slimasr-") as temporary:
        given, out = Path(temporary) / "features.f32", Path(temporary) / "encoded.f32"
        given.write_bytes(b"".join(np.ascontiguousarray(one, dtype=np.float32).tobytes() for one in features))
        job = {
            "encoder": str(encoder),
            "features": str(given),
            "bins": features[0].shape[1],
            "frames": [len(one) for one in features],
            "out": str(out),
        }
        done = subprocess.run(
            [*command, sys.executable, "-m", WORKER],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            errors="replace",
        )
        shapes = [json.loads(line)["shape"] for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(shapes) != len(audio):
            at = audio[len(shapes)].name if len(shapes) < len(audio) else "the end"
            raise UserError(
                f"{encoder}: ended with {status(done.returncode)} at {at} in {' '.join(command)} (last line: "
                f"{last_words(done.stderr)})"
            )
        values = np.fromfile(out, np.float32)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1])
    return [torch.from_numpy(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]
