"""Where initial weights come from: experiments, extracted models, checkpoints, subnets; and what does not fit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from slimasr.config.load import parse_config
from slimasr.config.schema import Config
from slimasr.config.sizes import first_different_size
from slimasr.data.tokens.subwords import SentencePieceTokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.experiment.extract import extract_experiment
from slimasr.experiment.initial import InitialWeights, initial_weights, read_unchanged
from slimasr.experiment.record import write_record
from slimasr.methods import resolve_config
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model
from slimasr.results.schema import Results
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet
from slimasr.training.checkpoint import save_checkpoint
from tests.tiny import features, randomize
from tests.training.kit import make_objective, tiny_config, tiny_tokenizer

EMFORMER = {"kind": "emformer", "d_model": 16, "num_layers": 2, "num_heads": 4, "ffn_dim": 32, "dropout": 0.0}
SUPERNET = tiny_config()


def trained(folder: Path, config: Config = SUPERNET) -> Path:
    """An experiment with random weights, as training leaves it."""
    tokenizer = tiny_tokenizer()
    lang = folder.with_name(f"{folder.name}_lang")
    lang.mkdir(parents=True)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    (lang / "bpe.model").write_bytes(tokenizer.processor.serialized_model_proto())
    write_record(folder, config, lang, Results(command="slimasr-train ..."))
    model = randomize(make_objective(config, tokenizer).model)
    (folder / "checkpoints").mkdir()
    content = {"model": model.state_dict(), "tokenizer": tokenizer.fingerprint}
    save_checkpoint(folder / "checkpoints" / "best.pt", content)
    save_checkpoint(folder / "final.pt", content)
    return folder


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained supernet of two widths; to read only."""
    return trained(tmp_path_factory.mktemp("trained") / "supernet")


def begins(config: Config, start: Path, **init: Any) -> Config:
    """A recipe that begins with other weights."""
    tree = config.model_dump(mode="json")
    tree["training"]["init"] = {"from": str(start), **init}
    return parse_config(tree)


def changed(config: Config, **sections: Any) -> Config:
    tree = config.model_dump(mode="json")
    # A section of another kind has other keys.
    merged = {name: section if "kind" in section else {**tree[name], **section} for name, section in sections.items()}
    return parse_config({**tree, **merged})


def separate(subnet: str) -> Config:
    return changed(SUPERNET, method={"kind": "separate", "subnet": subnet})


def started(config: Config, asked: Config | None = None) -> tuple[SpeechModel, InitialWeights, Any]:
    """The model of a run, in evaluation mode, what it began with, and what was taken."""
    start = initial_weights(config, asked)
    assert start is not None
    tokenizer = tiny_tokenizer()
    torch.manual_seed(7)
    model = build_model(config.model, config.loss, tokenizer.vocab_size, build_space(config).widths)
    taken = start.take_into(model, config, tokenizer.fingerprint)
    return model.eval(), start, taken


def encoded(model: SpeechModel, subnet: Subnet | None = None) -> torch.Tensor:
    x, lens = features((61, 40), bins=20)
    return model.encode(x, lens, subnet).out


@pytest.mark.parametrize(
    ("place", "weights"), [(".", "all"), ("final.pt", "matching"), ("checkpoints/best.pt", "all"), (".", "matching")]
)
def test_an_experiment_or_its_checkpoint_is_taken_whole(supernet: Path, place: str, weights: str) -> None:
    config = begins(SUPERNET, supernet / place, weights=weights)
    model, start, taken = started(config)
    expected = Experiment.open(supernet).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert not taken.left
    assert not taken.unused
    assert start.subnet is None
    assert start.path == (supernet / "final.pt" if place == "." else supernet / place)


def test_a_file_elsewhere_needs_a_tokenizer_of_the_run(supernet: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(supernet / "final.pt", tmp_path / "weights.pt"))
    with pytest.raises(UserError, match=r"weights\.pt is in no experiment folder with a tokenizer; set .* to own"):
        initial_weights(begins(SUPERNET, path))
    with pytest.raises(UserError, match=r"init\.subnet: .* is in no experiment folder, so 0\.5 is not known"):
        initial_weights(begins(SUPERNET, path, tokenizer="own", subnet="0.5"))
    for weights in ("all", "matching"):
        model, _, taken = started(begins(SUPERNET, path, tokenizer="own", weights=weights))
        expected = torch.load(path, weights_only=True)["model"]
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
        assert not taken.left
    with pytest.raises(UserError, match=r"gone\.pt is missing; name an experiment folder or a checkpoint"):
        initial_weights(begins(SUPERNET, tmp_path / "gone.pt", tokenizer="own"))


