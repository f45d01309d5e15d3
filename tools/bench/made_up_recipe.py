"""The recipe of the made-up data of benchmarks; older revisions of slimasr can read it, too."""

from __future__ import annotations

from typing import Any

from slimasr.config.load import parse_config
from slimasr.config.schema import Config

SET = "train"


def recipe(**data: Any) -> Config:
    """The recipe of the made-up data; the sizes of batches are those of LibriSpeech's recipe for 960 hours."""
    section = {
        "corpus": "librispeech",
        "batch_seconds": 300,
        "num_buckets": 30,
        "train": [SET],
        "test": [],
        "dev": "dev",
        **data,
    }
    return parse_config({"name": "made-up", "data": section, "tokenizer": {"vocab_size": 500}})
