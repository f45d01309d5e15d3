"""Facts about sets: of made-up cuts against counts by hand, and of defects that were planted in audio."""

from __future__ import annotations

import json
import re
import shutil
import wave
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.inspect import run as inspect_command
from slimasr.cli.prepare import run as prepare_command
from slimasr.config.load import save_config
from slimasr.data.files import BadUtterance, DataFolder, write_cuts
from slimasr.data.inspection.facts import (
    DataFacts,
    Histogram,
    Part,
    SetFacts,
    inspect_set,
    inspect_sets,
    lacking_characters,
)
from slimasr.data.inspection.repeats import Repeats, Shared
from slimasr.data.inspection.sounds import measure, sound_of
from slimasr.data.inspection.suspects import FAR, Suspect
from slimasr.data.manifests.stage import prepare
from tests.data.corpus import audio_path, config, quiet, set_text, write_audio

RATE = 16000


def cut(name: str, seconds: float, text: str, file: str = "", start: float = 0.0, **spoken: Any) -> MonoCut:
    """A cut without audio on disk, of a recording of its own."""
    rate = spoken.pop("rate", RATE)
    samples = round((start + seconds) * rate)
    source = AudioSource("file", [0], file or f"{name}.wav")
    recording = Recording(name, [source], rate, samples, samples / rate)
    supervision = SupervisionSegment(name, name, 0.0, seconds, text=text, **spoken)
    return MonoCut(name, start, seconds, 0, [supervision], recording=recording)


def speech(count: int, seed: int = 0) -> list[MonoCut]:
    """Utterances of 1 to 10 s with about 12 characters per second."""
    rng = np.random.default_rng(seed)
    cuts = []
    for number in range(count):
        seconds = float(rng.uniform(1.0, 10.0))
        words = ["abc"] * max(1, round(4 * seconds * float(rng.uniform(0.8, 1.25))))
        cuts.append(cut(f"u{number}", seconds, " ".join(words), speaker=f"s{number % 3}", language="en"))
    return cuts


def test_counts_of_a_set() -> None:
    cuts = [
        cut("a", 1.0, "ONE TWO", speaker="x", language="en"),
        cut("b", 2.0, "één", "b.FLAC", speaker="y", language="nl", rate=8000).resample(16000),
        cut("c", 3.0, "ONE", speaker="x", language="en"),
        cut("d", 0.5, "TWO ONE", file="c.wav", start=2.0),
    ]
    facts = inspect_set(cuts)
    assert (facts.utterances, facts.speakers, facts.without_speaker) == (4, 2, 1)
    assert facts.hours == pytest.approx(6.5 / 3600)
    assert [(part.value, part.utterances) for part in facts.languages] == [("en", 2), ("", 1), ("nl", 1)]
    # The rate of the file, not the one to which the cut is resampled.
    assert [(part.value, part.utterances) for part in facts.rates] == [(16000, 3), (8000, 1)]
    assert [(part.value, part.hours * 3600) for part in facts.formats] == [("wav", 4.5), ("flac", 2.0)]
    assert (facts.words, facts.vocabulary) == (6, 3)
    assert facts.characters == {"O": 5, "E": 3, "N": 3, "T": 2, "W": 2, "é": 2, "n": 1}
    assert not facts.audio_read


def test_histograms_agree_with_numpy_and_have_equal_bins_in_all_sets() -> None:
    sets = {"long": speech(300), "short": speech(40, seed=1)[:20]}
    facts = inspect_sets({name: [(each, None) for each in cuts] for name, cuts in sets.items()})
    for each, cuts in zip(facts.sets, sets.values(), strict=True):
        values = {"durations": [item.duration for item in cuts]}
        values["pace"] = [len(item.supervisions[0].text.replace(" ", "")) / item.duration for item in cuts]
        for name, numbers in values.items():
            found = getattr(each, name)
            edges = found.width * np.arange(len(found.counts) + 1)
            assert list(found.counts) == list(np.histogram(numbers, edges)[0])
            assert sum(found.counts) + found.above == len(cuts)
            assert found.above <= max(1, 0.01 * len(cuts))
            assert (found.smallest, found.median, found.largest) == (
                min(numbers),
                pytest.approx(np.median(numbers)),
                max(numbers),
            )
    assert facts.sets[0].durations.width == facts.sets[1].durations.width == 0.5
    empty = inspect_set([])
    assert (empty.utterances, empty.hours, empty.durations.counts) == (0, 0.0, ())


