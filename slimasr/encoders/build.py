"""From a recipe's configuration to an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.config.schema import EncoderConfig, FrontendConfig
from slimasr.encoders.base import Encoder
from slimasr.encoders.conformer import Conformer
from slimasr.encoders.conformer import shrink as shrink_conformer
from slimasr.encoders.mh_ssm import MhSsm
from slimasr.encoders.mh_ssm import shrink as shrink_mh_ssm
from slimasr.supernet.subnet import Subnet


def build_encoder(
    config: EncoderConfig, frontend: FrontendConfig, num_mel_bins: int, widths: Sequence[float]
) -> Encoder:
    """The encoder that a recipe names under ``model.encoder.kind``, with random weights.

    Raises:
        ValueError: a width at which some channel number is not whole.
    """
    if config.kind == "mh_ssm":
        return MhSsm(config, frontend, num_mel_bins, widths)
    return Conformer(config, frontend, num_mel_bins, widths)


def shrink_encoder(config: EncoderConfig, subnet: Subnet) -> EncoderConfig:
    """The configuration of the stand-alone encoder that a subnet is cut out to be."""
    return shrink_mh_ssm(config, subnet) if config.kind == "mh_ssm" else shrink_conformer(config, subnet)
