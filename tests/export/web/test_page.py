"""The web page of a bundle in a real browser, against torch."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from kaldialign import edit_distance

from slimasr.export.web import RUNTIME, add_web
from tests.export.web.browser import browser_command, find_browser, find_runtime, query_of, reports_of, serving
from tests.export.web.bundle import (
    RATE,
    WIDTHS,
    ctc_tokens,
    draw_weights,
    text_of,
    transducer_tokens,
    write_bundle,
)
from tests.export.web.streaming_bundle import streaming_tokens, write_streaming_bundle

pytest.importorskip("onnx", reason="the extra export is not installed")
WEIGHTS = draw_weights(blank=1.0)
REFERENCES = {"transducer": transducer_tokens, "ctc": ctc_tokens}
SIZES = [("w1.0", "float"), ("w0.5", "float"), ("w0.5", "int8"), ("w0.25", "float"), ("w0.25", "int8")]
ALLOWED = "--use-fake-ui-for-media-stream"
"""Permits the microphone without asking."""


@pytest.fixture(scope="module")
def runtime() -> Path:
    find_browser()
    return find_runtime()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Path:
    """A folder with a bundle of each kind, with its page."""
    folder = tmp_path_factory.mktemp("bundles")
    for kind in REFERENCES:
        write_bundle(folder / kind, WEIGHTS, kind)
        add_web(folder / kind, runtime)
    return folder


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Two utterances: harmonics of changing pitch and level in noise, and recorded speech where it is at hand."""
    generator = np.random.default_rng(1)
    pitch, level = (np.repeat(generator.uniform(*ends, 40), RATE // 20) for ends in [(80, 900), (0.002, 0.5)])
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    made = level * np.tanh(5 * np.sin(phase)) + generator.normal(0, 0.002, len(phase))
    paths = sorted((Path(os.environ.get("SLIMASR_CORPORA", "")) / "an4/wav/an4test_clstk/fvap").glob("*.flac"))
    utterances = [made, *(soundfile.read(path, dtype="float32")[0] for path in paths[:1])]
    return [(np.round(samples * 32768) / 32768).astype(np.float32) for samples in utterances]


def write_speech(folder: Path, speech: list[np.ndarray]) -> list[tuple[str, str]]:
    """Write utterances into a served folder, and return the query that names them."""
    for place, samples in enumerate(speech):
        soundfile.write(folder / f"{place}.wav", samples, RATE, subtype="PCM_16")
    return [("wav", f"/{place}.wav") for place in range(len(speech))]


def write_frames(folder: Path, addresses: list[str], script: str = "") -> None:
    """Write ``all.html``, which opens other pages within it: one browser then suffices for many."""
    frames = "".join(f'<iframe src="{html.escape(address)}"></iframe>' for address in addresses)
    (folder / "all.html").write_text(f'<!doctype html>{frames}<script type="module">{script}</script>')


def test_all_sizes_find_the_tokens_that_torch_finds(bundles: Path, speech: list[np.ndarray], tmp_path: Path) -> None:
    asked = [*write_speech(bundles, speech), ("all", "1"), ("measure", "1")]
    write_frames(bundles, [f"{kind}/index.html?{query_of(*asked, name=kind)}" for kind in REFERENCES])
    with serving(bundles) as served:
        reports = reports_of(served, tmp_path, "all.html", len(REFERENCES))
    for kind, report in reports.items():
        check_report(report, kind, speech)
        for weights in ("weights.bin", "weights.int8.bin"):
            assert served.fetched[f"{kind}/{weights}"] == 1


def check_report(report: dict[str, Any], kind: str, speech: list[np.ndarray]) -> None:
    assert report["error"] is None
    found = {(r["audio"], r["size"], r["precision"]): r for r in report["results"]}
    assert len(found) == len(speech) * len(SIZES)
    expected = {}
    for place, samples in enumerate(speech):
        for width in WIDTHS:
            result = found[f"/{place}.wav", f"w{width}", "float"]
            tokens = expected[place, width] = REFERENCES[kind](WEIGHTS, samples, width)
            assert result["tokens"] == tokens
            assert result["text"] == text_of(tokens)
            assert result["seconds"] == pytest.approx(len(samples) / RATE)
    assert min(map(len, expected.values())) > 10
    assert len({tuple(tokens) for tokens in expected.values()}) == len(expected)
    # Rounding of weights and activations changes few tokens, but some.
    rounded = {key: found[f"/{key[0]}.wav", f"w{key[1]}", "int8"]["tokens"] for key in expected if key[1] < 1}
    errors = sum(edit_distance(expected[key], tokens)["total"] for key, tokens in rounded.items())
    assert 0 < errors < 0.25 * sum(map(len, rounded.values()))
    check_profile(report["profile"], len(speech[-1]) / RATE)
    assert "Take w1.0: of the sizes within the limits, it has the lowest WER, 10.0 % on dev." in report["shown"]


def check_profile(profile: dict[str, Any], seconds: float) -> None:
    """It has the layout that run.py writes and slimasr-search reads."""
    assert (profile["format"], profile["version"]) == ("slimasr-profile", 1)
    assert profile["model"] == {"name": "made-up", "weights": "0" * 64, "architecture": "1" * 64}
    assert profile["streaming"] is None
    assert profile["machine"].keys() == {"name", "processor", "system", "python", "onnxruntime"}
    assert profile["audio"]["seconds"] == pytest.approx([seconds])
    assert [(row["size"], row["precision"]) for row in profile["rows"]] == SIZES
    for row in profile["rows"]:
        assert row["subnet"] == {"width": float(row["size"].removeprefix("w"))}
        assert row["threads"] == 1 and row["peak_mb"] is None and row["bytes"] > 0
        assert row["encoder_ms_per_second"] == pytest.approx(row["encoder_ms"] / seconds)
        assert 0 < row["rtf"] <= row["rtf_p90"]
        assert row["load_ms"] > 0


def test_the_microphone_is_recorded_at_the_rate_of_the_model(bundles: Path, tmp_path: Path) -> None:
    """A tone keeps its pitch and its level through resampling."""
    heard = tmp_path / "tone.wav"
    soundfile.write(heard, 0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * 48000) / 48000), 48000, subtype="PCM_16")
    options = ["--use-fake-device-for-media-stream", ALLOWED, f"--use-file-for-fake-audio-capture={heard}"]
    with serving(bundles) as served:
        query = query_of(("mic", "1.5"), ("samples", "1"))
        report = reports_of(served, tmp_path, f"transducer/index.html?{query}", 1, options)["page"]
    assert report["error"] is None
    (result,) = report["results"]
    samples = np.array(result["samples"])
    assert len(samples) / RATE == pytest.approx(result["seconds"])
    assert result["seconds"] > 1.0
    # The device takes a moment to begin.
    samples = samples[-RATE // 2 :]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * RATE / len(samples) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_streaming_encoders_get_the_utterance_chunk_by_chunk(
    runtime: Path, speech: list[np.ndarray], tmp_path: Path
) -> None:
    """The two carriers differ in their states, of which one is empty."""
    carriers, served_folder = ("lstm", "conformer"), tmp_path / "all"
    for carrier in carriers:
        write_streaming_bundle(served_folder / carrier, WEIGHTS, carrier)
        add_web(served_folder / carrier, runtime)
    asked = write_speech(served_folder, speech)
    write_frames(served_folder, [f"{carrier}/index.html?{query_of(*asked, name=carrier)}" for carrier in carriers])
    with serving(served_folder) as served:
        reports = reports_of(served, tmp_path, "all.html", len(carriers))
    for carrier, report in reports.items():
        assert report["error"] is None
        expected = [streaming_tokens(WEIGHTS, samples, carrier) for samples in speech]
        assert [result["tokens"] for result in report["results"]] == expected
        assert len(expected[0]) > 10 and len(set(expected[0])) > 2
    assert len({str(report["results"][0]["tokens"]) for report in reports.values()}) == len(carriers)


