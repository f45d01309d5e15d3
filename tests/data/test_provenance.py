"""Products that do not belong together are refused, by the stage that would have used them; others are kept."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from slimasr.config.schema import Config
from slimasr.data.features.stage import compute_features, read_stats
from slimasr.data.files import DataFolder
from slimasr.data.identity.experiment import DataIdentity, checked_identity, data_identity, unverified_sets
from slimasr.data.manifests.stage import prepare
from slimasr.data.memory.dataloading import eval_batches
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.training.record import check_data, check_resumed_data
from tests.data.corpus import audio_path, config, make_an4, quiet, set_text, write_audio

SETS = ("train", "dev", "test")


@pytest.fixture
def data_dir(an4: Path, tmp_path: Path) -> Path:
    """Stages 1 to 3 on a corpus of the test's own."""
    stages(config(), tmp_path / "data", an4, 1, 2, 3)
    return tmp_path / "data"


def stages(recipe: Config, data_dir: Path, an4: Path, *numbers: int) -> None:
    if 1 in numbers:
        prepare(recipe.data, data_dir, an4, False, quiet)
    if 2 in numbers:
        compute_features(recipe, data_dir, 1, quiet)
    if 3 in numbers:
        train_tokenizer(recipe, data_dir)


def check(data_dir: Path, recipe: Config | None = None) -> DataIdentity:
    """What training looks at before it begins."""
    recipe = recipe or config()
    lang = DataFolder(data_dir).lang(recipe.tokenizer.kind, recipe.tokenizer.vocab_size)
    identity = check_data(recipe, data_dir, tokenizer=load_tokenizer(lang))
    read_stats(recipe, data_dir)
    return identity


