"""Two commands in one folder, through the command line: the second is refused by name, or both results are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.config.load import save_config
from slimasr.data.files import DataFolder
from slimasr.decoding.sets import DecodedSet, write_decoded
from slimasr.errors import UserError
from slimasr.locking import folder_lock
from slimasr.scoring import Utterance
from slimasr.scoring.folder import score_decoded
from slimasr.scoring.icefall import read_recogs
from slimasr.supernet.subnet import Subnet
from slimasr.training.trainer import Trainer
from tests.decoding.made_up import config, write_data, write_experiment
from tests.locking.kit import forge, set_back
from tests.training.kit import make_trainer, tiny_config

ROOT = Path(__file__).parents[2]
MAIN = "from slimasr.cli.main import main; main()"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``conf.yaml``, ``data/`` after stages 1 to 3, and an experiment ``exp/``."""
    root = tmp_path_factory.mktemp("locks")
    recipe = config(training={"num_epochs": 1, "num_threads": 1, "calibration_batches": 1})
    save_config(recipe, root / "conf.yaml")
    write_experiment(root, recipe, write_data(root, recipe))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(made, tmp_path / "root"))


def slimasr(command: str, *arguments: object) -> Result:
    module = import_module(f"slimasr.cli.{command}")
    return CliRunner().invoke(command_app(module.run), list(map(str, arguments)))


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def recipe_options(root: Path) -> list[object]:
    return ["--config", root / "conf.yaml", "--data", root / "data"]


