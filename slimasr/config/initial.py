"""The weights with which a training run begins, if these are not random."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from slimasr.config.section import Location, Section


class InitConfig(Section):
    """Start from another experiment: its final weights, feature statistics and tokenizer."""

    # `from` is a Python keyword: only YAML calls the key so.
    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    from_: Location = Field(alias="from")
    """Folder of a trained experiment with the same sizes, units and features, with whose ``final.pt``, feature
    statistics and tokenizer this run begins; those of the data folder are not read."""
