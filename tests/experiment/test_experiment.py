"""The experiment folder: what is missing is named, what is there is merged, nothing is written by halves."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import torch

from slimasr.config.load import save_config
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.subwords import train_model
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_weights
from slimasr.experiment.record import revision, write_record
from slimasr.files import write_json_atomic
from slimasr.results.schema import Results, SubnetEntry, WerEntry
from slimasr.results.store import read_results, update_results
from slimasr.supernet.subnet import Subnet
from slimasr.training.checkpoint import save_checkpoint
from tests.results.kit import scored
from tests.training.kit import SENTENCES, make_objective, make_trainer, tiny_config, tiny_tokenizer


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder as training leaves it."""
    config, tokenizer = tiny_config(), tiny_tokenizer()
    lang = tmp_path / "lang_char"
    lang.mkdir()
    (lang / "bpe.model").write_bytes(tokenizer.processor.serialized_model_proto())
    exp = tmp_path / "exp"
    write_record(exp, config, lang, Results(command="slimasr-train ...", separate_of=None))
    save_checkpoint(exp / "final.pt", {"model": make_objective(config, tokenizer).model.state_dict()})
    return exp


def test_open(trained: Path) -> None:
    experiment = Experiment.open(trained)
    assert [s.id for s in experiment.space] == ["w1", "w0.5"]
    assert not experiment.model.training
    assert experiment.tokenizer.decode(experiment.tokenizer.encode(SENTENCES[0])) == SENTENCES[0]
    expected = make_objective(tiny_config(), tiny_tokenizer()).model.state_dict()
    for name, value in experiment.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_digest_is_that_of_the_final_weights_whichever_are_open(trained: Path) -> None:
    (trained / "checkpoints").mkdir()
    checkpoint = torch.load(trained / "final.pt", weights_only=True)
    checkpoint["model"]["joiner.output.bias"] += 1.0
    save_checkpoint(trained / "checkpoints" / "best.pt", checkpoint)
    digest = hashlib.sha256((trained / "final.pt").read_bytes()).hexdigest()[:16]
    assert Experiment.open(trained).weights_digest == digest
    opened = Experiment.open(trained, "best")
    assert opened.weights_digest == digest
    (trained / "final.pt").unlink()
    assert opened.weights_digest == digest
    with pytest.raises(UserError, match=r"final.pt is missing: run stage 4"):
        _ = Experiment.open(trained, "best").weights_digest


def test_a_model_without_training_heads(trained: Path) -> None:
    """As extraction saves it."""
    weights = make_objective(tiny_config(), tiny_tokenizer()).model.state_dict()
    bare = {name: value for name, value in weights.items() if not name.startswith("ctc_head")}
    save_checkpoint(trained / "final.pt", {"model": bare, "training_heads": False})
    assert not hasattr(Experiment.open(trained).model, "ctc_head")


@pytest.mark.parametrize("piece", ["config.yaml", "lang", "final.pt"])
def test_a_missing_piece_names_its_stage(trained: Path, piece: str) -> None:
    (trained / piece).rename(trained / "elsewhere")
    with pytest.raises(UserError, match=rf"{piece} is missing: run stage 4 \(slimasr-train\) first"):
        Experiment.open(trained)
    with pytest.raises(UserError, match="missing"):
        Experiment.open(trained, "epoch-001")


