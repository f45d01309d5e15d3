"""Batches: what is in them, the same again, going on in mid-epoch, nothing lost in evaluation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse.utils import LOG_EPSILON

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.features.shards import make_extractor
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import BatchSource, eval_batches
from slimasr.data.memory.sampling import EpochPart, speed_of
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from tests.data.corpus import audio_path, batch_source, config, make_an4, quiet, run_stages, set_text

SPEEDS = [0.9, 1.0, 1.1]
Prepared = tuple[Path, Tokenizer]


def _source(prepared: Prepared, **options: Any) -> BatchSource:
    recipe = options.pop("recipe", None) or config(speeds=SPEEDS)
    return batch_source(recipe, *prepared, **options)


def _same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.ids == y.ids and x.texts == y.texts and torch.equal(x.x, y.x) and torch.equal(x.y, y.y)
        for x, y in zip(a, b, strict=True)
    )


def test_batches_hold_features_tokens_and_texts(prepared: Prepared) -> None:
    data_dir, tokenizer = prepared
    cuts = {speed: {c.id: c for c in read_feature_cuts(DataFolder(data_dir), "train", speed)} for speed in SPEEDS}
    seen: list[str] = []
    for batch in _source(prepared, seed=7).train_batches(3):
        assert batch.x.dtype == torch.float32
        assert batch.x_lens.dtype == batch.y.dtype == batch.y_lens.dtype == torch.int64
        assert batch.x.shape == (len(batch), int(batch.x_lens.max()), 20)
        for row, name in enumerate(batch.ids):
            cut = cuts[speed_of(name, SPEEDS, 7, 3)][name]
            frames, tokens = int(batch.x_lens[row]), int(batch.y_lens[row])
            np.testing.assert_array_equal(batch.x[row, :frames], cut.load_features())
            assert (batch.x[row, frames:] == torch.tensor(LOG_EPSILON)).all()
            assert batch.texts[row] == cut.supervisions[0].text
            assert batch.y[row, :tokens].tolist() == tokenizer.encode(batch.texts[row])
            assert (batch.y[row, tokens:] == 0).all()
        seen.extend(batch.ids)
    assert sorted(seen) == sorted(cuts[1.0])


def test_an_epoch_is_the_same_again_and_another_one_is_not(prepared: Prepared) -> None:
    first = list(_source(prepared).train_batches(1))
    source = _source(prepared)
    for epoch in range(1, 5):
        assert len(list(source.train_batches(epoch))) == source.num_train_batches(epoch)
    assert not _same(first, list(source.train_batches(2)))
    assert _same(first, list(source.train_batches(1)))
    assert not _same(first, list(_source(prepared, seed=1).train_batches(1)))


def test_skipping_is_going_on(prepared: Prepared) -> None:
    source = _source(prepared)
    whole = list(source.train_batches(2))
    for skip in (0, 1, len(whole) - 1, len(whole)):
        assert _same(list(_source(prepared).train_batches(2, skip=skip)), whole[skip:])


def test_loading_leaves_the_global_generators_alone(prepared: Prepared) -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    source = _source(prepared)
    list(source.train_batches(1))
    source.worst_batches()
    list(source.eval_batches("dev", 10.0))
    after = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_workers_give_the_same_batches(prepared: Prepared) -> None:
    recipe = config(speeds=SPEEDS, num_workers=2)
    assert _same(
        list(_source(prepared, recipe=recipe).train_batches(1, skip=2)),
        list(_source(prepared).train_batches(1, skip=2)),
    )


def test_the_rest_of_an_epoch_goes_to_another_number_of_ranks(prepared: Prepared) -> None:
    """After three of two ranks' batches one rank reads what is left, and may stop and go on in it."""
    pair = [_source(prepared, rank=rank, world_size=2) for rank in range(2)]
    alone, parts = _source(prepared), [EpochPart(2, 3, pair[0].num_train_batches(1))]
    before = [name for source in pair for batch in list(source.train_batches(1))[:3] for name in batch.ids]
    rest = list(alone.train_batches(1, parts=parts))
    assert len(rest) == alone.num_train_batches(1, parts)
    names = before + [name for batch in rest for name in batch.ids]
    assert len(names) == len(set(names)) == 36
    assert _same(list(alone.train_batches(1, 2, parts)), rest[2:])


