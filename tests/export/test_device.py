"""The program of a bundle, against the searches of this package, soundfile, sentencepiece and sums computed by hand."""

from __future__ import annotations

import argparse
import ast
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import soundfile
import torch

from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.ctc_greedy import CtcGreedySearch
from slimasr.decoding.searches.greedy import GreedySearch
from slimasr.decoding.searches.label_search import Hypothesis, search_whole
from slimasr.export import device
from slimasr.export.device import BundleError, Recognizer, open_bundle, read_wav
from tests.export.conftest import Says

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.export.tiny_bundle import (  # noqa: E402
    BINS,
    CHUNK,
    PROGRAM,
    RATE,
    TAIL,
    TOKENS,
    WINDOW,
    change_manifest,
    encoder_weight,
    make_bundle,
    make_model,
    noise,
    record,
    run,
    write_wav,
)
from tests.tiny import MODEL, VOCAB_SIZE  # noqa: E402


def sounds(seconds: float, seed: int) -> np.ndarray:
    """Noise whose level and spectrum change every tenth of a second, so that many tokens occur."""
    rng = np.random.default_rng(seed)
    parts = np.array_split(noise(seconds, seed), round(10 * seconds))
    coloured = [np.convolve(part, rng.standard_normal(5), "same") * 10 ** rng.uniform(-2, 0.5) for part in parts]
    return np.concatenate(coloured).clip(-1, 1)


# What it is made of


def test_it_is_one_short_file_of_python_3_9_that_needs_numpy_and_onnxruntime() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 9))
    assert len(text.splitlines()) <= 400
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {str(name).split(".")[0] for name in named} - sys.stdlib_module_names == {"numpy"}


# Search


@pytest.mark.parametrize("frames", [1, 7, 60])
def test_the_search_of_a_transducer_is_ours_with_one_symbol_per_frame(bundle: Path, frames: int) -> None:
    encoded = 2 * np.random.default_rng(frames).standard_normal((frames, MODEL.joiner.dim)).astype(np.float32)
    found = Recognizer(open_bundle(bundle)).search(encoded)
    (ours,) = search_whole(GreedySearch(make_model()), torch.from_numpy(encoded[None]), torch.tensor([frames]))
    assert Hypothesis(found.tokens, found.frames) == ours
    assert frames < 60 or 10 < len(ours) < 60


def test_the_search_of_a_ctc_model_is_ours(tmp_path: Path) -> None:
    recognizer = Recognizer(open_bundle(make_bundle(tmp_path / "ctc", "ctc")))
    # Labels that last, so that runs and repetitions over a blank occur
    scores = np.repeat(np.random.default_rng(0).standard_normal((40, VOCAB_SIZE)), 2, axis=0).astype(np.float32)
    scores[:, 0] += 1.0
    found = recognizer.search(scores)
    (ours,) = search_whole(CtcGreedySearch(), torch.from_numpy(scores[None]), torch.tensor([80]))
    assert Hypothesis(found.tokens, found.frames) == ours
    assert 0 in scores.argmax(-1) and 2 in scores.argmax(-1) and len(ours) > 10


# Encoders


