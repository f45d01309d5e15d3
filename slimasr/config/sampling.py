"""How often batches of each language occur in an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from slimasr.config.section import Fraction, Section


class PowerSamplingConfig(Section):
    """Batches of a language in proportion to a power of its hours."""

    power: Fraction
    """Exponent of the hours of a language; 0 = all languages have equally many batches, 1 = in proportion to hours."""


def _one_of_three(value: Any) -> Any:
    """Return the value if it is one of the three settings; otherwise one message names them all."""
    if value in ("natural", "uniform") or isinstance(value, PowerSamplingConfig):
        return value
    try:
        if isinstance(value, Mapping):
            return PowerSamplingConfig.model_validate(value)
    except ValidationError:
        pass
    raise PydanticCustomError("sampling", "must be natural, uniform or {power: NUMBER} with a number from 0 to 1")


LanguageSampling = Annotated[Literal["natural", "uniform"] | PowerSamplingConfig, BeforeValidator(_one_of_three)]


def sampling_power(sampling: LanguageSampling) -> float | None:
    """Return the power of its hours to which a language's share is proportional; None = each utterance occurs once."""
    if isinstance(sampling, PowerSamplingConfig):
        return sampling.power
    return 0.0 if sampling == "uniform" else None
