"""Perturbed test sets: what arrives at the recogniser, and the sets that decoding writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.decode import run
from slimasr.cli.score import run as run_score
from slimasr.data.files import DataFolder
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.decoding.perturb import PerturbedSet, pink_noise
from slimasr.errors import UserError
from slimasr.results.perturbed import Perturbation
from slimasr.scoring.icefall import read_recogs
from tests.decoding.made_up import config, noise, write_data, write_experiment

RATE = 16000
STEP = 2.0**-15


def level(samples: np.ndarray) -> float:
    """Level in dB below a root mean square of 1."""
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean()))


def test_gain_is_that_of_a_recording_in_16_bits() -> None:
    samples = noise(0.5, 0)[np.newaxis]
    quiet = PerturbedSet(Perturbation(gain=-30.0)).samples("a", samples, RATE)
    np.testing.assert_allclose(quiet, samples * 10**-1.5, atol=STEP / 2 + 1e-7)
    assert (quiet / STEP == np.rint(quiet / STEP)).all()
    loud = PerturbedSet(Perturbation(gain=40.0)).samples("a", samples, RATE)
    assert (loud.max(), loud.min()) == (1.0 - STEP, -1.0)
    (same,) = {PerturbedSet(Perturbation()).samples("a", samples, RATE).tobytes() for _ in range(2)}
    np.testing.assert_allclose(np.frombuffer(same, np.float32), samples[0], atol=STEP / 2)


def test_noise_and_babble_have_their_ratio_and_depend_on_the_utterance_alone(made: tuple[Path, Path]) -> None:
    voices = list(read_feature_cuts(DataFolder(made[1]), "test"))
    samples = noise(1.0, 0)[np.newaxis]
    for asked in (Perturbation(noise=10.0), Perturbation(babble=10.0)):
        heard = PerturbedSet(asked, voices)
        added = heard.samples("test0", samples, RATE) - samples
        assert level(samples) - level(added) == pytest.approx(10.0, abs=0.05)
        np.testing.assert_array_equal(heard.samples("test0", samples, RATE) - samples, added)
        assert np.abs(heard.samples("test1", samples, RATE) - samples - added).max() > 1e-3
    # The utterance itself is no part of its babble.
    with pytest.raises(UserError, match="--perturb babble: is made of other utterances"):
        PerturbedSet(Perturbation(babble=0.0), voices[:1]).samples(voices[0].id, samples, RATE)
    silence = np.zeros_like(samples)
    assert not PerturbedSet(Perturbation(noise=10.0, reverb=0.3), voices).samples("a", silence, RATE).any()


def test_pink_noise_has_equal_energy_in_every_octave() -> None:
    power = np.square(np.abs(np.fft.rfft(pink_noise(1 << 17, RATE, np.random.default_rng(0))[0])))
    hertz = np.fft.rfftfreq(1 << 17, 1 / RATE)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].sum() for low in (31.25, 125, 500, 2000)]
    assert max(octaves) < 1.15 * min(octaves)
    assert power[hertz < 20].sum() < 1e-6 * power.sum()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Experiment and data folder."""
    root = tmp_path_factory.mktemp("perturb")
    data = write_data(root, config())
    return write_experiment(root, config(), data), data


def decode(exp: Path, data: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), "--data", str(data), *options])


def test_perturbed_sets_are_decoded_under_their_own_names(made: tuple[Path, Path], tmp_path: Path) -> None:
    exp = Path(shutil.copytree(made[0], tmp_path / "exp"))
    result = decode(exp, made[1], "--set-name", "dev", "--set-name", "test")
    assert result.exit_code == 0, result.output
    options = ["--perturb", "noise=0,gain=-6", "--perturb", "gain=-6,noise=0", "--perturb", "telephone"]
    result = decode(exp, made[1], "--subnet", "w1", *options)
    assert result.exit_code == 0, result.output
    names = ["dev", "test", "test@gain=-6,noise=0", "test@telephone"]
    assert sorted(path.name for path in (exp / "decode" / "w1").iterdir()) == names
    read = {name: read_recogs(exp / "decode" / "w1" / name / "recogs") for name in names}
    assert [u.ref for u in read["test"]] == [u.ref for u in read["test@telephone"]]
    assert read["test"] != read["test@telephone"]
    data = {name: json.loads((exp / "decode" / "w1" / name / "decode.json").read_text())["data"] for name in names}
    assert len(set(data.values())) == len(names)
    # The sets that the user has not perturbed are pooled, the others are scored one by one.
    assert CliRunner().invoke(command_app(run_score), [str(exp), "--pool"]).exit_code == 0
    scores = json.loads((exp / "results.json").read_text())["subnets"]
    assert sorted(scores["w1"]["wer"]) == ["dev", "dev+test", *names[1:]]
    assert sorted(scores["w0.5"]["wer"]) == ["dev", "dev+test", "test"]


def test_audio_is_needed_and_other_tasks_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    result = decode(made[0], made[1], "--perturb", "gain=loud")
    assert result.exit_code == 1
    assert "error: --perturb gain=loud: needs a number from -100 to 100" in result.stderr
    result = decode(made[0], made[1], "--perturb", "gain=1", "--tune", "dev")
    assert "--perturb: changes sets that are decoded and scored; leave --tune or --perturb out" in result.stderr
    write_data(tmp_path, config())
    exp = Path(shutil.copytree(made[0], tmp_path / "exp"))
    (tmp_path / "audio" / "test2.wav").unlink()
    result = decode(exp, tmp_path / "data", "--perturb", "gain=0")
    assert result.exit_code == 1
    assert "test2: " in result.stderr
    assert str(tmp_path / "audio" / "test2.wav") in result.stderr


def test_level_without_a_change_is_the_set_itself(made: tuple[Path, Path], tmp_path: Path) -> None:
    exp = Path(shutil.copytree(made[0], tmp_path / "exp"))
    assert decode(exp, made[1], "--subnet", "w1", "--set-name", "test").exit_code == 0
    assert decode(exp, made[1], "--subnet", "w1", "--perturb", "gain=0").exit_code == 0
    recogs = [exp / "decode" / "w1" / name / "recogs" for name in ("test", "test@gain=0")]
    assert recogs[0].read_text() == recogs[1].read_text()
    assert soundfile.info(made[1].parent / "audio" / "test0.wav").subtype == "PCM_16"