def by_hand(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The encoders of `tests.export.tiny_bundle` as sums in float64."""
    padded = np.pad(features.astype(np.float64), ((0, -len(features) % 4), (0, 0)))
    return np.stack([np.einsum("ft,jft->j", part.T, weight) for part in padded.reshape(-1, 4, BINS)])


@pytest.mark.parametrize(("size", "int8"), [("w1", False), ("w0.5", False), ("w1", True), ("w0.5", True)])
def test_each_size_runs_its_own_files(bundle: Path, size: str, int8: bool) -> None:
    weight = encoder_weight(MODEL.joiner.dim).astype(np.float64)
    if int8:
        scale = np.abs(weight).max(axis=(1, 2), keepdims=True) / 127
        weight = np.round(weight / scale) * scale
    weight[:, BINS if size == "w1" else BINS // 2 :] = 0
    recognizer = Recognizer(open_bundle(bundle), size, int8)
    features = recognizer.features(noise(0.83))
    assert features.shape == (83, BINS)
    np.testing.assert_allclose(recognizer.encode(features), by_hand(features, weight), atol=1e-4)


def test_it_switches_to_another_size_without_opening_the_decoder_again(bundle: Path) -> None:
    recognizer = Recognizer(open_bundle(bundle), "w1")
    decoder, encoder = recognizer.sessions["decoder"], recognizer.sessions["encoder"]
    large = recognizer.transcribe(noise(3.0))
    recognizer.switch("w0.5", int8=True)
    assert recognizer.sessions["decoder"] is decoder and recognizer.sessions["encoder"] is not encoder
    assert recognizer.transcribe(noise(3.0)) == Recognizer(open_bundle(bundle), "w0.5", True).transcribe(noise(3.0))
    recognizer.switch("w1")
    assert recognizer.transcribe(noise(3.0)) == large


# In the second length, as many frames are left as a window has.
@pytest.mark.parametrize("seconds", [1.5, (WINDOW + 18 * CHUNK) / 100 - TAIL])
@pytest.mark.parametrize("carrier", ["lstm", "conformer"])
def test_a_stream_carries_its_states_and_ends_with_silence(tmp_path: Path, carrier: str, seconds: float) -> None:
    recognizer = Recognizer(open_bundle(make_bundle(tmp_path / "bundle", carrier=carrier)))
    samples = noise(seconds)
    features = recognizer.features(samples)
    silent = Recognizer(open_bundle(make_bundle(tmp_path / "whole"))).features(np.pad(samples, (0, round(TAIL * RATE))))
    np.testing.assert_array_equal(features, silent)
    weight = encoder_weight(MODEL.joiner.dim).astype(np.float64)
    expected, total, done = [], np.zeros(BINS), 0
    while len(features) - done > WINDOW:
        chunk = features[done : done + CHUNK].astype(np.float64)
        aged = (chunk + np.sin(total)) * (np.cos(done) if carrier == "conformer" else 1.0)
        expected.append(by_hand(aged, weight))
        total, done = total + chunk.sum(axis=0), done + CHUNK
    np.testing.assert_allclose(recognizer.encode(features), np.concatenate(expected), atol=1e-3)
    growing: list[str] = []
    found = recognizer.transcribe(samples, growing.append)
    assert found == recognizer.search(recognizer.encode(features)) and growing[-1] == found.text
    assert len(growing) == len(found.tokens) > 10


class WithFeaturesOfLhotse(Recognizer):
    """sherpa-onnx computes the same features; those of the made-up bundle are others."""

    def features(self, samples: np.ndarray) -> np.ndarray:
        padded = np.pad(samples, (0, round(TAIL * RATE) if self.streaming else 0))
        return extract_frames(make_extractor(BINS, RATE), padded[np.newaxis].astype(np.float32), RATE)


@pytest.mark.parametrize(
    ("kind", "carrier"), [("transducer", None), ("ctc", None), ("transducer", "lstm"), ("transducer", "conformer")]
)
def test_sherpa_onnx_finds_the_same_tokens(tmp_path: Path, kind: str, carrier: str | None) -> None:
    pytest.importorskip("sherpa_onnx")
    folder = make_bundle(tmp_path / "bundle", kind, carrier)
    wavs = [tmp_path / f"{seed}.wav" for seed in range(4)]
    for seed, wav in enumerate(wavs):
        soundfile.write(wav, sounds(1.0 + 0.333 * seed, seed), RATE, subtype="PCM_16")
    script = Path(__file__).with_name("sherpa_bundle.py")
    given = {"folder": str(folder), "encoder": "encoder.w0.5.onnx", "wavs": [str(wav) for wav in wavs]}
    done = subprocess.run([sys.executable, str(script), json.dumps(given)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    recognizer = WithFeaturesOfLhotse(open_bundle(folder), "w0.5")
    found = [[TOKENS[token] for token in recognizer.transcribe(read_wav(wav, RATE)).tokens] for wav in wavs]
    assert [[token.replace(" ", "\u2581") for token in row] for row in json.loads(done.stdout)] == found
    assert all(len(set(row)) > 1 for row in found) and sum(map(len, found)) > 20


@pytest.mark.parametrize("count", [1, RATE // 100 - 1, RATE // 100])
def test_audio_of_any_length_has_a_frame(bundle: Path, count: int) -> None:
    recognizer = Recognizer(open_bundle(bundle))
    assert recognizer.features(noise(1.0)[:count]).shape == (1, BINS)
    assert len(recognizer.encode(recognizer.features(noise(1.0)[:count]))) == 1


def test_a_size_may_have_files_and_states_of_its_own(own: Path) -> None:
    for name in ("decoder.fr.onnx", "joiner.fr.onnx", "joiner.int8.onnx"):
        shutil.copy(own / f"{name.split('.')[0]}.onnx", own / name)
    record(own)
    first, second = open_bundle(own).manifest["sizes"]
    change_manifest(own, joiner_int8="joiner.int8.onnx", sizes=[first, {**second, "decoder": "decoder.fr.onnx"}])
    bundle = open_bundle(own)
    assert bundle.files(bundle.size("w1"), True)["joiner"].name == "joiner.int8.onnx"
    assert bundle.files(bundle.size("w1"), True)["decoder"].name == "decoder.onnx"
    assert bundle.files(bundle.size("w1"))["joiner"].name == "joiner.onnx"
    assert bundle.files(bundle.size("w0.5"))["decoder"].name == "decoder.fr.onnx"
    # The joiner in int8 is that of all sizes, not of one that has its own.
    change_manifest(own, sizes=[first, {**second, "joiner": "joiner.fr.onnx"}])
    bundle = open_bundle(own)
    assert bundle.files(bundle.size("w0.5"), True)["joiner"].name == "joiner.fr.onnx"


def test_the_states_of_a_size_come_before_those_of_the_bundle(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", carrier="lstm")
    manifest = open_bundle(folder).manifest
    shapes = manifest["streaming"]["states"]
    sizes = [{**size, "float": {**size["float"], "states": shapes}} for size in manifest["sizes"]]
    change_manifest(folder, sizes=sizes, streaming={**manifest["streaming"], "states": [[1, 1, 7], [1, 1, 1]]})
    assert Recognizer(open_bundle(folder)).transcribe(noise(1.0)).tokens
    with pytest.raises(BundleError, match="encoder.w1.int8.onnx does not run"):
        Recognizer(open_bundle(folder), int8=True).transcribe(noise(1.0))


# Audio and text


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_wav_files_are_read_as_soundfile_reads_them(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (500, channels)), RATE, subtype=subtype)
    expected = soundfile.read(path, always_2d=True)[0].mean(axis=1)
    np.testing.assert_allclose(read_wav(path, RATE), expected, atol=1e-9)


def test_pieces_and_bytes_become_the_text_that_sentencepiece_makes(bundle: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["das war gut so", "so war das", "gut das"] * 9),
        model_writer=model,
        vocab_size=280,
        byte_fallback=True,
        hard_vocab_limit=False,
        model_type="bpe",
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    recognizer = Recognizer(open_bundle(bundle))
    recognizer.pieces = [processor.IdToPiece(number) for number in range(processor.GetPieceSize())]
    for text in ("das war gut", "so süß € 日本 gut", "  x"):
        ids = processor.EncodeAsIds(text)
        assert recognizer.text(ids) == processor.DecodeIds(ids).strip()
    assert "<0xC3>" in processor.EncodeAsPieces("süß")


def test_phonemes_are_separated_by_spaces(bundle: Path) -> None:
    recognizer = Recognizer(open_bundle(bundle))
    recognizer.pieces = ["<blk>", "<sos/eos>", "<unk>", "HH", "AH0"]
    assert recognizer.text([3, 4, 1, 3]) == "HH AH0 HH"


# Choice


def test_the_choice_is_the_best_of_all_rows_within_the_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [
            {"rtf": rng.random(), "mb": rng.random(), "params": place, "bytes": place, "wer": {"dev": rng.random()}}
            for place in range(6)
        ]
        limits = {"rtf": rng.random(), "mb": rng.random()}
        within = [row for row in rows if row["rtf"] <= limits["rtf"] and row["mb"] <= limits["mb"]]
        best, missed = device.best_row(rows, limits, "dev")
        if within:
            assert (best["wer"], missed) == (min((row["wer"] for row in within), key=lambda wer: wer["dev"]), [])
        else:
            ratio = min(max(row[key] / limits[key] for key in limits) for row in rows)
            assert max(best[key] / limits[key] for key in limits) == ratio
            assert missed == [key for key in limits if best[key] > limits[key]]


def test_without_a_wer_the_largest_size_within_the_limits_is_chosen() -> None:
    rows = [{"rtf": rtf, "params": 10 * rtf, "bytes": 1, "wer": {}} for rtf in (0.1, 0.3, 0.2)]
    assert device.best_row(rows, {"rtf": 0.25}, "dev") == (rows[2], [])


def test_memory_that_is_not_known_keeps_no_limit() -> None:
    rows = [{"peak_mb": None, "params": 1, "bytes": 1, "wer": {"dev": 1.0}}]
    assert device.best_row(rows, {"peak_mb": 10.0}, "dev") == (rows[0], ["peak_mb"])


# The command line


def test_the_program_transcribes(bundle: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav")
    expected = Recognizer(open_bundle(bundle), "w0.5").transcribe(read_wav(path, RATE))
    shutil.copy(PROGRAM, tmp_path / "run.py")
    done = run("transcribe", "--bundle", bundle, "--size", "w0.5", path, "--json", tmp_path / "found.json")
    assert (done.returncode, done.stdout.strip("\n")) == (0, expected.text), done.stderr
    (found,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (found["text"], tuple(found["frames"])) == (expected.text, expected.frames) and len(expected.tokens) > 10


def test_the_program_measures_all_sizes_and_chooses_one(bundle: Path, says: Says, tmp_path: Path) -> None:
    path, measured = write_wav(tmp_path / "a.wav"), tmp_path / "phone.json"
    done = run("profile", "--bundle", bundle, path, "--repeats", 1, "--json", measured)
    assert done.returncode == 0, done.stderr
    found = json.loads(measured.read_text(encoding="utf-8"))
    assert found["audio"] == {"source": str(path), "seconds": [2.0]}
    assert found["streaming"] is None
    assert done.stdout.splitlines()[2].endswith("  'dev': 10.0") and "{" not in done.stdout
    assert [(row["size"], row["precision"], row["threads"]) for row in found["rows"]] == [
        (size, precision, 1) for size in ("w1", "w0.5") for precision in ("float", "int8")
    ]
    for row in found["rows"]:
        # What figures are worth is seen with a clock of the test's own, below.
        assert all(isinstance(row[key], float) for key in ("load_ms", "encoder_ms", "rtf", "rtf_p90"))
        assert row["bytes"] > 0
        assert row["encoder_ms_per_second"] == pytest.approx(row["encoder_ms"] / 2)
        assert row["peak_mb"] is None or 0 <= row["peak_mb"] < 100
    # The WER of w1 is lower; only w0.5 keeps the limit.
    for row in found["rows"]:
        row["rtf"] = 0.5 if row["size"] == "w1" else 0.1
    measured.write_text(json.dumps(found), encoding="utf-8")
    choice = ("choose", "--bundle", bundle, "--profile", measured)
    assert "encoder.w1.onnx" in says(*choice)[1]
    status, text = says(*choice, "--max-rtf", 0.2)
    assert status == 0 and f"--encoder={bundle}/encoder.w0.5.onnx" in text
    # int8 is chosen only where it is asked for; a profile may hold sizes that this bundle does not.
    status, text = says(*choice, "--max-rtf", 0.2, "--max-mb", 0.002)
    assert status == 1 and "encoder.w0.5.onnx" in text
    found["rows"].append({**found["rows"][0], "size": "w0.7"})
    measured.write_text(json.dumps(found), encoding="utf-8")
    status, text = says(*choice, "--max-rtf", 0.2, "--max-mb", 0.003, "--int8")
    assert status == 0 and "encoder.w0.5.int8.onnx" in text
    status, text = says(*choice, "--max-rtf", 0.01)
    assert status == 1 and "rtf of the nearest is 0.1, above 0.01" in text


def test_sizes_that_were_measured_on_another_set_are_left_out(own: Path, says: Says, tmp_path: Path) -> None:
    first, second = open_bundle(own).manifest["sizes"]
    change_manifest(own, sizes=[first, {**second, "float": {**second["float"], "wer": {"dev-fr": 9.0}}}])
    figures = {"precision": "float", "threads": 1, "bytes": 5, **dict.fromkeys(device.COLUMNS[3:8], 0.1)}
    rows = [{**figures, "size": "w1", "rtf": 0.1}, {**figures, "size": "w0.5", "rtf": 0.5}]
    profile = {"format": "slimasr-profile", "version": 1, "model": {"architecture": "cd" * 32}, "rows": rows}
    (tmp_path / "phone.json").write_text(json.dumps(profile), encoding="utf-8")
    words = ("choose", "--bundle", own, "--profile", tmp_path / "phone.json", "--max-rtf", 0.2)
    assert "encoder.w1.onnx" in says(*words)[1]
    status, text = says(*words, "--set", "dev-fr")
    assert status == 1 and "encoder.w0.5.onnx" in text


def test_figures_are_those_of_the_clock(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A second passes between any two readings of the clock.
    monkeypatch.setattr(device.time, "perf_counter", iter(range(1000)).__next__)
    wavs = [str(write_wav(tmp_path / f"{seconds}.wav", seconds)) for seconds in (2.0, 1.0)]
    args = argparse.Namespace(size="w0.5", int8=False, threads=[1], wav=wavs, repeats=3)
    _, row = device.measure(open_bundle(bundle), args)
    assert (row["load_ms"], row["encoder_ms"]) == (1000.0, 1000.0)
    # Features, encoder and search take a second each, for both recordings of three seconds in all.
    assert row["encoder_ms_per_second"] == pytest.approx(2000 / 3)
    assert row["rtf"] == pytest.approx(6 / 3)
    # Half of the ratios are 3 / 2, half are 3 / 1.
    assert row["rtf_p90"] == pytest.approx(3.0)
