"""Several languages: batches of one of them, units and statistics that recipes share, balanced text."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from slimasr.config.data import TokenizerConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.memory.sampling import EpochPart, speed_of
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.balance import balance
from slimasr.data.tokens.record import check_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.data.tokens.subwords import SentencePieceTokenizer, train_model
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import write_atomic
from tests.data.corpus import batch_source, make_an4, quiet
from tests.data.languages import LANGUAGES, recipe, speak_languages, stages

ALL = ["train-en", "train-fr", "train-it"]
SAMPLED = recipe(
    {"train": ALL, "speeds": [0.9, 1.1], "language_sampling": "uniform", "max_cuts": 2}, training={"accumulate": 2}
)
SHARED = {"features": {"sets": ALL}, "tokenizer": {"sets": ALL}}


@pytest.fixture(autouse=True)
def _languages(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_languages(monkeypatch)


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Tokenizer]:
    """Corpus, data folder of all languages, and its tokenizer; to read only."""
    corpus = make_an4(tmp_path_factory.mktemp("corpus") / "an4")
    data_dir = tmp_path_factory.mktemp("multilingual") / "data"
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        return corpus, data_dir, stages(SAMPLED, data_dir, corpus)


def source(made: tuple[Path, Path, Tokenizer], rank: int = 0, world_size: int = 1) -> BatchSource:
    return batch_source(SAMPLED, *made[1:], rank=rank, world_size=world_size, key="language")


def language_of(name: str) -> str:
    return LANGUAGES.get(name.split("-")[0][-1], "en")


def contents(batches: list[Batch]) -> list[tuple[tuple[str, ...], str | None, bytes]]:
    return [(batch.ids, batch.key, batch.x.numpy().tobytes()) for batch in batches]


def test_batches_of_a_step_have_one_language_and_each_language_its_share(
    multilingual: tuple[Path, Path, Tokenizer],
) -> None:
    sources = [source(multilingual, rank, 2) for rank in range(2)]
    epochs = [list(one.train_batches(1)) for one in sources]
    keys = [[batch.key for batch in epoch] for epoch in epochs]
    assert keys[0] == keys[1]
    assert len(keys[0]) == sources[0].num_train_batches(1)
    assert keys[0][::2] == keys[0][1::2], "two batches make a step"
    assert max(Counter(keys[0]).values()) - min(Counter(keys[0]).values()) <= 2
    for epoch in epochs:
        assert all({language_of(name) for name in batch.ids} == {batch.key} for batch in epoch)
    assert sources[0].languages == {"en": 20, "fr": 12, "it": 4}


def test_repetitions_have_the_features_of_their_speeds(multilingual: tuple[Path, Path, Tokenizer]) -> None:
    folder = DataFolder(multilingual[1])
    cuts = {speed: {cut.id: cut for cut in read_feature_cuts(folder, "train-it", speed)} for speed in (0.9, 1.1)}
    rows = [(name, row) for batch in source(multilingual).train_batches(2) for name, row in unpadded(batch)]
    italian = [(name, row) for name, row in rows if language_of(name) == "it"]
    assert len(italian) >= 2 * len(cuts[0.9])
    heard = []
    for name, row in italian:
        stored = {speed: found[name].load_features() for speed, found in cuts.items()}
        heard += [(name, speed) for speed, x in stored.items() if np.array_equal(x, row)]
    assert len(heard) == len(italian)
    for number, again in enumerate(("", "+1")):
        drawn = {name: speed_of(name, [0.9, 1.1], 42, 2, again) for name in cuts[0.9]}
        assert dict(heard[4 * number : 4 * number + 4]) == drawn
    assert len(set(heard[:8])) > 4, "an utterance changes its speed within the epoch"


def unpadded(batch: Batch) -> list[tuple[str, np.ndarray]]:
    return [(name, batch.x[row, : int(batch.x_lens[row])].numpy()) for row, name in enumerate(batch.ids)]


def test_a_sampled_epoch_goes_on_where_it_stopped(multilingual: tuple[Path, Path, Tokenizer]) -> None:
    whole = contents(list(source(multilingual).train_batches(2)))
    for skip in (0, 3, len(whole) - 1):
        assert contents(list(source(multilingual).train_batches(2, skip=skip))) == whole[skip:]
    # After two of two processes' steps, the rest goes to one process.
    total = source(multilingual, 0, 2).num_train_batches(2)
    parts = [EpochPart(2, 4, total)]
    rest = list(source(multilingual).train_batches(2, parts=parts))
    assert len(rest) == source(multilingual).num_train_batches(2, parts) < len(whole)
    assert len(rest) == pytest.approx(len(whole) * (total - 4) / total, abs=2)


def test_the_largest_batches_have_a_language(multilingual: tuple[Path, Path, Tokenizer]) -> None:
    for batch in source(multilingual).worst_batches():
        assert {language_of(name) for name in batch.ids} == {batch.key}


def products(data_dir: Path) -> dict[str, bytes]:
    """What recipes of a data folder share."""
    folder = DataFolder(data_dir)
    files = [folder.stats, *sorted(folder.lang("char", 20).iterdir())]
    return {path.name: path.read_bytes() for path in files}


def test_recipes_of_single_languages_share_units_and_statistics(
    multilingual: tuple[Path, Path, Tokenizer], tmp_path: Path
) -> None:
    corpus, made, tokenizer = multilingual
    data_dir = Path(shutil.copytree(made, tmp_path / "data"))
    before = products(data_dir)
    italian = recipe({"train": ["train-it"], "speeds": [0.9, 1.1]}, **SHARED)
    assert stages(italian, data_dir, corpus).tokens == tokenizer.tokens
    assert products(data_dir) == before
    check_tokenizer(italian, DataFolder(data_dir), tokenizer.fingerprint)
    # The same products are made where there is no other recipe.
    assert stages(italian, tmp_path / "alone", corpus).tokens == tokenizer.tokens
    assert products(tmp_path / "alone") == before
    assert torch.equal(read_stats(italian, tmp_path / "alone")[0], read_stats(SAMPLED, made)[0])


def test_products_of_other_sets_are_not_overwritten(multilingual: tuple[Path, Path, Tokenizer], tmp_path: Path) -> None:
    corpus, made, _ = multilingual
    data_dir = Path(shutil.copytree(made, tmp_path / "data"))
    before = products(data_dir)
    own = recipe({"train": ["train-it"], "speeds": [0.9, 1.1]})
    prepare(own.data, data_dir, corpus, False, quiet)
    for product, key, stage in (
        ("stats.json", "features.sets", lambda: compute_features(own, data_dir, 1, quiet)),
        ("lang_char_20", "tokenizer.sets", lambda: train_tokenizer(own, data_dir)),
        ("stats.json", "features.sets", lambda: read_stats(own, data_dir)),
        ("lang_char_20", "tokenizer.sets", lambda: check_tokenizer(own, DataFolder(data_dir), "any")),
    ):
        expected = rf"{product} was made from the sets {', '.join(ALL)}, and {key} .* names train-it: set {key} to \["
        with pytest.raises(UserError, match=expected):
            stage()
    assert products(data_dir) == before
    # Products of versions that recorded nothing are made again, as they always were.
    stats = json.loads(before["stats.json"])
    del stats["made_from"]
    DataFolder(data_dir).stats.write_text(json.dumps(stats))
    compute_features(own, data_dir, 1, quiet)
    assert set(json.loads(DataFolder(data_dir).stats.read_text())["made_from"]["sets"]) == {"train-it"}


def test_features_are_kept_when_statistics_get_other_sets(
    multilingual: tuple[Path, Path, Tokenizer], tmp_path: Path
) -> None:
    """Stored features do not depend on the sets of the statistics, which older data folders do not know."""
    corpus, made, _ = multilingual
    data_dir = Path(shutil.copytree(made, tmp_path / "data"))
    stored = sorted((data_dir / "features" / "shards").rglob("*"))
    stages(recipe({"train": ALL, "speeds": [0.9, 1.1]}, **SHARED), data_dir, corpus)
    assert sorted((data_dir / "features" / "shards").rglob("*")) == stored


TEXTS = {
    "en": ["THE OTHER THING", "THIS AND THAT OTHER THING"] * 40,
    "fr": ["QUELQUE CHOSE", "QUELQUEFOIS LA CHOSE", "JÀ"],
}


def test_balanced_text_has_equally_many_characters_of_each_language_and_all_of_them() -> None:
    drawn = list(balance(TEXTS))
    sizes = {language: sum(len(text) for text in drawn if text in found) for language, found in TEXTS.items()}
    assert abs(sizes["en"] - sizes["fr"]) < max(map(len, TEXTS["fr"]))
    counts = Counter(drawn)
    assert sizes["en"] == sum(map(len, TEXTS["en"])), "all of the largest, each once"
    assert max(counts[text] for text in TEXTS["fr"]) - min(counts[text] for text in TEXTS["fr"]) <= 1
    assert list(balance(TEXTS)) == drawn
    assert list(balance({"en": ["A B"]})) == ["A B"]
    assert list(balance({"en": ["A"], "fr": ["", ""]})) == ["A"]


def test_units_of_a_small_language_become_longer(tmp_path: Path) -> None:
    lengths = []
    for texts in ([text for found in TEXTS.values() for text in found], list(balance(TEXTS))):
        write_atomic(tmp_path / "bpe.model", train_model(texts, TokenizerConfig(kind="bpe", vocab_size=45)))
        tokenizer = SentencePieceTokenizer.load(tmp_path)
        lengths.append(len(tokenizer.encode("QUELQUE CHOSE")))
        assert tokenizer.unencodable("JÀ") is None
    assert lengths[1] < lengths[0]


def test_a_balanced_tokenizer_is_another_product(multilingual: tuple[Path, Path, Tokenizer], tmp_path: Path) -> None:
    _, made, tokenizer = multilingual
    data_dir = Path(shutil.copytree(made, tmp_path / "data"))
    balanced = recipe({"train": ALL, "speeds": [0.9, 1.1]}, tokenizer={"balance": True})
    with pytest.raises(UserError, match=r"lang_char_20 was made with tokenizer\.balance False, the configuration has"):
        check_tokenizer(balanced, DataFolder(data_dir), tokenizer.fingerprint)
    again = train_tokenizer(balanced, data_dir)
    check_tokenizer(balanced, DataFolder(data_dir), again.fingerprint)
    # Records of earlier versions do not say it: their tokenizers are not balanced.
    record = DataFolder(made).lang("char", 20) / "identity.json"
    older = {key: value for key, value in json.loads(record.read_text()).items() if key != "tokenizer.balance"}
    (DataFolder(data_dir).lang("char", 20) / "identity.json").write_text(json.dumps(older))
    check_tokenizer(SAMPLED, DataFolder(data_dir), tokenizer.fingerprint)


def test_balance_needs_languages(
    multilingual: tuple[Path, Path, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.data.languages.LANGUAGES", {"j": ""})
    balanced = recipe({}, tokenizer={"balance": True})
    prepare(balanced.data, tmp_path, multilingual[0], False, quiet)
    with pytest.raises(UserError, match=re.escape("speakerj-0: has no language, which tokenizer.balance needs")):
        train_tokenizer(balanced, tmp_path)
