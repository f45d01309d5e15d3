"""Validation: loss and greedy WER of every evaluated subnet on the dev set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import kaldialign
import torch

from slimasr.config.schema import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.greedy import greedy_search
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.objective import Objective
from slimasr.training.distributed import World


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
    """Losses per token and WER in percent, ``"w0.5/transducer"`` and ``"w0.5/wer"``, over all processes.

    Losses are those of the end of the run (progress 1), so that epochs compare; each process takes its share of the
    batches. Modes are restored.
    """
    sums: dict[str, float] = {}
    modes = [(module, module.training) for module in (objective, method)]
    objective.eval()
    method.eval()
    final = StepContext(context.total_steps, context.epoch, context.total_steps, context.rng)
    for index, batch in enumerate(batches):
        if index % world.size == world.rank:
            _add(sums, _measure(objective, method, batch.to(world.device), tokenizer, decoding, final))
    for module, training in modes:
        module.train(training)
    return _rates(world.sum_by_key(sums))


def dev_metric(dev: Mapping[str, float]) -> list[float]:
    """What the best checkpoint has least of: mean WER over subnets, then mean loss."""
    wers = [value for name, value in dev.items() if name.endswith("/wer")]
    losses = [value for name, value in dev.items() if not name.endswith("/wer")]
    return [sum(wers) / max(1, len(wers)), sum(losses) / max(1, len(losses))]


def _measure(
    objective: Objective,
    method: Method,
    batch: Batch,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
) -> dict[str, float]:
    """Sums over one batch: losses, tokens, word errors, words."""
    sums: dict[str, float] = {"tokens": float(batch.num_tokens)}
    sums["words"] = float(sum(len(text.split()) for text in batch.texts))
    model = objective.model
    for subnet in method.evaluated():
        output = method.forward_pass(objective, Pass(subnet, method.losses), batch, context)
        for name, values in output.losses.items():
            sums[f"{subnet.id}/{name}"] = float(values.sum())
        assert output.encoder is not None, "an objective's output carries the encoder's"
        encoded, width = output.encoder, model.width_of(subnet)
        ids = greedy_search(model, encoded.out, encoded.lens, width, decoding.max_symbols_per_frame)
        sums[f"{subnet.id}/wer"] = float(sum(map(word_errors, batch.texts, map(tokenizer.decode, ids))))
    return sums


def word_errors(reference: str, hypothesis: str) -> int:
    """Substitutions, deletions and insertions."""
    return int(kaldialign.edit_distance(reference.split(), hypothesis.split())["total"])


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value


def _rates(sums: dict[str, float]) -> dict[str, float]:
    tokens, words = max(1.0, sums.pop("tokens", 0.0)), max(1.0, sums.pop("words", 0.0))
    return {name: 100.0 * value / words if name.endswith("/wer") else value / tokens for name, value in sums.items()}
