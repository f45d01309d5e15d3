"""Corpus own on real recordings: AN4 as a Kaldi directory is the built-in corpus; others go through stages 0 to 3."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import CutSet

from slimasr.data.corpora import CORPORA, ListedUtterance
from slimasr.experiment.checkpoints import load_checkpoint
from tests.data.own import write_lines
from tests.recipes.conftest import EGS, TINY_MODEL, command
from tests.training.kit import assert_equal

PRESET = EGS / "own" / "conf" / "small.yaml"
QUICK = ("--set=data.speeds=[1.0]", "--set=training.num_threads=1", "--set=space.widths=[0.25, 1.0]", *TINY_MODEL)


def kaldi(folder: Path, utterances: Iterable[ListedUtterance]) -> Path:
    utterances = list(utterances)
    write_lines(folder / "wav.scp", (f"{item.id} {item.audio}" for item in utterances))
    write_lines(folder / "text", (f"{item.id} {item.text}" for item in utterances))
    write_lines(folder / "utt2spk", (f"{item.id} {item.speaker}" for item in utterances))
    return folder


def table(path: Path, utterances: Iterable[ListedUtterance]) -> Path:
    rows = (f"{item.id}\t{item.audio}\t{item.text}\t{item.speaker}" for item in utterances)
    return write_lines(path, ["id\tpath\ttext\tspeaker", *rows])


def stages(data: Path, *more: str | Path, last: int = 3) -> None:
    """Stages 0 to 3 with the preset for little data."""
    recipe = ("--config", PRESET, "--data", data, *QUICK, *more)
    command("prepare", *recipe, "--only-corpus")
    command("prepare", *recipe)
    if last > 1:
        # `--corpus-dir` is known to stage 1 alone.
        recipe = tuple(item for item in recipe if not str(item).startswith("--corpus-dir"))
        command("features", *recipe, "--num-jobs", 1)
        command("bpe", *recipe)


def sources(**paths: Path) -> str:
    return f"--set=data.sources={json.dumps({name: str(path) for name, path in paths.items()})}"


def cuts_of(data: Path, name: str) -> CutSet:
    """A set with its features, if stage 2 has run, or else as stage 1 writes it."""
    features = data / "features" / f"cuts_{name}.jsonl.gz"
    if features.exists():
        return CutSet.from_file(features).with_features_path_prefix(features.parent)
    return CutSet.from_file(data / "manifests" / f"cuts_{name}.jsonl.gz")


def plain(text: str) -> str:
    """Lower case without punctuation, as the presets ask for, made in another way."""
    text = text.replace("’", "'")
    marks = (" " if unicodedata.category(letter)[0] == "P" and letter != "'" else letter for letter in text)
    return " ".join("".join(marks).lower().split())


def check_tokenizer(data: Path) -> None:
    """The units cover the letters of the training set."""
    tokens = {line.split()[0] for line in (data / "lang_bpe_128" / "tokens.txt").read_text("utf-8").splitlines()}
    letters = {letter for cut in cuts_of(data, "train") for letter in cut.supervisions[0].text if letter != " "}
    assert letters and letters <= {letter for token in tokens for letter in token}


def small_an4(source: Path, target: Path) -> Path:
    """Some utterances of nine speakers and of the test set; audio linked."""
    (target / "etc").mkdir(parents=True)
    (target / "wav").symlink_to(source / "wav")
    for part, step in (("train", 5), ("test", 20)):
        ids = (source / "etc" / f"an4_{part}.fileids").read_text().split()
        speakers = sorted({Path(name).parent for name in ids})[:9]
        kept = [name for name in ids if Path(name).parent in speakers][::step]
        texts = (source / "etc" / f"an4_{part}.transcription").read_text().splitlines()
        write_lines(target / "etc" / f"an4_{part}.fileids", kept)
        names = {f"({Path(name).name})" for name in kept}
        write_lines(target / "etc" / f"an4_{part}.transcription", (t for t in texts if t.split()[-1] in names))
    return target


def trained(data: Path, exp: Path, *keys: str) -> dict[str, Any]:
    """Word error rates after a training of a few steps, by subnets and sets."""
    command("train", "--config", PRESET, "--data", data, "--exp", exp, *QUICK, *keys)
    command("decode", exp, "--data", data, "--subnet", "all")
    command("score", exp)
    results = json.loads((exp / "results.json").read_text())
    return {name: entry["wer"] for name, entry in results["subnets"].items()}


def test_an4_as_a_kaldi_directory_is_the_built_in_corpus(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    an4 = small_an4(corpus("an4"), tmp_path / "an4")
    sets = CORPORA["an4"].list_utterances(an4, ["train", "dev", "test"], {})
    paths = {name: kaldi(tmp_path / name, items) for name, items in sets.items()}
    keys = {"built in": ("--set=data.corpus=an4",), "kaldi": (sources(**paths), "--set=data.options.language=en")}
    stages(tmp_path / "built in", *keys["built in"], f"--corpus-dir={an4}")
    stages(tmp_path / "kaldi", *keys["kaldi"])
    results = {kind: trained(tmp_path / kind, tmp_path / f"exp {kind}", *own) for kind, own in keys.items()}
    for name in sets:
        ours, theirs = (cuts_of(tmp_path / kind, name) for kind in ("kaldi", "built in"))
        assert [cut.id for cut in ours] == [cut.id for cut in theirs]
        for cut, reference in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(cut.load_features(), reference.load_features())
    for file in ("lang_bpe_128/bpe.model", "lang_bpe_128/tokens.txt", "features/stats.json"):
        ours, theirs = ((tmp_path / kind / file).read_bytes() for kind in ("kaldi", "built in"))
        assert ours == theirs
    ours, theirs = (load_checkpoint(tmp_path / f"exp {kind}" / "final.pt")["model"] for kind in ("kaldi", "built in"))
    assert_equal(ours, theirs)
    assert results["kaldi"] == results["built in"]
    assert results["kaldi"]["w1"]["test"]["words"] > 20


def head_of(path: Path, number: int, target: Path) -> Path:
    """The first lines of a table, in another folder."""
    return write_lines(target, path.read_text(encoding="utf-8").splitlines()[: number + 1])


@pytest.mark.parametrize("language", ["en", "it"])
def test_prompts_of_a_telephone_exchange(language: str, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """A table with case and punctuation, without speakers; audio of 8 kHz below another folder."""
    source = corpus("asterisk_prompts") / language
    rows = head_of(source / "prompts.tsv", 50, tmp_path / "prompts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    options = (f"--set=data.options.audio_root={source}", f"--set=data.options.language={language}")
    stages(tmp_path / "data", sources(train=tmp_path / "prompts.tsv"), *options, "--set=data.options.split=0.1,0.1")
    facts = json.loads((tmp_path / "data" / "manifests" / "split.json").read_text())
    assert facts["by"] == "utterance" and "no known speakers" in facts["reason"]
    found = {cut.id: cut for name in ("train", "dev", "test") for cut in cuts_of(tmp_path / "data", name)}
    texts = {Path(file).stem: text for file, text in (row.split("\t") for row in rows)}
    assert sorted(cut.supervisions[0].text for cut in found.values()) == sorted(map(plain, texts.values()))
    assert {cut.supervisions[0].language for cut in found.values()} == {language}
    for cut in found.values():
        assert cut.sampling_rate == 16000
        # The preset asks for the higher rate; the upper half of the spectrum stays empty.
        features = cut.load_features()
        assert features[:, -15:].mean() < features[:, :40].mean() - 3.0
    check_tokenizer(tmp_path / "data")


def librispeech(folder: Path) -> list[ListedUtterance]:
    """The first two utterances of each speaker of train-clean-5."""
    found = []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        (first, *_) = sorted(speaker.rglob("*.trans.txt"))
        for line in first.read_text(encoding="utf-8").splitlines()[:2]:
            name, _, text = line.partition(" ")
            found.append(ListedUtterance(name, first.parent / f"{name}.flac", text, speaker.name))
    return found


def test_librispeech_as_a_kaldi_directory_and_as_a_table(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    utterances = librispeech(corpus("librispeech_mini") / "LibriSpeech" / "train-clean-5")
    forms = {"kaldi": kaldi(tmp_path / "forms" / "kaldi", utterances)}
    forms["table"] = table(tmp_path / "forms" / "all.tsv", utterances)
    for name, path in forms.items():
        data = tmp_path / name
        stages(data, sources(train=path), "--set=data.options.split=0.1,0.1", last=3 if name == "table" else 1)
        facts = json.loads((data / "manifests" / "split.json").read_text())
        assert facts["by"] == "speaker"
        assert facts["sizes"] == json.loads((tmp_path / "kaldi" / "manifests" / "split.json").read_text())["sizes"]
    cuts = [cut for name in ("train", "dev", "test") for cut in cuts_of(tmp_path / "table", name)]
    expected = {item.id: (plain(item.text), item.speaker) for item in utterances}
    assert {cut.id: (cut.supervisions[0].text, cut.supervisions[0].speaker) for cut in cuts} == expected
    # Both forms give the same data, and so the same features and units.
    for name in ("train", "dev", "test"):
        records = [(tmp_path / form / "manifests" / f"identity_{name}.json").read_text() for form in forms]
        first, second = ({**json.loads(record), "data.sources": None, "manifest_state": None} for record in records)
        assert first == second
    check_tokenizer(tmp_path / "table")


def test_five_recordings_of_librivox(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """A folder of audio with transcripts, and lists that are none of its business."""
    folder = corpus("pocketsphinx_librivox")
    stages(tmp_path / "data", sources(train=folder), "--set=data.options.split=0.2,0.2")
    cuts = [cut for name in ("train", "dev", "test") for cut in cuts_of(tmp_path / "data", name)]
    texts = {path.stem: plain(path.read_text(encoding="utf-8")) for path in folder.glob("*.txt")}
    assert {cut.id.removeprefix("train-"): cut.supervisions[0].text for cut in cuts} == texts
    assert len(texts) == 5
    for cut in cuts:
        assert cut.load_features().shape == (cut.num_frames, 80)
    check_tokenizer(tmp_path / "data")
