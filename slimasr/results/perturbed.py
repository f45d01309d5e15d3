"""The names of perturbed sets, such as ``test@gain=-20,noise=10``: test sets that are changed before they are decoded.

They have entries in results.json like other sets. Reports show them in a table of their own; nothing is chosen,
compared, claimed or pooled by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from slimasr.errors import UserError

MARK = "@"
"""Stands between the name of a set and its perturbation."""

DEFAULT_REVERB = 0.5
"""Seconds in which sound decays by 60 dB in the rooms of ``reverb`` without a number."""

_ADVICE = "give parts such as gain=-20,noise=10,babble=10,reverb,telephone, each once"


@dataclass(frozen=True)
class Perturbation:
    """What is done to every utterance of a set; the fields are in the order of the name, not of what is done.

    Attributes:
        babble: signal-to-noise ratio in dB of other voices of the set, None without them.
        gain: gain in dB, None = the level stays.
        noise: signal-to-noise ratio in dB of pink noise, None without it.
        reverb: seconds in which sound decays by 60 dB, None without reverberation.
        telephone: whether the utterance passes through a telephone channel.
    """

    babble: float | None = None
    gain: float | None = None
    noise: float | None = None
    reverb: float | None = None
    telephone: bool = False

    def __str__(self) -> str:
        """The name: parts in alphabetical order, so that equal perturbations have equal names."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "telephone"}
        parts = [f"{name}={value:g}" for name, value in numbers.items() if value is not None]
        return ",".join([*parts, "telephone"] if self.telephone else parts)


def read_perturbation(text: str) -> Perturbation:
    """Read a perturbation from text such as ``gain=-20,noise=10,telephone``.

    Raises:
        UserError: it has another form; the message does not name the option.
    """
    known = {field.name for field in fields(Perturbation)}
    found: dict[str, float | bool] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in known or name in found:
            raise UserError(f"{part.strip() or 'nothing'}: {_ADVICE}")
        found[name] = _value(name, equals, value)
    return Perturbation(**found)  # type: ignore[arg-type]


def _value(name: str, equals: str, value: str) -> float | bool:
    """The value of a part of a perturbation."""
    if name == "telephone" and not equals:
        return True
    if name == "reverb" and not equals:
        return DEFAULT_REVERB
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    low, high = (0.05, 5.0) if name == "reverb" else (-100.0, 100.0)
    if name == "telephone" or not low <= number <= high:
        needs = "takes no number" if name == "telephone" else f"needs a number from {low:g} to {high:g}"
        raise UserError(f"{name}{equals}{value}: {needs}")
    return number


def perturbed_name(set_name: str, perturbation: Perturbation) -> str:
    """Return the name of a set with a perturbation."""
    return f"{set_name}{MARK}{perturbation}"


def split_name(name: str) -> tuple[str, str]:
    """Return the name of the set and the text of its perturbation, which is empty for an ordinary set."""
    set_name, mark, text = name.rpartition(MARK)
    if not mark:
        return name, ""
    try:
        read_perturbation(text)
    except UserError:
        return name, ""
    return set_name, text


def is_perturbed(name: str) -> bool:
    """Return whether a name is that of a perturbed set."""
    return bool(split_name(name)[1])
