"""Stage 6 on an experiment with random weights: what it writes, against the search run by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.decode import run
from slimasr.data.files import DataFolder, read_cuts, write_cuts
from slimasr.data.identity.experiment import checked_identity
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.decoding.sets import read_speakers
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.scoring import read_utt2spk
from slimasr.scoring.icefall import read_recogs
from tests.decoding.made_up import TEXTS, config, write_data, write_experiment


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Experiment and data folder."""
    root = tmp_path_factory.mktemp("decode")
    data = write_data(root, config())
    return write_experiment(root, config(), data), data


@pytest.fixture
def exp(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the experiment, nothing decoded."""
    return Path(shutil.copytree(made[0], tmp_path / "exp"))


def decode(exp: Path, data: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(exp), "--data", str(data), *options])


def test_every_subnet_and_set(made: tuple[Path, Path], exp: Path) -> None:
    result = decode(exp, made[1])
    assert result.exit_code == 0, result.output
    folders = sorted(str(path.parent.relative_to(exp)) for path in exp.glob("decode/*/*/recogs"))
    assert folders == ["decode/w0.5/dev", "decode/w0.5/test", "decode/w1/dev", "decode/w1/test"]
    experiment = Experiment.open(exp)
    for subnet in experiment.space:
        expected = {}
        # One utterance per batch: what padding does to the others would show.
        for batch in eval_batches(experiment.config, made[1], "test", experiment.tokenizer, 0.1):
            encoder = experiment.model.encode(batch.x, batch.x_lens, subnet)
            am = experiment.model.project_encoder(encoder.out, subnet)
            (tokens,) = greedy_search(experiment.model, am, encoder.lens)
            expected[batch.ids[0]] = tuple(experiment.tokenizer.decode(tokens).split())
        decoded = read_recogs(exp / "decode" / subnet.id / "test" / "recogs")
        assert [u.id for u in decoded] == ["test0", "test1", "test2", "test3"]
        assert [u.ref for u in decoded] == [tuple(text.split()) for text in TEXTS]
        assert {u.id: u.hyp for u in decoded} == expected
        assert any(u.hyp for u in decoded)


def test_what_is_written_beside(made: tuple[Path, Path], exp: Path) -> None:
    result = decode(exp, made[1], "--subnet", "0.5", "--set-name", "test")
    assert result.exit_code == 0, result.output
    folder = exp / "decode" / "w0.5" / "test"
    assert read_utt2spk(folder / "utt2spk") == {f"test{i}": f"speaker{i % 2}" for i in range(4)}
    assert (folder / "errs").read_text().startswith("%WER = ")
    how = json.loads((folder / "decode.json").read_text())
    assert how == {
        "version": 1,
        "subnet": {"width": 0.5},
        "checkpoint": "final",
        "decoding": "greedy, at most 1 per frame",
        "data": checked_identity(config(), made[1], "test").fingerprint,
    }
    assert list(exp.glob("decode/*/*")) == [folder]


def test_other_corpora_are_not_imported(made: tuple[Path, Path], exp: Path) -> None:
    """Above all not the speech synthesiser of the corpus ``digits``."""
    program = (
        "import sys\n"
        "from slimasr.cli.common import command_app\n"
        "from slimasr.cli.decode import run\n"
        "command_app(run)(sys.argv[1:], standalone_mode=False)\n"
        "others = {f'slimasr.data.corpora.{name}' for name in ('digits', 'fsdd', 'librispeech')}\n"
        "loaded = sys.modules.keys() & (others | {'slimasr.data.synthesis.digit_speech', 'scipy.signal'})\n"
        "assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", program, str(exp), "--data", str(made[1]), "--subnet", "0.5", "--set-name", "test"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_decoding_again_removes_old_scores(made: tuple[Path, Path], exp: Path) -> None:
    folder = exp / "decode" / "w0.5" / "test"
    folder.mkdir(parents=True)
    (folder / "wer").write_text("%WER 0.00 [ 0 / 7, 0 ins, 0 del, 0 sub ]\n")
    result = decode(exp, made[1], "--subnet", "w0.5", "--set-name", "test")
    assert result.exit_code == 0, result.output
    assert not (folder / "wer").exists()


def test_beam_search(made: tuple[Path, Path], exp: Path) -> None:
    for options in (["--method", "modified_beam", "--beam", "1"], []):
        result = decode(exp, made[1], "--subnet", "max", "--set-name", "test", *options)
        assert result.exit_code == 0, result.output
        recogs = (exp / "decode" / "w1" / "test" / "recogs").read_text()
        how = json.loads((exp / "decode" / "w1" / "test" / "decode.json").read_text())
        if options:
            assert how["decoding"] == "modified beam search, beam 1"
            with_beam = recogs
    assert recogs == with_beam
    symbols = ["--method", "modified_beam", "--max-symbols-per-frame", "2"]
    result = decode(exp, made[1], "--subnet", "max", "--set-name", "test", *symbols)
    assert result.exit_code == 1
    assert "modified_beam emits at most one symbol per frame" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subnet", "0.3"], "subnet '0.3' is not in the search space; choose one of: w1, w0.5"),
        (["--set-name", "eval"], "cuts_eval.jsonl.gz is missing: add it to data.test and run stage 1"),
        (["--checkpoint", "epoch-007"], "epoch-007.pt is missing: run stage 4"),
    ],
)
def test_wrong_requests(made: tuple[Path, Path], exp: Path, options: list[str], message: str) -> None:
    result = decode(exp, made[1], *options)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (exp / "decode").exists()


def test_damaged_model(made: tuple[Path, Path], exp: Path) -> None:
    content = (exp / "final.pt").read_bytes()
    (exp / "final.pt").write_bytes(content[: len(content) // 2])
    result = decode(exp, made[1])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"{exp / 'final.pt'}: " in result.stderr


def test_words_that_can_never_be_recognised_are_said(tmp_path: Path) -> None:
    data = write_data(tmp_path, config(), test_texts=("YES NO", "ten", "ONE 10", "NO YES"))
    exp = write_experiment(tmp_path, config(), data)
    result = decode(exp, data, "--subnet", "max")
    assert result.exit_code == 0, result.output
    (note,) = result.stderr.splitlines()
    assert note.startswith("note: test: 2 of 7 words (28.6 %) in 2 of 4 utterances hold characters that the tokenizer")
    assert "1 of these words would be covered in upper case" in note
    assert decode(exp, data, "--subnet", "max", "--set-name", "dev").stderr == ""


def test_ids_that_scores_cannot_be_read_with(made: tuple[Path, Path], tmp_path: Path) -> None:
    cuts = [cut.with_id("test 0") for cut in read_cuts(DataFolder(made[1]).raw_cuts("test"), "stage 1")]
    write_cuts(DataFolder(tmp_path).raw_cuts("test"), cuts[:1])
    with pytest.raises(UserError, match=r"cuts_test.*'test 0' holds U\+0020"):
        read_speakers(tmp_path, "test")
