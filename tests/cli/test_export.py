"""Bundles through the command line."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slimasr.cli import decode, score
from slimasr.cli.common import command_app
from slimasr.cli.export import run
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import fingerprint
from slimasr.export.export import scheme_of
from slimasr.export.gate import Gate, GateTrials, pass_gate
from slimasr.export.manifest import Manifest, StreamingNote, read_manifest
from slimasr.export.measure import float_rates
from slimasr.export.writer import BundleOptions
from slimasr.results.decoded import STREAMING
from slimasr.results.schema import Results, SubnetEntry, WerEntry
from slimasr.results.search import FoundEntry, Front
from slimasr.results.store import read_results, update_results
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json
from tests.search.untrained import copy_of, make_data, make_experiment

with_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra export is not installed",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and an untrained supernet ``exp/`` whose front is its narrow subnet, of which the WER is known."""
    root = tmp_path_factory.mktemp("export")
    exp = make_experiment(root / "exp", make_data(root), [0.5, 1.0])
    found = FoundEntry(id="w0.5", subnet=Subnet(0.5), wer=10.0, dev_loss=1.0, costs={})
    Front(set_name="dev", cost="params", weights=fingerprint(exp / "final.pt"), front=(found,)).write(exp)
    write_wer(exp, 100.0)
    return root


def write_wer(exp: Path, wer: float, checkpoint: str = "final", decoding: str = "", data: str | None = None) -> None:
    rate = {"wer": wer, "errors": 1, "words": 10, "ins": 0, "del": 1, "sub": 0, "ser": 50.0, "sentences": 2}
    measured = {"checkpoint": checkpoint, "decoding": decoding, "data": data}
    entry = WerEntry.model_validate({**rate, "ci95": None, **measured})
    update_results(
        exp, Results(subnets={"w0.5": SubnetEntry(subnet=Subnet(0.5), wer={"dev": entry, "dev@gain=-20": entry})})
    )


def export(place: Path, *options: str) -> Result:
    return CliRunner().invoke(command_app(run), [str(place / "exp"), "--data", str(place / "data"), *options])


