"""The weights with which a training run begins, if these are not random."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from slimasr.config.section import Location, Section, SubnetText, Text


class InitConfig(Section):
    """Start from a trained model: its weights, and its feature statistics and tokenizer unless the run has its own."""

    # `from` is a Python keyword: only YAML calls the key so.
    # YAML reads a bare width as a number, which is as good as a string.
    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True, coerce_numbers_to_str=True)

    from_: Location = Field(alias="from")
    """Folder of a trained experiment or of an extracted model, whose ``final.pt`` is taken, or a checkpoint, whose path
    ends in .pt."""

    subnet: SubnetText | None = None
    """Subnet of the experiment (a width, an id, or JSON) that is extracted and whose weights are taken; null = the
    experiment as it is, or with ``method.kind: separate`` the subnet of that method if the experiment has the sizes of
    the recipe's supernet."""

    weights: Literal["all", "matching"] = "all"
    """Which weights are taken: ``all`` needs equal sizes, units and features, and names the first difference;
    ``matching`` takes tensors of equal name and shape and makes a smaller model the first channels of a larger one; the
    others are random and listed in the log and in ``init.json``."""

    freeze: list[Text] = []
    """Patterns such as ``encoder.frontend.*`` of names of parameters that are not trained; batch norms whose scale and
    shift are frozen keep their statistics as well."""

    tokenizer: Literal["keep", "own"] = "keep"
    """Whose tokenizer the run has: ``keep`` takes that of the experiment, ``own`` that of the data folder; weights that
    depend on another vocabulary are random, which needs ``weights: matching``."""

    stats: Literal["keep", "own"] = "keep"
    """Whose feature statistics the run has: ``keep`` takes those of the experiment, ``own`` those of the data
    folder."""
