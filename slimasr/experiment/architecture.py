"""The digest of a model's architecture, by which files that come from a device are matched with an experiment."""

from __future__ import annotations

import hashlib
import json

from slimasr.config.sizes import has_lists, resolved_model
from slimasr.experiment.folder import Experiment


def architecture_digest(experiment: Experiment) -> str:
    """Return the SHA-256 digest of a model's sizes, its search space and the size of its vocabulary.

    Two trainings of one recipe have the same digest, as their subnets take the same time on a device. A space of learnt
    subnets has that of the subnets which the training has chosen.
    """
    config = experiment.config.model
    described = {
        "model": resolved_model(config, listed=has_lists(config.encoder)),
        "space": experiment.space.describe(),
        "vocab_size": experiment.tokenizer.vocab_size,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
