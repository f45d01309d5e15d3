"""Pathways through the commands: each runs on its own language, as an ordinary model with zeros in place of its masks
does."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import slimasr
from slimasr.cli import align, decode, export, extract, profile, score, search, train, transcribe
from slimasr.cli.common import command_app
from slimasr.config.load import save_config
from slimasr.config.method import SlimmableConfig
from slimasr.config.schema import Config
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.timelines.folder import Alignments, read_alignments
from slimasr.decoding.decode import decode_batches
from slimasr.decoding.streaming.sets import decode_streams
from slimasr.decoding.streaming.stream import StreamRecognizer
from slimasr.elastic.blocks import select
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import structure_in_words
from slimasr.export.export import scheme_of
from slimasr.export.gate import Gate, GateTrials, pass_gate
from slimasr.export.manifest import read_manifest
from slimasr.export.writer import BundleOptions
from slimasr.measure.quality import measure_quality
from slimasr.models.base import SpeechModel
from slimasr.models.pathways import prunable_matrices
from slimasr.results.store import read_results
from slimasr.scoring.icefall import read_recogs
from slimasr.scoring.transcripts import read_utt2lang
from slimasr.search.evaluator import Evaluator
from slimasr.supernet.subnet import Subnet
from tests.decoding import made_up
from tests.tiny import randomize

LANGUAGES = ("fr", "nl")
SPARSITY = 0.5


ENCODERS = {
    "conformer": {"head_dim": 4, "kernel_size": 3, "conv_norm": "layer"},
    "emformer": {"kind": "emformer"},
}
FRONT_ENDS = {"conformer": {"channels": 4}, "emformer": {"kind": "stack", "factor": 4}}


def recipe(space: dict[str, Any], encoder: str = "conformer") -> Config:
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, **ENCODERS[encoder]}
    lstm = {"kind": "lstm", "dim": 16, "num_layers": 1, "embedding_dim": 8, "dropout": 0.0}
    return made_up.config(
        model={
            "frontend": FRONT_ENDS[encoder],
            "encoder": sizes,
            "predictor": lstm,
            "joiner": {"dim": 8},
        },
        space=space,
        loss={"transducer": "full", "ctc_weight": 1.0},
        search={"rtf_seconds": 0.5, "kind": "exhaustive"},
        method={"kind": "slimmable", "share_predictor": False},
    )


def pathways() -> Config:
    return recipe({"kind": "pathways", "languages": list(LANGUAGES)})


@pytest.fixture(scope="module", autouse=True)
def _trains_pathways() -> Iterator[None]:
    """What the space asks of a method is a flag of its section."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlimmableConfig, "trains_pathways", True)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/``; ``exp/`` with two pathways; ``fr/exp/`` and ``nl/exp/``, dense models whose weights hold the zeros."""
    root = tmp_path_factory.mktemp("pathways")
    data = made_up.write_data(root, pathways(), languages=LANGUAGES)
    exp = made_up.write_experiment(root, pathways(), data)
    experiment = Experiment.open(exp)
    model = experiment.model
    draw(model)
    assert model.pathways is not None
    save(exp, experiment)
    for name in LANGUAGES:
        folder = made_up.write_experiment(root / name, recipe({"widths": [1.0]}), data)
        dense = Experiment.open(folder)
        weights = copy.deepcopy(model)
        for matrix, kept in model.pathways.expanded(name).items():
            weights.get_parameter(matrix).data.mul_(kept)
        state = {key: tensor for key, tensor in weights.state_dict().items() if not key.startswith("pathways.")}
        dense.model.load_state_dict(state)
        save(folder, dense)
        done(decode.run, folder, "--data", data)
    return root


def draw(model: SpeechModel) -> None:
    """Draw weights, none of them 0 by chance, and masks."""
    assert model.pathways is not None
    randomize(model)
    # So that something is recognised.
    model.joiner.output.bias.data[0] -= 1.0
    for number, name in enumerate(LANGUAGES):
        torch.manual_seed(number)
        for matrix, weight in prunable_matrices(model).items():
            model.pathways.set_mask(name, matrix, select(torch.rand(weight.shape), SPARSITY, (8, 1)))


def save(exp: Path, experiment: Experiment) -> None:
    names = {"tokenizer": experiment.tokenizer.fingerprint, **structure_in_words(experiment.model)}
    torch.save({"model": experiment.model.state_dict(), **names}, exp / "final.pt")


@pytest.fixture
def exp(made: Path, tmp_path: Path) -> Path:
    """A copy of the experiment to write into."""
    return Path(shutil.copytree(made / "exp", tmp_path / "exp"))


