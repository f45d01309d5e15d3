"""Alignments through the command line, against paths found by plain dynamic programming, one utterance at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

from slimasr.cli.align import run
from slimasr.cli.common import command_app
from slimasr.cli.extract import run as extract
from slimasr.cli.train import run as train
from slimasr.config.schema import Config
from slimasr.data.features.shards import make_extractor
from slimasr.data.files import DataFolder
from slimasr.data.memory.training_cuts import read_cuts_at
from slimasr.data.timelines.folder import read_alignments
from slimasr.data.timelines.states import check_states, read_states
from slimasr.data.timelines.timeline import units_of
from slimasr.decoding.alignment import align, sources
from slimasr.experiment import Experiment
from slimasr.losses.ctc_alignment import ctc_best_path
from slimasr.supernet.subnet import Subnet
from tests.data.test_timeline import nearest
from tests.decoding.made_up import config, write_data, write_experiment

RECIPES = {
    "regular": {"loss": {"transducer": "full", "ctc_weight": 1.0}, "data": {"corpus": "an4", "speeds": [0.9, 1.0]}},
    "modified": {
        "loss": {"transducer": "full", "rnnt_type": "modified"},
        "data": {"corpus": "an4", "speeds": [0.9, 1.0], "storage": "on_the_fly"},
    },
}
SETS = ("train", "dev")


@pytest.fixture(scope="module", params=RECIPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Experiment and data folder; the model of one of the two recipes has a CTC head."""
    return make(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def with_ctc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Experiment with a CTC head, and data folder."""
    return make(tmp_path_factory, "regular")


def make(factory: pytest.TempPathFactory, kind: str) -> tuple[Path, Path]:
    root, recipe = factory.mktemp("align"), config(**RECIPES[kind])
    data = write_data(root, recipe)
    return write_experiment(root, recipe, data), data


def call(exp: Path | None, data: Path, *options: str) -> Result:
    first = [] if exp is None else [str(exp)]
    return CliRunner().invoke(command_app(run), [*first, "--data", str(data), *options])


@torch.no_grad()
def log_probs(experiment: Experiment, features: Tensor, tokens: list[int], subnet: Subnet) -> Tensor:
    """(T, U + 1, V) of one utterance."""
    model, y = experiment.model, torch.tensor([tokens])
    encoder = model.encode(features.unsqueeze(0), torch.tensor([len(features)]), subnet)
    am = torch.nn.functional.linear(
        encoder.out, model.joiner.encoder_proj.weight[:, : encoder.out.shape[-1]], model.joiner.encoder_proj.bias
    )
    lm = model.joiner.project_predictor(model.predictor(y))
    return model.joiner(am.unsqueeze(2), lm.unsqueeze(1))[0].log_softmax(dim=-1).double()


def best_score(scores: Tensor, tokens: list[int], stays: bool) -> float:
    """Score of the best path."""
    best = {(0, 0): 0.0}
    for t in range(scores.shape[0]):
        for u in range(len(tokens) + 1):
            if (t, u) not in best:
                continue
            arcs = [((t + 1, u), 0)]
            if u < len(tokens):
                arcs.append(((t if stays else t + 1, u + 1), tokens[u]))
            for node, unit in arcs:
                best[node] = max(best.get(node, -torch.inf), best[t, u] + float(scores[t, u, unit]))
    return best[scores.shape[0], len(tokens)]


def score_of(scores: Tensor, tokens: list[int], frames: list[int], stays: bool) -> float:
    """Score of the path that emits each token at its frame."""
    total, u = 0.0, 0
    for t in range(scores.shape[0]):
        while stays and u < len(tokens) and frames[u] == t:
            total, u = total + float(scores[t, u, tokens[u]]), u + 1
        if not stays and u < len(tokens) and frames[u] == t:
            total, u = total + float(scores[t, u, tokens[u]]), u + 1
        else:
            total += float(scores[t, u, 0])
    assert u == len(tokens)
    return total


def features_of(recipe: Config, data: Path, set_name: str, speed: float) -> dict[str, tuple[Tensor, str]]:
    extractor, found = make_extractor(recipe.features.num_mel_bins, recipe.data.sampling_rate), {}
    for cut in read_cuts_at(recipe, DataFolder(data), set_name, speed):
        computed = recipe.data.storage == "precomputed"
        features = cut.load_features() if computed else extractor.extract(cut.load_audio()[0], cut.sampling_rate)
        found[cut.id] = torch.as_tensor(features), cut.supervisions[0].text
    return found


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Fills with the emissions of every utterance that the transducer aligns."""
    last: list[list[int]] = []
    found: dict[str, list[int]] = {}
    spans_of, batches_of = align.spans_of_emissions, sources.align_batches

    def spans(emissions: list[int], factor: int, frames: int) -> list[tuple[int, int]]:
        last.append(emissions)
        return spans_of(emissions, factor, frames)

    def batches(*arguments: Any) -> Iterator[tuple[str, align.Spans | None]]:
        # One utterance at a time: its emissions are the last ones that were turned into spans.
        for name, aligned in batches_of(*arguments):
            found[name] = last[-1]
            yield name, aligned

    monkeypatch.setattr(align, "spans_of_emissions", spans)
    monkeypatch.setattr(sources, "align_batches", batches)
    return found


@pytest.mark.parametrize("subnet", ["max", "0.5"])
def test_the_transducers_paths_are_the_best_ones(
    made: tuple[Path, Path],
    subnet: str,
    emitted: dict[str, list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exp, data = made
    monkeypatch.setattr(align, "LOGITS_AT_ONCE", 1000)
    result = call(exp, data, "--subnet", subnet, "--source", "transducer", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    experiment = Experiment.open(exp)
    stays = experiment.config.loss.rnnt_type == "regular"
    chosen = experiment.space.parse(subnet)
    several = 0
    for set_name in SETS:
        found = read_alignments(tmp_path, [set_name]).timelines
        utterances = features_of(experiment.config, data, set_name, 1.0)
        assert found.keys() == utterances.keys()
        for name, (features, text) in utterances.items():
            tokens = experiment.tokenizer.encode(text)
            scores = log_probs(experiment, features, tokens, chosen)
            score = score_of(scores, tokens, emitted[name], stays)
            assert score == pytest.approx(best_score(scores, tokens, stays), abs=1e-3)
            several += len(set(emitted[name])) > 1
            # What is written has the frame targets of baseline A2.
            assert found[name].units == units_of(text)
            assert found[name].frames == len(features)
            targets = found[name].token_targets(tokens, experiment.tokenizer.unit_counts(text), 4, len(scores))
            assert targets.tolist() == [nearest(t, emitted[name], tokens) for t in range(len(scores))]
    assert several, "all tokens on one frame would say little"
    facts = json.loads((tmp_path / "alignments.json").read_text())
    assert sorted(facts.pop("sets")) == ["dev", "train"]
    made_by = f"tiny, subnet {chosen.id}, checkpoint final"
    assert facts == {
        "source": "transducer",
        "made_by": made_by,
        "realign": 0,
        "units": "characters",
        "frame_seconds": 0.01,
    }


def test_the_ctc_heads_paths_are_the_default_where_there_is_one(with_ctc: tuple[Path, Path], tmp_path: Path) -> None:
    exp, data = with_ctc
    result = call(exp, data, "--set-name", "test", "--set-name", "dev", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "alignments.json").read_text())["source"] == "ctc"
    experiment = Experiment.open(exp)
    for set_name in ("test", "dev"):
        found = read_alignments(tmp_path, [set_name]).timelines
        for name, (features, text) in features_of(experiment.config, data, set_name, 1.0).items():
            tokens = torch.tensor([experiment.tokenizer.encode(text)])
            with torch.no_grad():
                encoder = experiment.model.encode(features.unsqueeze(0), torch.tensor([len(features)]))
                logits = experiment.model.ctc_logits(encoder.out)
            path = ctc_best_path(logits, encoder.lens, tokens, torch.tensor([tokens.shape[1]]))[0][0].tolist()
            # A tokenizer of single characters: the units are the tokens, and blanks are silence.
            units = [-1] * len(features)
            for t, position in enumerate(path):
                units[4 * t : 4 * t + 4] = [position] * 4
            assert found[name].units_at(1, len(features)).tolist() == units


def test_realignment_and_states(with_ctc: tuple[Path, Path], tmp_path: Path) -> None:
    exp, data = with_ctc
    out = ("--out", str(tmp_path))
    result = call(exp, data, *out, "--realign", "2", "--states", "--min-count", "20")
    assert result.exit_code == 0, result.output
    figures = [line for line in result.stdout.splitlines() if "dev cross-entropy" in line]
    assert [line.split(":")[0] for line in figures] == ["alignment", "realignment 1", "realignment 2"]
    assert json.loads((tmp_path / "alignments.json").read_text())["realign"] == 2
    states = read_states(tmp_path)
    check_states(tmp_path, states)
    assert f"{states.count} states" in result.stdout
    timelines = read_alignments(tmp_path, ["train"]).timelines.values()
    assert sum(states.counts) == sum(item.frames for item in timelines)
    # From here on, with what is there and without a model; fewer frames make more states.
    recipe = ("--config", str(exp / "config.yaml"), "--source", "folder")
    before = (tmp_path / "train.jsonl").read_bytes()
    result = call(None, data, *out, *recipe, "--states", "--min-count", "1")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert read_states(tmp_path).count > states.count
    result = call(None, data, *out, *recipe, "--realign", "1")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "alignments.json").read_text())["realign"] == 3
    with pytest.raises(Exception, match="was made from other alignments"):
        check_states(tmp_path, read_states(tmp_path))
    result = call(None, data, *out, *recipe, "--states", "--min-count", "999999")
    assert one_line(result).startswith("error: --min-count 999999: no unit in context has so many frames")


CTM = """dev0 1 0.10 0.20 YES
dev0 1 0.40 0.20 NO
dev1 1 0.10 0.30 TEN
dev2 1 0.10 0.20 ONE
dev2 1 0.30 0.20 TEN
test0 1 0.10 0.20 YES
"""


def one_line(result: Result) -> str:
    """The beginning of the only line of an error."""
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr[:88]


def test_times_of_another_aligner(with_ctc: tuple[Path, Path], tmp_path: Path) -> None:
    exp, data = with_ctc
    (tmp_path / "a.ctm").write_text(CTM)
    options = ("--ctm", str(tmp_path / "a.ctm"), "--config", str(exp / "config.yaml"), "--out", str(tmp_path / "out"))
    result = call(None, data, *options, "--set-name", "dev")
    assert result.exit_code == 0, result.output
    assert "dev.jsonl: 4 utterances, 1 of them without an alignment" in result.stdout
    found = read_alignments(tmp_path / "out", ["dev"])
    assert list(found.of("dev0").words()) == [("YES", 10, 30), ("NO", 40, 60)]
    assert not found.of("dev3").aligned
    result = call(None, data, *options)
    assert result.exit_code == 1
    assert "a.ctm: has no utterance of train" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dev0 1 0.10 0.20 YES\ndev0 1 0.40 0.20 NOT\n", "a.ctm:2: dev0: has 'NOT' where the transcript has 'NO'"),
        ("dev0 0.10 0.20 YES\n", "a.ctm:1: has 4 columns"),
        ("dev0 1 0.10 0.20 YES\ndev0 1 0.40 9.0 NO\n", "a.ctm:2: dev0: 'NO' ends at 9.4 s, the audio has 0.8 s"),
        ("dev0 1 0.10 0.40 YES\ndev0 1 0.20 0.2 NO\n", "a.ctm:2: dev0: 'NO' starts at 0.2 s, before 'YES' ends"),
        ("dev0 1 0.50 -0.40 YES\n", "a.ctm:1: dev0: 'YES' ends before it starts"),
        ("dev0 1 0.10 0.20 YES\ndev0 2 0.40 0.20 NO\n", "a.ctm:2: dev0: has words in channels 1 and 2; give one only"),
        ("dev9 1 0.10 0.20 YES\n", "a.ctm: utterance dev9 is in none of the sets of the configuration"),
        ("", "a.ctm: holds no words"),
    ],
)
def test_ctm_files_that_do_not_fit(with_ctc: tuple[Path, Path], tmp_path: Path, text: str, message: str) -> None:
    exp, data = with_ctc
    (tmp_path / "a.ctm").write_text(text)
    result = call(exp, data, "--ctm", str(tmp_path / "a.ctm"), "--set-name", "dev", "--out", str(tmp_path))
    one_line(result)
    assert message in result.stderr
    assert not (tmp_path / "dev.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subnet", "0.3"], "subnet '0.3' is not in the search space"),
        (["--set-name", "eval"], "cuts_eval.jsonl.gz is missing: add it to data.test and run stage 2"),
        (["--checkpoint", "epoch-007"], "epoch-007.pt is missing: run stage 4"),
        (["--min-count", "5"], "--min-count: has no meaning without --states"),
        (["--ctm", "a.ctm", "--source", "ctc"], "--ctm: is a source of its own; leave --source out"),
        (["--ctm", "a.ctm"], "a.ctm is missing: correct --ctm"),
        (["--config", "a.yaml"], "--config: the experiment folder has its own configuration"),
        (["--source", "folder", "--out", "nowhere"], "nowhere/alignments.json is missing: run slimasr-align first"),
    ],
)
def test_wrong_requests(made: tuple[Path, Path], options: list[str], message: str, tmp_path: Path) -> None:
    exp, data = made
    result = call(exp, data, *options)
    one_line(result)
    assert message in result.stderr


