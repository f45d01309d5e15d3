"""A training step of a CTC model against one of a transducer with the same front end and encoder.

Both train one model of the AN4 size on the same batch of noise, on one thread; time is processor time. The transducer
has the preset's losses, its auxiliary CTC loss included. The steps take turns, and the fastest turn of each counts.

    python tools/bench/ctc.py
"""

from __future__ import annotations

from functools import partial

import torch
from common import report
from step import AN4, SEPARATE, Side, config_of, fastest
from steps import make_step, noise_batch

from slimasr.config.loss import LossConfig
from slimasr.config.model import CtcConfig
from slimasr.config.schema import Config

TRANSDUCER = Side("an4/conf/slimmable.yaml", SEPARATE)


def ctc_of(config: Config) -> Config:
    """Return the recipe of a CTC model with the front end and the encoder of a transducer's recipe."""
    model = config.model
    ctc = CtcConfig(num_mel_bins=model.num_mel_bins, frontend=model.frontend, encoder=model.encoder)
    return config.model_copy(update={"model": ctc, "loss": LossConfig()})


def main() -> None:
    """Time both steps and print their ratio."""
    torch.set_num_threads(1)
    transducer = config_of(TRANSDUCER)
    batch = noise_batch(transducer, AN4.utterances, AN4.seconds, AN4.tokens)
    steps = [partial(make_step(config), batch) for config in (ctc_of(transducer), transducer)]
    ours, other = fastest(steps, AN4.turns)
    report("CTC step against transducer step, equal encoder, processor seconds", ours, other, ours / other, None)


if __name__ == "__main__":
    main()