@with_onnx
def test_a_bundle_of_the_front(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = export(place, "--out", str(out), "--int8", "--set-name", "test")
    assert result.exit_code == 0, result.output
    names = {path.name for path in out.iterdir()}
    assert {"encoder.w0.5.onnx", "encoder.w0.5.int8.onnx", "decoder.onnx", "joiner.onnx", "features.onnx"} <= names
    assert {"weights.bin", "weights.int8.bin", "tokens.txt", "bpe.vocab", "run.py", "README.md"} <= names
    assert {path.suffix for path in out.iterdir()} == {".bin", ".json", ".md", ".onnx", ".py", ".txt", ".vocab"}
    assert {path.name for path in out.glob("*.bin")} == {"weights.bin", "weights.int8.bin"}
    manifest = read_manifest(out)
    assert manifest.files.keys() == names - {"manifest.json"}
    (size,) = manifest.sizes
    assert size.int8 is not None and size.float.wer == {"dev": 100.0}
    entry = results_json(place / "exp")["subnets"]["w0.5"]["int8"]
    assert {name: figures["words"] for name, figures in entry["wer"].items()} == {"dev": 10, "test": 6}
    assert entry["wer"]["test"]["runtime"].endswith("8 bits, scales shared by all sizes")
    assert size.int8.wer == {name: figures["wer"] for name, figures in entry["wer"].items()}
    assert "w0.5 test: WER" in result.output

    # What is known is not measured again: the file is not even there.
    (out / size.int8.encoder).unlink()
    experiment = Experiment.open(place / "exp")
    trials = GateTrials.find(experiment, Gate(place / "data", ["dev", "test"]), print)
    again = pass_gate(experiment, out, manifest, scheme_of(BundleOptions(int8=True), manifest), trials, print)
    assert again.sizes == manifest.sizes
    assert results_json(place / "exp")["subnets"]["w0.5"]["int8"] == entry


@with_onnx
def test_int8_that_loses_too_much_is_left_out(place: Path, tmp_path: Path) -> None:
    write_wer(place / "exp", 20.0)
    try:
        result = export(place, "--out", str(tmp_path / "a"), "--int8", "--int8-joiner")
        assert result.exit_code == 0, result.output
        assert "more than 0.5; its int8 file is left out (--force writes it)" in result.output
        assert read_manifest(tmp_path / "a").sizes[0].int8 is None
        assert not list((tmp_path / "a").glob("*int8*")) and read_manifest(tmp_path / "a").joiner_int8 is None
        result = export(place, "--out", str(tmp_path / "b"), "--int8", "--int8-joiner", "--force")
        assert result.exit_code == 0, result.output
        int8 = read_manifest(tmp_path / "b").sizes[0].int8
        assert int8 is not None and int8.forced
        opened = ("encoder.w0.5.int8.onnx", "weights.int8.bin", "decoder.onnx", "joiner.int8.onnx", "tokens.txt")
        assert int8.bytes == sum((tmp_path / "b" / name).stat().st_size for name in opened)
    finally:
        write_wer(place / "exp", 100.0)


@with_onnx
def test_a_folder_that_is_no_bundle_is_kept(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    result = export(place, "--out", str(tmp_path / "mine"))
    assert result.exit_code == 1
    assert "exists and is not a bundle of slimasr; name another folder with --out" in result.output
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


@with_onnx
def test_int8_needs_the_wer_in_float(place: Path, tmp_path: Path) -> None:
    result = export(place, "--out", str(tmp_path / "bundle"), "--int8", "--subnet", "max")
    assert result.exit_code == 1
    assert "w1: its WER on dev in float is not known" in result.output and "slimasr-decode" in result.output
    assert list(tmp_path.iterdir()) == []


@with_onnx
def test_the_wer_of_another_checkpoint_is_not_that_of_the_bundle(place: Path, tmp_path: Path) -> None:
    write_wer(place / "exp", 5.0, "best")
    try:
        assert float_rates(Experiment.open(place / "exp"), Subnet(0.5)) == {}
        result = export(place, "--out", str(tmp_path / "bundle"), "--int8")
        assert result.exit_code == 1 and "w0.5: its WER on dev in float is not known" in result.output
    finally:
        write_wer(place / "exp", 100.0)
    assert float_rates(Experiment.open(place / "exp"), Subnet(0.5)) == {"dev": 100.0}


@with_onnx
@pytest.mark.parametrize("changed", [{"decoding": "modified beam search, beam 4"}, {"data": "00" * 8}])
def test_a_wer_of_another_search_or_of_other_data_is_no_measure_of_int8(
    place: Path, tmp_path: Path, changed: dict[str, str]
) -> None:
    write_wer(place / "exp", 5.0, **changed)
    try:
        # The manifest has no data to compare with.
        assert float_rates(Experiment.open(place / "exp"), Subnet(0.5)) == ({} if "decoding" in changed else {"dev": 5})
        result = export(place, "--out", str(tmp_path / "bundle"), "--int8")
        assert result.exit_code == 1
        assert "w0.5: its WER on dev in float is not known for these weights, this set and this search" in result.output
        decode = f"slimasr-decode {place / 'exp'} --data {place / 'data'} --subnet w0.5 --set-name dev"
        assert f"(greedy, at most 1 per frame), so that of int8 cannot be compared; run {decode} and" in result.output
    finally:
        write_wer(place / "exp", 100.0)


def test_what_is_decoded_and_scored_is_known(place: Path, tmp_path: Path) -> None:
    exp = copy_of(place / "exp", tmp_path / "exp")
    words = [str(exp), "--data", str(place / "data"), "--subnet", "w0.5", "--set-name", "dev"]
    for command, given in ((decode.run, words), (score.run, [str(exp)])):
        result = CliRunner().invoke(command_app(command), given)
        assert result.exit_code == 0, result.output
    experiment = Experiment.open(exp)
    trials = GateTrials.find(experiment, Gate(place / "data", ["dev"]), print)
    entry = read_results(exp).subnets["w0.5"].wer["dev"]
    assert entry.decoding and entry.data
    assert trials.float_rate(experiment, Subnet(0.5)) == entry.wer
    # Chunk by chunk, the same is found.
    write_wer(exp, 7.0, decoding=entry.decoding + STREAMING, data=entry.data)
    assert trials.float_rate(experiment, Subnet(0.5)) == 7.0


def test_int8_is_measured_again_where_the_text_may_be_another() -> None:
    whole = Manifest.model_construct(streaming=None, context_size=2)
    stream = StreamingNote(carrier="lstm", chunk_frames=32, window_frames=39, tail_seconds=0.5, states=[])
    # Measurements of earlier versions keep their name.
    assert scheme_of(BundleOptions(int8=True), whole) == "8 bits, scales shared by all sizes"
    names = {
        scheme_of(BundleOptions(int8=True), whole),
        scheme_of(BundleOptions(int8=True, int8_joiner=True), whole),
        scheme_of(BundleOptions(int8=True, streaming=True), whole.model_copy(update={"streaming": stream})),
        scheme_of(BundleOptions(int8=True, context=4), whole.model_copy(update={"context_size": 4})),
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8-joiner"], "--int8-joiner: has no effect without --int8"),
        (["--int8-bits", "7"], "--int8-bits: has no effect without --int8"),
        (["--set-name", "test"], "--set-name: has no effect without --int8"),
        (["--max-int8-loss", "2"], "--max-int8-loss: has no effect without --int8"),
        (["--force"], "--force: has no effect without --int8"),
        (["--chunk-frames", "16"], "--chunk-frames: has no effect without --streaming"),
    ],
)
def test_options_without_effect_are_refused(place: Path, tmp_path: Path, words: list[str], message: str) -> None:
    result = export(place, "--out", str(tmp_path / "bundle"), *words)
    assert result.exit_code == 1 and message in result.output


def test_int8_that_nobody_measured_is_forced(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[BundleOptions] = []

    def written(*arguments: object) -> Manifest:
        options, trials = arguments[3:5]
        assert isinstance(options, BundleOptions) and trials is None
        given.append(options)
        return Manifest.model_construct(sizes=[], files={})

    monkeypatch.setattr("slimasr.export.export.export_bundle", written)
    words = ["--subnet", "0.5", "--out", str(tmp_path / "bundle"), "--int8", "--force", "--data", str(tmp_path / "no")]
    result = CliRunner().invoke(command_app(run), [str(place / "exp"), *words])
    assert result.exit_code == 0, result.output
    assert [options.forced for options in given] == [True]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        # As if the others were installed, wherever this runs
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    result = export(place, "--subnet", "max", "--out", str(tmp_path / "bundle"))
    assert result.exit_code == 1
    assert f"error: {package} is not installed: pip install 'slimasr[export]'" in result.output
    assert list(tmp_path.iterdir()) == []


@with_onnx
def test_a_folder_without_the_runtime_of_the_web_page(place: Path, tmp_path: Path) -> None:
    result = export(place, "--subnet", "max", "--out", str(tmp_path / "bundle"), "--web", str(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path}: ort.wasm.bundle.min.mjs is not in this folder" in result.output
    assert "npm install onnxruntime-web" in result.output
    assert list(tmp_path.iterdir()) == []


def test_unknown_subnets_and_missing_fronts(place: Path, tmp_path: Path) -> None:
    result = export(place, "--subnet", "0.3", "--out", str(tmp_path / "bundle"))
    assert result.exit_code == 1
    assert "choose one of: w1, w0.5" in result.output
    make_experiment(tmp_path / "exp", place / "data", [1.0])
    result = CliRunner().invoke(command_app(run), [str(tmp_path / "exp"), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 1
    assert "has no front yet: run stage 5 (slimasr-search) first" in result.output


def test_a_manifest_of_a_newer_version_or_damaged(tmp_path: Path) -> None:
    import slimasr.errors

    for content, message in (
        ({"format": "slimasr-bundle", "version": 99}, "version 99 is newer than this slimasr, which reads 1"),
        ({"format": "another"}, "not the manifest of a bundle"),
        ({"format": "slimasr-bundle", "version": 1}, "damaged, kind: "),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(slimasr.errors.UserError, match=message):
            read_manifest(tmp_path)
