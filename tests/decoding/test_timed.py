"""Times and confidence of words, against SentencePiece, the lattice of the training loss and enumeration."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from slimasr.config.data import TokenizerConfig
from slimasr.config.search import DecodingConfig, GraphDecodingConfig
from slimasr.data.tokens.subwords import SentencePieceTokenizer, train_model
from slimasr.decoding.alignment.align import arc_log_probs
from slimasr.decoding.searches.graph import GraphSearch
from slimasr.decoding.searches.label_search import Hypothesis
from slimasr.decoding.searches.timed import (
    BestPath,
    Transcript,
    Word,
    WordSpan,
    pronounced_words,
    spelt_words,
    transcript_of,
)
from slimasr.decoding.searches.word_search import Unfinished
from slimasr.decoding.searches.words import DecodedLabels, word_search
from slimasr.models.transducer import Transducer
from tests.decoding.graphs import Language, Scores


def test_words_of_any_tokens_are_those_of_the_decoded_text() -> None:
    import sentencepiece

    text = ["THE CAT SAT ON A MAT", "A HAT IS NOT A CAT", "SO IT SAT", "THAT IS IT"]
    for kind, size in (("bpe", 30), ("char", 16), ("unigram", 20)):
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(train_model(text, TokenizerConfig(kind=kind, vocab_size=size)))
        pieces = tuple(processor.IdToPiece(number) for number in range(processor.GetPieceSize()))
        tokenizer = SentencePieceTokenizer(processor, pieces)
        rng = random.Random(0)
        for _ in range(200):
            ids = [rng.randrange(3, len(pieces)) for _ in range(rng.randrange(12))]
            spans = spelt_words([pieces[number] for number in ids])
            assert [span.word for span in spans] == tokenizer.decode(ids).split()
            for span in spans:
                spelt = "".join(pieces[number] for number in ids[span.first : span.after])
                assert span.word in spelt
                # No token at either end is without a character of the word.
                assert all(pieces[ids[place]].strip("\u2581") for place in (span.first, span.after - 1))
            assert all(a.after <= b.first + 1 for a, b in pairwise(spans))


def test_a_word_ends_with_the_next_one_or_a_little_behind_its_last_token() -> None:
    words = (WordSpan("AB", 0, 2), WordSpan("C", 2, 3, characters=3), WordSpan("D", 3, 4))
    path = BestPath("AB C D", Hypothesis((5, 6, 7, 8), (10, 13, 14, 99)), (0.5, 0.25, 1.0, 0.75), words)
    found = transcript_of(path, start=2.0, seconds=3.9, frame_seconds=0.04)
    assert found.words == (
        # The next word follows at once.
        Word("AB", 2.4, 2.56, 0.375),
        Word("C", 2.56, pytest.approx(2.56 + 0.04 + 3 * 0.08), 1.0),
        # The last one is emitted in the padding after the audio.
        Word("D", 5.9, 5.9, 0.75),
    )
    assert found.times == (2.4, 2.52, 2.56, 5.9) and found.tokens == (5, 6, 7, 8)
    both = Transcript("X", (), 2.0) + found
    assert (both.text, both.seconds, both.words) == ("X AB C D", 5.9, found.words)
    assert (found + Transcript("", (), 1.0)).text == "AB C D"


@pytest.mark.parametrize("kind", ["greedy", "modified_beam"])
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_the_posterior_of_a_token_is_its_arc_in_the_lattice(
    make_transducer: Callable[..., Transducer], kind: str, predictor: str, tmp_path: Path
) -> None:
    model = make_transducer(predictor)
    torch.manual_seed(1)
    encoder_out, lens = 3 * torch.randn(2, 20, model.config.encoder.d_model), torch.tensor([20, 13])
    tokenizer = SpelledTokenizer()
    search = word_search(model, tokenizer, DecodingConfig(kind=kind, beam=3))  # type: ignore[arg-type]
    assert isinstance(search, DecodedLabels)
    paths = search.best_paths(encoder_out, lens)
    assert [path.text for path in paths] == search.texts(encoder_out, lens)
    am = model.project_encoder(encoder_out)
    for row, path in enumerate(paths):
        tokens, frames = path.labels.tokens, path.labels.frames
        assert len(tokens) > 3
        # (1, U, T): the log-probability of token u at frame t after the tokens before it, from the training's lattice.
        with torch.no_grad():
            px, _ = arc_log_probs(model, am[row : row + 1], torch.tensor([tokens]))
        expected = [float(px[0, place, frame].exp()) for place, frame in enumerate(frames)]
        assert path.posteriors == pytest.approx(expected, abs=1e-6)
        assert all(0.0 <= value <= 1.0 for value in path.posteriors)
        words = transcript_of(path, 0.0, 10.0, 0.04).words
        for word, span in zip(words, path.words, strict=True):
            assert word.confidence == pytest.approx(np.mean(expected[span.first : span.after]), abs=1e-6)


class SpelledTokenizer:
    """Tokens of which every second one begins a word."""

    spells = True
    tokens = ("<blk>", "<sos/eos>", "<unk>", "\u2581A", "B", "\u2581C", "D", "\u2581E", "F")

    def decode(self, ids: tuple[int, ...]) -> str:
        return "".join(self.tokens[number] for number in ids).replace("\u2581", " ")


def test_a_ctc_model_emits_a_token_at_the_first_frame_of_its_run() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, 40, 9)
    search = word_search(Scores(9), SpelledTokenizer(), DecodingConfig())  # type: ignore[arg-type]
    (path,) = search.best_paths(logits, torch.tensor([40]))
    best = logits[0].argmax(-1).tolist()
    firsts = [frame for frame in range(40) if frame == 0 or best[frame] != best[frame - 1]]
    expected = [(best[frame], frame) for frame in firsts if best[frame] not in (0, 2)]
    assert list(zip(path.labels.tokens, path.labels.frames, strict=True)) == expected
    probabilities = logits[0].double().exp() / logits[0].double().exp().sum(-1, keepdim=True)
    assert path.posteriors == pytest.approx([float(probabilities[frame, label]) for label, frame in expected], abs=1e-6)


def test_words_are_found_by_any_of_their_pronunciations() -> None:
    # A greedy match of the first pronunciation would leave a token over.
    spans = pronounced_words(["A", "B"], [3, 4, 3], [[[3, 4], [3]], [[4, 3], [5]]])
    assert spans == (WordSpan("A", 0, 1), WordSpan("B", 1, 3))
    assert pronounced_words([], [], []) == ()
    with pytest.raises(ValueError, match="not pronunciations"):
        pronounced_words(["A"], [3, 4], [[[3]]])


@pytest.mark.parametrize("seed", range(3))
def test_words_of_a_graph_have_the_frames_of_their_labels(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("kaldi_decoder")
    language = Language.draw(seed)
    graph = replace(language.graph(tmp_path), read_lexicon=lambda: language.lexicon)
    tokens = language.tokenizer.tokens
    config = GraphDecodingConfig(beam=1e4, max_active=10_000)
    search = GraphSearch(Scores(len(tokens)), None, graph, config, Unfinished(), tokens)
    logits = 3 * torch.randn(6, 12, len(tokens), generator=torch.Generator().manual_seed(seed))
    lens = torch.tensor([12, 12, 12, 7, 5, 0])
    paths = search.best_paths(logits, lens)
    assert [path.text for path in paths] == search.texts(logits, lens)
    assert sum(len(path.words) for path in paths) > 8
    for path, row, length in zip(paths, logits, lens.tolist(), strict=True):
        labels = [tokens[token] for token in path.labels.tokens]
        assert [span.word for span in path.words] == path.text.split()
        # The words share the labels out among them, each with one of its pronunciations.
        assert [span.first for span in path.words] == [0, *(span.after for span in path.words)][: len(path.words)]
        for span in path.words:
            assert tuple(labels[span.first : span.after]) in language.lexicon.pronunciations[span.word]
        assert sum(span.after - span.first for span in path.words) == len(labels)
        assert list(path.labels.frames) == sorted(set(path.labels.frames))
        assert all(frame < length for frame in path.labels.frames)
        expected = row.softmax(-1)[list(path.labels.frames), list(path.labels.tokens)]
        assert path.posteriors == pytest.approx(expected.tolist(), abs=1e-6)