@pytest.mark.parametrize("encoder", [None, EMFORMER])
def test_an_extracted_model_has_the_sizes_of_its_recipe(encoder: dict[str, Any] | None, tmp_path: Path) -> None:
    """Extraction writes out sizes that follow from others; they mean the same."""
    model = {**SUPERNET.model.model_dump(mode="json"), **({} if encoder is None else {"encoder": encoder})}
    config = changed(parse_config({**SUPERNET.model_dump(mode="json"), "model": model}), loss={"ctc_weight": 0.0})
    experiment = Experiment.open(trained(tmp_path / "exp", config))
    extract_experiment(experiment, Subnet(0.5), tmp_path / "half")
    extract_experiment(experiment, Subnet(1.0, None, (("0.ffn" if encoder else "0.ffn1", 32),)), tmp_path / "listed")
    asked = changed(config, method={"kind": "separate", "subnet": "0.5"})
    resolved, _ = resolve_config(asked)
    written, _ = resolve_config(changed(config, method={"kind": "separate", "subnet": "1.0"}))
    for recipe, start, subnet in ((resolved, "half", Subnet(0.5)), (written, "listed", Subnet())):
        ours, _, _ = started(begins(recipe, tmp_path / start))
        assert torch.equal(encoded(ours), encoded(Experiment.open(tmp_path / start).model))
        torch.testing.assert_close(encoded(ours), encoded(experiment.model, subnet), atol=1e-5, rtol=1e-5)
    extracted = Experiment.open(tmp_path / "half").config.model
    assert first_different_size(extracted, resolved.model) is None
    listed = Experiment.open(tmp_path / "listed").config.model
    assert listed != written.model
    assert first_different_size(listed, written.model) is None
    difference = first_different_size(extracted, config.model)
    assert difference is not None
    with pytest.raises(UserError, match=r"half does not fit this recipe: model\.\S+: \d+ against \d+; make"):
        initial_weights(begins(config, tmp_path / "half"))


@pytest.mark.parametrize(
    ("weights", "named", "width"), [("all", False, 0.5), ("matching", True, 0.5), ("all", False, 1.0)]
)
def test_a_separate_model_begins_as_a_subnet(supernet: Path, weights: str, named: bool, width: float) -> None:
    asked = begins(separate(str(width)), supernet, weights=weights, **({"subnet": "w0.5"} if named else {}))
    config, _ = resolve_config(asked)
    model, start, taken = started(config, None if named else asked)
    opened = Experiment.open(supernet).model
    torch.testing.assert_close(encoded(model), encoded(opened, Subnet(width)), atol=1e-5, rtol=1e-5)
    channels = round(16 * width)
    assert torch.equal(model.ctc_head.weight, opened.ctc_head.weight[:, :channels])
    assert start.subnet == Subnet(width)
    assert not taken.left
    assert not taken.unused
    assert config.training.init is not None
    again = read_unchanged(config.training.init, start.digest, start.subnet)
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_a_smaller_recipe_begins_as_the_part_of_the_experiment_that_has_its_sizes(supernet: Path) -> None:
    config, _ = resolve_config(separate("0.5"))
    config = changed(config, model={"encoder": {**config.model.encoder.model_dump(mode="json"), "num_layers": 1}})
    model, start, taken = started(begins(config, supernet, weights="matching"))
    part = Subnet(0.5, (0,))
    torch.testing.assert_close(encoded(model), encoded(Experiment.open(supernet).model, part), atol=1e-5, rtol=1e-5)
    assert start.subnet == part
    assert not taken.left
    with pytest.raises(UserError, match=r"model\..*; make them equal, or set training\.init\.weights to matching"):
        initial_weights(begins(config, supernet))
    with pytest.raises(UserError, match=r"0\.3"):
        initial_weights(begins(config, supernet, subnet="0.3"))


def other_tokenizer() -> Tokenizer:
    import sentencepiece

    from slimasr.data.tokens.subwords import train_model

    processor = sentencepiece.SentencePieceProcessor()
    characters = SUPERNET.tokenizer.model_copy(update={"kind": "char"})
    processor.LoadFromSerializedProto(train_model(["xy yx", "zxy"], characters))
    return SentencePieceTokenizer(processor, tuple(processor.IdToPiece(i) for i in range(processor.GetPieceSize())))


def test_another_vocabulary_is_refused_or_begins_at_random(supernet: Path) -> None:
    tokenizer = other_tokenizer()
    config = begins(SUPERNET, supernet, tokenizer="own")
    start = initial_weights(config)
    assert start is not None
    model = build_model(config.model, config.loss, tokenizer.vocab_size, (0.5, 1.0))
    with pytest.raises(UserError, match=r"another tokenizer .*training\.init\.weights to matching to begin"):
        start.take_into(model, config, tokenizer.fingerprint)
    config = begins(SUPERNET, supernet, tokenizer="own", weights="matching")
    start = initial_weights(config)
    assert start is not None
    taken = start.take_into(model, config, tokenizer.fingerprint)
    assert set(taken.left.values()) == {"it depends on the vocabulary, which is another one"}
    assert "predictor.embedding.weight" in taken.left
    assert torch.equal(encoded(model.eval()), encoded(Experiment.open(supernet).model))


