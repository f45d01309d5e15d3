"""Paper 5's chain of experiments on a few synthetic utterances: a dense model, masks by LTH, then pathways."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.recipes.conftest import EGS, command

LANGUAGES = ("fr", "nl")
TINY = (
    "data.options.languages=fr nl",
    "data.options.num_train=16",
    "data.options.num_dev=2",
    "data.options.num_test=2",
    "data.options.set_sizes=train-nl=8",
    "data.options.max_digits=3",
    "data.max_cuts=2",
    "data.num_buckets=1",
    "tokenizer.vocab_size=30",
    "tokenizer.sets=[train-fr, train-nl]",
    "features.sets=[train-fr, train-nl]",
    "frontend.channels=4",
    "encoder.d_model=16",
    "encoder.num_layers=1",
    "encoder.num_heads=2",
    "encoder.head_dim=8",
    "encoder.ffn_dim=16",
    "encoder.kernel_size=3",
    "predictor.dim=8",
    "predictor.embedding_dim=8",
    "joiner.dim=16",
    "training.num_epochs=2",
    "search.rtf_seconds=1",
)
BOTH = ("data.train=[train-fr, train-nl]", "data.dev=dev-fr+dev-nl", "data.test=[test-fr, test-nl]")
MASKS = ("method.prune_interval=0.2", "method.adapt_interval=2")


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader (extra demo) is absent")
def test_from_a_dense_model_to_pathways(tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")

    def recipe(preset: str, *settings: str) -> list[str | Path]:
        tiny = [f"--set={setting}" for setting in (*TINY, *settings)]
        return ["--config", EGS / "multilingual" / "conf" / f"{preset}.yaml", *data, *tiny]

    def train(preset: str, exp: str, *settings: str) -> Path:
        command("train", *recipe(preset, *settings), "--exp", tmp_path / exp)
        return tmp_path / exp

    # Dev sets of single languages are made besides.
    sets = recipe("dense", *BOTH, "data.test=[test-fr, test-nl, dev-fr, dev-nl]")
    command("prepare", *sets)
    command("features", *sets, "--num-jobs", "1")
    command("bpe", *sets)
    start = (f"training.init.from={train('dense', 'dense', *BOTH)}", *MASKS)
    found = {}
    for language in LANGUAGES:
        own = (f"data.train=[train-{language}]", f"data.dev=dev-{language}", f"data.test=[test-{language}]")
        found[language] = train("lth", f"lth_{language}", *own, f"space.languages=[{language}]", *start)
    for preset, level in (("pathways_two_lth70", 0.7), ("dynamic_two_lth50", 0.5)):
        masks = json.dumps({language: f"{exp}@{level}" for language, exp in found.items()})
        exp = train(preset, preset, *start, f"method.masks_from={masks}")
        command("search", exp, *data)
        command("decode", exp, *data)
        command("score", exp)
        subnets = json.loads((exp / "results.json").read_text())["subnets"]
        for language in LANGUAGES:
            wer = subnets[language]["wer"]
            assert {*wer} == {"dev-fr+dev-nl", f"test-{language}"}
            assert {*wer["dev-fr+dev-nl"]["languages"]} == {language}
            assert all(entry["words"] >= 4 for entry in wer.values())
    command("report", exp, "--out", exp / "report.html")
    assert (exp / "report-sparsity.png").exists()
