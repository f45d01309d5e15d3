"""Training that begins with another experiment, and batches of one language in training, stopped and resumed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import train as cli_train
from slimasr.cli.common import command_app
from slimasr.config.load import parse_config, save_config
from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.stage import train_tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.experiment.initial import InitialWeights, initial_weights
from slimasr.files import write_atomic
from slimasr.methods.base import StepContext
from slimasr.training.languages import check_enough, key_of_batches
from slimasr.training.start import initial_reader, new_model, read_start, trained_parameters
from slimasr.training.step import Stepper, StepResult
from slimasr.training.trainer import train
from tests.data.corpus import make_an4, quiet
from tests.data.languages import LANGUAGES, recipe, speak_languages, stages
from tests.training.kit import assert_equal, tiny_config

ALL = ["train-en", "train-fr", "train-it"]


def tiny(data: dict[str, Any], training: dict[str, Any], **sections: dict[str, Any]) -> Config:
    """A model of one size on the tiny corpus of three languages."""
    base = tiny_config(training={"num_epochs": 1, "checkpoint_minutes": 1e-9, **training}).model_dump(mode="json")
    tree = recipe({"train": ALL, "max_cuts": 3, **data}).model_dump(mode="json")
    own = {key: base[key] for key in ("model", "loss", "training")}
    space = {"space": {"widths": [1.0]}, "method": {"kind": "separate"}}
    return parse_config({**tree, **own, **space, **{key: {**tree[key], **value} for key, value in sections.items()}})


DENSE = tiny({}, {})


def sampled(dense: Path, **sections: dict[str, Any]) -> Config:
    """Fine-tuning from an experiment, with languages in equal shares and two batches a step."""
    data = {"language_batches": True, "language_sampling": "uniform", "speeds": [1.0]}
    return tiny(data, {"init": {"from": str(dense)}, "num_epochs": 2, "accumulate": 2}, **sections)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/`` and the trained experiment ``dense/``; to read only."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        stages(DENSE, root / "data", make_an4(root / "an4"))
    train(DENSE, root / "data", root / "dense")
    return root


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy, to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


class Killed(Exception):
    """The process ends here."""


def train_until(step: int, config: Config, data: Path, exp: Path) -> None:
    """Train until the process ends before a step."""
    original = Stepper.step

    def counted(self: Stepper, batches: list[Batch], context: StepContext) -> StepResult:
        if context.step == step:
            raise Killed
        return original(self, batches, context)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Stepper, "step", counted)
        with pytest.raises(Killed):
            train(config, data, exp)


def test_a_run_begins_with_the_weights_the_statistics_and_the_tokenizer_of_another(folder: Path) -> None:
    data = DataFolder(folder / "data")
    dense = load_checkpoint(folder / "dense" / "final.pt")["model"]
    # Those of the data folder, which another recipe may have made, do not matter.
    shutil.rmtree(data.lang("char", 20))
    data.stats.unlink()
    config = sampled(folder / "dense")
    start = read_start(config, folder / "fine")
    assert start is not None
    model = new_model(config, folder / "data", load_tokenizer(folder / "dense" / "lang"), start)
    assert_equal(dict(model.state_dict()), dict(dense))
    train(config, folder / "data", folder / "fine")
    fine = load_checkpoint(folder / "fine" / "final.pt")["model"]
    assert torch.equal(fine["feature_mean"], dense["feature_mean"])
    assert torch.equal(fine["feature_std"], dense["feature_std"])
    assert any(not torch.equal(fine[name], dense[name]) for name in dense), "and trains them"
    for path in (folder / "dense" / "lang").iterdir():
        assert (folder / "fine" / "lang" / path.name).read_bytes() == path.read_bytes()
    record = json.loads((folder / "fine" / "data.json").read_text())
    assert record["init"] == start.digest


def test_steps_have_one_language_and_a_killed_run_goes_on_bit_for_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sampled(folder / "dense")
    steps: list[set[str]] = []
    original = Stepper.step

    def watched(self: Stepper, batches: list[Batch], context: StepContext) -> StepResult:
        assert len(batches) == 2
        steps.append({LANGUAGES.get(name.split("-")[0][-1], "en") for batch in batches for name in batch.ids})
        assert all(steps[-1] == {batch.key} for batch in batches)
        return original(self, batches, context)

    monkeypatch.setattr(Stepper, "step", watched)
    train(config, folder / "data", folder / "whole")
    monkeypatch.undo()
    per_epoch = len(steps) // 2
    assert {name for step in steps[:per_epoch] for name in step} == {"en", "fr", "it"}
    for step in (2, per_epoch + 3):
        train_until(step, config, folder / "data", folder / "parts")
    train(config, folder / "data", folder / "parts")
    assert_equal(load_checkpoint(folder / "whole" / "final.pt"), load_checkpoint(folder / "parts" / "final.pt"))


@pytest.fixture
def begun(folder: Path) -> Path:
    """The folder with a run ``fine/`` that was stopped after its first step."""
    train_until(1, sampled(folder / "dense"), folder / "data", folder / "fine")
    return folder


def test_a_start_that_has_changed_is_refused_and_one_that_moved_is_not(begun: Path) -> None:
    path = begun / "dense" / "final.pt"
    saved = path.read_bytes()
    content = torch.load(path, weights_only=True)
    content["model"]["feature_mean"] += 1.0
    torch.save(content, path)
    with pytest.raises(UserError, match=r"dense/final\.pt has changed since this run began with it \(training\.init"):
        train(sampled(begun / "dense"), begun / "data", begun / "fine")
    write_atomic(path, saved)
    shutil.move(begun / "dense", begun / "moved")
    train(sampled(begun / "moved"), begun / "data", begun / "fine")
    assert (begun / "fine" / "final.pt").exists()


def test_a_method_reads_the_start_again_and_a_lost_one_is_named(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = sampled(begun / "dense")
    seen: list[StepContext] = []
    original = Stepper.step

    def watched(self: Stepper, batches: list[Batch], context: StepContext) -> StepResult:
        seen.append(context)
        return original(self, batches, context)

    monkeypatch.setattr(Stepper, "step", watched)
    shutil.move(begun / "dense" / "final.pt", begun / "final.pt")
    train(config, begun / "data", begun / "fine")
    assert "dense/final.pt is gone, with which this run began; a method" in capsys.readouterr().err
    read = seen[0].initial
    assert read is not None
    with pytest.raises(UserError, match=r"dense/final\.pt is gone, with which this run began .*; restore it"):
        read()
    shutil.move(begun / "final.pt", begun / "dense" / "final.pt")
    assert_equal(read(), dict(load_checkpoint(begun / "dense" / "final.pt")["model"]))
    assert initial_reader(DENSE, begun / "dense", None) is None


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"joiner": {"dim": 8}}, r"model\.joiner\.dim: 16 against 8"),
        ("tokenizer", {"vocab_size": 30}, r"tokenizer\.vocab_size: 20 against 30"),
        ("tokenizer", {"kind": "bpe"}, r"tokenizer\.kind: 'char' against 'bpe'"),
        ("data", {"sampling_rate": 8000}, r"data\.sampling_rate: 16000 against 8000"),
        ("loss", {"ctc_weight": 0.0}, r"final\.pt: does not fit the configuration: the model lacks "),
        ("space", {"widths": [0.5, 1.0]}, r"final\.pt: does not fit the configuration: the checkpoint lacks "),
        ("training", {"init": {"from": "nowhere"}}, r"nowhere/config\.yaml is missing: run stage 4"),
    ],
)
def test_what_does_not_fit_is_named_by_the_command(
    folder: Path, section: str, changes: dict[str, Any], message: str
) -> None:
    tree = sampled(folder / "dense").model_dump(mode="json")
    method = {"kind": "slimmable"} if section == "space" else tree["method"]
    config = parse_config({**tree, "method": method, section: {**tree[section], **changes}})
    status, output = run(config, folder)
    assert status == 1
    assert re.search(message, output), output
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert "unforeseen" not in error


def test_dropout_and_sets_may_differ(trained: Path) -> None:
    tree = sampled(trained / "dense", tokenizer={"sets": ALL, "balance": True}).model_dump(mode="json")
    tree["model"]["encoder"]["dropout"] = 0.3
    assert initial_weights(parse_config(tree)) is not None
    assert initial_weights(DENSE) is None


def test_masks_are_no_weights(trained: Path) -> None:
    """Boolean buffers of the start are left out, and the model keeps its own."""
    model = new_model(DENSE, trained / "data", load_tokenizer(trained / "dense" / "lang"), None)
    model.register_buffer("mask", torch.tensor([True, False]))
    weights = load_checkpoint(trained / "dense" / "final.pt")["model"]
    InitialWeights(weights, "digest", Path("final.pt")).load_into(model)
    assert model.state_dict()["mask"].tolist() == [True, False]
    assert torch.equal(model.state_dict()["feature_mean"], weights["feature_mean"])


def test_another_tokenizer_in_the_experiment_is_named(folder: Path) -> None:
    other = tiny({"train": ["train-en"]}, {})
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_languages(monkeypatch)
        stages(other, folder / "other", folder / "an4")
    for path in DataFolder(folder / "other").lang("char", 20).iterdir():
        shutil.copy(path, folder / "dense" / "lang" / path.name)
    (folder / "dense" / "lang" / "bpe.model").write_bytes(
        (folder / "dense" / "lang" / "bpe.model").read_bytes() + b"\x32\x00"
    )
    with pytest.raises(UserError, match=r"dense/final\.pt: was trained with another tokenizer"):
        initial_weights(sampled(folder / "dense"))


def supernet_of(dense: Path, **init: Any) -> Config:
    """A supernet with two widths that begins with a dense model, whose first layer stays as it is."""
    start = {"from": str(dense), "weights": "matching", "freeze": FROZEN, **init}
    training = {"init": start, "spec_augment": None}
    return tiny({"speeds": [1.0]}, training, space={"widths": [0.5, 1.0]}, method={"kind": "slimmable"})


FROZEN = ["encoder.frontend.*", "encoder.layers.0.*"]


def test_a_supernet_begins_with_a_dense_model_and_frozen_weights_stay_over_a_restart(folder: Path) -> None:
    config = supernet_of(folder / "dense", tokenizer="own", stats="own")
    train(config, folder / "data", folder / "whole")
    train_until(3, config, folder / "data", folder / "parts")
    record = json.loads((folder / "parts" / "init.json").read_text())
    counted = trained_parameters(config, folder / "data")
    # What is frozen is known from the record: the start itself is not read again.
    shutil.move(folder / "dense" / "final.pt", folder / "dense" / "moved.pt")
    train(config, folder / "data", folder / "parts")
    whole, parts = (load_checkpoint(folder / name / "final.pt")["model"] for name in ("whole", "parts"))
    assert_equal(whole, parts)
    dense = load_checkpoint(folder / "dense" / "moved.pt")["model"]
    inner = [name for name in dense if name.startswith(("encoder.frontend.", "encoder.layers.0."))]
    assert all(torch.equal(whole[name], dense[name]) for name in inner), "statistics of its batch norm included"
    assert set(record["frozen"]) == {name for name in inner if ".stats." not in name}
    assert record["fixed"] == ["encoder.layers.0.parts.conv.norm.stats.16"]
    assert {name for name in record["left"] if ".8." not in name} == {"feature_mean", "feature_std"}
    log = (folder / "parts" / "train.log").read_text()
    assert "not taken, as it is not among the weights that were read: encoder.layers.{0,1}.norms.ffn1.affine.8.w" in log
    total = sum(tensor.numel() for name, tensor in whole.items() if name in record["frozen"])
    assert "parameters are trained (decayed" in log
    assert f"{total:,} are frozen" in log
    assert counted["frozen"] == total
    names = {name for name in whole if name not in record["frozen"] and ".stats." not in name}
    buffers = {"feature_mean", "feature_std", "ctc_head.log_prior"}
    assert sum(counted.values()) == total + sum(whole[name].numel() for name in names - buffers)


def test_a_run_whose_record_of_frozen_weights_is_lost_does_not_go_on(begun: Path) -> None:
    config = supernet_of(begun / "dense")
    train_until(1, config, begun / "data", begun / "frozen")
    (begun / "frozen" / "init.json").unlink()
    with pytest.raises(UserError, match=r"init\.json is missing, which says what is frozen: restore it, or choose"):
        train(config, begun / "data", begun / "frozen")


def test_products_with_names_of_their_own_stand_beside_others(folder: Path) -> None:
    """A fine-tuned model may need other units and statistics in a data folder that it shares."""
    data = DataFolder(folder / "data")
    before = [data.stats.read_bytes(), *(path.read_bytes() for path in sorted(data.lang("char", 20).iterdir()))]
    tree = supernet_of(folder / "dense", tokenizer="own", stats="own", freeze=[]).model_dump(mode="json")
    tree["data"]["train"] = ["train-it"]
    without = parse_config(tree)
    named = {key: {**tree[key], "name": "italian"} for key in ("tokenizer", "features")}
    with_names = parse_config({**tree, **named})
    with pytest.raises(UserError, match=r"stats\.json was made .* or features\.name to a name of its own to make anot"):
        compute_features(without, folder / "data", 1, quiet)
    with pytest.raises(UserError, match=r"lang_char_20 was made .* or tokenizer\.name to a name of its own to make an"):
        train_tokenizer(without, folder / "data")
    compute_features(with_names, folder / "data", 1, quiet)
    tokenizer = train_tokenizer(with_names, folder / "data")
    other = parse_config({**tree, "tokenizer": {**named["tokenizer"], "vocab_size": 30}})
    with pytest.raises(
        UserError, match=r"lang_italian was made with tokenizer\.vocab_size 20, .* another tokenizer\.n"
    ):
        train_tokenizer(other, folder / "data")
    train(with_names, folder / "data", folder / "fine")
    fine = load_checkpoint(folder / "fine" / "final.pt")["model"]
    assert fine["joiner.output.weight"].shape[0] == tokenizer.vocab_size < 20
    stats = json.loads(data.stats_of("italian").read_text())
    torch.testing.assert_close(fine["feature_mean"], torch.tensor(stats["mean"]))
    record = json.loads((folder / "fine" / "init.json").read_text())
    assert record["left"]["joiner.output.weight"] == "it depends on the vocabulary, which is another one"
    after = [data.stats.read_bytes(), *(path.read_bytes() for path in sorted(data.lang("char", 20).iterdir()))]
    assert after == before


def run(config: Config, folder: Path, *overrides: str) -> tuple[int, str]:
    """Exit status and message of the command."""
    save_config(config, folder / "recipe.yaml")
    options = ["--config", "recipe.yaml", "--data", "data", "--exp", "exp"]
    arguments = [item for text in overrides for item in ("--set", text)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(command_app(cli_train.run), [*options, *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.init.form=dense", "training.init.form=dense: unknown key form (did you mean from?)"),
        ("init={}", "training.init.from: this key is needed"),
        ("data.language_sampling=equal", "data.language_sampling: must be natural, uniform or {power: NUMBER}"),
        ("data.language_sampling={power: 2}", "data.language_sampling: must be natural, uniform or {power: NUMBER}"),
        ("tokenizer.sets=[]", "tokenizer.sets: needs at least one set, all different"),
        ("features.sets=[a, a]", "features.sets: needs at least one set, all different"),
    ],
)
def test_bad_keys_are_named_by_the_command(trained: Path, override: str, message: str) -> None:
    status, output = run(DENSE, trained, override)
    assert status == 1
    assert message in output
    assert len(output.strip().splitlines()) == 1


def test_shares_of_languages_need_batches_of_one_language(folder: Path) -> None:
    status, output = run(DENSE, folder, "data.language_sampling=uniform")
    assert status == 1
    assert (
        output.strip()
        .splitlines()[-1]
        .startswith(
            "error: data.language_sampling: needs batches of one language each; set data.language_batches to true"
        )
    )
    assert key_of_batches(DENSE, None) is None
    assert key_of_batches(DENSE, "speaker") == "speaker"
    assert key_of_batches(sampled(folder), None) == key_of_batches(sampled(folder), "language") == "language"


def test_a_language_has_an_utterance_for_every_process() -> None:
    check_enough({"en": 20, "fr": 3}, 3)
    with pytest.raises(
        UserError, match=r"data\.train: fr has 3 usable utterances for 4 processes, each of which needs"
    ):
        check_enough({"en": 20, "fr": 3}, 4)