Change = Callable[[Path], object]


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def manifest_with(**changes: Any) -> Change:
    return lambda folder: change_manifest(folder, lambda manifest: manifest.update(changes))


def nothing(folder: Path) -> None:
    pass


def alter_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[40] ^= 1
    (folder / "weights.bin").write_bytes(content)


def cut_weights(folder: Path) -> None:
    (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:-4])


def damage_graph(folder: Path) -> None:
    """A graph that is none, with the digest of what it is."""
    (folder / "joiner.onnx").write_bytes(b"no graph")
    entry = {"bytes": 8, "sha256": hashlib.sha256(b"no graph").hexdigest()}
    change_manifest(folder, lambda manifest: manifest["files"].update({"joiner.onnx": entry}))


PROBLEMS: dict[str, tuple[Change, list[tuple[str, str]], str]] = {
    "no-manifest": (without("manifest.json"), [], "manifest.json is missing beside this page"),
    "no-weights": (without("weights.bin"), [], "weights.bin is missing beside this page: copy the whole bundle"),
    "no-module": (without(f"web/{RUNTIME[1]}"), [], f"web/{RUNTIME[1]} is missing beside this page"),
    "no-script": (without(f"web/{RUNTIME[0]}"), [], f"web/{RUNTIME[0]} is missing or damaged"),
    "newer": (manifest_with(version=2), [], "manifest.json has version 2, and this page reads version 1"),
    "other": (manifest_with(format="x"), [], "manifest.json is not that of a slimasr bundle"),
    "tokens": (manifest_with(vocab_size=31), [], "tokens.txt has 30 usable lines where manifest.json says 31 tokens"),
    "altered": (alter_weights, [], "weights.bin differs from what manifest.json says (SHA-256)"),
    "cut": (cut_weights, [], "weights.bin has 5628 bytes where manifest.json says 5632"),
    "graph": (damage_graph, [], "joiner.onnx cannot be opened by onnxruntime-web"),
    "no-microphone": (nothing, [("mic", "1")], "This device has no microphone: connect one, or choose a file."),
    "no-audio": (nothing, [("wav", "tokens.txt")], "tokens.txt is no audio file that this browser can decode"),
    "empty": (lambda folder: (folder / "a.wav").touch(), [("wav", "a.wav")], "a.wav is empty: choose another file."),
    "elsewhere": (nothing, [("wav", "http://localhost/a.wav")], "is on another web server, which is not allowed."),
}


