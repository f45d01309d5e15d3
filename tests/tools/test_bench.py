"""Benchmarks of training, pathways, the Emformer, streams and layers with zeros, at small sizes."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from slimasr.config.search import DecodingConfig
from slimasr.data.audio.recordings import audio_path
from slimasr.data.files import DataFolder, write_cuts
from slimasr.decoding.transcription.transcribe import transcribe
from slimasr.experiment import Experiment
from tests.decoding.made_up import config, write_data, write_experiment

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def torchaudio_file(name: str) -> Path:
    path = module("torchaudio_parts").find_torchaudio(None, name)
    if path is None:
        pytest.skip("torchaudio is not installed (extra dev)")
    return path  # type: ignore[no-any-return]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_step_of_collaborative_training(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    collaborative = module("collaborative")
    collaborative.report_times(turns=1, tiny=True)
    against_unshared, against_separate = lines(capsys)
    # Three branches that share a layer do less than without sharing, and more than the deepest one alone.
    assert against_unshared["arithmetic"] < 1.0 < against_separate["arithmetic"] < 3.0
    assert against_unshared["ours"] == against_separate["ours"] > 0.0
    assert collaborative.added_peak_bytes("shared", tiny=True) >= 0


def test_steps_of_mask_learning(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    mask_learning = module("mask_learning")
    mask_learning.report_times("tiny", turns=1)
    passes, against_own, against_full, step_1, step_2 = lines(capsys)
    assert against_own["ours"] == against_full["ours"] > 0.0
    assert passes["ours"] > 0.0
    # The smaller of two nested subnets, and both together
    assert 0.0 < against_full["macs"] < step_2["macs"] - against_full["macs"] < 1.0
    assert min(step_1["ours"], step_2["ours"], against_own["other"]) > 0.0


def test_validation_of_pathways(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    module("validation").compare(turns=1, tiny=True)
    (line,) = lines(capsys)
    assert min(line["ours"], line["other"], line["ratio"]) > 0.0 and line["target"] == 1.3


def test_layers_have_the_weights_of_torchaudios(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    emformer = module("emformer")
    emformer.compare(
        torchaudio_file(emformer.FILE), emformer.sizes(16, 2), utterances=2, frames=30, turns=1, target=1.1
    )
    (line,) = lines(capsys)
    assert line["largest_difference"] < 1e-5 and line["ratio"] > 0.0


def test_chunks_of_streams(bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streaming = module("streaming")
    streaming.compare_encoders(streaming.TINY, torchaudio_file(streaming.FILE))
    streaming.compare_large_batches(streaming.TINY)
    recognizer = streaming.an4_recognizer(DecodingConfig(), tmp_path / "lang")
    streaming.report_real_time("greedy search", recognizer, streaming.TINY)
    streaming.compare_ages("greedy search", recognizer, streaming.TINY)
    streaming.compare_batches(recognizer, streaming.TINY)
    found = lines(capsys)
    assert [line["target"] for line in found] == [1.0, 4.0, 0.1, 1.1, 4.0]
    assert all(line["ratio"] > 0.0 for line in found)
    # Four seconds are a hundred frames of the encoder, of which a fifth or more emit a token.
    assert 10 <= found[3]["tokens"] <= 100


def test_bytes_of_packed_matrices(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    module("packed").compare(tiny=True)
    floats, int8 = lines(capsys)
    # Bytes depend on no machine: kept weights, and a bit for every 8 of all.
    assert floats["ratio"] == pytest.approx(0.3 + 1 / 8 / 32, abs=1e-3) and floats["ratio"] <= floats["target"]
    assert int8["ratio"] == pytest.approx(0.3 + 1 / 8 / 8, abs=1e-3) and int8["ratio"] <= int8["target"]
    # Zeros zip well, but not as well as they are left out.
    assert floats["packed_against_zipped"] < 0.95 and int8["packed_against_zipped"] < 0.8


def test_layers_with_blocks_of_zeros(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    block_sparse = module("block_sparse")
    # Each runtime's product is compared with torch's before it is measured.
    block_sparse.measure(block_sparse.TINY)
    found = lines(capsys)
    times = [line for line in found if line["name"].endswith("zero, 32 frames, microseconds")]
    assert [line["name"].split(",")[0] for line in times] == ["32x16", "16x24"]
    both = [f"{name}_{kind}" for name in ("torch", "torch_int8", "onnx", "onnx_int8") for kind in ("dense", "zeros")]
    assert all(line[name] > 0.0 for line in times for name in (*both, "torch_csr"))
    if shutil.which("cc"):
        loops = [line for line in found if "loop in C" in line["name"]]
        assert [line["target"] for line in loops] == [None, 0.5, None, 0.5]
        assert loops[1]["ours"] == times[0]["c_loop"] and loops[1]["other"] == times[0]["onnx_dense"]


def test_a_wrong_product_is_not_measured(bench: None) -> None:
    block_sparse = module("block_sparse")
    layer = block_sparse.make_layer((16, 4), 0.5, 3)
    assert (layer.zeros.view(2, 8, 4).ne(0).any(dim=1)).sum() == 4
    with pytest.raises(SystemExit, match="torch_csr: the product is wrong"):
        block_sparse.check("torch_csr", block_sparse.torch_csr(layer.zeros, layer.x), layer.x @ layer.dense.T)


def test_latency_of_unseen_subnets(bench: None, capsys: pytest.CaptureFixture[str]) -> None:
    deploy_latency = module("deploy_latency")
    deploy_latency.measure(["torch"], number=2, seconds=0.3, turns=1)
    unseen, profiled = lines(capsys)
    assert unseen["name"].startswith("error of predicted latency, 2 unseen subnets")
    # Two depths and three sizes of two modules have six independent terms.
    assert int(unseen["profiled"]) > 6
    assert 0.0 < unseen["mean"] <= unseen["largest"] and 0.0 < unseen["fastest_ms"] < unseen["slowest_ms"]
    assert 0.0 < profiled["mean"] <= profiled["largest"] < 1.0


def test_joined_utterances(bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joined = module("joined")
    data = write_data(tmp_path, config())
    exp = write_experiment(tmp_path, config(), data)
    # What the model hears in an utterance alone is right, so that every error comes from joining.
    cuts = joined.read_sets(data, ["test"])
    for cut, text in zip(cuts, transcribe(Experiment.open(exp), map(audio_path, cuts)), strict=True):
        cut.supervisions[0].text = text
    write_cuts(DataFolder(data).raw_cuts("test"), cuts)
    capsys.readouterr()
    joined.main([str(exp), str(data), "--minutes", "0.001"])
    joined.main([str(exp), str(data), "--minutes", "0.04", "--window-seconds", "30", "--window-seconds", "1"])
    single, *pairs = lines(capsys)
    assert (single["recordings"], single["joined"], single["alone"], single["target"]) == (4, 0.0, 0.0, 0.5)
    assert single["words"] == sum(len(cut.supervisions[0].text.split()) for cut in cuts) > 0
    for line, seconds in zip(pairs, (30.0, 1.0), strict=True):
        assert (line["recordings"], line["alone"], line["window_seconds"]) == (2, 0.0, seconds)
        assert line["points"] == line["joined"] > 0.0


def test_memory_beside_that_of_an_earlier_revision(
    bench: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = module("data")
    if subprocess.run(["git", "cat-file", "-e", data.BEFORE], cwd=data.ROOT, capture_output=True).returncode:
        pytest.skip("the history of the repository is not at hand")
    data.growth(tmp_path, [200], data.BEFORE, None)
    (figures,) = lines(capsys)
    assert figures["before"] > 0.0 and figures["after"] > 0.0


def test_joined_recordings_hold_every_utterance_once(bench: None, tmp_path: Path) -> None:
    joined = module("joined")
    cuts = joined.read_sets(write_data(tmp_path, config()), ["dev", "test"])
    groups = joined.grouped(cuts, minutes=0.05, seed=0)
    assert sorted(cut.id for group in groups for cut in group) == sorted(cut.id for cut in cuts)
    assert len(groups) > 1 and groups == joined.grouped(cuts, 0.05, 0) != joined.grouped(cuts, 0.05, 1)
    (tmp_path / "audio").mkdir(exist_ok=True)
    for (alone, recording), group in zip(joined.write_audio(groups, tmp_path), groups, strict=True):
        assert recording.words == tuple(word for cut in group for word in cut.supervisions[0].text.split())
        parts = [soundfile.read(item.path)[0] for item in alone]
        np.testing.assert_array_equal(soundfile.read(recording.path)[0], np.concatenate(parts))
    with pytest.raises(SystemExit, match="error: .*run stage 4"):
        joined.main([str(tmp_path), str(tmp_path / "data")])