def test_wrong_amounts_of_text_are_found_and_no_others() -> None:
    cuts = speech(200)
    assert inspect_set(cuts).suspicious == 0
    texts = [item.supervisions[0].text for item in cuts]
    by_length = np.argsort([item.duration for item in cuts])
    shortest, longest = int(by_length[0]), int(by_length[-1])
    cuts[shortest].supervisions[0].text, cuts[longest].supervisions[0].text = texts[longest], texts[shortest]
    facts = inspect_set(cuts)
    assert facts.suspicious == 2
    reasons = {found.id: found.reason for found in facts.suspects}
    letters = len(texts[longest].replace(" ", ""))
    assert reasons[f"u{shortest}"].startswith(f"too much text: {letters} characters in ")
    assert reasons[f"u{longest}"].startswith("too little text: ")
    # What others take is near the truth, 12 characters per second.
    usual = float(reasons[f"u{shortest}"].split()[-2])
    assert usual == pytest.approx(letters / 12, rel=0.1)
    # Another language with slower speech is no suspicion, and is compared with itself.
    slow = [cut(f"v{n}", 2.0 + n / 9, "a" * (4 + n // 3), language="nl") for n in range(30)]
    assert {found.id for found in inspect_set([*speech(200), *slow]).suspects} == set()
    slow[7].supervisions[0].text = "a" * 70
    assert [found.id for found in inspect_set([*speech(200), *slow]).suspects] == ["v7"]
    assert FAR == 4.0


def test_repeated_utterances_within_and_between_sets() -> None:
    train = [cut("a", 1.0, "ONE"), cut("b", 1.0, "ONE"), cut("c", 2.0, "TWO", "x.wav"), cut("d", 2.0, "TWO", "x.wav")]
    train += [cut("a", 3.0, "SIX"), cut("e", 1.0, "ONE", speaker="other")]
    test = [cut("f", 2.0, "TWO", "x.wav"), cut("b", 4.0, "FIVE")]
    facts = inspect_sets({"train": [(each, None) for each in train], "test": [(each, None) for each in test]})
    assert {each.kind: (each.utterances, each.examples) for each in facts.sets[0].repeats} == {
        "same audio": (1, (("c", "d"),)),
        "same id": (1, (("a", "a"),)),
        "same text and length": (1, (("a", "b"),)),
    }
    assert not facts.sets[1].repeats
    assert [(each.kind, each.sets, each.utterances, each.examples) for each in facts.shared] == [
        ("same audio", ("train", "test"), 1, (("d", "f"),)),
        ("same id", ("train", "test"), 1, (("b", "b"),)),
    ]


def test_levels_and_clipping() -> None:
    time = np.arange(RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)[None]
    # A sine of amplitude 0.5 has the power 1/8.
    assert measure([tone], RATE).level == pytest.approx(10 * np.log10(1 / 8), abs=0.05)
    assert measure([tone + 0.25], RATE).level == pytest.approx(measure([tone], RATE).level, abs=1e-3)
    assert measure([tone], RATE).clipped == 0.0
    for top in (0.3, 0.45):
        # The sine is above the limit for this part of a period.
        share = 1 - 2 * np.arcsin(top / 0.5) / np.pi
        assert measure([tone.clip(-top, top)], RATE).clipped == pytest.approx(share, abs=0.02)
    assert measure([tone.clip(-1, 0.3)], RATE).clipped == pytest.approx((1 - 2 * np.arcsin(0.6) / np.pi) / 2, abs=0.02)
    silence = measure([np.zeros_like(tone)], RATE)
    assert (silence.level, silence.clipped) == (-120.0, 0.0)
    # The level is that of the loud parts: nine tenths of silence do not hide speech.
    padded = np.concatenate([tone, np.zeros((1, 9 * RATE), np.float32)], axis=1)
    assert measure([padded], RATE).level > -60.0
    # Blocks change nothing.
    halves = measure([padded[:, :RATE], padded[:, RATE:]], RATE)
    assert halves == measure([padded], RATE)


def test_the_digest_is_that_of_the_samples_in_any_lossless_file(tmp_path: Path) -> None:
    # Integers, which no writer rounds.
    samples = (3000 * np.random.default_rng(0).standard_normal(RATE)).astype(np.int16)
    digests = {}
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / name, samples[::-1] if name == "b.wav" else samples, RATE, "PCM_16")
        recording = Recording.from_file(tmp_path / name)
        digests[name] = sound_of(recording.to_cut())
    assert digests["a.wav"].digest == digests["a.flac"].digest != digests["b.wav"].digest
    assert digests["a.flac"].encoding == "FLAC PCM_16"
    # A segment is read from its place.
    soundfile.write(tmp_path / "two.wav", np.concatenate([np.zeros(4000, np.int16), samples]), RATE, "PCM_16")
    part = Recording.from_file(tmp_path / "two.wav").to_cut().truncate(offset=0.25)
    assert sound_of(part).digest == digests["a.wav"].digest


@pytest.fixture
def spoilt(an4: Path, tmp_path: Path) -> Path:
    """A data folder of the tiny corpus with a silent, a clipped and a doubled file, and one that is gone."""
    silent, clipped = audio_path(an4, "speakera-0"), audio_path(an4, "speakera-1")
    write_audio(silent, np.zeros(12000), RATE)
    write_audio(clipped, np.sin(np.arange(12000) / 10).clip(-0.5, 0.5), RATE)
    shutil.copyfile(audio_path(an4, "speakerb-0"), audio_path(an4, "speakerb-1"))
    set_text(an4, "test", "tester-2", "CAFÉ")
    prepare(config().data, tmp_path / "data", an4, False, quiet)
    audio_path(an4, "speakerc-3").unlink()
    return tmp_path / "data"


def test_planted_defects_are_named_by_the_command(spoilt: Path, an4: Path) -> None:
    result = CliRunner().invoke(command_app(inspect_command), [str(spoilt), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    train = next(each for each in facts["sets"] if each["name"] == "train")
    reasons = {found["id"]: found for found in train["suspects"]}
    assert set(reasons) == {"speakera-0", "speakera-1", "speakerc-3"}
    assert reasons["speakera-0"]["reason"].startswith("silent: its loud parts are at -120 dB")
    assert reasons["speakera-0"]["file"] == str(audio_path(an4, "speakera-0"))
    # A sine is above half its amplitude for two thirds of a period.
    assert reasons["speakera-1"]["reason"].startswith("clipped: 6")
    assert "no such file" in reasons["speakerc-3"]["reason"]
    assert train["repeats"][0]["kind"] == "same audio"
    assert train["repeats"][0]["examples"] == [["speakerb-0", "speakerb-1"]]
    assert train["formats"][0]["value"] == "FLAC PCM_16"
    # Hours against lhotse's own sum.
    cuts = CutSet.from_file(DataFolder(spoilt).raw_cuts("train"))
    assert train["hours"] * 3600 == pytest.approx(sum(item.duration for item in cuts))
    assert train["speakers"] == len({item.supervisions[0].speaker for item in cuts})


def test_without_audio_nothing_is_said_about_it(spoilt: Path) -> None:
    result = CliRunner().invoke(command_app(inspect_command), [str(spoilt), "--no-audio", "--set-name", "train"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "silent" not in result.stdout and "same audio" not in result.stdout
    assert lines[0] == "Sets" and lines[2].split()[:2] == ["train", "36"]


def test_stage_1_prints_characters_and_names_those_that_train_lacks(an4: Path, tmp_path: Path) -> None:
    set_text(an4, "test", "tester-2", "CAFÉ YES")
    save_config(config(), tmp_path / "c.yaml")
    places = ["--data", str(tmp_path / "data"), "--corpus-dir", str(an4)]
    result = CliRunner().invoke(command_app(prepare_command), ["--config", str(tmp_path / "c.yaml"), *places])
    assert result.exit_code == 0, result.output
    texts = [item.supervisions[0].text for item in CutSet.from_file(DataFolder(tmp_path / "data").raw_cuts("train"))]
    number = "".join(texts).count("E")
    assert any(line.startswith("train: ") and f"E {number}" in line for line in result.stdout.splitlines())
    (note,) = [line for line in result.stderr.splitlines() if "no training set" in line]
    assert note == "note: test: 4 characters that no training set has: A 1, C 1, F 1, É (U+00C9) 1"


def test_lacking_characters_are_those_of_no_training_set() -> None:
    first, second = inspect_set([cut("a", 1.0, "AB")]), inspect_set([cut("b", 1.0, "BC")])
    assert lacking_characters(inspect_set([cut("c", 1.0, "ABCDD E")]), [first, second]) == {"D": 2, "E": 1}


def test_left_out_utterances_are_counted() -> None:
    bad = [BadUtterance(f"x{number}", "empty transcript") for number in range(12)]
    facts = inspect_sets({"train": [(cut("a", 1.0, "A"), None)]}, {"train": bad}).sets[0]
    assert facts.left_out == 12 and facts.left_out_first == tuple(bad[:10])


def test_bad_paths_are_errors_of_one_line(tmp_path: Path) -> None:
    def error(*arguments: str) -> str:
        result = CliRunner().invoke(command_app(inspect_command), list(arguments))
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        return result.stderr

    assert "no such" in error(str(tmp_path / "nowhere"))
    write_cuts(DataFolder(tmp_path).raw_cuts("train"), [cut("a", 1.0, "A")])
    assert "which has the sets train" in error(str(tmp_path), "--set-name", "test")
    assert "data.options.chanel: unknown" in error(str(tmp_path), "--option", "chanel=0")
    assert "--option channel: needs the form NAME=VALUE" in error(str(tmp_path), "--option", "channel")
    assert "allow_pipes: needs bool, not '['" in error(str(tmp_path), "--option", "allow_pipes=[")
    DataFolder(tmp_path).raw_cuts("train").write_bytes(b"junk")
    assert "cuts_train.jsonl.gz: cannot be read" in error(str(tmp_path))


def test_data_that_no_stage_has_read(tmp_path: Path) -> None:
    """Two tables of the same folder: one shares a file with the other, has a stereo file and an empty transcript."""
    for name, shape in (("a", (8000,)), ("b", (16000,)), ("two", (8000, 2))):
        samples = (3000 * np.random.default_rng(len(name)).standard_normal(shape)).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000 if name == "b" else 8000)
    (tmp_path / "train.tsv").write_text("path\tsaid\tclient_id\na.wav\tone two\tx\ntwo.wav\tsix\ty\nb.wav\t\tx\n")
    (tmp_path / "test.tsv").write_text("path\tsaid\na.wav\tone\n")
    sources = [str(tmp_path / "train.tsv"), str(tmp_path / "test.tsv")]
    options = ["--option", "text_column=said"]
    result = CliRunner().invoke(command_app(inspect_command), [*sources, *options, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    train, test = facts["sets"]
    assert (train["name"], test["name"]) == ("train", "test")
    assert (train["utterances"], train["speakers"], test["without_speaker"]) == (1, 1, 1)
    assert [bad["reason"].split(": ")[-2:] for bad in train["left_out_first"]][1][-1] == "empty transcript"
    assert "has 2 channels" in train["left_out_first"][0]["reason"]
    assert facts["shared"] == [
        {"kind": "same audio", "sets": ["train", "test"], "utterances": 1, "examples": [["train-a", "test-a"]]}
    ]
    chosen = [*options, "--option", "channel=0", "--set-name", "train"]
    result = CliRunner().invoke(command_app(inspect_command), [*sources, *chosen, "--json"])
    (train,) = json.loads(result.stdout)["sets"]
    assert [(part["value"], part["utterances"]) for part in train["channels"]] == [(1, 1), (2, 1)]


def test_the_documented_keys_are_those_of_the_facts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text(encoding="utf-8")
    headings = {SetFacts: "### A set", Histogram: "### A histogram", DataFacts: "## Layout of `--json`"}
    for kind, heading in headings.items():
        rows = page.split(heading + "\n")[1].split("\n#")[0].splitlines()
        first = [row.split("|")[1] for row in rows if row.startswith("| `")]
        assert [name for cell in first for name in re.findall(r"`(\w+)`", cell)] == [f.name for f in fields(kind)]
    for kind in (Suspect, Repeats, Shared, Part, BadUtterance):
        assert all(f"`{field.name}`" in page for field in fields(kind)), kind


def test_hours_of_real_recordings(corpus: Callable[[str], Path]) -> None:
    """Against the standard library's own reading of wav headers."""
    files = sorted((corpus("fsdd") / "recordings").glob("*_theo_*.wav"))[::10]
    cuts, seconds = [], 0.0
    for path in files:
        with wave.open(str(path)) as sound:
            seconds += sound.getnframes() / sound.getframerate()
        cuts.append(Recording.from_file(path).to_cut())
    facts = inspect_set(cuts)
    assert facts.hours * 3600 == pytest.approx(seconds) and facts.utterances == len(files) == 50