def test_ranks_share_an_epoch(prepared: Prepared) -> None:
    epochs = [list(_source(prepared, rank=rank, world_size=2).train_batches(1)) for rank in range(2)]
    assert len(epochs[0]) == len(epochs[1]) == _source(prepared, rank=1, world_size=2).num_train_batches(1)
    names = [name for epoch in epochs for batch in epoch for name in batch.ids]
    assert len(names) == len(set(names)) == 36


def test_keyed_batches_carry_their_key(prepared: Prepared) -> None:
    source = _source(prepared, key="speaker")
    for batch in source.train_batches(1):
        assert {name.split("-")[0] for name in batch.ids} == {batch.key}
    assert all(batch.key is None for batch in _source(prepared).train_batches(1))
    with pytest.raises(UserError, match=r"speakera-0: has no 'dialect'"):
        _source(prepared, key="dialect")


def test_evaluation_gives_every_utterance_once_longest_first(prepared: Prepared) -> None:
    data_dir, tokenizer = prepared
    batches = list(eval_batches(config(speeds=SPEEDS), data_dir, "dev", tokenizer, max_seconds=3.0))
    assert sorted(name for batch in batches for name in batch.ids) == [f"speakere-{n}" for n in range(4)]
    lens = torch.cat([batch.x_lens for batch in batches])
    assert torch.equal(lens, lens.sort(descending=True).values)
    assert all(batch.x.shape[0] * batch.x.shape[1] <= 302 for batch in batches)


def test_the_worst_batches_bound_every_batch_of_training(prepared: Prepared) -> None:
    recipe = config(speeds=SPEEDS, max_cuts=None, batch_seconds=6.0)
    source = _source(prepared, recipe=recipe)
    worst = source.worst_batches()
    met = [batch for epoch in range(1, 6) for batch in source.train_batches(epoch)]
    assert max(b.x.shape[1] for b in worst) >= max(b.x.shape[1] for b in met)
    # The longest batch has the longest utterance, in frames of 10 ms.
    assert round(source.longest_seconds, 2) == max(b.x.shape[1] for b in worst) / 100

    def lattice(batch: Batch) -> int:
        return batch.x.shape[0] * batch.x.shape[1] * (batch.y.shape[1] + 1)

    assert max(map(lattice, worst)) >= 0.8 * max(map(lattice, met))


def test_utterances_without_alignment_are_left_out_at_every_speed(an4: Path, tmp_path: Path) -> None:
    name = "speakera-0"
    samples = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(audio_path(an4, name), samples, 16000)
    recipe = config(speeds=SPEEDS)
    # At speed 1.1 one second has 91 frames, 22 encoder frames; each letter of "NEON" and each space is a token.
    for text, kept in (("NEON NEON NEON NEON", True), ("NEON NEON NEON NEON NEON", False)):
        set_text(an4, "train", name, f"<s> {text} </s>")
        data_dir = tmp_path / f"data{kept}"
        source = batch_source(recipe, data_dir, run_stages(recipe, data_dir, an4))
        assert (name in {n for batch in source.train_batches(1) for n in batch.ids}) is kept
        assert [item.id for item in source.bad_utterances] == ([] if kept else [name])
    with pytest.raises(UserError, match=rf"1 of 36 .*first: {name}: .*no CTC alignment"):
        batch_source(config(speeds=SPEEDS, max_bad_share=0.0), data_dir, _tokenizer(recipe, data_dir))


def _tokenizer(recipe: Config, data_dir: Path) -> Tokenizer:
    return load_tokenizer(DataFolder(data_dir).lang(recipe.tokenizer.kind, recipe.tokenizer.vocab_size))


def test_features_on_the_fly_equal_stored_ones(an4: Path, tmp_path: Path) -> None:
    stored, fly = config(speeds=SPEEDS), config(speeds=SPEEDS, storage="on_the_fly")
    data_dirs = tmp_path / "stored", tmp_path / "fly"
    sources = [
        batch_source(recipe, data_dir, run_stages(recipe, data_dir, an4))
        for recipe, data_dir in zip((stored, fly), data_dirs, strict=True)
    ]
    assert not list((data_dirs[1] / "features").rglob("*.lca"))
    for a, b in zip(*(source.train_batches(1) for source in sources), strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.x_lens, b.x_lens)
        torch.testing.assert_close(a.x, b.x, atol=0.05, rtol=0.0)  # stored ones are rounded


