"""A short file gives one text: transcribed, decoded alone, decoded in a batch, by any search and front end."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from slimasr.config.schema import Config
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.corpora import ListedUtterance
from slimasr.data.features.stage import compute_features
from slimasr.data.files import DataFolder, write_cuts
from slimasr.data.manifests.stage import build_cuts
from slimasr.decoding.decode import decode_batches, override
from slimasr.decoding.transcription.transcribe import transcribe
from slimasr.experiment import Experiment
from slimasr.measure.quality import measure_quality
from slimasr.scoring import score
from slimasr.search.evaluator import Evaluator
from tests.decoding.made_up import RATE, config, noise, write_data, write_experiment

SAMPLES = (1, 79, 80, 159, 160, 500, 800, 1199, 3200)
FRONTENDS = {"conv": {"channels": 4}, "stack": {"kind": "stack", "factor": 16}}


def recipe(frontend: str, storage: str) -> Config:
    sizes = {"d_model": 32, "num_layers": 1, "num_heads": 2, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3}
    parts = {"predictor": {"kind": "stateless", "dim": 8}, "joiner": {"dim": 8}}
    model = {"frontend": FRONTENDS[frontend], "encoder": sizes, **parts}
    return config(model=model, data={"corpus": "an4", "storage": storage})


@pytest.fixture(params=[("conv", "precomputed"), ("conv", "on_the_fly"), ("stack", "precomputed")])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Experiment, Path, list[Path]]:
    """An experiment, its data folder, and the files of its test set."""
    made_of = recipe(*request.param)
    data = write_data(tmp_path, made_of)
    files, utterances = [], []
    for number in SAMPLES:
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 5 * noise(1.0, seed=number)[:number], RATE, subtype="FLOAT")
        files.append(path)
        utterances.append(ListedUtterance(f"utt{number}", path, "YES NO", "s"))
    cuts, bad = build_cuts(utterances, made_of.data)
    assert not bad
    write_cuts(DataFolder(data).raw_cuts("test"), cuts)
    compute_features(made_of, data, 1, lambda items, *_: items)
    experiment = Experiment.open(write_experiment(tmp_path, made_of, data))
    with torch.no_grad():
        experiment.model.joiner.output.bias[:4] -= 20.0  # so that a single frame emits a letter
    return experiment, data, files


@pytest.mark.parametrize("kind", ["greedy", "modified_beam"])
def test_texts_are_those_of_transcribe(made: tuple[Experiment, Path, list[Path]], kind: str) -> None:
    experiment, data, files = made
    model, tokenizer = experiment.model, experiment.tokenizer
    decoding = override(experiment.config.decoding, kind)
    changed = experiment.config.model_copy(update={"decoding": decoding})
    asked = Experiment(experiment.dir, changed, experiment.space, tokenizer, model, "final")
    expected = dict(zip((path.stem for path in files), transcribe(asked, files), strict=True))
    assert [bool(expected[name]) for name in ("1", "79", "80", "159")] == [False] * 4
    assert sum(map(bool, expected.values())) >= 3
    for seconds in (0.001, 100.0):
        batches = list(eval_batches(changed, data, "test", tokenizer, seconds))
        decoded = decode_batches(model, batches, tokenizer, None, decoding)
        assert {u.id.removeprefix("utt"): " ".join(u.hyp) for u in decoded} == expected
        errors = score(decoded).counts
        assert errors.deletions >= 2 * 4
        quality = measure_quality(model, experiment.space.max, batches, tokenizer, changed.loss, decoding)
        assert quality.wer.counts == errors
        assert Evaluator(model, tokenizer, batches, changed).evaluate(experiment.space.max).errors == errors.errors