def test_requests_without_a_model(made: tuple[Path, Path], tmp_path: Path) -> None:
    exp, data = made
    result = call(None, data, "--out", str(tmp_path))
    one_line(result)
    assert "needs an experiment folder whose model aligns, or --config with --ctm" in result.stderr
    result = call(None, data, "--config", str(exp / "config.yaml"), "--ctm", "a.ctm")
    one_line(result)
    assert "--out: is needed without an experiment folder" in result.stderr
    if Experiment.open(exp).config.loss.ctc_weight == 0:
        result = call(exp, data, "--source", "ctc")
        one_line(result)
        assert "has no CTC head (loss.ctc_weight)" in result.stderr


def test_training_on_what_was_written(made: tuple[Path, Path], tmp_path: Path) -> None:
    """The separate model of baseline A2, from the command line: it trains, and its stand-alone form opens."""
    exp, data = made
    assert call(exp, data).exit_code == 0
    path = exp / "alignments" / "train.jsonl"
    first, *others = [json.loads(line) for line in path.read_text().splitlines()]
    # As if no path had been found for it.
    del first["starts"], first["ends"]
    path.write_text("".join(json.dumps(item) + "\n" for item in (first, *others)))
    tree = yaml.safe_load((exp / "config.yaml").read_text())
    tree["loss"] |= {"auxiliary": {"layers": [1], "hidden_dim": 4}, "alignments": str(exp / "alignments")}
    tree["method"] = {"kind": "separate", "subnet": "1.0"}
    tree["data"] |= {"max_bad_share": 1.0}
    tree["training"] |= {"num_epochs": 1, "calibration_batches": 1, "scan_worst_batches": True}
    (tmp_path / "a2.yaml").write_text(yaml.safe_dump(tree))
    options = ["--config", str(tmp_path / "a2.yaml"), "--data", str(data), "--exp", str(tmp_path / "a2")]
    result = CliRunner().invoke(command_app(train), options)
    assert result.exit_code == 0, result.output
    assert f"train: 1 of 4 utterances has no alignment and no frame targets, first {first['id']}" in result.stderr
    (epoch,) = [json.loads(line) for line in (tmp_path / "a2" / "train_log.jsonl").read_text().splitlines()][-1:]
    for part in ("train", "dev"):
        assert 0.0 < epoch[part]["w1/auxiliary"] < 10.0, "nats per frame"
    model = Experiment.open(tmp_path / "a2").model
    assert model.has_training_heads
    result = CliRunner().invoke(
        command_app(extract), [str(tmp_path / "a2"), "--subnet", "max", "--out", str(tmp_path / "small")]
    )
    assert result.exit_code == 0, result.output
    small = Experiment.open(tmp_path / "small").model
    assert not small.has_training_heads
    assert sum(p.numel() for p in small.parameters()) == model.count().params


