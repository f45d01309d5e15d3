"""The record of what a run has taken from a trained model, ``init.json``, and the lines that say so in the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimasr.errors import UserError
from slimasr.experiment.initial import InitialWeights
from slimasr.files import read_json, understanding, write_json_atomic
from slimasr.models.matching import Taken
from slimasr.supernet.subnet import Subnet

FILE = "init.json"
DAMAGED = "restore it, or choose another --exp"


@dataclass(frozen=True)
class StartRecord:
    """What a run has taken, by names of tensors.

    Attributes:
        file: the checkpoint from which the weights come.
        subnet: the subnet of the experiment that was extracted, as plain data; None = it was taken as it is.
        place: the subnet of the model that has the taken encoder, as plain data; None = see `obstacle`.
        obstacle: why there is no such subnet; empty if all weights are taken.
        taken: number of tensors that have been taken as a whole.
        first: tensors of which the first channels have been taken.
        left: tensors that begin with random numbers -> why.
        unused: tensors of the file that have no place in the model.
        frozen: parameters that are not trained.
        fixed: statistics of batch norms that stay as they are.
    """

    file: str
    subnet: dict[str, Any] | None
    place: dict[str, Any] | None
    obstacle: str
    taken: int
    first: list[str]
    left: dict[str, str]
    unused: list[str]
    frozen: list[str]
    fixed: list[str]

    @classmethod
    def of(cls, start: InitialWeights, taken: Taken, frozen: Sequence[str], fixed: Sequence[str]) -> StartRecord:
        """Return the record of a start."""
        return cls(
            file=str(start.path),
            subnet=_plain(start.subnet),
            place=_plain(taken.place),
            obstacle=taken.obstacle,
            taken=len(taken.whole),
            first=taken.first,
            left=taken.left,
            unused=taken.unused,
            frozen=list(frozen),
            fixed=list(fixed),
        )

    def extracted(self) -> Subnet | None:
        """Return the subnet that was extracted."""
        return None if self.subnet is None else Subnet.from_dict(self.subnet)

    def write(self, exp: Path) -> None:
        """Write the record into an experiment folder."""
        write_json_atomic(exp / FILE, asdict(self))

    @classmethod
    def read(cls, exp: Path) -> StartRecord | None:
        """Read what `write` wrote; None if an earlier version began the run.

        Raises:
            UserError: the file is damaged.
        """
        path = exp / FILE
        if not path.is_file():
            return None
        with understanding(path, DAMAGED):
            return cls(**read_json(path, DAMAGED))

    def lines(self) -> list[str]:
        """Return notes on all that is not simply taken, one line each."""
        origin = self.file if self.subnet is None else f"subnet {Subnet.from_dict(self.subnet).id} of {self.file}"
        lines = []
        if self.first or self.left or self.unused or self.subnet is not None:
            lines.append(f"{origin}: {self.taken} tensors are taken")
        if self.obstacle:
            lines.append(f"its encoder is no part of this one ({self.obstacle}): only tensors of equal shape are taken")
        if self.first:
            assert self.place is not None, "first channels are those of a subnet"
            place = Subnet.from_dict(self.place).id
            lines.append(f"taken as the first channels, so that {place} begins as it: {_joined(self.first)}")
        lines += [f"not taken, as {reason}: {names}" for reason, names in _by_reason(self.left)]
        if self.unused:
            lines.append(f"not used, as this model has no such tensors: {_joined(self.unused)}")
        return lines


def read_needed(exp: Path) -> StartRecord:
    """Read the record of a run that cannot continue without it.

    Raises:
        UserError: it is missing or damaged.
    """
    record = StartRecord.read(exp)
    if record is None:
        raise UserError(f"{exp / FILE} is missing, which says what is frozen: {DAMAGED}")
    return record


def _plain(subnet: Subnet | None) -> dict[str, Any] | None:
    return None if subnet is None else subnet.to_dict()


def _by_reason(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each reason with the names to which it applies."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [(reason, _joined(found)) for reason, found in names.items()]


def _joined(names: Iterable[str]) -> str:
    """Join names; those that differ in their first number alone are written once: ``encoder.layers.{0,1}.norms...``."""
    numbers: dict[str, list[str]] = {}
    for name in names:
        found = re.search(r"\.(\d+)\.", name)
        pattern = name if found is None else f"{name[: found.start()]}.{{}}.{name[found.end() :]}"
        numbers.setdefault(pattern, []).extend([] if found is None else [found[1]])
    return ", ".join(_with_numbers(pattern, found) for pattern, found in numbers.items())


def _with_numbers(pattern: str, numbers: Sequence[str]) -> str:
    if not numbers:
        return pattern
    return pattern.replace("{}", numbers[0] if len(numbers) == 1 else f"{{{','.join(numbers)}}}")