def call(run: Callable[..., None], *arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), list(map(str, arguments)))


def done(run: Callable[..., None], *arguments: object) -> str:
    """The output of a command that succeeds."""
    result = call(run, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(run: Callable[..., None], *arguments: object) -> str:
    """The error of a command, one line."""
    result = call(run, *arguments)
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    return line


def found(exp: Path, subnet: str, set_name: str) -> dict[str, tuple[str, ...]]:
    """Utterance id -> its hypothesis."""
    return {u.id: u.hyp for u in read_recogs(exp / "decode" / subnet / set_name / "recogs")}


def dense(made: Path, language: str, set_name: str) -> dict[str, tuple[str, ...]]:
    """The same of the dense model with zeros."""
    return found(made / language / "exp", "w1", set_name)


def own(language: str, set_name: str) -> list[str]:
    """The utterances of a set in a language."""
    return [f"{set_name}{i}" for i in range(4) if LANGUAGES[i % 2] == language]


def test_each_pathway_decodes_its_language(made: Path, exp: Path) -> None:
    done(decode.run, exp, "--data", made / "data")
    for name in LANGUAGES:
        for set_name in ("dev", "test"):
            expected = {key: dense(made, name, set_name)[key] for key in own(name, set_name)}
            assert found(exp, name, set_name) == expected
            assert read_utt2lang(exp / "decode" / name / set_name / "utt2lang") == dict.fromkeys(expected, name)
    assert dense(made, "fr", "test") != dense(made, "nl", "test")
    # Dense models on several languages know them, too.
    assert read_utt2lang(made / "fr" / "exp" / "decode" / "w1" / "dev" / "utt2lang")["dev1"] == "nl"


def test_a_wrong_pathway_is_decoded_when_named(made: Path, exp: Path) -> None:
    named = ("--data", made / "data", "--subnet", "fr", "--set-name", "test")
    done(decode.run, exp, *named)
    assert found(exp, "fr", "test") == dense(made, "fr", "test")
    lines = done(score.run, exp)
    entry = read_results(exp).subnets["fr"].wer["test"]
    assert list(entry.languages) == ["fr", "nl"]
    assert sum(part.errors for part in entry.languages.values()) == entry.errors
    assert sum(part.words for part in entry.languages.values()) == entry.words
    rates = [part.wer for part in entry.languages.values()]
    assert f"mean over languages: WER {sum(rates) / 2:.2f} %" in lines
    # A score of its own language alone leaves nothing of the other one.
    done(decode.run, exp, "--data", made / "data", "--subnet", "fr")
    done(score.run, exp)
    entry = read_results(exp).subnets["fr"].wer["test"]
    assert list(entry.languages) == ["fr"] and entry.languages["fr"].errors == entry.errors and entry.sentences == 2


def test_rates_per_language_of_a_dense_model(made: Path, tmp_path: Path) -> None:
    exp = Path(shutil.copytree(made / "fr" / "exp", tmp_path / "exp"))
    done(score.run, exp, "--pool")
    rates = read_results(exp).subnets["w1"].wer
    for name in LANGUAGES:
        parts = [rates[set_name].languages[name] for set_name in ("dev", "test")]
        assert rates["dev+test"].languages[name].errors == sum(part.errors for part in parts)
    entry = rates["dev"]
    assert {name: part.sentences for name, part in entry.languages.items()} == {"fr": 2, "nl": 2}
    assert json.loads((exp / "results.json").read_text())["subnets"]["w1"]["wer"]["dev"]["languages"]["nl"]["words"] > 0


def test_transcription_asks_for_the_language(made: Path, exp: Path) -> None:
    audio = made / "audio" / "test0.wav"
    assert done(transcribe.run, exp, "--language", "fr", audio).split() == list(dense(made, "fr", "test")["test0"])
    assert done(transcribe.run, exp, "--subnet", "nl", audio).split() == list(dense(made, "nl", "test")["test0"])
    assert refused(transcribe.run, exp, audio) == f"error: {exp}: has a pathway for each language; name one of fr, nl"
    assert refused(transcribe.run, exp, "--language", "it", audio).endswith("no such pathway; choose one of fr, nl")
    assert "not both" in refused(transcribe.run, exp, "--language", "fr", "--subnet", "nl", audio)
    plain = refused(transcribe.run, made / "fr" / "exp", "--language", "fr", audio)
    assert plain.endswith("has no pathways, so it needs no language; leave it out")


def test_python_interface(made: Path, exp: Path) -> None:
    asr = slimasr.load(exp)
    assert asr.languages == LANGUAGES
    audio = made / "audio" / "test1.wav"
    assert asr.transcribe(audio, "nl").split() == list(dense(made, "nl", "test")["test1"])
    with pytest.raises(UserError, match="name one of fr, nl$"):
        asr.transcribe(audio)


def test_the_search_measures_a_pathway_on_its_own_dev_data(made: Path, exp: Path) -> None:
    lines = done(search.run, exp, "--data", made / "data").splitlines()
    done(decode.run, exp, "--data", made / "data", "--set-name", "dev")
    searched = read_results(exp).subnets
    done(score.run, exp)
    scored = read_results(exp).subnets
    for name in LANGUAGES:
        assert searched[name].wer["dev"] == scored[name].wer["dev"]
        assert searched[name].wer["dev"].sentences == 2
        assert f"best for {name}: {name}, dev WER {scored[name].wer['dev'].wer:.2f} %" in lines
    front = json.loads((exp / "search" / "front.json").read_text())["front"]
    assert {entry["id"] for entry in front} == set(LANGUAGES)
    # Limits choose among the subnets of one language.
    out = exp.parent / "small"
    assert refused(extract.run, exp, "--out", out, "--max-params", 1e9) == (
        "error: limits choose within a language: name one of fr, nl"
    )
    done(extract.run, exp, "--out", out, "--max-params", 1e9, "--language", "nl")
    done(decode.run, out, "--data", made / "data", "--set-name", "test")
    assert found(out, "w1", "test") == dense(made, "nl", "test")


def test_the_evaluator_mixes_up_no_pathways(made: Path) -> None:
    """Errors and loss, one pathway after the other in one evaluator, against the dense models."""
    experiment = Experiment.open(made / "exp")
    config, tokenizer = experiment.config, experiment.tokenizer
    batches = list(eval_batches(config, made / "data", "dev", tokenizer, 2.0))
    evaluator = Evaluator(experiment.model, tokenizer, batches, config)
    for name in (*LANGUAGES, *LANGUAGES):
        outcome = evaluator.evaluate(experiment.space.parse(name))
        plain = Experiment.open(made / name / "exp").model
        spoken = [batch for batch in batches if batch.language == name]
        quality = measure_quality(plain, Subnet(), spoken, tokenizer, config.loss, config.decoding)
        assert (outcome.errors, outcome.words) == (quality.wer.counts.errors, quality.wer.counts.words)
        assert outcome.dev_loss == pytest.approx(quality.loss, rel=1e-4)


def test_streams_of_a_pathway(tmp_path: Path) -> None:
    """Against the stand-alone model on the whole utterances."""
    config = recipe({"kind": "pathways", "languages": list(LANGUAGES)}, "emformer")
    data = made_up.write_data(tmp_path, config, languages=LANGUAGES)
    experiment = Experiment.open(made_up.write_experiment(tmp_path, config, data))
    draw(experiment.model)
    batches = list(eval_batches(config, data, "test", experiment.tokenizer, 4.0))
    streams = {}
    for name in LANGUAGES:
        subnet = experiment.space.parse(name)
        recognizer = StreamRecognizer.of(experiment, subnet)
        streams[name] = [utterance.words for utterance in decode_streams(recognizer, batches)]
        alone = experiment.model.extract(subnet)
        assert streams[name] == decode_batches(alone, batches, experiment.tokenizer, None, config.decoding)
    assert streams["fr"] != streams["nl"]


def times(alignments: Alignments, name: str) -> list[tuple[int, int]]:
    timeline = alignments.of(name)
    return list(zip(timeline.starts.tolist(), timeline.ends.tolist(), strict=True))


def test_alignments_of_a_pathway(made: Path, exp: Path) -> None:
    assert "name one of fr, nl" in refused(align.run, exp, "--data", made / "data")
    for source in ("ctc", "transducer"):
        done(align.run, exp, "--data", made / "data", "--subnet", "nl", "--source", source)
        plain = made / "nl" / "exp"
        done(align.run, plain, "--data", made / "data", "--source", source, "--out", exp / "plain")
        ours, expected = (read_alignments(folder, ["dev"]) for folder in (exp / "alignments", exp / "plain"))
        for i in range(4):
            if LANGUAGES[i % 2] == "nl":
                assert times(ours, f"dev{i}") == times(expected, f"dev{i}") != []
            else:
                assert not ours.of(f"dev{i}").aligned


def test_profile_of_one_pathway(exp: Path) -> None:
    costs = json.loads(done(profile.run, exp, "--no-rtf", "--json", "--subnet", "nl"))
    assert list(costs) == ["nl"]
    kept = Experiment.open(exp).model.extract(Experiment.open(exp).space.parse("nl"))
    assert costs["nl"]["costs"]["params"] == sum(int((p != 0).sum()) for p in kept.parameters())


def test_int8_of_a_pathway(made: Path, exp: Path, tmp_path: Path) -> None:
    """What counts is its own language, also where float was measured on all."""
    pytest.importorskip("onnxruntime")
    done(decode.run, exp, "--data", made / "data", "--subnet", "fr", "--set-name", "dev")
    done(score.run, exp)
    assert list(read_results(exp).subnets["fr"].wer["dev"].languages) == ["fr", "nl"]
    note_wer(exp, {"fr": 60.0, "nl": 20.0}, 40.0)
    sets = ("--data", made / "data", "--set-name", "test")
    done(export.run, exp, *sets, "--subnet", "fr", "--int8", "--force", "--out", tmp_path / "bundle")
    int8 = read_results(exp).subnets["fr"].int8
    assert int8 is not None
    assert {name: entry.sentences for name, entry in int8.wer.items()} == {"dev": 2, "test": 2}
    assert list(int8.wer["test"].languages) == ["fr"]
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.sizes[0].float.wer == {"dev": 60.0}
    # The gate measures nothing again.
    for own, every, is_kept in ((int8.wer["dev"].wer, 0.0, True), (int8.wer["dev"].wer - 1.0, 1000.0, False)):
        note_wer(exp, {"fr": own}, every)
        experiment = Experiment.open(exp)
        trials = GateTrials.find(experiment, Gate(made / "data", ["dev"]), print)
        scheme = scheme_of(BundleOptions(int8=True), manifest)
        passed = pass_gate(experiment, tmp_path / "bundle", manifest, scheme, trials, print)
        assert (passed.sizes[0].int8 is not None) == is_kept


def note_wer(exp: Path, languages: dict[str, float], wer: float) -> None:
    """Change what results.json says of the pathway fr on dev."""
    content = json.loads((exp / "results.json").read_text())
    entry = content["subnets"]["fr"]["wer"]["dev"]
    part = entry["languages"]["fr"]
    entry |= {"wer": wer, "languages": {name: {**part, "wer": rate} for name, rate in languages.items()}}
    (exp / "results.json").write_text(json.dumps(content))


def test_int8_of_a_pathway_needs_its_wer_in_its_language(made: Path, exp: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done(decode.run, exp, "--data", made / "data", "--subnet", "fr", "--set-name", "dev")
    done(score.run, exp)
    note_wer(exp, {"nl": 5.0}, 5.0)
    words = (export.run, exp, "--subnet", "fr", "--int8", "--out", tmp_path / "bundle", "--data")
    line = refused(*words, made / "data")
    assert "fr: its WER on dev in float is not known" in line
    assert f"slimasr-decode {exp} --data {made / 'data'} --subnet fr and slimasr-score {exp} first" in line
    dutch = made_up.write_data(tmp_path, pathways(), languages=("nl",))
    line = refused(*words, dutch)
    assert "fr: dev has no utterance in its language, so what int8 loses is not known; --force writes it" in line


def test_sets_and_pathways_that_are_not_named_are_left_out(exp: Path, tmp_path: Path) -> None:
    french = made_up.write_data(tmp_path, pathways(), languages=("fr",))
    # No pathway is named: the one of another language is left out.
    assert done(decode.run, exp, "--data", french, "--set-name", "dev").count("utterances") == 1
    assert "nl: dev, test have no utterance" in refused(decode.run, exp, "--data", french, "--subnet", "nl")


def test_sets_in_no_language_of_the_pathways(made: Path, exp: Path, tmp_path: Path) -> None:
    italian = made_up.write_data(tmp_path, pathways(), languages=("it",))
    message = refused(decode.run, exp, "--data", italian)
    assert "fr: dev, test have no utterance in the language fr of this pathway" in message
    nameless = made_up.write_data(tmp_path / "other", pathways(), languages=("",))
    assert "dev: utterance dev0 has no language" in refused(decode.run, exp, "--data", nameless)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["fr", "nl", "it"], "data.train: train have no utterance in the language it of space.languages; add a"),
        (["fr"], "train: utterance train1 has the language nl, but space.languages has fr; add the language there"),
    ],
)
def test_training_needs_every_language(made: Path, tmp_path: Path, languages: list[str], message: str) -> None:
    path = tmp_path / "conf.yaml"
    save_config(recipe({"kind": "pathways", "languages": languages}), path)
    line = refused(train.run, "--config", path, "--data", made / "data", "--exp", tmp_path / "exp")
    assert line.startswith(f"error: {message}")