@pytest.mark.parametrize(
    ("command", "lock"),
    [
        ("train", "new/experiment.lock"),
        ("prepare", "data/manifests.lock"),
        ("features", "data/features.lock"),
        ("features", "data/manifests.lock"),
        ("bpe", "data/lang_char_12.lock"),
        ("bpe", "data/manifests.lock"),
        ("align", "exp/alignments/alignments.lock"),
        ("extract", "small/experiment.lock"),
    ],
)
def test_a_command_whose_output_somebody_else_writes(root: Path, corpus_folder: Path, command: str, lock: str) -> None:
    forge(root / lock)
    options = {
        "train": [*recipe_options(root), "--exp", root / "new"],
        "prepare": [*recipe_options(root), "--corpus-dir", corpus_folder],
        "align": [root / "exp", "--data", root / "data"],
        "extract": [root / "exp", "--out", root / "small", "--subnet", "0.5"],
    }.get(command, recipe_options(root))
    before = sorted(path for path in root.rglob("*") if path.name != "shards")
    result = slimasr(command, *options)
    assert result.exit_code == 1
    (error,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert f"{(root / lock).parent}: in use by slimasr-train (process 77 on far" in error
    assert f"delete {root / lock} " in error
    assert sorted(path for path in root.rglob("*") if path.name != "shards") == before
    # As the message says.
    (root / lock).unlink()
    assert "in use by" not in slimasr(command, *options).output


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """An empty folder: whoever is not refused fails, and writes nothing."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def test_a_corpus_is_made_by_one_process(tmp_path: Path) -> None:
    target = tmp_path / "digits"
    forge(target / "corpus.lock")
    save_config(config(data={"corpus": "digits"}), tmp_path / "conf.yaml")
    result = slimasr("prepare", "--config", tmp_path / "conf.yaml", "--corpus-dir", target, "--only-corpus")
    assert result.exit_code == 1
    assert "in use by slimasr-train (process 77 on far" in result.output
    assert not (target / "wav").exists()


def test_a_second_training_is_refused_while_the_first_one_runs(root: Path) -> None:
    """The first one is killed later, and the folder can be used at once."""
    exp = root / "new"
    options = ["train", *recipe_options(root), "--exp", exp, "--set", "training.num_epochs=1000"]
    first = start(*options)
    deadline = time.monotonic() + 120
    while not list((exp / "checkpoints").glob("*.pt")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    second = slimasr(*options)
    assert second.exit_code == 1
    assert f"{exp}: in use by slimasr-train (process {first.pid} on " in second.output
    assert "choose another --exp" in second.output
    first.kill()
    first.communicate()
    third = slimasr(*options[:-1], "training.num_epochs=1001")
    assert "in use by" not in third.output and "differs from the configuration" in third.output
    assert not (exp / "experiment.lock").exists()


def test_all_ranks_are_refused(root: Path) -> None:
    """With torchrun the first process takes the lock; the others end with its message and do not hang."""
    lock = root / "new" / "experiment.lock"
    forge(lock)
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    training = [sys.executable, "-c", MAIN, "train", *map(str, recipe_options(root)), "--exp", str(root / "new")]
    done = subprocess.run(
        [sys.executable, *ranks, *training], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and len(set(errors)) == 1
    assert f"delete {lock} " in errors[0]


def test_a_trainer_without_its_lock_writes_nothing_more(tmp_path: Path) -> None:
    trainer: Trainer = make_trainer(tiny_config(training={"checkpoint_minutes": 1e-9}), tmp_path)
    with folder_lock(tmp_path / "experiment.lock", "slimasr-train") as lock:
        trainer.lock = lock
        trainer.save()
        names = sorted(path.name for path in tmp_path.rglob("*.pt"))
        forge(tmp_path / "stolen")
        (tmp_path / "stolen").replace(lock.path)
        for write in (trainer.save, trainer.run_epoch, trainer.finish):
            with pytest.raises(UserError, match="now held by slimasr-train .process 77 on far"):
                write()
    assert sorted(path.name for path in tmp_path.rglob("*.pt")) == names
    assert not (tmp_path / "train_log.jsonl").exists() and not (tmp_path / "results.json").exists()


def test_an_abandoned_training_folder_is_taken_over(root: Path) -> None:
    lock = root / "new" / "experiment.lock"
    forge(lock)
    set_back(lock, 3600)
    result = slimasr("train", *recipe_options(root), "--exp", root / "new")
    assert result.exit_code == 0, result.output
    assert "taken over from slimasr-train (process 77 on far" in result.output
    assert (root / "new" / "final.pt").exists() and not lock.exists()


UPDATE = """
import sys
from pathlib import Path
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet
for number in range(40):
    update_results(Path(sys.argv[1]), Results(subnets={f"{sys.argv[2]}-{number}": SubnetEntry(subnet=Subnet())}))
"""


def test_no_update_of_the_results_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UPDATE, str(tmp_path)]
    workers = [subprocess.Popen([*command, name], cwd=ROOT) for name in "abc"]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 3
    assert len(json.loads((tmp_path / "results.json").read_text())["subnets"]) == 120
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_two_searches_measure_the_front_once(root: Path) -> None:
    """Both end well and print the same figures, times included, although both were there to measure them."""
    options = ["search", root / "exp", "--data", root / "data", "--set", "search.rtf_seconds=1"]
    searches = [start(*options) for _ in range(2)]
    outputs = [search.communicate(timeout=240) for search in searches]
    assert [search.returncode for search in searches] == [0, 0], outputs
    tables = [out.splitlines()[:-2] for out, _ in outputs]
    assert len(tables[0]) >= 3 and tables[0] == tables[1]
    entries = json.loads((root / "exp" / "results.json").read_text())["subnets"]
    assert set(entries) == {"w0.5", "w1"}
    front = json.loads((root / "exp" / "search" / "front.json").read_text())["front"]
    assert all(item["costs"]["rtf"] == entries[item["id"]]["costs"]["rtf"] for item in front)


def decode_often(exp: Path, checkpoint: str, word: str, failures: list[Exception]) -> None:
    utterances = tuple(Utterance(f"u{n}", ("yes",), (word,)) for n in range(3))
    speakers = {u.id: u.id for u in utterances}
    try:
        for _ in range(15):
            write_decoded(exp, "dev", DecodedSet(Subnet(1.0), utterances, speakers, checkpoint, "greedy search"))
    except Exception as error:
        failures.append(error)


def test_a_set_decoded_twice_at_the_same_time_is_of_one_piece(tmp_path: Path) -> None:
    """What is scored meanwhile belongs together as well."""
    failures: list[Exception] = []
    made = {"good": "yes", "bad": "no"}
    decode_often(tmp_path, "good", "yes", failures)
    threads = [threading.Thread(target=decode_often, args=(tmp_path, *item, failures)) for item in made.items()]
    for thread in threads:
        thread.start()
    (folder,) = tmp_path.glob("decode/*/dev")
    while any(thread.is_alive() for thread in threads):
        entry = score_decoded([folder]).entry.wer["dev"]
        assert entry.checkpoint is not None
        assert entry.wer == {"good": 0.0, "bad": 100.0}[entry.checkpoint]
    assert not failures
    (word,) = {utterance.hyp[0] for utterance in read_recogs(folder / "recogs")}
    assert word == made[json.loads((folder / "decode.json").read_text())["checkpoint"]]


def test_tokenizers_of_other_sizes_can_be_trained_meanwhile(root: Path) -> None:
    forge(root / "data" / "lang_char_11.lock")
    forge(root / "data" / "features.lock")
    assert slimasr("bpe", *recipe_options(root)).exit_code == 0
    assert DataFolder(root / "data").lang("char", 12).exists()
