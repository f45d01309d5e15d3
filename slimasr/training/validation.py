"""Validation: loss and greedy WER of every evaluated subnet on the dev set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition
from slimasr.encoders.base import EncoderOutput
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective, scored_part
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.scoring import word_errors
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import World
from slimasr.training.guards import explained_validation


@torch.no_grad()
def validate(
    objective: Objective,
    method: Method,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
    world: World,
) -> dict[str, float]:
    """Losses per unit (see `PassOutput`) and WER in percent, ``"w0.5/transducer"`` and ``"w0.5/wer"``, over all
    processes.

    Utterances that no loss can be computed of count in the WER alone. Losses are those of the end of the run
    (progress 1), so that epochs compare; each process takes its share of the batches. Modes are restored.
    """
    sums: dict[str, float] = {}
    units: dict[str, float] = {}
    modes = [(module, module.training) for module in (objective, method)]
    objective.eval()
    method.eval()
    final = StepContext(context.total_steps, context.epoch, context.total_steps, context.rng)
    for index, batch in enumerate(batches):
        if index % world.size == world.rank:
            with explained_validation(batch):
                more, counted = _measure(objective, method, batch.to(world.device), tokenizer, decoding, final)
            _add(sums, more)
            _add(units, counted)
    for module, training in modes:
        module.train(training)
    return _rates(world.sum_by_key(sums), world.sum_by_key(units))


def dev_metric(dev: Mapping[str, float]) -> list[float]:
    """What the best checkpoint has least of: mean WER over subnets, then mean loss; not finite counts as infinite."""
    figures = {name: value if math.isfinite(value) else math.inf for name, value in dev.items()}
    wers = [value for name, value in figures.items() if name.endswith("/wer")]
    losses = [value for name, value in figures.items() if not name.endswith("/wer")]
    return [sum(wers) / max(1, len(wers)), sum(losses) / max(1, len(losses))]


def _measure(
    objective: Objective,
    method: Method,
    batch: Batch,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
) -> tuple[dict[str, float], dict[str, float]]:
    """Sums of losses and word errors over one batch, and how many units and words they are over."""
    sums: dict[str, float] = {}
    units: dict[str, float] = {}
    greedy = decoding.model_copy(update={"kind": "greedy"})
    for subnet in method.evaluated():
        more, counted = _measure_subnet(objective, method, subnet, batch, tokenizer, greedy, context)
        sums |= {f"{subnet.id}/{name}": value for name, value in more.items()}
        units |= {f"{subnet.id}/{name}": value for name, value in counted.items()}
    return sums, units


def _measure_subnet(
    objective: Objective,
    method: Method,
    subnet: Subnet,
    batch: Batch,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
) -> tuple[dict[str, float], dict[str, float]]:
    """The same of one subnet, by the names of its losses and ``wer``."""
    sums: dict[str, float] = {}
    units: dict[str, float] = {}

    def encode(part: Batch) -> EncoderOutput:
        encoder, output = _forward(objective, method, subnet, part, context)
        # A batch in several parts has no loss, so no part replaces the losses of another.
        for name, values in output.losses.items():
            sums[name] = float(values.sum())
            units[name] = float(output.units[name].sum())
        return encoder

    utterances = Recognition(objective.model, subnet, tokenizer, decoding).utterances(batch, encode)
    sums["wer"] = float(sum(map(word_errors, utterances)))
    units["wer"] = float(sum(len(utterance.ref) for utterance in utterances))
    return sums, units


def _forward(
    objective: Objective, method: Method, subnet: Subnet, batch: Batch, context: StepContext
) -> tuple[EncoderOutput, PassOutput]:
    """Encoder output of the whole batch, and losses of the utterances that have one."""
    taps = objective.taps_of(subnet, tuple(method.losses))
    encoder = method.forward_pass(objective, Pass(subnet, {}, taps=taps), batch, context).encoder
    assert encoder is not None, "an objective's output carries the encoder's"
    scored = scored_part(batch, encoder)
    if scored is None:
        return encoder, PassOutput()
    part, encoded = scored
    inputs = PassInputs(encoder=encoded)
    return encoder, method.forward_pass(objective, Pass(subnet, method.losses), part, context, inputs)


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value


def _rates(sums: Mapping[str, float], units: Mapping[str, float]) -> dict[str, float]:
    scales = {name: 100.0 if name.endswith("/wer") else 1.0 for name in sums}
    return {name: scales[name] * value / max(1.0, units[name]) for name, value in sums.items()}
