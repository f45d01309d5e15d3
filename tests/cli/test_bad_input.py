"""Bad input through the command line: one line that names the culprit, exit status 1, nothing half-done."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.data.corpora import CORPORA

SPEAKERS = [f"speaker{letter}" for letter in "abcdefghij"]
TEXTS = ("YES NO", "TEN", "ONE TEN", "NO")
CONFIG = """
name: tiny
data: {corpus: an4, max_cuts: 4, num_buckets: 2, max_bad_share: 0.0}
tokenizer: {kind: char, vocab_size: 11}
model:
  frontend: {channels: 4}
  encoder: {d_model: 16, num_layers: 1, num_heads: 4, head_dim: 4, ffn_dim: 16, kernel_size: 3}
  predictor: {kind: stateless, dim: 8}
  joiner: {dim: 16}
space: {widths: [0.5, 1.0]}
loss: {transducer: full, ctc_weight: 1.0}
training: {num_epochs: 1, calibration_batches: 1}
search: {rtf_seconds: 1}
"""


@dataclass(frozen=True)
class Place:
    """A corpus in AN4's layout (noise for speech), a recipe's configuration, data and experiment."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "conf.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def exp(self) -> Path:
        return self.root / "exp"

    def audio(self, part: str, speaker: str, number: int) -> Path:
        folder = "an4_clstk" if part == "train" else "an4test_clstk"
        return self.root / "an4" / "wav" / folder / speaker / f"{speaker}-{number}.flac"

    def write_text(self, part: str, lines: dict[str, str]) -> None:
        text = "".join(f"{words} ({name})\n" for name, words in lines.items())
        (self.root / "an4" / "etc" / f"an4_{part}.transcription").write_text(text)

    def command(self, stage: str, *more: str | Path) -> tuple[str, list[str]]:
        from_config = ["--config", self.config, "--data", self.data]
        if stage == "prepare":
            arguments = [*from_config, "--corpus-dir", self.root / "an4", *more]
        elif stage in ("features", "bpe"):
            arguments = [*from_config, *more]
        elif stage == "train":
            arguments = [*from_config, "--exp", self.exp, *more]
        else:
            arguments = [self.exp, *more]
        return stage, list(map(str, arguments))

    def run(self, stage: str, *more: str | Path) -> tuple[int, str, str]:
        """Exit status, stdout, stderr of one command, in this process."""
        name, arguments = self.command(stage, *more)
        result = CliRunner().invoke(command_app(import_module(f"slimasr.cli.{name}").run), arguments)
        return result.exit_code, result.stdout, result.stderr

    def run_up_to(self, last: str) -> tuple[int, str, str]:
        """Run the stages in order up to one or up to the first that fails."""
        for stage in ("prepare", "features", "bpe", "train"):
            outcome = self.run(stage)
            if outcome[0] != 0 or stage == last:
                return outcome
        raise AssertionError(last)

    def fails(self, stage: str, *more: str | Path) -> str:
        """The one line of error of a command that must fail."""
        return error_of(self.run(stage, *more))


def error_of(outcome: tuple[int, str, str]) -> str:
    """The error of a failed command: exit status 1, a single error line at the end, no traceback."""
    status, _, err = outcome
    assert status == 1, err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert err.splitlines()[-1] == errors[0]
    assert "unforeseen" not in errors[0]
    return errors[0]


def _make(root: Path) -> Place:
    place = Place(root)
    rng = np.random.default_rng(0)
    (root / "an4" / "etc").mkdir(parents=True)
    for part, speakers in (("train", SPEAKERS), ("test", ["tester"])):
        texts, fileids = {}, []
        for speaker in speakers:
            for number, text in enumerate(TEXTS):
                path = place.audio(part, speaker, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000)
                texts[path.stem] = text
                fileids.append(str(path.relative_to(root / "an4" / "wav").with_suffix("")))
        (root / "an4" / "etc" / f"an4_{part}.fileids").write_text("\n".join(fileids) + "\n")
        place.write_text(part, texts)
    place.config.write_text(CONFIG)
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return _make(tmp_path)


@pytest.fixture(scope="module")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = _make(tmp_path_factory.mktemp("trained"))
    status, _, err = place.run_up_to("train")
    assert status == 0, err
    return place


@pytest.fixture
def trained(_trained_once: Place, tmp_path: Path) -> Place:
    """A trained place of the test's own, to spoil."""
    shutil.copytree(_trained_once.root, tmp_path / "copy")
    return Place(tmp_path / "copy")


def _texts(place: Place, part: str, **changed: str) -> None:
    speakers = SPEAKERS if part == "train" else ["tester"]
    lines = {f"{s}-{n}": text for s in speakers for n, text in enumerate(TEXTS)}
    place.write_text(part, lines | {name.replace("_", "-"): text for name, text in changed.items()})


