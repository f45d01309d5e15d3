"""Build the encoder of a recipe's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.encoders import ConformerConfig, EmformerConfig, EncoderConfig, MhSsmConfig
from slimasr.config.model import FrontendConfig
from slimasr.encoders.base import Encoder
from slimasr.encoders.conformer import Conformer
from slimasr.encoders.emformer import Emformer
from slimasr.encoders.mh_ssm import MhSsm
from slimasr.supernet.subnet import Subnet

ENCODERS: dict[str, tuple[type[EncoderSection], type[Encoder]]] = {
    "conformer": (ConformerConfig, Conformer),
    "mh_ssm": (MhSsmConfig, MhSsm),
    "emformer": (EmformerConfig, Emformer),
}
"""``model.encoder.kind`` -> the section of the recipe and the class that it configures."""


def encoder_class(config: EncoderConfig) -> type[Encoder]:
    """Return the class of the encoder that a recipe names under ``model.encoder.kind``."""
    section, encoder = ENCODERS[config.kind]
    assert isinstance(config, section)
    return encoder


def build_encoder(
    config: EncoderConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
) -> Encoder:
    """Build the encoder that a recipe names, with random weights.

    Raises:
        ValueError: a number of channels is not whole at some width.
    """
    return encoder_class(config)(config, frontend, num_mel_bins, widths)


def shrink_encoder(config: EncoderConfig, subnet: Subnet) -> EncoderConfig:
    """Return the configuration of a subnet's stand-alone encoder."""
    return encoder_class(config).shrink(config, subnet)
