"""Paper 5's chain of experiments on a few synthetic utterances: a dense model, masks by LTH, then pathways."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.recipes.conftest import Run

LANGUAGES = ("fr", "nl")
TINY = (
    "--set=data.options.languages=fr nl",
    "--set=data.options.num_train=16",
    "--set=data.options.num_dev=2",
    "--set=data.options.num_test=2",
    "--set=data.options.set_sizes=train-nl=8",
    "--set=data.options.max_digits=3",
    "--set=data.max_cuts=2",
    "--set=data.num_buckets=1",
    "--set=tokenizer.vocab_size=30",
    "--set=tokenizer.sets=[train-fr, train-nl]",
    "--set=features.sets=[train-fr, train-nl]",
    "--set=frontend.channels=4",
    "--set=encoder.d_model=16",
    "--set=encoder.num_layers=1",
    "--set=encoder.num_heads=2",
    "--set=encoder.head_dim=8",
    "--set=encoder.ffn_dim=16",
    "--set=encoder.kernel_size=3",
    "--set=predictor.dim=8",
    "--set=predictor.embedding_dim=8",
    "--set=joiner.dim=16",
    "--set=training.num_epochs=2",
    "--set=search.rtf_seconds=1",
)
MASKS = ("--set=method.prune_interval=0.2", "--set=method.adapt_interval=2")


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader (extra demo) is absent")
def test_from_a_dense_model_to_pathways(recipe: Run, tmp_path: Path) -> None:
    dense, both = tmp_path / "dense", ("--set=data.train=[train-fr, train-nl]", "--set=data.dev=dev-fr+dev-nl",
                                       "--set=data.test=[test-fr, test-nl]")  # fmt: skip
    common = ("--data", tmp_path / "data", "--nj", 1, *TINY)

    def stages(first: int, last: int, preset: str, exp: Path, *options: str) -> None:
        done = recipe("multilingual", "--stage", first, "--stop-stage", last, "--config", f"conf/{preset}.yaml",
                      "--exp", exp, *common, *options)  # fmt: skip
        assert done.returncode == 0, done.stderr

    stages(0, 4, "dense", dense, *both)
    start = (f"--set=training.init.from={dense}", *MASKS)
    for language in LANGUAGES:
        own = (f"--set=data.train=[train-{language}]", f"--set=data.dev=dev-{language}",
               f"--set=data.test=[test-{language}]", f"--set=space.languages=[{language}]")  # fmt: skip
        stages(4, 4, "lth", tmp_path / f"lth_{language}", *own, *start)

    def found_at(level: float) -> str:
        masks = {language: f"{tmp_path / f'lth_{language}'}@{level}" for language in LANGUAGES}
        return f"--set=method.masks_from={json.dumps(masks)}"

    stages(4, 8, "pathways_two_lth70", tmp_path / "fixed", *start, found_at(0.7))
    stages(4, 7, "dynamic_two_lth50", tmp_path / "dynamic", *start, found_at(0.5))
    for exp in (tmp_path / "fixed", tmp_path / "dynamic"):
        subnets = json.loads((exp / "results.json").read_text())["subnets"]
        assert sorted(subnets) == ["fr", "nl"]
        for language, entry in subnets.items():
            assert entry["wer"][f"test-{language}"]["words"] >= 2
            assert set(entry["wer"]) >= {f"test-{language}"}
    assert (tmp_path / "fixed" / "report.html").exists()
