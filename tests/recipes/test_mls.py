"""The recipe of Multilingual LibriSpeech on a few utterances of LibriSpeech in its layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from slimasr.data.corpora import CORPORA
from tests.data.mls import make_mls
from tests.recipes.conftest import EGS, Run, command

TINY = (
    "--set=data.num_workers=0",
    "--set=data.num_buckets=1",
    "--set=data.max_cuts=2",
    "--set=tokenizer.vocab_size=40",
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=1",
    "--set=encoder.num_heads=2",
    "--set=encoder.ffn_dim=16",
    "--set=encoder.conv_kernel=3",
    "--set=predictor.dim=8",
    "--set=predictor.embedding_dim=8",
    "--set=joiner.dim=16",
    "--set=training.num_epochs=1",
    "--set=training.precision=float32",
    "--set=search.rtf_seconds=1",
)


def test_a_dense_model_through_every_stage(recipe: Run, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    librispeech = corpus("librispeech_mini") / "LibriSpeech"
    (listed,) = CORPORA["librispeech"].list_utterances(librispeech, ["train-clean-5"], {"shortest": 24}).values()
    mls = make_mls(tmp_path / "mls", [(item.audio, item.text) for item in listed], ["en", "fr", "it", "nl"])
    exp, data = tmp_path / "exp", ("--data", tmp_path / "data")
    done = recipe("mls", "--stop-stage", 1, "--corpus-dir", mls, *data, *TINY)
    assert done.returncode == 0, done.stderr
    stages = ("--config", EGS / "mls" / "conf" / "dense.yaml", *data, *TINY)
    command("features", *stages, "--num-jobs", 1)
    command("bpe", *stages)
    command("train", *stages, "--exp", exp)
    command("search", exp, *data)
    command("decode", exp, *data)
    command("score", exp)
    command("report", exp, "--out", exp / "report.html")
    (entry,) = json.loads((exp / "results.json").read_text())["subnets"].values()
    assert {"dev-en+dev-fr+dev-it+dev-nl", "test-en", "test-fr", "test-it", "test-nl"} <= {*entry["wer"]}
    assert {*entry["wer"]["dev-en+dev-fr+dev-it+dev-nl"]["languages"]} == {"en", "fr", "it", "nl"}
    assert (exp / "report.html").exists()
