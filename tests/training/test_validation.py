"""Validation with utterances that no loss can be computed of, against sets without them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective
from slimasr.supernet.space import WidthSpace
from slimasr.training.distributed import World
from slimasr.training.validation import dev_metric, validate
from tests.tiny import randomize
from tests.training.kit import TinyBatches, make_objective, tiny_config, tiny_tokenizer

LOSSES = {"transducer": 1.0, "ctc": 0.5}


def measured(objective: Objective, batches: Sequence[Batch], method: Method | None = None) -> dict[str, float]:
    method = method or Slimmable(WidthSpace((1.0, 0.5)), LOSSES)
    context = StepContext(0, 1, 10, random.Random(0))
    return validate(objective, method, batches, tiny_tokenizer(), DecodingConfig(), context, World())


def impossible(batch: Batch, row: int) -> Batch:
    """One utterance of the batch said 30 times as fast: more tokens than encoder frames."""
    y = torch.cat([batch.y, batch.y.new_full((len(batch), 60), 0)], dim=1)
    y[row] = 3
    y_lens = batch.y_lens.clone()
    y_lens[row] = y.shape[1]
    texts = tuple("b a" if i == row else text for i, text in enumerate(batch.texts))
    return replace(batch, y=y, y_lens=y_lens, texts=texts, unscored=frozenset({batch.ids[row]}))


@pytest.mark.parametrize("loss", [{"rnnt_type": "modified"}, {"transducer": "pruned", "prune_range": 3}])
def test_losses_are_those_of_the_others_and_the_wer_is_that_of_all(loss: dict[str, object]) -> None:
    objective = make_objective(tiny_config(loss=loss), tiny_tokenizer())
    good = list(TinyBatches(tiny_tokenizer()).dev())
    mixed = [impossible(good[0], 1), good[1], impossible(impossible(good[2], 0), 1)]
    mixed[2] = replace(mixed[2], unscored=frozenset(mixed[2].ids))
    found = measured(objective, mixed)
    others = measured(objective, [good[0].select([0]), good[1]])
    everything = measured(objective, [replace(batch, unscored=frozenset()) for batch in mixed])
    assert found.keys() == others.keys()
    for name, value in found.items():
        expected = everything if name.endswith("/wer") else others
        assert value == pytest.approx(expected[name], rel=1e-5), name
        assert value < 1e4


def test_a_set_without_any_loss_has_a_wer() -> None:
    objective = make_objective(tiny_config(), tiny_tokenizer())
    batches = [replace(batch, unscored=frozenset(batch.ids)) for batch in TinyBatches(tiny_tokenizer()).dev()]
    assert measured(objective, batches).keys() == {"w1/wer", "w0.5/wer"}


def test_a_diverged_model_hides_nothing_and_never_wins() -> None:
    objective = make_objective(tiny_config(), tiny_tokenizer())
    batches = list(TinyBatches(tiny_tokenizer()).dev())
    good = measured(objective, batches)
    with torch.no_grad():
        objective.model.joiner.output.weight.fill_(float("nan"))
    bad = measured(objective, batches)
    assert bad["w1/transducer"] != bad["w1/transducer"], "the losses are those of the model"
    assert dev_metric(good) < dev_metric({**good, "w1/transducer": float("nan")})
    assert not dev_metric({**good, "w1/transducer": float("nan")}) < dev_metric(good)
    assert dev_metric(good) < dev_metric({**good, "w1/wer": float("inf")})


class WeightsOfAnotherModel(Slimmable):
    """Runs every pass with weights of another objective, of predictor and joiner too."""

    def __init__(self, other: Objective) -> None:
        super().__init__(WidthSpace((1.0,)), LOSSES)
        self.__dict__["other"] = other

    def substitutes(
        self, objective: Objective, item: Pass, batch: Batch, context: StepContext
    ) -> dict[str, torch.Tensor]:
        return dict(self.other.named_parameters())


def lstm_objective(seed: int) -> Objective:
    predictor = {"kind": "lstm", "dim": 16, "num_layers": 1, "embedding_dim": 8, "dropout": 0.0}
    config = tiny_config(model={**tiny_config().model.model_dump(), "predictor": predictor}, space={"widths": [1.0]})
    objective = make_objective(config, tiny_tokenizer())
    randomize(objective, seed)
    with torch.no_grad():
        # So that the untrained model recognises something.
        objective.model.joiner.output.bias[0] -= 1.0
    return objective.eval()


def test_the_search_sees_substituted_weights() -> None:
    """Validation with the weights of another model in place finds what this model finds."""
    batches = list(TinyBatches(tiny_tokenizer()).dev())
    objective, other = lstm_objective(1), lstm_objective(2)
    other.model.load_state_dict({**objective.model.state_dict(), **dict(other.model.named_parameters())})
    alone = Slimmable(WidthSpace((1.0,)), LOSSES)
    expected = measured(other, batches, alone)
    assert measured(objective, batches, WeightsOfAnotherModel(other)) == expected
    assert measured(objective, batches, alone)["w1/wer"] != expected["w1/wer"]


def test_the_rate_of_a_pass_is_the_mean_over_languages() -> None:
    objective = lstm_objective(2)
    method = Slimmable(WidthSpace((1.0,)), LOSSES)
    first, second, third = TinyBatches(tiny_tokenizer()).dev()
    spoken = [replace(first, language="fr"), replace(second, language="nl"), replace(third, language="fr")]
    found = measured(objective, spoken, method)
    rates = {"fr": measured(objective, [first, third], method), "nl": measured(objective, [second], method)}
    pooled = measured(objective, [first, second, third], method)
    assert found["w1/fr/wer"] == rates["fr"]["w1/wer"] != rates["nl"]["w1/wer"] == found["w1/nl/wer"]
    assert found["w1/wer"] == pytest.approx((found["w1/fr/wer"] + found["w1/nl/wer"]) / 2)
    assert found["w1/transducer"] == pytest.approx(pooled["w1/transducer"])
    assert dev_metric(found)[0] == found["w1/wer"]
    # One language alone is named as none is.
    assert measured(objective, [replace(batch, language="en") for batch in (first, second, third)], method) == pooled


class PassPerLanguage(Slimmable):
    """The same subnet, once for each language and once for all."""

    def evaluated(self) -> list[Pass]:
        subnet = self.space.max
        passes = [Pass(subnet, {}, role=language, language=language) for language in ("fr", "nl")]
        return [*passes, Pass(subnet, {}, role="everything")]


def test_a_pass_gets_the_batches_of_its_language() -> None:
    objective = lstm_objective(2)
    method = PassPerLanguage(WidthSpace((1.0,)), LOSSES)
    first, second, third = TinyBatches(tiny_tokenizer()).dev()
    found = measured(
        objective,
        [replace(first, language="fr"), replace(second, language="nl"), replace(third, language="de")],
        method,
    )
    rates = [measured(objective, [batch], Slimmable(WidthSpace((1.0,)), LOSSES)) for batch in (first, second)]
    assert [found["fr/wer"], found["nl/wer"]] == [rate["w1/wer"] for rate in rates]
    assert found["nl/transducer"] == rates[1]["w1/transducer"]
    assert [name for name in found if name.endswith("wer")] == [
        "fr/wer",
        "everything/wer",
        "everything/fr/wer",
        "nl/wer",
        "everything/nl/wer",
        "everything/de/wer",
    ]