def feature_files(data_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.lca")}


def test_what_belongs_together_passes(data_dir: Path) -> None:
    identity = check(data_dir)
    assert identity == data_identity(config(), data_dir)
    assert DataIdentity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity
    assert unverified_sets(config(), data_dir, SETS) == []


def test_corrected_transcripts_need_stages_2_and_3_but_no_features(an4: Path, data_dir: Path) -> None:
    made = feature_files(data_dir)
    set_text(an4, "train", "speakera-0", "<s> STOP STOP </s>")
    stages(config(), data_dir, an4, 1)
    with pytest.raises(UserError, match=r"transcripts of train have changed .*run stage 2 again \(slimasr-features\)"):
        check(data_dir)
    stages(config(), data_dir, an4, 2)
    with pytest.raises(UserError, match=r"trained on other transcripts .*run stage 3 again \(slimasr-bpe\)"):
        check(data_dir)
    stages(config(), data_dir, an4, 3)
    check(data_dir)
    assert feature_files(data_dir) == made, "features do not depend on transcripts"
    (cut,) = (cut for cut in read_feature_cuts(DataFolder(data_dir), "train") if cut.id == "speakera-0")
    assert cut.supervisions[0].text == "STOP STOP"


def test_decoding_refuses_stale_transcripts_of_its_set_alone(an4: Path, data_dir: Path) -> None:
    set_text(an4, "test", "tester-0", "STOP STOP")
    stages(config(), data_dir, an4, 1)
    tokenizer = load_tokenizer(DataFolder(data_dir).lang("char", 20))
    with pytest.raises(UserError, match=r"transcripts of test have changed .*run stage 2 again"):
        next(eval_batches(config(), data_dir, "test", tokenizer, 10.0))
    assert next(eval_batches(config(), data_dir, "dev", tokenizer, 10.0)).ids
    check(data_dir)  # training does not read the test set


@pytest.mark.parametrize("run_again", [(), (1,), (2,)])
def test_audio_made_again_under_the_same_name_and_length(an4: Path, data_dir: Path, run_again: tuple[int, ...]) -> None:
    path = audio_path(an4, "speakera-0", ".flac")
    before = feature_files(data_dir)
    stats = read_stats(config(), data_dir)[0]
    replace_audio(path)
    if run_again == (2,):
        with pytest.raises(UserError, match=r"train: 1 audio file has changed since stage 1, first .*speakera-0\.flac"):
            stages(config(), data_dir, an4, 2)
        return
    stages(config(), data_dir, an4, *run_again)
    tokenizer = load_tokenizer(DataFolder(data_dir).lang("char", 20))
    with pytest.raises(UserError, match="run stage"):
        list(eval_batches(config(), data_dir, "train", tokenizer, 10.0))
    stages(config(), data_dir, an4, 1, 2)
    check(data_dir)
    after = feature_files(data_dir)
    changed = {path.parent.name.split("-")[0] for path in set(before) ^ set(after)}
    assert changed == {"train"}, "other sets keep their features"
    assert not np.allclose(stats, read_stats(config(), data_dir)[0])


def replace_audio(path: Path) -> None:
    """Other samples, as many as before."""
    import soundfile

    samples, rate = soundfile.read(path)
    write_audio(path, 0.5 * np.flip(samples) + 0.05, rate)


def test_a_corpus_that_was_only_moved_keeps_its_features(an4: Path, data_dir: Path, tmp_path: Path) -> None:
    made = feature_files(data_dir)
    moved = Path(shutil.move(an4, tmp_path / "elsewhere"))
    stages(config(), data_dir, moved, 1, 2, 3)
    check(data_dir)
    assert feature_files(data_dir) == made
    assert str(moved) in next(iter(read_feature_cuts(DataFolder(data_dir), "train"))).recording.sources[0].source


def test_a_folder_prepared_from_another_corpus(an4: Path, data_dir: Path) -> None:
    other = config().model_copy(update={"data": config().data.model_copy(update={"corpus": "fsdd"})})
    message = r"prepared with data\.corpus an4, the configuration has fsdd: run stage 1 .*or use another --data"
    with pytest.raises(UserError, match=message):
        check(data_dir, other)
    with pytest.raises(UserError, match=message):
        stages(other, data_dir, an4, 2)
    with pytest.raises(UserError, match=message):
        stages(other, data_dir, an4, 3)


def test_statistics_of_another_recipe_in_a_shared_folder(an4: Path, data_dir: Path) -> None:
    fast = config(speeds=[1.0, 1.1])
    stages(fast, data_dir, an4, 2)
    with pytest.raises(UserError, match=r"stats\.json was computed from other training data .*run stage 2 again"):
        check(data_dir)
    check(data_dir, fast)
    stages(config(), data_dir, an4, 2)
    check(data_dir)


def test_tokenizer_of_another_recipe_in_a_shared_folder(an4: Path, data_dir: Path) -> None:
    both = config(train=["train", "dev"], allow_overlap=True)
    message = (
        r"lang_char_20 was made from the sets train, and tokenizer\.sets \(default: data\.train\) names dev, train"
    )
    with pytest.raises(UserError, match=message):
        stages(both, data_dir, an4, 3)
    check(data_dir)
    shutil.rmtree(DataFolder(data_dir).lang("char", 20))
    stages(both, data_dir, an4, 3)
    with pytest.raises(
        UserError, match=r"lang_char_20 was made from the sets dev, train, and tokenizer\.sets .*names train"
    ):
        check(data_dir)


def test_a_tokenizer_that_was_replaced(an4: Path, data_dir: Path, tmp_path: Path) -> None:
    set_text(an4, "train", "speakera-0", "<s> QUIZ </s>")
    stages(config(), tmp_path / "other", an4, 1, 3)
    lang = DataFolder(data_dir).lang("char", 20)
    shutil.copy(DataFolder(tmp_path / "other").lang("char", 20) / "bpe.model", lang / "bpe.model")
    with pytest.raises(UserError, match="holds another model than stage 3 wrote"):
        check(data_dir)


@pytest.mark.parametrize("edited", ["manifests", "features"])
def test_manifests_edited_by_hand_are_noticed(data_dir: Path, edited: str) -> None:
    folder = DataFolder(data_dir)
    path = folder.raw_cuts("dev") if edited == "manifests" else folder.cuts("dev")
    lines = gzip.decompress(path.read_bytes()).replace(b'"text": "', b'"text": "STOP ')
    path.write_bytes(gzip.compress(lines))
    with pytest.raises(UserError, match="run stage 2 again"):
        checked_identity(config(), data_dir, "dev")


def test_a_manifest_written_again_with_the_same_content_is_the_same(an4: Path, data_dir: Path) -> None:
    before = check(data_dir)
    path = DataFolder(data_dir).cuts("dev")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    assert check(data_dir) == before
    stages(config(), data_dir, an4, 1)
    assert check(data_dir) == before


def test_records_of_speeds_that_are_not_used_do_not_matter(an4: Path, data_dir: Path) -> None:
    """Another recipe's leftovers in a shared folder neither hide changes nor stand in the way."""
    other = config(speeds=[0.9, 1.1])
    stages(other, data_dir, an4, 2, 3)
    begun = check(data_dir, other)
    set_text(an4, "train", "speakera-0", "<s> STOP STOP </s>")
    stages(other, data_dir, an4, 1, 2, 3)
    assert begun.changes(check(data_dir, other)) == ["transcripts of train"]
    with pytest.raises(UserError, match="run stage 2 again"):
        check(data_dir)


def test_features_without_a_record_are_compared_with_the_manifest(an4: Path, data_dir: Path) -> None:
    for path in (data_dir / "features").glob("identity_*.json"):
        path.unlink()
    set_text(an4, "train", "speakera-0", "<s> STOP STOP </s>")
    stages(config(), data_dir, an4, 1)
    with pytest.raises(UserError, match=r"speakera-0 has another transcript than in stage 1: run stage 2 again"):
        check(data_dir)


def test_folders_made_before_there_were_records_are_said_to_be_unverified(data_dir: Path) -> None:
    for path in data_dir.rglob("identity*.json"):
        path.unlink()
    stats = DataFolder(data_dir).stats
    content = json.loads(stats.read_text())
    del content["made_from"]
    stats.write_text(json.dumps(content))
    check(data_dir)
    (note,) = unverified_sets(config(), data_dir, SETS)
    assert "features of train, dev, test" in note and "run stage 2" in note


def test_a_damaged_record_is_named(data_dir: Path) -> None:
    (data_dir / "features" / "identity_dev.json").write_text('{"made_from')
    with pytest.raises(UserError, match=r"identity_dev\.json: not valid JSON .*remove it and run the stage"):
        checked_identity(config(), data_dir, "dev")


def resumed(exp: Path, data_dir: Path, now: DataIdentity, *, accept_changes: bool = False) -> list[str]:
    tokenizer = load_tokenizer(DataFolder(data_dir).lang("char", 20))
    return check_resumed_data(exp, now, tokenizer, accept_changes=accept_changes)


def test_a_run_is_resumed_on_its_own_data_only(an4: Path, data_dir: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    begun = check(data_dir)
    assert len(resumed(exp, data_dir, begun)) == 1, "a run from before there were records opens with a note"
    assert resumed(exp, data_dir, begun) == [], "and has a record from then on"
    set_text(an4, "train", "speakere-0", "<s> STOP STOP </s>")  # a speaker of dev
    os.utime(audio_path(an4, "speakera-0"))
    stages(config(), data_dir, an4, 1, 2, 3)
    now = check(data_dir)
    changes = "modification times of audio files of train, transcripts of the dev set"
    with pytest.raises(UserError, match=rf"have changed since this run began \({changes}\).*--accept-changed-data"):
        resumed(exp, data_dir, now)
    (note,) = resumed(exp, data_dir, now, accept_changes=True)
    assert changes in note
    assert resumed(exp, data_dir, now) == []
    record = json.loads((exp / "data.json").read_text())
    assert record["accepted"][0]["before"] == begun.to_dict()


def test_sampling_rates_are_part_of_the_preparation(tmp_path: Path) -> None:
    corpus = make_an4(tmp_path / "an4", utterances_per_speaker=1, rate=8000)
    recipe = config(sampling_rate=8000)
    recipe = recipe.model_copy(update={"model": recipe.model})
    prepare(recipe.data, tmp_path / "data", corpus, False, quiet)
    with pytest.raises(UserError, match=r"prepared with data\.sampling_rate 8000, the configuration has 16000"):
        compute_features(config(), tmp_path / "data", 1, quiet)


@pytest.mark.parametrize("ending", [".lca", ".jsonl.gz"])
@pytest.mark.parametrize("spoil", ["truncate", "remove"])
def test_damaged_features_are_computed_again(data_dir: Path, ending: str, spoil: str) -> None:
    (path,) = (p for p in (data_dir / "features" / "shards").glob(f"dev-*/*{ending}") if ".raw." not in p.name)
    whole = path.stat().st_size
    if spoil == "truncate":
        os.truncate(path, whole // 2)
    else:
        path.unlink()
    compute_features(config(), data_dir, 1, quiet)
    assert path.stat().st_size == whole
    tokenizer = load_tokenizer(DataFolder(data_dir).lang("char", 20))
    assert next(iter(eval_batches(config(), data_dir, "dev", tokenizer, 10.0))).x.isfinite().all()


def test_features_that_cannot_be_read_are_named_in_one_line(data_dir: Path) -> None:
    (path,) = (data_dir / "features" / "shards").glob("dev-*/*.lca")
    os.truncate(path, 10)
    tokenizer = load_tokenizer(DataFolder(data_dir).lang("char", 20))
    with pytest.raises(UserError, match=r"stored features cannot be read from .*\.lca .*run stage 2 again") as caught:
        list(eval_batches(config(), data_dir, "dev", tokenizer, 10.0))
    assert len(str(caught.value)) < 400
