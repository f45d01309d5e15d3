"""Bundles of slimasr-export in a real browser: what the page recognises is what our own search finds with torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from kaldialign import edit_distance

from slimasr.config.search import DecodingConfig
from slimasr.data.features.shards import make_extractor
from slimasr.decoding.searches.label_search import search_whole
from slimasr.decoding.searches.label_searches import label_input, label_search
from slimasr.experiment import Experiment
from slimasr.export.device import Recognizer, open_bundle, verify
from slimasr.export.export import export_bundle
from slimasr.export.writer import BundleOptions
from slimasr.supernet.subnet import Subnet
from tests.export.web.browser import find_browser, find_runtime, query_of, reports_of, serving
from tests.search.untrained import make_data, make_experiment
from tests.tiny import encoder_config

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra export is not installed",
)
WIDTHS = (1.0, 0.5)


def tokens_in_torch(experiment: Experiment, samples: np.ndarray, subnet: Subnet) -> list[int]:
    """The tokens of our greedy search."""
    model = experiment.model.eval()
    x = torch.from_numpy(make_extractor(model.config.num_mel_bins, 16000).extract(samples, 16000)).unsqueeze(0)
    with torch.no_grad():
        encoded = model.encode(x, torch.tensor([x.shape[1]]), subnet)
        search = label_search(model, DecodingConfig(kind="greedy", max_symbols_per_frame=1))
        (found,) = search_whole(search, label_input(model, encoded.out, subnet), encoded.lens)
    return list(found.tokens)


def made_up_speech() -> np.ndarray:
    """A tone in noise, which both change."""
    generator = np.random.default_rng(1)
    pitch, level = (np.repeat(generator.uniform(*ends, 40), 800) for ends in [(80, 900), (0.002, 0.5)])
    samples = level * np.sin(2 * np.pi * np.cumsum(pitch) / 16000) + generator.normal(0, 0.002, len(pitch))
    return (np.round(samples * 32768) / 32768).astype(np.float32)


def test_the_page_of_an_exported_bundle_finds_the_tokens_that_torch_finds(tmp_path: Path) -> None:
    find_browser()
    dist = find_runtime()
    # Weights with which many different tokens are found
    data, encoder = make_data(tmp_path), encoder_config(num_layers=1)
    experiment = Experiment.open(make_experiment(tmp_path / "exp", data, list(WIDTHS), seed=7, encoder=encoder))
    out, samples = tmp_path / "bundle", made_up_speech()
    export_bundle(experiment, [Subnet(width) for width in WIDTHS], out, BundleOptions(int8=True), web=dist)
    soundfile.write(tmp_path / "bundle/a.wav", samples, 16000, subtype="PCM_16")
    with serving(out) as served:
        query = query_of(("wav", "a.wav"), ("all", "1"))
        report = reports_of(served, tmp_path, f"index.html?{query}", 1)["page"]
    assert report["error"] is None
    found = {(result["size"], result["precision"]): result for result in report["results"]}
    for width in WIDTHS:
        subnet = Subnet(width)
        expected = tokens_in_torch(experiment, samples, subnet)
        assert found[subnet.id, "float"]["tokens"] == expected
        assert len(expected) > 10 and len(set(expected)) > 2
        assert found[subnet.id, "float"]["text"] == " ".join(experiment.tokenizer.decode(expected).split())
        # The same rounded weights in onnxruntime
        rounded = Recognizer(open_bundle(out), subnet.id, int8=True).transcribe(samples)
        assert edit_distance(rounded.tokens, found[subnet.id, "int8"]["tokens"])["total"] <= 0.1 * len(rounded.tokens)
    assert "## In a browser" in (out / "README.md").read_text(encoding="utf-8")
    assert verify(open_bundle(out)) == (0, [])
    assert served.fetched["weights.bin"] == served.fetched["weights.int8.bin"] == 1
