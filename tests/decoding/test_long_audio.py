"""Sets with an utterance too long for the model: cut at pauses, in every stage, and never encoded as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.decode import run
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.corpora import ListedUtterance
from slimasr.data.features.pieces import cut_at_pauses, rounded_as_stored
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, write_cuts
from slimasr.data.manifests.stage import build_cuts
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.decoding.alignment.align import align_batches
from slimasr.decoding.decode import decode_batches, override
from slimasr.decoding.recognize import Recognition, encoder_of
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.decoding.searches.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.experiment import Experiment
from slimasr.measure.quality import measure_quality
from slimasr.methods.base import StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.models.transducer import Transducer
from slimasr.objective.objective import Objective, loss_weights
from slimasr.scoring import score
from slimasr.scoring.icefall import read_recogs
from slimasr.search.evaluator import Evaluator
from slimasr.training.distributed import World
from slimasr.training.validation import validate
from tests.decoding.made_up import RATE, TEXTS, config, noise, write_data, write_experiment

WINDOW = 200
LONG = "test0"
Made = tuple[Experiment, Path]


def speech_with_pauses(words: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with pauses of 0.3 s, and per 10 ms whether it is a pause."""
    rng, parts, silent = np.random.default_rng(0), list[np.ndarray](), list[bool]()
    for seed in range(words):
        hops = int(rng.integers(30, 70))
        parts += [3 * noise(1.0, seed)[: hops * RATE // 100], 1e-4 * rng.standard_normal(30 * RATE // 100)]
        silent += [False] * hops + [True] * 30
    return np.concatenate(parts).astype(np.float32), np.array(silent)


def make(root: Path, storage: str) -> Made:
    """An experiment, and a test set of which one utterance lasts 10 s; models see at most 2 s."""
    recipe = config(data={"corpus": "an4", "storage": storage, "max_cut_seconds": 2.0})
    data = write_data(root, recipe)
    soundfile.write(root / "audio" / f"{LONG}.wav", speech_with_pauses(12)[0], RATE, subtype="FLOAT")
    utterances = [
        ListedUtterance(f"test{i}", root / "audio" / f"test{i}.wav", text, "s") for i, text in enumerate(TEXTS)
    ]
    cuts, _ = build_cuts(utterances, recipe.data)
    write_cuts(DataFolder(data).raw_cuts("test"), cuts)
    compute_features(recipe, data, 1, lambda items, *_: items)
    return Experiment.open(write_experiment(root, recipe, data)), data


@pytest.fixture(scope="module", params=["precomputed", "on_the_fly"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp(request.param), request.param)


def batches_of(made: Made, seconds: float = 100.0) -> list[Batch]:
    experiment, data = made
    return list(eval_batches(experiment.config, data, "test", experiment.tokenizer, seconds))


def long_one(made: Made) -> Batch:
    (batch,) = (batch for batch in batches_of(made) if LONG in batch.ids)
    return batch


@torch.no_grad()
def by_hand(experiment: Experiment, features: Tensor, width: float = 1.0) -> str:
    model, subnet = experiment.model, experiment.space.parse(str(width))
    encoder = model.encode(features.unsqueeze(0), torch.tensor([len(features)]), subnet)
    (labels,) = greedy_search(model, model.project_encoder(encoder.out, subnet), encoder.lens)
    return experiment.tokenizer.decode(labels).strip()


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The frames of everything that a front end gets."""
    seen: list[int] = []
    normalize = Transducer.normalize

    def watch(self: Transducer, x: Tensor) -> Tensor:
        seen.append(x.shape[1])
        return normalize(self, x)

    monkeypatch.setattr(Transducer, "normalize", watch)
    yield seen
    monkeypatch.undo()


def test_pieces_end_in_pauses_and_are_the_same_in_both_storages(made: Made, tmp_path: Path) -> None:
    pieces = long_one(made).pieces
    speech, silent = speech_with_pauses(12)
    assert sum(pieces) == len(silent) == round(100 * len(speech) / RATE)
    assert max(pieces) <= WINDOW
    assert min(pieces[:-1]) >= WINDOW // 2
    assert len(pieces) >= 5
    for end in np.cumsum(pieces)[:-1]:
        assert silent[end - 5 : end + 5].all()
    for storage in ("precomputed", "on_the_fly"):
        assert long_one(make(tmp_path / storage, storage)).pieces == pieces


def test_features_are_rounded_as_those_of_the_files_are(tmp_path: Path) -> None:
    """Noise without pauses, where a rounding error would move the cuts."""
    found = []
    for storage in ("precomputed", "on_the_fly"):
        _, data = made = make(tmp_path / storage, storage)
        path = data.parent / "audio" / f"{LONG}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(30 * RATE), RATE, subtype="FLOAT")
        cuts, _ = build_cuts([ListedUtterance(LONG, path, "YES", "s")], made[0].config.data)
        write_cuts(DataFolder(data).raw_cuts("test"), cuts)
        compute_features(made[0].config, data, 1, lambda items, *_: items)
        found.append(long_one(made))
    stored, fly = found
    assert not torch.equal(stored.x, fly.x)
    np.testing.assert_array_equal(rounded_as_stored(fly.x[0].numpy()), stored.x[0].numpy())
    assert stored.pieces == fly.pieces
    (cut,) = read_feature_cuts(DataFolder(tmp_path / "precomputed" / "data"), "test")
    np.testing.assert_array_equal(stored.x[0].numpy(), cut.load_features())


@pytest.mark.parametrize(("frames", "most", "least"), [(41, 40, 7), (400, 40, 7), (1001, 20, 10), (25, 24, 12)])
def test_pieces_fit_and_add_up(frames: int, most: int, least: int) -> None:
    features = np.random.default_rng(frames).normal(size=(frames, 4)).astype(np.float32)
    pieces = cut_at_pauses(features, most, least)
    assert sum(pieces) == frames
    assert least <= min(pieces) and max(pieces) <= most
    assert cut_at_pauses(features[:most], most, least) == (most,)


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_texts_are_those_of_the_pieces(made: Made, monkeypatch: pytest.MonkeyPatch, width: float) -> None:
    experiment, _ = made
    expected = {}
    for batch in batches_of(made, 0.01):
        (features,) = batch.x
        texts = (by_hand(experiment, piece, width) for piece in features.split(batch.pieces or len(features)))
        expected[batch.ids[0]] = " ".join(text for text in texts if text)
    assert len(expected[LONG].split()) >= 3
    subnet = experiment.space.parse(str(width))
    model, tokenizer, config = experiment.model, experiment.tokenizer, experiment.config
    with watched(monkeypatch) as seen:
        decoded = decode_batches(model, batches_of(made), tokenizer, subnet, config.decoding)
        quality = measure_quality(model, subnet, batches_of(made), tokenizer, config.loss, config.decoding)
    assert max(seen) <= WINDOW
    assert {u.id: " ".join(u.hyp) for u in decoded} == {name: " ".join(t.split()) for name, t in expected.items()}
    assert [u.id for u in decoded].count(LONG) == 1
    assert quality.wer.counts == score(decoded).counts


@pytest.mark.parametrize("kind", ["greedy", "modified_beam"])
def test_batches_searched_together_have_the_same_words(made: Made, kind: str) -> None:
    """A batch in pieces between batches of short utterances; every part is encoded once, in order."""
    experiment, _ = made
    batches = batches_of(made, 1.0)
    subnet = experiment.space.min
    encode = encoder_of(experiment.model, subnet)
    decoding = override(experiment.config.decoding, kind)
    recognition = Recognition(word_search(experiment.model, experiment.tokenizer, decoding, subnet))
    ran: list[Batch] = []

    def watched_encode(part: Batch) -> EncoderOutput:
        ran.append(part)
        return encode(part)

    alone = [recognition.utterances(batch, watched_encode) for batch in batches]
    parts = [part for batch in batches for part in batch.parts()]
    assert [part.x_lens.tolist() for part in ran] == [part.x_lens.tolist() for part in parts]
    assert len(parts) > len(batches) >= 3
    with torch.no_grad():
        together = [[(part, encode(part)) for part in batch.parts()] for batch in batches]
    assert recognition.utterances_together(together) == alone
    assert {u.id: u.ref for batch in alone for u in batch} == {
        f"test{number}": tuple(text.split()) for number, text in enumerate(TEXTS)
    }


@pytest.mark.parametrize("cache_megabytes", [0, 100])
@pytest.mark.parametrize("int8", [False, True])
def test_the_search_measures_the_same(
    made: Made, monkeypatch: pytest.MonkeyPatch, cache_megabytes: int, int8: bool
) -> None:
    experiment, _ = made
    search = experiment.config.search.model_copy(update={"cache_megabytes": cache_megabytes, "int8": int8})
    config = experiment.config.model_copy(update={"search": search})
    without = [batch for batch in batches_of(made) if not batch.pieces]
    with watched(monkeypatch) as seen:
        measured = Evaluator(experiment.model, experiment.tokenizer, batches_of(made), config)
        short = Evaluator(experiment.model, experiment.tokenizer, without, config)
        for subnet in experiment.space:
            outcome = measured.evaluate(subnet)
            assert outcome.dev_loss == pytest.approx(short.evaluate(subnet).dev_loss, rel=1e-5)
            assert measured.quality(subnet).wer.counts.errors == outcome.errors
            if not int8:
                decoded = decode_batches(
                    experiment.model, batches_of(made), experiment.tokenizer, subnet, config.decoding
                )
                assert score(decoded).counts.errors == outcome.errors
            assert measured.evaluate(subnet, threshold=0.0).stopped
    assert max(seen) <= WINDOW


def test_validation_measures_the_same(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, _ = made
    config, tokenizer = experiment.config, experiment.tokenizer
    objective = Objective(experiment.model, config.loss).eval()  # its mode is restored
    method = Slimmable(experiment.space, loss_weights(config))  # type: ignore[arg-type]
    context = StepContext(0, 1, 10, random.Random(0))

    def validated(batches: list[Batch]) -> dict[str, float]:
        return validate(objective, method, batches, tokenizer, config.decoding, context, World())

    with watched(monkeypatch) as seen:
        found = validated(batches_of(made))
    assert max(seen) <= WINDOW
    others = validated([batch for batch in batches_of(made) if not batch.pieces])
    for subnet in experiment.space:
        decoded = decode_batches(experiment.model, batches_of(made), tokenizer, subnet, config.decoding)
        assert found[f"{subnet.id}/wer"] == pytest.approx(score(decoded).wer)
        assert found[f"{subnet.id}/transducer"] == pytest.approx(others[f"{subnet.id}/transducer"], rel=1e-5)


def test_a_runtime_decodes_the_same(made: Made, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    from slimasr.export.runtime import decode_onnx
    from slimasr.export.writer import write_graphs
    from tests.export.kit import opened

    experiment, _ = made
    model, tokenizer, decoding = experiment.model, experiment.tokenizer, experiment.config.decoding
    write_graphs(model, tmp_path, [experiment.space.max])
    runtime = opened(model, tmp_path, experiment.space.max)
    seen: list[int] = []
    encode = runtime.encode

    def watch(x: Tensor, x_lens: Tensor) -> EncoderOutput:
        seen.append(x.shape[1])
        return encode(x, x_lens)

    runtime.encode = watch  # type: ignore[method-assign]
    found = decode_onnx(runtime, batches_of(made), tokenizer, decoding)
    assert found == decode_batches(model, batches_of(made), tokenizer, None, decoding)
    assert max(seen) <= WINDOW


def test_one_line_per_utterance_and_one_note(made: Made) -> None:
    experiment, data = made
    result = CliRunner().invoke(
        command_app(run), [str(experiment.dir), "--data", str(data), "--set-name", "test", "--subnet", "all"]
    )
    assert result.exit_code == 0, result.output
    assert [u.id for u in read_recogs(experiment.dir / "decode" / "w1" / "test" / "recogs")] == [
        f"test{i}" for i in range(4)
    ]
    assert (
        result.stderr.count(
            f"test: 1 of 4 utterances is longer than 4 s and recognised in pieces cut at pauses: {LONG}"
        )
        == 1
    )
    (note,) = evaluation_notes(experiment.config, data, "test", experiment.tokenizer, losses=True)
    assert f"cut at pauses, without a loss: {LONG}" in note


def test_align_gives_it_no_alignment(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, _ = made
    loss = experiment.config.loss
    with watched(monkeypatch) as seen:
        found = dict(align_batches(experiment.model, batches_of(made), None, loss, "transducer"))
    assert max(seen) <= WINDOW
    assert found[LONG] is None
    spans = found["test1"]
    assert spans is not None
    assert len(spans) > 0


def test_a_set_without_long_utterances_is_as_before(made: Made, tmp_path: Path) -> None:
    """To the bit: the same batches, whatever the window."""
    experiment, data = made
    config: Config = experiment.config
    wide = config.model_copy(update={"data": config.data.model_copy(update={"max_cut_seconds": 30.0})})
    ours = list(eval_batches(config, data, "dev", experiment.tokenizer, 5.0))
    theirs = list(eval_batches(wide, data, "dev", experiment.tokenizer, 5.0))
    assert [batch.ids for batch in ours] == [batch.ids for batch in theirs]
    assert all(torch.equal(a.x, b.x) for a, b in zip(ours, theirs, strict=True))
    assert not any(batch.pieces or batch.unscored or batch.unheard for batch in ours)