def test_problems_are_named_on_the_page(bundles: Path, tmp_path: Path) -> None:
    for name, (change, _, _) in PROBLEMS.items():
        copy_bundle(bundles / "transducer", tmp_path / "all" / name)
        change(tmp_path / "all" / name)
    addresses = [f"{name}/index.html?{query_of(*query, name=name)}" for name, (_, query, _) in PROBLEMS.items()]
    write_frames(tmp_path / "all", addresses)
    with serving(tmp_path / "all") as served:
        reports = reports_of(served, tmp_path, "all.html", len(PROBLEMS), [ALLOWED])
    for name, (_, _, message) in PROBLEMS.items():
        assert message in reports[name]["error"], name
        assert message in reports[name]["shown"], name


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle; the runtime, which is large, is linked."""

    def copy(old: str, new: str) -> None:
        (os.link if Path(old).name in RUNTIME else shutil.copyfile)(old, new)

    shutil.copytree(source, target, copy_function=copy)


def test_a_page_of_another_machine_without_https_runs_but_has_no_microphone(
    bundles: Path, speech: list[np.ndarray], tmp_path: Path
) -> None:
    query = query_of(*write_speech(bundles, speech)[:1], ("mic", "1"))
    with serving(bundles) as served:
        options = ["--host-resolver-rules=MAP phone.test 127.0.0.1"]
        path = f"transducer/index.html?{query}"
        report = reports_of(served, tmp_path, path, 1, options, host="phone.test")["page"]
    assert report["results"][0]["tokens"] == transducer_tokens(WEIGHTS, speech[0], 1.0)
    assert "the microphone to pages of https and of localhost only" in report["error"]


def test_a_page_that_is_opened_as_a_file_names_the_web_server_to_start(bundles: Path, tmp_path: Path) -> None:
    page = (bundles / "transducer/index.html").as_uri()
    command = browser_command(tmp_path, "--dump-dom", page)
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert '<p id="error" role="alert">This page needs a web server' in shown
    assert "python3 -m http.server 8000" in shown


def test_the_choice_is_the_lowest_wer_within_the_limits(bundles: Path, tmp_path: Path) -> None:
    """By the page's own functions, on rows of random figures, against a search in numpy."""
    generator = np.random.default_rng(3)
    cases = []
    for _ in range(40):
        rows = [
            {
                "size": {"id": str(i), "params": int(generator.integers(1, 99)), "float": {"wer": {"dev": wer}}},
                "precision": "float", "rtf": generator.uniform(0.01, 0.1), "bytes": int(1e6 * generator.uniform(1, 9)),
            }
            for i, wer in enumerate(generator.permutation(12).tolist())
        ]  # fmt: skip
        limits = {"rtf": generator.uniform(0.01, 0.06), "megabytes": generator.uniform(1, 5), "set": "dev"}
        cases.append({"rows": rows, "limits": limits, "values": generator.uniform(size=7).tolist()})
    (bundles / "cases.json").write_text(json.dumps(cases))
    script = """
      import { choose, quantile } from "./transducer/web/measure.js";
      const cases = await (await fetch("cases.json")).json();
      const made = cases.map(({ rows, limits, values }) =>
        ({ choice: choose(rows, limits), quantiles: [0.5, 0.9].map((share) => quantile(values, share)) }));
      await fetch("/report/choices", { method: "POST", body: JSON.stringify(made) });
    """
    write_frames(bundles, [], script)
    with serving(bundles) as served:
        made = reports_of(served, tmp_path, "all.html", 1)["choices"]
    assert {bool(found["choice"]["misses"]) for found in made} == {True, False}
    for case, found in zip(cases, made, strict=True):
        assert found["quantiles"] == pytest.approx(np.quantile(case["values"], [0.5, 0.9]).tolist())
        rtf = np.array([row["rtf"] for row in case["rows"]]) / case["limits"]["rtf"]
        megabytes = np.array([row["bytes"] for row in case["rows"]]) / 1e6 / case["limits"]["megabytes"]
        wer = np.array([row["size"]["float"]["wer"]["dev"] for row in case["rows"]])
        excess = np.maximum(rtf, megabytes)
        fits = excess <= 1
        best = np.where(fits, wer, np.inf).argmin() if fits.any() else excess.argmin()
        assert found["choice"]["row"]["size"]["id"] == str(best)
        assert len(found["choice"]["misses"]) == int(rtf[best] > 1) + int(megabytes[best] > 1)


def test_the_page_is_listed_in_the_manifest(bundles: Path) -> None:
    """All files of the folder are, with their digests; so other commands check them too."""
    folder = bundles / "transducer"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del found["manifest.json"]
    assert manifest["files"].keys() == found.keys()
    for name, path in found.items():
        assert manifest["files"][name]["bytes"] == path.stat().st_size
        assert manifest["files"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