# Configuration and stages


def test_unknown_config_key_is_named_with_a_guess(place: Place) -> None:
    place.config.write_text(CONFIG.replace("num_layers", "num_layer"))
    for stage in ("prepare", "features", "bpe", "train"):
        error = place.fails(stage)
        assert "model.encoder.num_layer" in error
        assert "num_layers" in error


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("encoder.layers_of_it=3", "layers_of_it"),
        ("encoder.kernel_size=4", "kernel_size"),
        ("training.num_epochs=many", "training.num_epochs"),
        ("space.widths=[0.5]", "widths"),
        ("no_equals_sign", "no_equals_sign"),
    ],
)
def test_wrong_overrides_are_named(place: Place, override: str, names: str) -> None:
    assert names in place.fails("train", "--set", override)


def test_a_config_that_is_not_yaml(place: Place) -> None:
    place.config.write_text("name: [")
    assert "conf.yaml" in place.fails("prepare")
    place.config.unlink()
    assert "conf.yaml" in place.fails("prepare")


def test_a_stage_before_its_input_names_the_one_to_run(place: Place) -> None:
    assert "run stage 1 (slimasr-prepare)" in place.fails("features")
    assert "run stage 1 (slimasr-prepare)" in place.fails("bpe")
    assert "run stage 3 (slimasr-bpe)" in place.fails("train")
    for stage in ("search", "decode"):
        assert "run stage 4 (slimasr-train)" in place.fails(stage, "--data", place.data)
    assert "run stage" in place.fails("score")
    assert place.run_up_to("bpe")[0] == 0
    shutil.rmtree(place.data / "features")
    assert "run stage 2 (slimasr-features)" in place.fails("train")


def test_a_missing_corpus_is_never_downloaded_unasked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    shutil.rmtree(place.root / "an4")
    assert "an4" in place.fails("prepare")
    name = "prepare"
    arguments = ["--config", str(place.config), "--data", str(place.data)]
    result = CliRunner().invoke(command_app(import_module(f"slimasr.cli.{name}").run), arguments)
    assert "--download" in error_of((result.exit_code, result.stdout, result.stderr))


