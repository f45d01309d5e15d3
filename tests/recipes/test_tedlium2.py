"""The TED-LIUM 2 recipe on talks joined from real utterances, in the corpus's own layout."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.tedlium import make_tedlium, spoken_utterances
from tests.recipes.conftest import Run

TINY = (
    "--set=frontend.channels=[2, 2, 2, 2]",
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=2",
    "--set=encoder.num_heads=2",
    "--set=encoder.head_dim=8",
    "--set=encoder.ffn_dim=16",
    "--set=encoder.kernel_size=3",
    "--set=training.num_epochs=1",
    "--set=training.calibration_batches=1",
    "--set=search.rtf_seconds=1",
    "--set=data.num_workers=0",
    "--set=data.num_buckets=2",
)


def test_segments_of_talks_through_every_stage(recipe: Run, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """From SPHERE files and STM lists to words found in the graph of the corpus's own dictionary and text."""
    pytest.importorskip("kaldi_decoder")
    spoken = spoken_utterances(corpus("librispeech_mini") / "LibriSpeech", 12)
    sets = {"train": {"A": spoken[:4], "B": spoken[4:8]}, "dev": {"C": spoken[8:10]}, "test": {"D": spoken[10:]}}
    talks = make_tedlium(tmp_path / "TEDLIUM_release2", sets)
    data, exp = tmp_path / "data", tmp_path / "exp"
    done = recipe(
        "tedlium2", "--corpus-dir", talks, "--data", data, "--exp", exp, "--nj", 1, *TINY,
        "--set=space.depths=[1, 2]", "--config", "conf/separate.yaml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    graph = json.loads((data / "graph_phonemes_81" / "graph.json").read_text())
    words = {word for item in spoken for word in item.text.split()}
    assert graph["num_words"] == len(words) and graph["sets"]["test"]["without_pronunciation"] == {}
    # The text of the corpus has the words of all sets.
    assert graph["sets"]["test"]["oov"] == {} and graph["sets"]["test"]["perplexity"] > 1
    test = json.loads((exp / "results.json").read_text())["subnets"]["w1"]["wer"]["test"]
    assert test["words"] == sum(len(item.text.split()) for item in spoken[10:])
    assert test["decoding"].startswith(f"graph {graph['digest']}, ")
    lines = (exp / "decode" / "w1" / "test" / "recogs").read_text().splitlines()
    found = [ast.literal_eval(line.partition("hyp=")[2]) for line in lines if "hyp=" in line]
    assert len(found) == 2 and {word for words_of_one in found for word in words_of_one} <= words
