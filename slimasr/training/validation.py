"""Validation computes losses and greedy error rates of every evaluated pass on the dev set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition, phoneme_recognition
from slimasr.decoding.searches.word_search import WordSearch
from slimasr.decoding.searches.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.objective.objective import Objective, scored_part
from slimasr.objective.passes import PassInputs, PassOutput
from slimasr.scoring import word_errors
from slimasr.supernet.subnet import Subnet
from slimasr.training.distributed import World
from slimasr.training.guards import explained_validation

RATES = ("/wer", "/per")
"""Ends of the names of error rates; all other figures are losses."""


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
    """Compute losses per unit and an error rate in percent of every evaluated pass, over all processes.

    The rate is that of words, or that of phonemes if these are the tokens. A pass gets the batches that it serves
    (`Pass.language`). Its rate is the unweighted mean of those of the languages, so that none counts more because it
    has more speech.

    Utterances without a loss count in the error rate alone. Losses are those of the end of the run (progress 1), so
    that epochs can be compared. Each process takes a part of the batches. Training and evaluation modes are restored.

    Args:
        objective: model and losses.
        method: determines the passes (`Method.evaluated`).
        batches: the whole dev set, the same on all processes.
        tokenizer: converts labels to words or phonemes.
        decoding: settings of the search, which is always greedy here.
        context: the position of the run.
        world: this process among all of the run's.

    Returns:
        Figures such as ``"w0.5/transducer"`` and ``"w0.5/wer"``, equal on all processes. A pass that several languages
        went through has ``"w0.5/fr/wer"`` and so on as well.
    """
    sums: dict[str, float] = {}
    units: dict[str, float] = {}
    modes = [(module, module.training) for module in (objective, method)]
    objective.eval()
    method.eval()
    final = replace(context, validating=True)
    for index, batch in enumerate(batches):
        if index % world.size == world.rank:
            with explained_validation(batch):
                more, counted = _measure(objective, method, batch.to(world.device), tokenizer, decoding, final)
            _add(sums, more)
            _add(units, counted)
    for module, training in modes:
        module.train(training)
    # Sums are added up before any division, because processes have different numbers of tokens and words.
    return _averaged(_rates(world.sum_by_key(sums), world.sum_by_key(units)))


def dev_metric(dev: Mapping[str, float]) -> list[float]:
    """Return what the best checkpoint minimises: mean error rate over subnets, then mean loss, lexicographically.

    The rate of a subnet is its mean over languages, so that every language of every subnet counts once.
    """
    # Non-finite figures count as infinite, because NaN would compare as neither smaller nor larger.
    figures = {name: value if math.isfinite(value) else math.inf for name, value in dev.items()}
    rates = [value for name, value in figures.items() if name.endswith(RATES) and name == _pass_rate(name)]
    losses = [value for name, value in figures.items() if not name.endswith(RATES)]
    return [sum(rates) / max(1, len(rates)), sum(losses) / max(1, len(losses))]


def _measure(
    objective: Objective,
    method: Method,
    batch: Batch,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
) -> tuple[dict[str, float], dict[str, float]]:
    """Sum losses and word errors of every pass over one batch, and count their units and words."""
    sums: dict[str, float] = {}
    units: dict[str, float] = {}
    greedy = decoding.model_copy(update={"kind": "greedy"})
    for item in (item for item in method.evaluated() if _serves(item, batch)):
        more, counted = _measure_pass(objective, method, item, batch, tokenizer, greedy, context)
        sums |= _named(item, batch, more)
        units |= _named(item, batch, counted)
    return sums, units


def _serves(item: Pass, batch: Batch) -> bool:
    """Return whether validation runs a pass on a batch."""
    return item.subnet.serves(batch.language) and item.language in ("", batch.language)


def _named(item: Pass, batch: Batch, figures: Mapping[str, float]) -> dict[str, float]:
    """Name the figures of a pass: ``wer`` becomes ``fr/wer`` of the pass, losses are those of all languages."""
    language = f"{batch.language}/" if batch.language else ""
    return {f"{item.name}/{language if _is_rate(name) else ''}{name}": value for name, value in figures.items()}


def _is_rate(name: str) -> bool:
    """Return whether a figure, with or without the name of its pass, is an error rate."""
    return f"/{name}".endswith(RATES)


def _pass_rate(name: str) -> str:
    """Return the name of the rate of a pass over all languages: ``w1/wer`` for ``w1/fr/wer`` and for ``w1/wer``."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}"


