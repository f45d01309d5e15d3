"""Records of training utterances: token counts, compressed lines, limits of buckets, and errors while they are read."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from lhotse.cut import Cut
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets

from slimasr.config.data import TokenizerConfig
from slimasr.data.features.shards import at_speed
from slimasr.data.files import DataFolder
from slimasr.data.memory.buckets import limits_between
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.memory.samples import Sample, Samples
from slimasr.data.memory.sampling import speed_of, speeds_of
from slimasr.data.memory.stored_cuts import BLOCK_LINES, Lines
from slimasr.data.memory.training_cuts import TrainingCuts, read_feature_cuts, read_training_cuts
from slimasr.data.memory.words import WordEncoder
from slimasr.data.tokens.subwords import SentencePieceTokenizer, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic
from tests.data.corpus import batch_source, config, encoder_frames

SPEEDS = [0.9, 1.0, 1.1]


def records(prepared: tuple[Path, Tokenizer]) -> TrainingCuts:
    return read_training_cuts(config(speeds=SPEEDS), DataFolder(prepared[0]), prepared[1], encoder_frames)


def test_cuts_are_those_that_lhotse_reads(prepared: tuple[Path, Tokenizer]) -> None:
    """In any order, at any stored speed, and after a journey to another process."""
    data_dir, tokenizer = prepared
    found = records(prepared)
    for speed in SPEEDS:
        expected: dict[str, Cut] = {cut.id: cut for cut in read_feature_cuts(DataFolder(data_dir), "train", speed)}
        rows = np.random.default_rng(0).permutation(len(found.ids))
        speeds = np.full(len(rows), speed)
        samples = Samples(found.ids, rows, speeds, found.stored[speed].durations[rows])
        cuts = pickle.loads(pickle.dumps(found.cuts(samples)))
        assert [cut.id for cut in cuts] == samples.ids
        assert list(cuts) == [expected[name] for name in samples.ids]
        assert samples.durations.tolist() == [expected[name].duration for name in samples.ids]
    assert found.tokens.tolist() == [len(tokenizer.encode(expected[name].supervisions[0].text)) for name in found.ids]


def test_speeds_that_are_not_stored_are_made_of_natural_speed(prepared: tuple[Path, Tokenizer]) -> None:
    found = records(prepared)
    natural = TrainingCuts(found.ids, tuple(SPEEDS), {1.0: found.stored[1.0]}, found.tokens, found.spoken, found.bad)
    samples = natural.of_epoch(seed=3, epoch=2)
    cuts = {cut.id: cut.drop_features() for cut in read_feature_cuts(DataFolder(prepared[0]), "train")}
    made = [cut.drop_features() for cut in natural.cuts(samples)]
    assert made == [at_speed(cuts[item.id], item.speed) for item in samples]
    assert len({item.speed for item in samples}) == 3
    for item in samples:
        assert item.duration == cuts[item.id].duration / item.speed


def test_lines_come_back_from_their_blocks() -> None:
    rng = random.Random(0)
    written = [json.dumps({"id": number, "noise": rng.random()}).encode() for number in range(3 * BLOCK_LINES + 5)]
    lines = Lines()
    for number, line in enumerate(written):
        assert len(lines) == number
        lines.add(line + b"\n")
    order = list(range(len(written)))
    rng.shuffle(order)
    assert [lines[number] for number in order] == [written[number] for number in order]


@pytest.mark.parametrize("num_buckets", [1, 2, 7, 30])
def test_limits_of_buckets_are_those_of_lhotse(num_buckets: int) -> None:
    rng = np.random.default_rng(num_buckets)
    for count in (num_buckets, num_buckets + 1, 200, 3000):
        for durations in (rng.uniform(0.5, 16.0, count), rng.choice([1.0, 2.5, 2.5, 9.0], count), np.ones(count)):
            items = [Sample(str(number), 1.0, seconds) for number, seconds in enumerate(durations.tolist())]
            expected = estimate_duration_buckets(items, num_buckets) if num_buckets > 1 else []
            assert limits_between(durations, num_buckets) == expected


def test_speeds_drawn_together_are_those_drawn_one_by_one() -> None:
    names = [f"utterance-{number}-ü" for number in range(500)]
    for speeds, again in ((SPEEDS, ""), (SPEEDS, "/1+2"), ([1.0, 0.8], ""), ([1.1], "")):
        together = speeds_of(names, speeds, 42, 3, again)
        assert together.tolist() == [speed_of(name, speeds, 42, 3, again) for name in names]


@pytest.mark.parametrize("kind", ["bpe", "char", "unigram"])
def test_tokens_of_words_are_those_of_the_text(kind: str, tmp_path: Path) -> None:
    """Against SentencePiece itself; unigrams are encoded as whole texts."""
    rng = random.Random(0)
    words = ["".join(rng.choices("ABCDEÉ'", k=rng.randint(1, 7))) for _ in range(300)]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(400)]
    trained = train_model(texts, TokenizerConfig(kind=kind, vocab_size=60))  # type: ignore[arg-type]
    write_atomic(tmp_path / "bpe.model", trained)
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained)
    encoder = WordEncoder(SentencePieceTokenizer.load(tmp_path))
    odd = ["", "  A  B ", "X", "A XY A", "A\u2581B", "A\tB", "AAAA AAAA", " \tA", "A\u00a0B"]
    for text in [*texts, *texts[:50], *odd]:
        assert encoder.encode(text) == processor.EncodeAsIds(text), repr(text)
    assert encoder.splits == (kind != "unigram")


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join(lines)))


@pytest.fixture
def spoilt(prepared: tuple[Path, Tokenizer], tmp_path: Path) -> tuple[Path, Tokenizer]:
    """A data folder of the test's own, whose manifest has no record of its content."""
    data_dir = Path(shutil.copytree(prepared[0], tmp_path / "data"))
    for record in (data_dir / "features").glob("identity_train*.json"):
        record.unlink()
    shutil.rmtree(data_dir / "manifests")
    return data_dir, prepared[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [*lines[:3], b'{"id": "a"', *lines[4:]], r"cuts_train\.jsonl\.gz: .*line 4 is not a cut; run"),
        (
            lambda lines: [*lines[:3], b'{"id": "a"}\n', *lines[4:]],
            r"cuts_train\.jsonl\.gz: .*line 4 is not a cut; run",
        ),
        (lambda lines: [*lines[:3], b"\xff\n"], r"line 4 is not a cut"),
        (lambda lines: [*lines, lines[2]], r"train: utterance speakera-2 is in the manifest twice"),
        (lambda lines: [], r"no usable training utterance in train"),
    ],
)
def test_damaged_manifests_are_named(damage: object, message: str, spoilt: tuple[Path, Tokenizer]) -> None:
    assert callable(damage)
    path = DataFolder(spoilt[0]).cuts("train")
    rewrite(path, damage(gzip.decompress(path.read_bytes()).splitlines(keepends=True)))
    with pytest.raises(UserError, match=message):
        batch_source(config(), *spoilt)


def test_a_run_goes_on_while_its_manifest_is_written_again(prepared: tuple[Path, Tokenizer], tmp_path: Path) -> None:
    """A run keeps its own copy: an epoch that starts later has the same utterances."""
    data_dir = Path(shutil.copytree(prepared[0], tmp_path / "data"))
    source: BatchSource = batch_source(config(), data_dir, prepared[1])
    before = [batch.ids for batch in source.train_batches(2)]
    rewrite(DataFolder(data_dir).cuts("train"), [b"{}\n"])
    assert [batch.ids for batch in source.train_batches(2)] == before