def test_statistics_that_are_kept_need_the_same_features(supernet: Path) -> None:
    config = changed(SUPERNET, data={"sampling_rate": 8000})
    with pytest.raises(UserError, match=r"data\.sampling_rate: 16000 against 8000; .* set training\.init\.weights"):
        initial_weights(begins(config, supernet, weights="matching"))
    own = begins(config, supernet, weights="matching", stats="own")
    model, _, taken = started(own)
    assert taken.left == dict.fromkeys(("feature_mean", "feature_std"), "the run has its own (training.init.stats)")
    assert torch.equal(model.feature_mean, torch.zeros(20))
    model, start, _ = started(begins(SUPERNET, supernet, stats="own"))
    assert torch.equal(model.feature_mean, torch.zeros(20))
    assert own.training.init is not None
    assert "feature_mean" not in read_unchanged(own.training.init, start.digest)


def test_what_cannot_be_a_start_is_named(supernet: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with pytest.raises(UserError, match=r"notes\.txt is no experiment folder, and no checkpoint, whose path ends in"):
        initial_weights(begins(SUPERNET, tmp_path / "notes.txt"))
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(UserError, match=r"text\.pt: damaged checkpoint"):
        initial_weights(begins(SUPERNET, tmp_path / "text.pt", tokenizer="own"))
    with pytest.raises(UserError, match=r"empty/config\.yaml is missing: run stage 4 .*, or name a trained experiment"):
        initial_weights(begins(SUPERNET, tmp_path / "empty"))
    # A CTC model and a transducer have encoders in common, but a model of another kind of layers has nothing.
    ctc = trained(tmp_path / "ctc", tiny_config(model={"kind": "ctc", **shared_model()}))
    with pytest.raises(UserError, match=r"model\.kind: 'ctc' against 'transducer'; make them equal"):
        initial_weights(begins(SUPERNET, ctc))
    model, _, taken = started(begins(SUPERNET, ctc, weights="matching"))
    assert torch.equal(encoded(model), encoded(Experiment.open(ctc).model))
    assert {name.split(".")[0] for name in taken.left} == {"predictor", "joiner", "ctc_head"}
    assert {name.split(".")[0] for name in taken.unused} == {"output"}
    other = {**SUPERNET.model.model_dump(mode="json"), "encoder": {**EMFORMER, "d_model": 48, "num_heads": 12}}
    bare = {"frontend": {"channels": 8}, "predictor": {"kind": "stateless", "dim": 12}, "joiner": {"dim": 24}}
    unlike = parse_config({**SUPERNET.model_dump(mode="json"), "model": {**other, **bare}})
    config = begins(unlike, supernet, weights="matching", tokenizer="own")
    start = initial_weights(config)
    assert start is not None
    with pytest.raises(
        UserError, match=r"no weight of .*final\.pt fits this model \(model\.encoder\.kind: 'conformer'"
    ):
        start.take_into(build_model(config.model, config.loss, 30, (0.5, 1.0)), config, "another")


def test_files_of_other_programs_are_refused_with_what_they_are(supernet: Path, tmp_path: Path) -> None:
    complete = (supernet / "final.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(complete[: len(complete) // 2])
    (tmp_path / "empty.pt").touch()
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    torch.save({"model": {0: torch.ones(1)}}, tmp_path / "numbered.pt")
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    messages = {
        "half.pt": r"damaged checkpoint \(it is incomplete, or was not written by slimasr-train\); use another",
        "empty.pt": r"damaged checkpoint \(it is incomplete",
        "pickled.pt": r"damaged checkpoint \(it holds more than tensors and plain values",
        "numbered.pt": r"is not a checkpoint of slimasr-train \(a weight is named 0\)",
        "folder.pt": r"is no file; name an experiment folder or a checkpoint",
        "pipe.pt": r"is no file; name an experiment folder or a checkpoint",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=rf"{name}:? {message}"):
            initial_weights(begins(SUPERNET, tmp_path / name, tokenizer="own"))
    for name in ("folder.pt", "pipe.pt"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read \(.+\); name a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_all_weights_of_other_widths_are_refused_with_what_to_change(supernet: Path) -> None:
    one = changed(SUPERNET, space={"widths": [1.0]}, method={"kind": "separate"})
    for recipe, init in ((one, {}), (SUPERNET, {"subnet": 1.0})):
        with pytest.raises(UserError, match=r"^training\.init\.from: .*; give the recipe the sizes and space\.widths"):
            started(begins(recipe, supernet, **init))
        started(begins(recipe, supernet, weights="matching", **init))


def shared_model() -> dict[str, Any]:
    """What models of all kinds have in common."""
    tree = SUPERNET.model.model_dump(mode="json")
    return {name: tree[name] for name in ("num_mel_bins", "frontend", "encoder")}
