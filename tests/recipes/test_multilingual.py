"""Paper 5's chain of experiments on a few synthetic utterances: a dense model, masks by LTH, then pathways."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from slimasr.results.decoded import STREAMING
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
    "encoder.d_model=16",
    "encoder.num_layers=1",
    "encoder.num_heads=2",
    "encoder.ffn_dim=16",
    "predictor.dim=8",
    "predictor.embedding_dim=8",
    "joiner.dim=16",
    "training.num_epochs=2",
    "search.rtf_seconds=1",
)
CONFORMER = ("frontend.channels=4", "encoder.head_dim=8", "encoder.kernel_size=3")
BOTH = ("data.train=[train-fr, train-nl]", "data.dev=dev-fr+dev-nl", "data.test=[test-fr, test-nl]")
MASKS = ("method.prune_interval=0.2", "method.adapt_interval=2")


pytestmark = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeakng-loader (extra demo) is absent")


class Place:
    """A folder with ``data/``, in which experiments are trained."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = ("--data", root / "data")

    def recipe(self, preset: str, *settings: str) -> list[str | Path]:
        sizes = () if "streaming" in preset else CONFORMER
        tiny = [f"--set={setting}" for setting in (*TINY, *sizes, *settings)]
        return ["--config", EGS / "multilingual" / "conf" / f"{preset}.yaml", *self.data, *tiny]

    def train(self, preset: str, exp: str, *settings: str) -> Path:
        command("train", *self.recipe(preset, *settings), "--exp", self.root / exp)
        return self.root / exp


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The data of both languages; the dev sets of single languages are made besides."""
    made = Place(tmp_path_factory.mktemp("multilingual"))
    sets = made.recipe("dense", *BOTH, "data.test=[test-fr, test-nl, dev-fr, dev-nl]")
    command("prepare", *sets)
    command("features", *sets, "--num-jobs", "1")
    command("bpe", *sets)
    return made


def test_from_a_dense_model_to_pathways(place: Place) -> None:
    start = (f"training.init.from={place.train('dense', 'dense', *BOTH)}", *MASKS)
    found = {}
    for language in LANGUAGES:
        own = (f"data.train=[train-{language}]", f"data.dev=dev-{language}", f"data.test=[test-{language}]")
        found[language] = place.train("lth", f"lth_{language}", *own, f"space.languages=[{language}]", *start)
    for preset, level in (("pathways_two_lth70", 0.7), ("dynamic_two_lth50", 0.5)):
        masks = json.dumps({language: f"{exp}@{level}" for language, exp in found.items()})
        exp = place.train(preset, preset, *start, f"method.masks_from={masks}")
        command("search", exp, *place.data)
        command("decode", exp, *place.data)
        command("score", exp)
        subnets = json.loads((exp / "results.json").read_text())["subnets"]
        for language in LANGUAGES:
            wer = subnets[language]["wer"]
            assert {*wer} == {"dev-fr+dev-nl", f"test-{language}"}
            assert {*wer["dev-fr+dev-nl"]["languages"]} == {language}
            assert all(entry["words"] >= 4 for entry in wer.values())
    command("report", exp, "--out", exp / "report.html")
    assert (exp / "report-sparsity.png").exists()


def test_pathways_of_the_streaming_encoder(place: Place) -> None:
    """Trained, pruned, and recognised as whole utterances and chunk by chunk."""
    start = f"training.init.from={place.train('streaming', 'streaming', *BOTH)}"
    exp = place.train("dynamic_two_streaming", "dynamic_two_streaming", start, *MASKS)
    facts = json.loads((exp / "results.json").read_text())
    assert facts["masks"]["sparsity"] == pytest.approx(dict.fromkeys(LANGUAGES, 0.7), abs=0.02)
    texts = []
    for way in ((), ("--stream",)):
        command("decode", exp, *place.data, *way)
        command("score", exp)
        texts.append([(exp / "decode" / name / f"test-{name}" / "recogs").read_text() for name in LANGUAGES])
    assert texts[0] == texts[1]
    wers = json.loads((exp / "results.json").read_text())["subnets"]
    assert all(wers[name]["wer"][f"test-{name}"]["decoding"].endswith(STREAMING) for name in LANGUAGES)