def test_audio_lost_after_the_feature_stage_is_named(an4: Path, tmp_path: Path) -> None:
    recipe = config(storage="on_the_fly")
    source = batch_source(recipe, tmp_path, run_stages(recipe, tmp_path, an4))
    audio_path(an4, "speakerc-2").unlink()
    with pytest.raises(UserError, match=r"speakerc-2\.flac"):
        list(source.train_batches(1))


def test_lost_and_damaged_feature_files_are_named(prepared: Prepared, tmp_path: Path) -> None:
    data_dir = Path(shutil.copytree(prepared[0], tmp_path / "data"))
    for path in data_dir.rglob("*.lca"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="run stage 2 again"):
        list(_source((data_dir, prepared[1])).train_batches(1))
    for path in data_dir.rglob("*.lca"):
        path.unlink()
    with pytest.raises(UserError, match="run stage 2 again"):
        list(_source((data_dir, prepared[1])).train_batches(1))


def test_real_an4_batches(corpora: Path, tmp_path: Path) -> None:
    """A few speakers of the real corpus through all stages; features against the audio itself."""
    if not (corpora / "an4").is_dir():
        pytest.skip("$SLIMASR_CORPORA has no an4")
    folder = _first_speakers(corpora / "an4", tmp_path / "an4", speakers=6)
    recipe = config()
    prepare(recipe.data, tmp_path / "data", folder, False, quiet)
    compute_features(recipe, tmp_path / "data", 1, quiet)
    tokenizer = train_tokenizer(
        recipe.model_copy(update={"tokenizer": recipe.tokenizer.model_copy(update={"vocab_size": 40})}),
        tmp_path / "data",
    )
    source = batch_source(recipe, tmp_path / "data", tokenizer)
    names = {name for batch in source.train_batches(1) for name in batch.ids}
    assert len(names) == source.num_utterances > 50
    batch = next(iter(eval_batches(recipe, tmp_path / "data", "test", tokenizer, 30.0)))
    (path,) = (folder / "wav").rglob(f"{batch.ids[0]}.flac")
    samples, rate = soundfile.read(path, dtype="float32")
    expected = make_extractor(20, rate).extract(samples[None], rate)
    np.testing.assert_allclose(batch.x[0, : len(expected)], expected, atol=0.05)


def _first_speakers(source: Path, target: Path, speakers: int) -> Path:
    """AN4 cut down to its first train speakers and its first test speaker; audio by links."""
    (target / "etc").mkdir(parents=True)
    (target / "wav").symlink_to(source / "wav")
    for part, count in (("train", speakers), ("test", 1)):
        listing, texts = (source / "etc" / f"an4_{part}.{end}" for end in ("fileids", "transcription"))
        fileids = listing.read_text().split()
        kept = sorted({name.split("/")[1] for name in fileids})[:count]
        chosen = [name for name in fileids if name.split("/")[1] in kept]
        (target / "etc" / listing.name).write_text("\n".join(chosen) + "\n")
        shutil.copy(texts, target / "etc" / texts.name)
    return target


def test_musan_is_mixed_into_some_utterances_and_the_same_again(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "corpora" / "an4")
    noise = tmp_path / "corpora" / "musan" / "noise" / "free" / "hum.wav"
    noise.parent.mkdir(parents=True)
    soundfile.write(noise, 0.3 * np.sin(np.arange(16000 * 21) / 3), 16000)
    for storage in ("precomputed", "on_the_fly"):
        recipe = config(storage=storage, musan={"snr": [0.0, 5.0], "probability": 0.5})
        data_dir = tmp_path / storage
        tokenizer = run_stages(recipe, data_dir, corpus.parent)
        noisy = batch_source(recipe, data_dir, tokenizer)
        clean = batch_source(
            recipe.model_copy(update={"data": recipe.data.model_copy(update={"musan": None})}), data_dir, tokenizer
        )
        changed = 0
        for a, b in zip(noisy.train_batches(1), clean.train_batches(1), strict=True):
            assert a.ids == b.ids
            assert torch.equal(a.x_lens, b.x_lens)
            changed += sum(not torch.equal(x, y) for x, y in zip(a.x, b.x, strict=True))
        assert 8 <= changed <= 28, "of 36, a fair coin"
        assert _same(list(noisy.train_batches(1, skip=3)), list(noisy.train_batches(1))[3:])
        assert not _same(list(noisy.train_batches(1)), list(noisy.train_batches(2)))
        dev = eval_batches(recipe, data_dir, "dev", tokenizer, 30.0)
        assert _same(list(dev), list(clean.eval_batches("dev", 30.0)))
