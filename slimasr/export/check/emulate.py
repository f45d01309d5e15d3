"""Runs the encoders of a bundle on a processor that is not at hand: qemu emulates its instructions.

What int8 costs depends on the processor. Without the instructions of VNNI, sums of products saturate, which changes
what the encoder computes. Decoder and joiner are float in most bundles, so the encoder alone is emulated, utterance by
utterance, and its output is searched here.
"""

from __future__ import annotations

import json
import platform
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

WORKER = Path(__file__).with_name("encoder_worker.py")


@dataclass(frozen=True)
class Processor:
    """A processor that qemu emulates.

    Attributes:
        machine: its architecture, as `platform.machine` names it.
        cpu: qemu's name of the processor.
    """

    machine: str
    cpu: str


PROCESSORS: Mapping[str, Processor] = {
    # AVX2 without VNNI, as of laptops from 2013 on
    "haswell": Processor("x86_64", "Haswell"),
    # 64-bit ARM with scalar products of int8, as of phones from 2018 on
    "cortex-a76": Processor("aarch64", "cortex-a76"),
    # 64-bit ARM without them, as of older phones and of small boards
    "cortex-a53": Processor("aarch64", "cortex-a53"),
}


@dataclass(frozen=True)
class Emulator:
    """Python on an emulated processor.

    Attributes:
        name: of the processor, one of `PROCESSORS`.
        python: the command that starts Python, with numpy and onnxruntime, on the processor.
    """

    name: str
    python: tuple[str, ...]

    @classmethod
    def find(cls, name: str, sysroot: Path | None = None) -> Emulator:
        """Return the emulator of a processor.

        Args:
            name: of the processor.
            sysroot: folder with the system of a device that has the processor, whose Python is ``usr/bin/python3``. A
                processor of this machine's architecture runs the Python that runs this, and uses no such folder.

        Raises:
            UserError: the processor is unknown, the emulator is not installed, or there is no Python for the processor.
        """
        if name not in PROCESSORS:
            raise UserError(f"--emulate {name}: choose one of {', '.join(PROCESSORS)}")
        processor = PROCESSORS[name]
        program = f"qemu-{processor.machine}"
        found = shutil.which(program)
        if found is None:
            raise UserError(
                f"--emulate {name}: {program} is not installed: install Debian's package qemu-user, or leave the "
                "option out"
            )
        if not is_foreign(name):
            return cls(name, (found, "-cpu", processor.cpu, sys.executable))
        if sysroot is None:
            raise UserError(
                f"--emulate {name}: its architecture, {processor.machine}, is not that of this machine: name a folder "
                "with a system of that architecture by --sysroot DIR; tools/arm_sysroot.sh makes one for ARM"
            )
        if not (sysroot / "usr" / "bin" / "python3").exists():
            raise UserError(
                f"--sysroot {sysroot}: it has no usr/bin/python3: name a folder with a system of {processor.machine}; "
                "tools/arm_sysroot.sh makes one for ARM"
            )
        # Isolated, as packages of this machine that environment variables name are of another architecture.
        python = str(sysroot.resolve() / "usr" / "bin" / "python3")
        command = (found, "-L", str(sysroot.resolve()), "-cpu", processor.cpu, python, "-I")
        tried = subprocess.run([*command, "-c", "import numpy, onnxruntime"], capture_output=True, text=True)
        if tried.returncode != 0:
            raise UserError(
                f"--sysroot {sysroot}: usr/bin/python3 does not load numpy and onnxruntime on {name} "
                f"({status(tried.returncode)}, last line: {last_words(tried.stderr)})"
            )
        return cls(name, command)


def is_foreign(name: str) -> bool:
    """Return whether a processor is of another architecture than this machine."""
    return PROCESSORS[name].machine != platform.machine()


def recognize_emulated(emulator: Emulator, encoder: Path, reference: Reference, audio: Sequence[Heard]) -> list[Theirs]:
    """Recognise utterances one by one, with the encoder on an emulated processor and the searches here.

    Raises:
        UserError: the encoder does not run in the emulator.
    """
    found = reference.search(_encoded(emulator.python, encoder, reference, audio))
    return [Theirs(Run(method), tuple(of_method)) for method, of_method in found.items()]


def _encoded(python: Sequence[str], encoder: Path, reference: Reference, audio: Sequence[Heard]) -> list[Tensor]:
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
            [*python, str(WORKER)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            errors="replace",
        )
        shapes = [json.loads(line)["shape"] for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(shapes) != len(audio):
            at = audio[len(shapes)].name if len(shapes) < len(audio) else "the end"
            raise UserError(
                f"{encoder}: ended with {status(done.returncode)} at {at} in {' '.join(python)} (last line: "
                f"{last_words(done.stderr)})"
            )
        values = np.fromfile(out, np.float32)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1])
    return [torch.from_numpy(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]
