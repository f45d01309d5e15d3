"""Models of every kind from an experiment to sherpa-onnx through the commands: phonemes in a graph, trees, pathways."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli import check, decode, export
from slimasr.cli.common import command_app
from slimasr.experiment import Experiment
from slimasr.export.check.audio import set_audio
from slimasr.export.manifest import Manifest, read_manifest
from slimasr.supernet.subnet import Subnet
from tests.cli import test_branches
from tests.decoding.made_up import config, write_data, write_experiment
from tests.models.pathway_kit import draw_masks

if [name for name in ("onnx", "onnxscript", "sherpa_onnx") if importlib.util.find_spec(name) is None]:
    pytest.skip("the extra export is not installed", allow_module_level=True)

import onnx

from tests.export.check.handmade import make_talkative

CTC = {
    "kind": "ctc",
    "frontend": {"channels": 4},
    "encoder": {"d_model": 16, "num_layers": 1, "num_heads": 2, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3},
}
LANGUAGES = ("fr", "nl")


@dataclass(frozen=True)
class Exported:
    """An experiment, its data and its bundle."""

    exp: Path
    data: Path
    bundle: Path

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)

    def places(self, encoder: str) -> dict[int, int]:
        """Where the tensors of an encoder begin in the file of weights -> their length."""
        tensors = onnx.load(self.bundle / encoder, load_external_data=False).graph.initializer
        found = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
        return {int(entry["offset"]): int(entry["length"]) for entry in found if entry}


def exported(root: Path, data: Path, *subnets: str, name: str = "bundle", options: Sequence[str] = ()) -> Exported:
    """Export subnets of ``exp/``."""
    words = [word for subnet in subnets for word in ("--subnet", subnet)]
    words += [str(root / "exp"), "--out", str(root / name), *options]
    result = CliRunner().invoke(command_app(export.run), words)
    assert result.exit_code == 0, result.output
    return Exported(root / "exp", data, root / name)


def checked(place: Exported, kind: str = "float") -> dict[str, dict[str, int]]:
    """Check a bundle on the test set; return the figures of each size."""
    words = [str(place.bundle), "--exp", str(place.exp), "--data", str(place.data), "--set-name", "test"]
    result = CliRunner().invoke(command_app(check.run), words)
    assert result.exit_code == 0, result.output
    sizes = json.loads((place.bundle / "check.json").read_text(encoding="utf-8"))["sizes"]
    return {name: size["models"][kind]["sets"]["test"] for name, size in sizes.items()}


def test_phonemes_in_a_graph(tmp_path: Path) -> None:
    for name in ("kaldi_decoder", "kaldilm", "kaldingram"):
        pytest.importorskip(name, reason="the extra graph is not installed")
    from slimasr.data.graphs.stage import make_graph
    from tests.cli.test_graph_decoding import let_phonemes_change

    lexicon = {"kind": "phonemes", "lexicon": "spelling", "vocab_size": 40}
    recipe = config(model=CTC, tokenizer=lexicon, decoding={"kind": "graph"}, loss={})
    data = write_data(tmp_path, recipe)
    make_graph(recipe, data)
    exp = write_experiment(tmp_path, recipe, data)
    let_phonemes_change(exp, data)
    # It notes the graph that belongs to the experiment.
    words = [str(exp), "--data", str(data), "--set-name", "dev", "--subnet", "0.5"]
    assert CliRunner().invoke(command_app(decode.run), words).exit_code == 0
    place = exported(tmp_path, data, "0.5")
    manifest = place.manifest
    assert (manifest.kind, manifest.graph, manifest.words, manifest.decoder) == ("ctc", "HLG.fst", "words.txt", None)
    (rate,) = checked(place).values()
    # Tokens are words here.
    assert rate["identical"] == rate["utterances"] == 4 and rate["tokens"] >= 4


def test_ctc_without_a_graph(tmp_path: Path) -> None:
    recipe = config(model=CTC, loss={})
    data = write_data(tmp_path, recipe)
    write_experiment(tmp_path, recipe, data)
    place = exported(tmp_path, data, "max", "0.5")
    manifest = place.manifest
    assert (manifest.kind, manifest.graph, manifest.decoder, manifest.joiner) == ("ctc", None, None, None)
    rates = checked(place)
    assert list(rates) == ["w1", "w0.5"]
    assert all(rate["identical"] == rate["utterances"] == 4 for rate in rates.values())
    assert rates["w1"]["tokens"] >= 4 and rates["w0.5"]["tokens"] > 30


def test_branches_of_a_tree_store_what_they_share_once(tmp_path: Path) -> None:
    recipe = test_branches.recipe()
    data = write_data(tmp_path, recipe)
    exp = write_experiment(tmp_path, recipe, data)
    make_talkative(exp, [Subnet(), test_branches.BRANCH])
    place = exported(tmp_path, data, "max", "l2")
    first, second = (place.places(size.float.encoder) for size in place.manifest.sizes)
    both = first.keys() & second.keys()
    shared = Experiment.open(exp).model.encoder.get_submodule("layers.0")
    matrices = sum(weight.numel() for weight in shared.parameters() if weight.ndim == 2)
    assert sum(first[offset] for offset in both) >= 4 * matrices
    assert first.keys() - both and second.keys() - both
    is_once(place, first | second)
    stream = exported(tmp_path, data, "max", "l2", name="stream", options=["--streaming"])
    assert stream.manifest.streaming is not None and stream.manifest.streaming.carrier == "conformer"
    for rates in (checked(place), checked(stream, "float, chunks of 160 ms")):
        assert list(rates) == ["w1", test_branches.BRANCH.id]
        assert all(rate["identical"] == rate["utterances"] == 4 and rate["tokens"] > 10 for rate in rates.values())


def test_pathways_are_sizes_of_their_languages(tmp_path: Path) -> None:
    encoder = {**CTC["encoder"], "conv_norm": "layer"}  # type: ignore[dict-item]
    recipe = config(
        model={"frontend": {"channels": 4}, "encoder": encoder, "predictor": {"dim": 8}, "joiner": {"dim": 8}},
        space={"kind": "pathways", "languages": list(LANGUAGES)},
        method={"kind": "pathways"},
        training={"average_start": 0.8},
    )
    data = write_data(tmp_path, recipe, languages=LANGUAGES)
    exp = write_experiment(tmp_path, recipe, data)
    model = Experiment.open(exp).model
    # Masks with which both languages say something
    torch.manual_seed(2)
    draw_masks(model, 0.5)
    saved = torch.load(exp / "final.pt", weights_only=True)
    torch.save({**saved, "model": model.state_dict()}, exp / "final.pt")
    make_talkative(exp, [Subnet(pathway=language) for language in LANGUAGES], set_audio(data, "test"))
    place = exported(tmp_path, data, *LANGUAGES)
    manifest = place.manifest
    assert manifest.languages == list(LANGUAGES) and {size.language for size in manifest.sizes} == set(LANGUAGES)
    first, second = (place.places(size.float.encoder) for size in manifest.sizes)
    # The masks alone are those of one language.
    both = first.keys() & second.keys()
    assert sum(first[offset] for offset in both) > 0.8 * sum(first.values())
    is_once(place, first | second)
    rates = checked(place)
    assert rates.keys() == set(LANGUAGES)
    assert all(rate["identical"] == rate["utterances"] == 2 and rate["tokens"] > 10 for rate in rates.values())


def is_once(place: Exported, tensors: dict[int, int]) -> None:
    """Check that no two tensors in the file of weights are equal."""
    content = (place.bundle / "weights.bin").read_bytes()
    large = [content[start : start + length] for start, length in tensors.items() if length >= 256]
    assert len(large) == len(set(large)) > 2