def test_a_hostile_archive_writes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched through the command from an address of ours; a member that climbs out is refused before anything lies."""
    monkeypatch.delenv("SLIMASR_CORPORA", raising=False)
    shutil.rmtree(place.root / "an4")
    hostile = place.root / "an4_sphere.tar.gz"
    with tarfile.open(hostile, "w:gz") as tar:
        for name in ("an4/etc/an4_train.fileids", "../outside"):
            tar.addfile(tarfile.TarInfo(name))
    corpus = replace(CORPORA["an4"], archives=lambda sets, options: [hostile.as_uri()])
    monkeypatch.setattr("slimasr.data.corpora.an4.CORPUS", corpus)
    arguments = ["--config", str(place.config), "--data", str(place.data), "--download"]
    result = CliRunner().invoke(command_app(import_module("slimasr.cli.prepare").run), arguments)
    message = error_of((result.exit_code, result.stdout, result.stderr))
    assert "'../outside' climbs out" in message and "an4_sphere.tar.gz" in message
    assert [path.name for path in place.data.rglob("*") if path.is_file()] == ["an4_sphere.tar.gz"]
    assert not list(place.root.rglob("outside"))


# Audio and transcripts


def test_corrupt_audio_in_training_data_fails_above_the_limit_and_is_listed_below_it(place: Place) -> None:
    audio = place.audio("train", SPEAKERS[0], 0)
    audio.write_bytes(audio.read_bytes()[:5000])
    assert audio.stem in error_of(place.run_up_to("train"))
    place.config.write_text(CONFIG.replace("max_bad_share: 0.0", "max_bad_share: 0.1"))
    status, _, err = place.run_up_to("train")
    assert status == 0, err
    listed = [json.loads(line) for line in (place.exp / "bad_utterances.jsonl").read_text().splitlines()]
    assert [item["id"] for item in listed] == [audio.stem]
    assert audio.name in listed[0]["reason"]


def test_corrupt_audio_in_a_test_set_is_never_skipped(place: Place) -> None:
    audio = place.audio("test", "tester", 1)
    audio.write_bytes(b"fLaC" + bytes(2000))
    place.config.write_text(CONFIG.replace("max_bad_share: 0.0", "max_bad_share: 1.0"))
    assert audio.name in error_of(place.run_up_to("features"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_audio_is_named(place: Place, part: str) -> None:
    audio = place.audio(part, SPEAKERS[0] if part == "train" else "tester", 2)
    audio.unlink()
    assert audio.stem in place.fails("prepare")


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_transcript_is_named(place: Place, part: str) -> None:
    name = f"{SPEAKERS[0] if part == 'train' else 'tester'}_1"
    _texts(place, part, **{name: ""})
    error = place.fails("prepare")
    assert name.replace("_", "-") in error
    assert "empty transcript" in error


def test_another_sampling_rate_is_an_error_unless_resampling_is_asked_for(place: Place) -> None:
    audio = place.audio("train", SPEAKERS[1], 3)
    soundfile.write(audio, 0.1 * np.random.default_rng(1).standard_normal(8000), 8000)
    error = place.fails("prepare")
    assert audio.name in error
    assert "8000" in error
    assert "data.resample" in error
    assert place.run("prepare", "--set", "data.resample=true")[0] == 0
    status, _, err = place.run("features", "--set", "data.resample=true")
    assert status == 0, err
    with gzip.open(place.data / "features" / "cuts_train.jsonl.gz", "rt") as file:
        cut = next(c for c in map(json.loads, file) if c["id"] == audio.stem)
    assert cut["features"]["num_frames"] == 100  # 1 s at 10 ms: the same as at 16 kHz


def test_infeasible_utterances_are_left_out_and_listed(place: Place) -> None:
    # 1 s gives 24 encoder frames: too few for 60 letters and the blanks between equal ones.
    _texts(place, "train", **{f"{SPEAKERS[0]}_0": "TEN " * 15})
    assert f"{SPEAKERS[0]}-0" in error_of(place.run_up_to("train"))
    place.config.write_text(CONFIG.replace("max_bad_share: 0.0", "max_bad_share: 0.1"))
    shutil.rmtree(place.exp)  # it belongs to the other configuration
    status, _, err = place.run_up_to("train")
    assert status == 0, err
    listed = [json.loads(line) for line in (place.exp / "bad_utterances.jsonl").read_text().splitlines()]
    assert [item["id"] for item in listed] == [f"{SPEAKERS[0]}-0"]
    assert "encoder frames" in listed[0]["reason"]


# Experiments


@pytest.mark.parametrize("stage", ["decode", "extract"])
def test_unknown_subnet_lists_the_known_ones(trained: Place, stage: str) -> None:
    options = ("--data", trained.data) if stage == "decode" else ("--out", trained.root / "small")
    error = trained.fails(stage, *options, "--subnet", "0.3")
    assert "0.3" in error
    assert "w0.5" in error
    assert not (trained.root / "small").exists()


def test_unknown_width_in_transcribe(trained: Place) -> None:
    error = trained.fails("transcribe", "--width", "0.3", trained.audio("test", "tester", 0))
    assert "0.3" in error
    assert "w0.5" in error


def test_transcribe_names_the_file_it_cannot_read(trained: Place) -> None:
    broken = trained.root / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(100))
    assert "broken.wav" in trained.fails("transcribe", "--width", "0.5", broken)
    assert "absent.wav" in trained.fails("transcribe", "--width", "0.5", trained.root / "absent.wav")


@pytest.mark.parametrize("size", [0, 1000, -1000])
def test_truncated_model_is_named(trained: Place, size: int) -> None:
    final = trained.exp / "final.pt"
    final.write_bytes(final.read_bytes()[:size])
    for stage in ("search", "decode"):
        error = trained.fails(stage, "--data", trained.data)
        assert "final.pt: damaged" in error or "final.pt: cannot be read" in error


def test_another_configuration_does_not_go_on_with_a_run(trained: Place) -> None:
    assert "joiner.dim" in trained.fails("train", "--set", "joiner.dim=8")


def test_features_of_another_configuration_are_refused(trained: Place) -> None:
    shutil.rmtree(trained.exp)
    changed = ("--set", "features.num_mel_bins=40", "--set", "model.num_mel_bins=40")
    assert "run stage 2 again" in trained.fails("train", *changed)


def test_a_full_disk_leaves_the_old_checkpoint(place: Place) -> None:
    """A real process whose files may not grow past 20 kB: the kernel refuses the write."""
    assert place.run_up_to("bpe")[0] == 0
    _, arguments = place.command("train")
    program = (
        "import resource, sys\n"
        "from slimasr.cli import train\n"
        "import torch, slimasr.training.trainer\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.argv = ['slimasr-train', *sys.argv[1:]]\n"
        "train.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    error = error_of((done.returncode, done.stdout, done.stderr))
    assert "checkpoints" in error
    assert "cannot be written" in error
    assert list((place.exp / "checkpoints").iterdir()) == []
    status, _, err = place.run("train")
    assert status == 0, err
    assert (place.exp / "final.pt").exists()