def _drop_set(folder: Path) -> None:
    tree = json.loads((folder / "alignments.json").read_text())
    del tree["sets"]["dev"]
    (folder / "alignments.json").write_text(json.dumps(tree))


def _other_corpus(folder: Path) -> None:
    tree = json.loads((folder / "alignments.json").read_text())
    (folder / "alignments.json").write_text(json.dumps({**tree, "sets": {"train": "0", "dev": "0"}}))


def _older(folder: Path) -> None:
    (folder / "alignments.json").write_text('{"subsampling_factor": 4, "sets": {}}')


def _change(folder: Path, key: str, values: Any) -> None:
    path = folder / "train.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), key: values}), *others]) + "\n")


DAMAGE = {
    "missing": (lambda folder: (folder / "train.jsonl").unlink(), "train.jsonl is missing: run slimasr-align"),
    "missing set": (_drop_set, "has alignments of train, not of dev: run slimasr-align --set-name dev"),
    "other corpus": (_other_corpus, "was made from other transcripts or audio of train; run slimasr-align again"),
    "older version": (_older, "an older version made these alignments, for one model only; run slimasr-align again"),
    "empty": (lambda folder: (folder / "train.jsonl").write_text(""), "train.jsonl: is empty; run slimasr-align again"),
    "transcript": (lambda folder: _change(folder, "units", "▁ Y E S ▁ N Q"), "train0: its alignment"),
    "beyond": (lambda folder: _change(folder, "frames", 900), "train0: its alignment"),
    "order": (lambda folder: _change(folder, "starts", [79] * 7), "train0: unit 1"),
    "missing utterance": (lambda folder: _change(folder, "id", "other"), "train0: is not in the alignments of"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_training_refuses_alignments_that_do_not_fit(with_ctc: tuple[Path, Path], damage: str, tmp_path: Path) -> None:
    exp, data = with_ctc
    whole = exp / "alignments"
    if not whole.exists():
        assert call(exp, data).exit_code == 0
    folder = Path(shutil.copytree(whole, tmp_path / "alignments"))
    spoil, message = DAMAGE[damage]
    spoil(folder)
    tree = yaml.safe_load((exp / "config.yaml").read_text())
    tree["loss"] |= {"auxiliary": {"layers": [1], "hidden_dim": 4}, "alignments": str(folder)}
    tree["method"] = {"kind": "separate", "subnet": "1.0"}
    tree["data"] |= {"max_bad_share": 1.0}
    (tmp_path / "a2.yaml").write_text(yaml.safe_dump(tree))
    options = ["--config", str(tmp_path / "a2.yaml"), "--data", str(data), "--exp", str(tmp_path / "a2")]
    result = CliRunner().invoke(command_app(train), options)
    one_line(result)
    assert message in result.stderr