def _averaged(figures: Mapping[str, float]) -> dict[str, float]:
    """Give each pass the mean of its rates in several languages, in front of these; a single one is its own."""
    rates: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        if _is_rate(name):
            rates.setdefault(_pass_rate(name), {})[name] = value
    found: dict[str, float] = {}
    for name, value in figures.items():
        if not _is_rate(name):
            found[name] = value
            continue
        of_pass = _pass_rate(name)
        languages = rates[of_pass]
        found.setdefault(of_pass, sum(languages.values()) / len(languages))
        if len(languages) > 1 and name != of_pass:
            found[name] = value
    return found


def _measure_pass(
    objective: Objective,
    method: Method,
    item: Pass,
    batch: Batch,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    context: StepContext,
) -> tuple[dict[str, float], dict[str, float]]:
    """Do the same for one pass; the names are those of its losses and ``wer`` or ``per``."""
    sums: dict[str, float] = {}
    units: dict[str, float] = {}

    stand_ins = method.substitutes(objective, item, batch, context)

    # Recognition calls this function for its encoder output, so that losses and WER need one encoder pass.
    def encode(part: Batch) -> EncoderOutput:
        encoder, output = _forward(objective, method, item, part, context, stand_ins)
        # A batch in several parts has no loss, so no part replaces the losses of another.
        for name, values in output.losses.items():
            sums[name] = float(values.sum())
            units[name] = float(output.units[name].sum())
        return encoder

    rate, recognition = _recognition(objective, tokenizer, decoding, item.subnet, stand_ins)
    utterances = recognition.utterances(batch, encode)
    sums[rate] = float(sum(map(word_errors, utterances)))
    units[rate] = float(sum(len(utterance.ref) for utterance in utterances))
    return sums, units


def _recognition(
    objective: Objective,
    tokenizer: Tokenizer,
    greedy: DecodingConfig,
    subnet: Subnet,
    stand_ins: Mapping[str, Tensor],
) -> tuple[str, Recognition]:
    """Return the name of the error rate and the recognition that it is the rate of.

    ``stand_ins`` replace parameters of the objective, as in the pass that encodes (`Method.substitutes`).
    """
    model = objective.model
    if tokenizer.spells:
        rate, recognition = "wer", Recognition(word_search(model, tokenizer, greedy, subnet))
    else:
        rate, recognition = "per", phoneme_recognition(model, tokenizer, subnet)
    if not stand_ins:
        return rate, recognition
    return rate, replace(recognition, search=_SubstitutedSearch(objective, recognition.search, stand_ins))


class _SubstitutedSearch(WordSearch):
    """A search in which the outputs of the model have other weights, such as a predictor with masks."""

    def __init__(self, objective: Objective, search: WordSearch, stand_ins: Mapping[str, Tensor]) -> None:
        """``stand_ins``: parameter of the objective -> the tensor that replaces it; ``search`` searches its model."""
        self._module = _SearchOf(objective, search)
        self._stand_ins = {f"objective.{name}": tensor for name, tensor in stand_ins.items()}

    def texts(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        """Find the texts as the search does."""
        found: list[str] = torch.func.functional_call(self._module, self._stand_ins, (encoder_out, lens))
        return found


class _SearchOf(nn.Module):
    """A search as a module, of which `functional_call` can replace weights."""

    def __init__(self, objective: Objective, search: WordSearch) -> None:
        super().__init__()
        self.objective = objective
        self.search = search

    def forward(self, encoder_out: Tensor, lens: Tensor) -> list[str]:
        """Find the texts of (N, T', C) encoder output."""
        return self.search.texts(encoder_out, lens)


def _forward(
    objective: Objective, method: Method, item: Pass, batch: Batch, context: StepContext, stand_ins: dict[str, Tensor]
) -> tuple[EncoderOutput, PassOutput]:
    """Compute the encoder output of the whole batch, and the losses of the utterances that have one."""
    # A pass without losses runs the encoder alone; its hidden states are kept for the second pass.
    taps = objective.taps_of(item.subnet, tuple(method.losses))
    alone = replace(item, losses={}, taps=taps)
    encoder = method.forward_pass(objective, alone, batch, context, stand_ins=stand_ins).encoder
    assert encoder is not None, "an objective's output carries the encoder's"
    scored = scored_part(batch, encoder)
    if scored is None:
        return encoder, PassOutput()
    part, encoded = scored
    inputs = PassInputs(encoder=encoded)
    scored_pass = replace(item, losses=method.losses)
    return encoder, method.forward_pass(objective, scored_pass, part, context, inputs, stand_ins)


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Add figures by name, in place."""
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value


def _rates(sums: Mapping[str, float], units: Mapping[str, float]) -> dict[str, float]:
    """Divide sums by their units; error rates become percentages."""
    scales = {name: 100.0 if name.endswith(RATES) else 1.0 for name in sums}
    return {name: scales[name] * value / max(1.0, units[name]) for name, value in sums.items()}
