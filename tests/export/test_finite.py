"""Recognition with a finite context against a search that restarts the predictor at every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.export.finite import ContextRow, compare_contexts
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from tests.export.models import LSTM
from tests.tiny import MODEL, batch, randomize
from tests.training.kit import tiny_tokenizer

CONTEXTS = (1, 2, 3, 50)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transducer:
    """A model that emits often, and in which labels matter."""
    torch.manual_seed(4)
    built = build_model(MODEL.model_copy(update={"predictor": LSTM}), None, tokenizer.vocab_size, (1.0,))
    assert isinstance(built, Transducer)
    randomize(built, 4)
    with torch.no_grad():
        built.get_parameter("predictor.embedding.weight").mul_(6.0)
        built.joiner.output.weight.mul_(4.0)
        built.joiner.predictor_proj.weight.mul_(3.0)
        # Blank is rather rare; marks of sentences and unknown tokens, which have no text, are not found.
        built.joiner.output.bias[:3] = torch.tensor([1.0, -100.0, -100.0])
    return built.eval()


@torch.no_grad()
def naive(model: Transducer, am: Tensor, context: int) -> list[int]:
    """Greedy search of (T, J) frames; at every frame the predictor restarts with blank and reads the last labels."""
    tokens: list[int] = []
    for frame in am:
        state = model.predictor.init_state(1, torch.device("cpu"))
        for label in (0, *tokens[-context:]):
            out, state = model.predictor.step(torch.tensor([label]), state)
        best = int(model.joiner(frame, model.joiner.project_predictor(out)[0]).argmax())
        if best not in (Tokenizer.blank_id, Tokenizer.unk_id):
            tokens.append(best)
    return tokens


def with_texts(texts: Sequence[str]) -> Batch:
    return replace(batch((160, 97, 131)), texts=tuple(texts))


def test_contexts_are_searched_as_a_predictor_that_starts_anew(model: Transducer, tokenizer: Tokenizer) -> None:
    part = batch((160, 97, 131))
    with torch.no_grad():
        encoded = model.encode(part.x, part.x_lens)
        am = model.project_encoder(encoded.out)
    rows = [frames[:length] for frames, length in zip(am, encoded.lens.tolist(), strict=True)]
    texts = {context: [tokenizer.decode(naive(model, row, context)) for row in rows] for context in CONTEXTS}
    assert len({tuple(found) for found in texts.values()}) == len(CONTEXTS)
    assert max(map(len, texts[50])) > 4
    for context in CONTEXTS:
        # References that are this context's texts: it has no error, and as many texts of the full history as they have.
        found = compare_contexts(model, [with_texts(texts[context])], tokenizer, None, DecodingConfig(), CONTEXTS)
        same = sum(one.split() == other.split() for one, other in zip(texts[context], texts[50], strict=True))
        assert next(row for row in found if row.context == context) == ContextRow(context, 0.0, same, 3)
        assert found[-1].context is None
        assert (found[-1].wer == 0.0) == (context == 50)


def test_a_beam_search_with_a_context_as_long_as_the_text_is_that_of_the_full_history(
    model: Transducer, tokenizer: Tokenizer
) -> None:
    config = DecodingConfig(kind="modified_beam")
    short, long, full = compare_contexts(model, [with_texts(("one", "two", "three"))], tokenizer, None, config, [1, 50])
    assert (long.wer, long.same) == (full.wer, 3)
    assert short.same < 3
