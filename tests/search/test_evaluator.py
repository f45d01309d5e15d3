"""The evaluator against the plain way: cut the subnet out, decode utterance by utterance."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slimasr.config.schema import Config
from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.decode import describe
from slimasr.decoding.searches.beam import modified_beam_search
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.export.int8 import fake_quantized
from slimasr.measure.quality import measure_quality, wer_entry
from slimasr.search.evaluator import Evaluator
from slimasr.search.history import Candidate, History, error_threshold
from slimasr.search.prefix import PrefixCache
from slimasr.supernet.front import find_front
from slimasr.supernet.subnet import Subnet
from tests.search.untrained import LAYERS, edit_distance, make_experiment
from tests.tiny import randomize


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Experiment:
    """An untrained supernet of 258 subnets."""
    return Experiment.open(make_experiment(tmp_path_factory.mktemp("exp") / "layers", data, [1.0], space=LAYERS))


@pytest.fixture(scope="module")
def batches(opened: Experiment, data: Path) -> list[Batch]:
    """The dev set in batches of one or two utterances."""
    return list(eval_batches(opened.config, data, "dev", opened.tokenizer, 1.8))


def evaluator(opened: Experiment, batches: list[Batch], **search: object) -> Evaluator:
    return Evaluator(opened.model, opened.tokenizer, batches, with_search(opened.config, **search))


def with_search(config: Config, **search: object) -> Config:
    return config.model_copy(update={"search": config.search.model_copy(update=search)})


def plain_errors(
    opened: Experiment, subnet: Subnet, batches: list[Batch], int8: bool = False, beam: int | None = None
) -> int:
    """What the evaluator replaces."""
    model = fake_quantized(opened.model, subnet) if int8 else opened.model.extract(subnet).eval()
    errors = 0
    for batch in batches:
        for row in range(len(batch)):
            one = batch.select([row])
            with torch.no_grad():
                out = model.encode(one.x, one.x_lens)
                am = model.project_encoder(out.out)
                if beam is None:
                    ids = greedy_search(model, am, out.lens)[0]
                else:
                    ids = modified_beam_search(model, am, out.lens, beam)[0]
            errors += edit_distance(one.texts[0].split(), opened.tokenizer.decode(ids).split())
    return errors


def some_subnets(opened: Experiment, number: int) -> list[Subnet]:
    rng = random.Random(0)
    return [opened.space.max, opened.space.min, *(opened.space.sample(rng) for _ in range(number))]


def test_candidates_are_decoded_as_the_recipe_says(opened: Experiment, batches: list[Batch]) -> None:
    """The references are what greedy search finds with max, so that the two searches differ in their errors."""
    opened = replace(opened, model=randomize(deepcopy(opened.model), seed=3))
    said = [replace(b, texts=tuple(greedy_texts(opened, b))) for b in batches]
    decoding = DecodingConfig(kind="modified_beam", beam=3)
    config = opened.config.model_copy(update={"decoding": decoding})
    measured, errors = Evaluator(opened.model, opened.tokenizer, said, config), list[int]()
    for subnet in some_subnets(opened, 5):
        errors.append(measured.evaluate(subnet).errors)
        assert errors[-1] == plain_errors(opened, subnet, said, beam=3)
        quality = measure_quality(opened.model, subnet, said, opened.tokenizer, config.loss, decoding)
        assert quality.wer.counts.errors == errors[-1]
    assert plain_errors(opened, opened.space.max, said) == 0 < errors[0]
    assert wer_entry(quality, "x", describe(decoding)).decoding == "modified beam search, beam 3"


def greedy_texts(opened: Experiment, batch: Batch) -> list[str]:
    with torch.no_grad():
        out = opened.model.encode(batch.x, batch.x_lens)
        found = greedy_search(opened.model, opened.model.project_encoder(out.out), out.lens)
    return [opened.tokenizer.decode(ids) for ids in found]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("cache_megabytes", [0, 1024])
def test_figures_are_those_of_the_extracted_model(
    opened: Experiment, batches: list[Batch], cache_megabytes: int, int8: bool
) -> None:
    measured = evaluator(opened, batches, cache_megabytes=cache_megabytes, int8=int8)
    config = opened.config
    for subnet in some_subnets(opened, 10):
        outcome = measured.evaluate(subnet)
        assert outcome.errors == plain_errors(opened, subnet, batches, int8)
        assert outcome.words == 10 and not outcome.stopped
        if not int8:
            quality = measure_quality(opened.model, subnet, batches, opened.tokenizer, config.loss, config.decoding)
            assert outcome.dev_loss == pytest.approx(quality.loss, rel=1e-4)
            again = measured.quality(subnet)
            assert (again.wer, again.loss) == (quality.wer, pytest.approx(quality.loss, rel=1e-4))


def test_layers_of_an_equal_prefix_run_once(opened: Experiment, batches: list[Batch]) -> None:
    """Halves of layers are counted as they run, against the number of different prefixes."""
    measured, ran, embedded = evaluator(opened, batches), list[int](), list[int]()
    encoder = opened.model.encoder
    half_runner, embed = encoder.half_runner, encoder.embed

    def counting(hidden: EncoderOutput, subnet: Subnet, known: object) -> Callable[..., EncoderOutput]:
        run = half_runner(hidden, subnet, known)
        return lambda layer, half, x: ran.append(layer) or run(layer, half, x)

    encoder.half_runner = counting
    encoder.embed = lambda *arguments: embedded.append(1) or embed(*arguments)
    subnets = sorted(dict.fromkeys(some_subnets(opened, 60)), key=measured.order)
    try:
        for subnet in subnets:
            measured.evaluate(subnet)
    finally:
        encoder.half_runner, encoder.embed = half_runner, embed
    # The first half of a layer is the same for all sizes of its last feed-forward module, which is the second half.
    whole, first = set[object](), set[object]()
    for key in map(measured.order, subnets):
        for depth in range(1, len(key)):
            layer, modules = key[depth]
            whole.add(key[: depth + 1])
            first.add((key[:depth], layer, tuple(item for item in modules if item[0] != "ffn2")))
    assert len(first) < len(whole)
    assert len(ran) == (len(whole) + len(first)) * len(batches)
    assert len(embedded) == len(batches)


def test_a_cache_too_small_for_all_batches_serves_some(opened: Experiment, batches: list[Batch]) -> None:
    tight = evaluator(opened, batches)
    tight._cache = PrefixCache(2 * 4 * 16 * 4 * 30, len(batches))  # two batches or so
    free = evaluator(opened, batches)
    for subnet in sorted(some_subnets(opened, 10), key=free.order):
        ours, expected = tight.evaluate(subnet), free.evaluate(subnet)
        assert (ours.errors, ours.dev_loss) == (expected.errors, pytest.approx(expected.dev_loss, rel=1e-5))
    kept = list(tight._cache._rooms.values())
    assert None in kept and any(kept)


def test_memory_that_is_left_goes_to_a_batch_that_needs_less_than_its_share(opened: Experiment) -> None:
    long, short = torch.randn(1, 120, 80), torch.randn(1, 24, 80)
    fields = {"y": torch.zeros(1, 1, dtype=torch.int64), "y_lens": torch.ones(1, dtype=torch.int64)}
    batches = [Batch(x=x, x_lens=torch.tensor([x.shape[1]]), ids=("a",), texts=("A",), **fields) for x in (long, short)]
    encoder, subnet = opened.model.encoder, opened.space.max
    needed = [
        (1 + 2 * encoder.num_layers) * encoder.embed(opened.model.normalize(b.x), b.x_lens, subnet).out.numel() * 4
        for b in batches
    ]
    cache = PrefixCache(sum(needed), 2)
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            cache.encode(number, batch, opened.model, subnet, subnet)
    rooms = [cache._rooms[number] for number in range(2)]
    assert [room is not None and len(room.hidden) == 1 + 2 * encoder.num_layers for room in rooms] == [True, True]
    assert sum(room.size for room in rooms if room is not None) <= sum(needed)


def test_hopeless_subnets_are_given_up_and_the_front_stays(opened: Experiment, batches: list[Batch]) -> None:
    """All subnets of the space, in an order of chance, with and without stopping."""
    subnets = random.Random(3).sample(list(opened.space), 258)
    costs = {subnet: {"params": float(opened.model.count(subnet).params)} for subnet in subnets}
    fronts, stopped = list[list[tuple[str, float]]](), 0
    for stop_early in (False, True):
        measured, found = evaluator(opened, batches), list[Candidate]()
        for subnet in subnets:
            threshold = error_threshold(History(found), costs[subnet], "params", None) if stop_early else float("inf")
            outcome = measured.evaluate(subnet, threshold)
            state = "stopped" if outcome.stopped else "measured"
            figures = (costs[subnet], None, outcome.errors, outcome.words, outcome.dev_loss)
            found.append(Candidate(subnet, state, *figures))
            if outcome.stopped:
                stopped += 1
                assert outcome.dev_loss is None and outcome.errors > threshold
        front = find_front((c.measurement() for c in History(found).measured), "params")
        fronts.append([(m.subnet.id, m.wer) for m in front])
    assert fronts[0] == fronts[1]
    assert stopped > 10


def test_halving_stops_what_most_rivals_beat_on_the_batches_so_far(opened: Experiment, batches: list[Batch]) -> None:
    """Against a plain loop over the errors of every batch; the rivals of a subnet are the six before it."""
    opened = replace(opened, model=randomize(deepcopy(opened.model), seed=3))
    decoding = opened.config.decoding.model_copy(update={"batch_seconds": 1.8})
    config = opened.config.model_copy(update={"decoding": decoding})
    measured = Evaluator(opened.model, opened.tokenizer, batches, config)
    total = [0] * len(batches)
    done: list[tuple[Subnet, dict[int, int]]] = []
    stopped = 0
    for subnet in dict.fromkeys(some_subnets(opened, 40)):
        rivals = done[-6:]
        own: dict[int, int] = {}
        expected = False
        for number in sorted(range(len(batches)), key=lambda n: -total[n]):
            own[number] = plain_errors(opened, subnet, [batches[number]])
            beaten = 0
            for _, rival in rivals:
                beaten += set(own) <= set(rival) and sum(rival[n] for n in own) < sum(own.values())
            expected = len(own) < len(batches) and beaten > len(rivals) / 2
            if expected:
                break
        for number, errors in own.items():
            total[number] += errors
        done.append((subnet, own))
        outcome = measured.evaluate(subnet, rivals=[rival for rival, _ in rivals])
        assert (outcome.stopped, outcome.errors) == (expected, sum(own.values()))
        assert (outcome.dev_loss is None) is expected
        stopped += expected
    assert 3 <= stopped <= 30


@pytest.mark.parametrize("seconds", [1.8, 4.0, 200.0])
def test_batches_with_many_errors_come_first_and_many_at_once(
    opened: Experiment, batches: list[Batch], seconds: float
) -> None:
    decoding = opened.config.decoding.model_copy(update={"batch_seconds": seconds})
    config = opened.config.model_copy(update={"decoding": decoding})
    measured, decoded = Evaluator(opened.model, opened.tokenizer, batches, config), list[list[int]]()
    first = measured.evaluate(opened.space.max)
    by_batch = list(measured._errors)
    decode = measured._decode
    measured._decode = lambda numbers, *rest: decoded.append(list(numbers)) or decode(numbers, *rest)
    assert measured.evaluate(opened.space.max) == replace(first, seconds=pytest.approx(first.seconds, abs=1e9))
    assert [by_batch[n] for group in decoded for n in group] == sorted(by_batch, reverse=True)
    for group in decoded:
        shapes = [batches[number].x.shape[:2] for number in group]
        padded = sum(utterances for utterances, _ in shapes) * max(frames for _, frames in shapes)
        assert len(group) == 1 or padded <= 100 * seconds
    assert (len(decoded) == 1) is (seconds == 200.0) and (len(decoded) == len(batches)) is (seconds == 1.8)


def test_an_empty_reference_counts_what_is_heard(opened: Experiment, batches: list[Batch]) -> None:
    silent = [replace(batch, texts=("",) * len(batch)) for batch in batches[:1]] + batches[1:]
    outcome = evaluator(opened, silent).evaluate(opened.space.max)
    assert outcome.errors == plain_errors(opened, opened.space.max, silent)
    assert outcome.words < 10


def test_a_set_without_words_is_refused(opened: Experiment, batches: list[Batch]) -> None:
    silent = [replace(batch, texts=("",) * len(batch)) for batch in batches]
    with pytest.raises(UserError, match="dev: no reference has a word"):
        evaluator(opened, silent)
