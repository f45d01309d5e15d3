"""The table of encoders."""

from __future__ import annotations

from typing import get_args

from slimasr.config.encoders import EncoderConfig
from slimasr.encoders.build import ENCODERS


def test_the_table_has_every_kind_that_a_recipe_may_name() -> None:
    union, _ = get_args(EncoderConfig)
    sections = {section.model_fields["kind"].default: section for section in get_args(union)}
    assert sections == {kind: section for kind, (section, _) in ENCODERS.items()}