def test_a_missing_folder_and_a_missing_checkpoint_are_told_apart(trained: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.config.yaml is missing: .* first, or name an experiment folder that"):
        Experiment.open(trained / "nowhere")
    save_checkpoint(trained / "checkpoints" / "epoch-001.pt", {})
    with pytest.raises(UserError, match=r"epoch-002.pt is missing: .*; checkpoints that exist: final, epoch-001$"):
        Experiment.open(trained, "epoch-002")


def test_weights_that_do_not_fit_are_named(trained: Path) -> None:
    model = make_objective(tiny_config(), tiny_tokenizer()).model
    weights = dict(model.state_dict())
    name = "joiner.output.bias"
    with pytest.raises(UserError, match=rf"the checkpoint lacks {name}"):
        load_weights(model, {k: v for k, v in weights.items() if k != name}, trained)
    with pytest.raises(UserError, match="the model lacks odd"):
        load_weights(model, {**weights, "odd": torch.zeros(1)}, trained)
    with pytest.raises(UserError, match=rf"{name} has shape \(1,\)"):
        load_weights(model, {**weights, name: torch.zeros(1)}, trained)
    save_checkpoint(trained / "final.pt", {"weights": {}})
    with pytest.raises(UserError, match="is not a checkpoint"):
        Experiment.open(trained)


def test_another_tokenizer_of_the_same_size_is_noticed(trained: Path) -> None:
    tokenizer = tiny_tokenizer()
    weights = make_objective(tiny_config(), tokenizer).model.state_dict()
    save_checkpoint(trained / "final.pt", {"model": weights, "tokenizer": tokenizer.fingerprint, "data": "f00d"})
    opened = Experiment.open(trained)
    assert (opened.notes, opened.data) == ((), "f00d")
    characters = tiny_config().tokenizer.model_copy(update={"kind": "char"})
    other = train_model([text.replace("a", "x") for text in SENTENCES], characters)
    (trained / "lang" / "bpe.model").write_bytes(other)
    assert load_tokenizer(trained / "lang").vocab_size == tokenizer.vocab_size
    with pytest.raises(UserError, match=r"final\.pt: was trained with another tokenizer"):
        Experiment.open(trained)


def test_another_tree_with_equally_many_layers_is_noticed(trained: Path) -> None:
    """The weights would load: only the configuration says which layers belong to which branch."""
    trees = [{"shared": 0, "depths": [3, 1]}, {"shared": 1, "depths": [3, 2]}, None]
    encoder = {"kind": "mh_ssm", "d_model": 8, "ssm_state": 4, "ffn_dim": 8}
    made = []
    for tree in trees:
        space = {"kind": "branches" if tree else "widths"}
        made.append(
            tiny_config(model={"encoder": {**encoder, "num_layers": 3 if tree else 4, "tree": tree}}, space=space)
        )
    trainer = make_trainer(made[0], trained / "elsewhere")
    trainer.save_weights(trained / "final.pt")
    trainer.save()
    save_config(made[0], trained / "config.yaml")
    assert Experiment.open(trained).model.config.encoder.paths == [(0, 1, 2), (3,)]
    for other, words in [(made[1], "depths 3, 2 with 1 layer shared"), (made[2], "no tree")]:
        save_config(other, trained / "config.yaml")
        said = rf"another model\.encoder\.tree \(depths 3, 1 with 0 layers shared\) than the recipe's \({words}\)"
        with pytest.raises(UserError, match=rf"final\.pt: was trained with {said}"):
            Experiment.open(trained)
        with pytest.raises(UserError, match=rf"checkpoints: was trained with {said}"):
            make_trainer(other, trained / "elsewhere").resume()


def test_experiments_from_before_open_with_a_note(trained: Path) -> None:
    (note,) = Experiment.open(trained).notes
    assert "final.pt" in note and "not verified" in note


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["joiner.output.bias", "feature_mean", "encoder.layers.0.conv.norm.norms.0.var"])
def test_numbers_that_are_not_finite_are_named(trained: Path, name: str, value: float) -> None:
    """Parameters, feature statistics, statistics of norms: one number among thousands is enough."""
    model = make_objective(tiny_config(), tiny_tokenizer()).model
    weights = {key: weight.clone() for key, weight in model.state_dict().items()}
    name = name if name in weights else next(key for key in weights if key.endswith(".var"))
    weights[name].view(-1)[-1] = value
    save_checkpoint(trained / "final.pt", {"model": weights})
    message = rf"final.pt: damaged checkpoint: {name} holds 1 numbers that are NaN or infinite"
    with pytest.raises(UserError, match=message):
        Experiment.open(trained)
    with pytest.raises(UserError, match=name):
        load_weights(model, weights, trained)


def test_weights_of_another_kind(trained: Path) -> None:
    """Half precision is widened; what is no dense tensor of numbers of the same kind is refused by name."""
    model = make_objective(tiny_config(), tiny_tokenizer()).model
    weights = dict(model.state_dict())
    load_weights(model, {key: w.half() if w.is_floating_point() else w for key, w in weights.items()}, trained)
    assert all(weight.dtype == weights[key].dtype for key, weight in model.state_dict().items())
    name = "joiner.output.bias"
    for wrong in (weights[name].to(torch.int8), weights[name].to(torch.complex64)):
        with pytest.raises(UserError, match=f"{name} has numbers of type"):
            load_weights(model, {**weights, name: wrong}, trained)
    for wrong in ([1.0, 2.0], None, weights[name].to_sparse(), torch.empty_like(weights[name], device="meta")):
        with pytest.raises(UserError, match=f"{name} is not a dense tensor"):
            load_weights(model, {**weights, name: wrong}, trained)
    with pytest.raises(UserError, match="feature_std needs to be above 0"):
        load_weights(model, {**weights, "feature_std": torch.zeros_like(weights["feature_std"])}, trained)
    save_checkpoint(trained / "final.pt", {"model": [1, 2]})
    with pytest.raises(UserError, match="is not a checkpoint"):
        Experiment.open(trained)


def test_results_are_merged(trained: Path) -> None:
    record = read_results(trained)
    assert (record.name, record.seed, record.command) == ("tiny", 42, "slimasr-train ...")
    assert record.versions["torch"].startswith(torch.__version__.split("+")[0])
    whole, half = Subnet(), Subnet(0.5)
    wer = WerEntry.model_validate(scored())
    update_results(trained, Results(subnets={"w1": SubnetEntry(subnet=whole, costs={"params": 3})}))
    more = {"w1": SubnetEntry(subnet=whole, wer={"dev": wer}), "w0.5": SubnetEntry(subnet=half)}
    update_results(trained, Results(subnets=more, seed=7))
    results = read_results(trained)
    assert results.subnets == {
        "w1": SubnetEntry(subnet=whole, costs={"params": 3}, wer={"dev": wer}),
        "w0.5": SubnetEntry(subnet=half),
    }
    assert (results.seed, results.name) == (7, "tiny")
    (trained / "results.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"results.json: not valid JSON .*line 1"):
        read_results(trained)


def test_no_results_yet(tmp_path: Path) -> None:
    assert read_results(tmp_path) == Results()


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_json_atomic(tmp_path / "file" / "x.json", {})


def test_revision_is_git_s() -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    found = revision()
    assert found is not None
    assert head.stdout.startswith(found.removesuffix("-dirty"))


def test_config_is_written_last(tmp_path: Path) -> None:
    """A folder that a kill left without config.yaml begins anew."""
    with pytest.raises(FileNotFoundError):
        write_record(tmp_path / "exp", tiny_config(), tmp_path / "no_lang", Results())
    assert not (tmp_path / "exp" / "config.yaml").exists()
    save_config(tiny_config(), tmp_path / "config.yaml")
