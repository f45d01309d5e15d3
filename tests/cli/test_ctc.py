"""CTC models through the command line: the figures and texts of two outputs, against plain computation."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

import slimasr
from slimasr.cli import align, decode, export, extract, profile, score, search, transcribe
from slimasr.cli.common import command_app
from slimasr.data.files import DataFolder
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.timelines.folder import read_alignments
from slimasr.experiment import Experiment
from slimasr.losses.ctc_alignment import ctc_best_path
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import TEXTS, config, write_data, write_experiment
from tests.results.kit import results_json

FIRST = Subnet(1.0, (0,), head="exit1")
SUBNETS = {"w1": Subnet(), FIRST.id: FIRST}
with_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra export is not installed",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and ``exp/``, a model of two layers with an output after each of them."""
    root = tmp_path_factory.mktemp("ctc")
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 2, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3}
    recipe = config(
        model={"kind": "ctc", "frontend": {"channels": 4}, "encoder": sizes, "exits": [1]},
        space={"kind": "layers", "depths": [2, 1]},
        method={"kind": "multi_exit"},
        loss={},
        search={"rtf_seconds": 0.5},
    )
    write_experiment(root, recipe, write_data(root, recipe))
    return root


def call(command: Callable[..., None], *arguments: object) -> Result:
    result = CliRunner().invoke(command_app(command), list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result


def utterances(place: Path, set_name: str) -> dict[str, tuple[Tensor, str]]:
    """Id -> features and transcript."""
    cuts = read_feature_cuts(DataFolder(place / "data"), set_name)
    return {cut.id: (torch.as_tensor(cut.load_features()), cut.supervisions[0].text) for cut in cuts}


@torch.no_grad()
def log_probs(experiment: Experiment, features: Tensor, subnet: Subnet) -> Tensor:
    """(T, V) of one utterance."""
    model = experiment.model
    encoded = model.encode(features.unsqueeze(0), torch.tensor([len(features)]), subnet)
    head = model.get_submodule("heads.exit1" if subnet.head else "output")
    return F.linear(encoded.out, head.weight, head.bias)[0].log_softmax(-1)  # type: ignore[arg-type]


def best_text(experiment: Experiment, features: Tensor, subnet: Subnet) -> str:
    """The best label of every frame, repetitions and blanks left out."""
    labels = log_probs(experiment, features, subnet).argmax(-1).tolist()
    merged = [label for label, _ in itertools.groupby(labels)]
    return experiment.tokenizer.decode([label for label in merged if label not in (0, 2)]).strip()


def test_decoding_is_greedy(place: Path) -> None:
    call(decode.run, place / "exp", "--data", place / "data", "--set-name", "test")
    experiment = Experiment.open(place / "exp")
    different = set()
    for name, subnet in SUBNETS.items():
        recogs = (place / "exp" / "decode" / name / "test" / "recogs").read_text()
        for utterance, (features, _) in utterances(place, "test").items():
            expected = best_text(experiment, features, subnet)
            assert f"{utterance}:\thyp={expected.split()}" in recogs
            different.add((name, expected))
    assert len(different) == 2 * len(TEXTS), "texts that are all equal would say little"


def test_search_measures_the_ctc_loss(place: Path) -> None:
    output = call(search.run, place / "exp", "--data", place / "data").output
    assert "predictor" not in output
    experiment = Experiment.open(place / "exp")
    entries = results_json(place / "exp")["subnets"]
    for name, subnet in SUBNETS.items():
        total = torch.zeros(())
        tokens = 0
        for features, text in utterances(place, "dev").values():
            scores = log_probs(experiment, features, subnet)
            y = torch.tensor(experiment.tokenizer.encode(text))
            total += F.ctc_loss(scores, y, torch.tensor(len(scores)), torch.tensor(len(y)), reduction="sum")
            tokens += len(y)
        assert entries[name]["dev_loss"] == pytest.approx(float(total) / tokens, rel=1e-4)
        assert entries[name]["costs"]["rtf"] > 0
        assert entries[name]["subnet"] == subnet.to_dict()


def test_profile_counts_what_extracted_models_hold(place: Path, tmp_path: Path) -> None:
    found = json.loads(call(profile.run, place / "exp", "--json", "--no-rtf").stdout)
    assert list(found) == list(SUBNETS)
    supernet = Experiment.open(place / "exp").model
    for name, subnet in SUBNETS.items():
        call(extract.run, place / "exp", "--subnet", name, "--out", tmp_path / name)
        alone = Experiment.open(tmp_path / name)
        assert found[name]["costs"]["params"] == sum(p.numel() for p in alone.model.parameters())
        x, x_lens = torch.randn(2, 60, 80), torch.tensor([60, 41])
        with torch.no_grad():
            expected = supernet.ctc_logits(supernet(x, x_lens, subnet).out, subnet)
            torch.testing.assert_close(alone.model.ctc_logits(alone.model(x, x_lens).out)[0], expected[0])


def test_transcription_from_the_command_line_and_python(place: Path, tmp_path: Path) -> None:
    audio = place / "audio" / "test2.wav"
    experiment = Experiment.open(place / "exp")
    expected = best_text(experiment, utterances(place, "test")["test2"][0], FIRST)
    assert call(transcribe.run, place / "exp", "--subnet", FIRST.id, audio).stdout == f"{expected}\n"
    recognizer = slimasr.load(place / "exp")
    assert recognizer.transcribe(audio, "w1-l1") == expected
    assert recognizer.extract("min", tmp_path / "small").transcribe(audio) == expected


def test_alignments_are_best_paths_of_the_subnets_output(place: Path, tmp_path: Path) -> None:
    arguments = (place / "exp", "--data", place / "data", "--out", tmp_path, "--set-name", "test")
    call(align.run, *arguments, "--subnet", FIRST.id)
    assert json.loads((tmp_path / "alignments.json").read_text())["source"] == "ctc"
    experiment = Experiment.open(place / "exp")
    found = read_alignments(tmp_path, ["test"]).timelines
    for name, (features, text) in utterances(place, "test").items():
        y = torch.tensor([experiment.tokenizer.encode(text)])
        scores = log_probs(experiment, features, FIRST).unsqueeze(0)
        paths, _ = ctc_best_path(scores, torch.tensor([scores.shape[1]]), y, torch.tensor([y.shape[1]]))
        units = [-1] * len(features)
        for t, position in enumerate(paths[0].tolist()):
            units[4 * t : 4 * t + 4] = [position] * 4
        assert found[name].units_at(1, len(features)).tolist() == units
    refused = CliRunner().invoke(command_app(align.run), [*map(str, arguments), "--source", "transducer"])
    assert refused.exit_code == 1 and "is a CTC model; give --source ctc" in refused.output


@with_onnx
def test_a_bundle_has_one_file_for_a_size_and_is_recognised_with(place: Path, tmp_path: Path) -> None:
    data = ("--data", place / "data")
    call(decode.run, place / "exp", *data, "--subnet", "min", "--set-name", "dev")
    call(score.run, place / "exp")
    sets = ("--set-name", "test", "--int8", "--force")
    output = call(export.run, place / "exp", *data, "--subnet", "min", *sets, "--out", tmp_path / "bundle").output
    assert f"{FIRST.id} test: WER" in output
    names = {file.name for file in (tmp_path / "bundle").glob("*.onnx")}
    assert names == {f"encoder.{FIRST.id}.onnx", f"encoder.{FIRST.id}.int8.onnx", "features.onnx"}
