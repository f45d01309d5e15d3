"""A model of phonemes through the command line: graph decoding, its scales, and phoneme error rates."""

from __future__ import annotations

import json
import shutil
from itertools import groupby
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli import align, decode, export, extract, score, search, transcribe
from slimasr.cli.common import command_app
from slimasr.config.load import load_config, save_config
from slimasr.config.search import GraphDecodingConfig
from slimasr.data.files import DataFolder
from slimasr.data.graphs.graph import load_graph
from slimasr.data.graphs.stage import make_graph
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.timelines.folder import read_alignments
from slimasr.decoding.searches.graph import SearchGraph, best_words, label_scores
from slimasr.experiment import Experiment
from slimasr.export.measure import float_rates
from slimasr.scoring.icefall import read_recogs
from slimasr.supernet.subnet import Subnet
from tests.decoding.made_up import TEXTS, config, write_data, write_experiment

kaldialign = pytest.importorskip("kaldialign")
pytest.importorskip("kaldi_decoder")
pytest.importorskip("kaldilm")
pytest.importorskip("kaldingram")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` with a graph and ``exp/`` with a label prior."""
    root = tmp_path_factory.mktemp("phonemes")
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "head_dim": 4, "ffn_dim": 16, "kernel_size": 3}
    recipe = config(
        model={"kind": "ctc", "frontend": {"channels": 4}, "encoder": sizes},
        tokenizer={"kind": "phonemes", "lexicon": "spelling", "vocab_size": 40},
        decoding={"kind": "graph"},
        loss={},
        search={"rtf_seconds": 0.5},
    )
    data = write_data(root, recipe)
    make_graph(recipe, data)
    exp = write_experiment(root, recipe, data)
    let_phonemes_change(exp, data)
    return root


@torch.no_grad()
def let_phonemes_change(exp: Path, data: Path) -> None:
    """Move the scores of labels so that each of them has a mean of 0 on dev, and set a random prior."""
    experiment = Experiment.open(exp)
    scores = torch.cat(list(scores_of(experiment, "dev", data, Subnet(1.0)).values()))
    saved = torch.load(exp / "final.pt", weights_only=True)
    spread = scores.std(dim=0)
    saved["model"]["output.weight"] *= (3.0 / spread).unsqueeze(1)
    saved["model"]["output.bias"] = (saved["model"]["output.bias"] - scores.mean(dim=0)) * 3.0 / spread
    prior = torch.randn(len(spread), generator=torch.Generator().manual_seed(0))
    saved["model"]["output.log_prior"] = prior.log_softmax(-1)
    torch.save(saved, exp / "final.pt")


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy whose experiment a test may change."""
    shutil.copytree(made / "exp", tmp_path / "exp")
    (tmp_path / "data").symlink_to(made / "data")
    return tmp_path


def call(command: object, *arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(command_app(command.run), list(map(str, arguments)))  # type: ignore[attr-defined]
    assert result.exit_code == status, result.output + result.stderr
    return result


def on_data(place: Path, command: object, *arguments: object, status: int = 0) -> Result:
    return call(command, place / "exp", "--data", place / "data", *arguments, status=status)


@torch.no_grad()
def scores_of(experiment: Experiment, set_name: str, data: Path, subnet: Subnet) -> dict[str, torch.Tensor]:
    """Id -> (T, V) scores of labels, of each utterance alone."""
    found = {}
    for cut in read_feature_cuts(DataFolder(data), set_name):
        x = torch.as_tensor(cut.load_features())
        out = experiment.model.encode(x.unsqueeze(0), torch.tensor([len(x)]), subnet)
        found[cut.id] = experiment.model.ctc_logits(out.out, subnet)[0]
    return found


def words_of(place: Path, set_name: str, acoustic: float, prior: float, subnet: Subnet) -> dict[str, list[str]]:
    """Id -> words, of each utterance alone."""
    experiment = Experiment.open(place / "exp")
    tokenizer = experiment.config.tokenizer
    folder = DataFolder(place / "data").graph(tokenizer.kind, tokenizer.vocab_size)
    graph = SearchGraph.open(load_graph(folder, experiment.tokenizer))
    settings = GraphDecodingConfig(acoustic_scale=acoustic, prior_scale=prior)
    log_prior = experiment.model.ctc_head_of(subnet).log_prior  # type: ignore[union-attr]
    return {
        name: best_words(label_scores(logits, log_prior, settings).numpy(), graph, settings) or []
        for name, logits in scores_of(experiment, set_name, place / "data", subnet).items()
    }


def errors(found: dict[str, list[str]], references: dict[str, list[str]]) -> int:
    return sum(kaldialign.edit_distance(references[name], words)["total"] for name, words in found.items())


def test_scales_are_tuned_and_used(place: Path) -> None:
    said = on_data(place, decode, "--tune", "dev").output
    tuned = json.loads((place / "exp" / "graph.json").read_text())["tuned"]
    references = {f"dev{i}": text.split() for i, text in enumerate(TEXTS)}
    number = sum(map(len, references.values()))
    largest = Subnet(1.0)
    tried = {(one["acoustic_scale"], one["prior_scale"]): one["wer"] for one in tuned["tried"]}
    assert len(tried) == 25 and said.count("WER") == 25
    for scales in ((1.0, 0.0), (0.5, 0.8), (3.0, 0.4)):
        wrong = errors(words_of(place, "dev", *scales, largest), references)
        assert tried[scales] == pytest.approx(100 * wrong / number)
    # They differ, and the best one is taken.
    assert min(tried.values()) < max(tried.values())
    chosen = (tuned["acoustic_scale"], tuned["prior_scale"])
    assert tried[chosen] == min(tried.values())
    assert f"acoustic scale {chosen[0]:g}, prior scale {chosen[1]:g}, the best on dev" in said

    # What was chosen is used; here, a choice that differs from the defaults.
    note = json.loads((place / "exp" / "graph.json").read_text())
    chosen = (3.0, 0.8)
    note["tuned"] |= {"acoustic_scale": 3.0, "prior_scale": 0.8}
    (place / "exp" / "graph.json").write_text(json.dumps(note))
    on_data(place, decode, "--set-name", "test")
    folder = place / "exp" / "decode" / "w1" / "test"
    expected = words_of(place, "test", *chosen, largest)
    assert {one.id: list(one.hyp) for one in read_recogs(folder / "recogs")} == expected
    how = json.loads((folder / "decode.json").read_text())["decoding"]
    assert "acoustic scale 3, prior scale 0.8, beam 16" in how
    assert expected != words_of(place, "test", 1.0, 0.0, largest)

    # An experiment of the same comparison takes them over.
    other = place / "other"
    shutil.copytree(place / "exp", other)
    (other / "graph.json").unlink()
    shutil.rmtree(other / "decode")
    call(decode, other, "--data", place / "data", "--scales", place / "exp")
    assert not (other / "decode").exists()
    call(decode, other, "--data", place / "data", "--set-name", "test")
    assert json.loads((other / "decode" / "w1" / "test" / "decode.json").read_text())["decoding"] == how


def test_scales_are_taken_over_or_tuned_but_not_both(place: Path) -> None:
    said = on_data(place, decode, "--scales", place / "exp", "--tune", "dev", status=1).stderr
    assert "--scales: only takes scales over and decodes nothing; leave --tune or --scales out" in said
    said = on_data(place, decode, "--scales", place / "exp", "--stream", status=1).stderr
    assert "leave --stream or --scales out" in said
    said = on_data(place, decode, "--tune", "nope", status=1).stderr
    assert "error: --tune nope: " in said and "name one of" in said


def test_phonemes_are_scored_beside_words(place: Path) -> None:
    on_data(place, decode, "--set-name", "dev", "--subnet", "max")
    folder = place / "exp" / "decode" / "w1" / "dev"
    experiment = Experiment.open(place / "exp")
    tokens = experiment.tokenizer.tokens
    found = {one.id: one for one in read_recogs(folder / "recogs_phone")}
    wrong = number = 0
    for cut_id, logits in scores_of(experiment, "dev", place / "data", Subnet(1.0)).items():
        labels = [label for label, _ in groupby(logits.argmax(-1).tolist()) if label > 2]
        assert found[cut_id].hyp == tuple(tokens[label] for label in labels)
        # Letters, of which the last one of each word is another token.
        words = TEXTS[int(cut_id[-1])].split()
        assert found[cut_id].ref == tuple(tokens[label] for label in experiment.tokenizer.encode(" ".join(words)))
        assert len(found[cut_id].ref) == sum(map(len, words))
        wrong += kaldialign.edit_distance(found[cut_id].ref, found[cut_id].hyp)["total"]
        number += len(found[cut_id].ref)
    output = call(score, place / "exp").output
    entry = json.loads((place / "exp" / "results.json").read_text())["subnets"]["w1"]
    assert entry["per"]["dev"]["per"] == pytest.approx(100 * wrong / number)
    assert (entry["per"]["dev"]["errors"], entry["per"]["dev"]["phonemes"]) == (wrong, number)
    assert entry["wer"]["dev"]["decoding"].startswith("graph ") and entry["per"]["dev"]["decoding"] == "greedy"
    assert f"%PER {100 * wrong / number:.2f} [ {wrong} / {number}," in output
    # An export of this experiment knows it, too.
    assert float_rates(Experiment.open(place / "exp"), Subnet()) == {"dev": entry["wer"]["dev"]["wer"]}
    assert (folder / "per").read_text().splitlines()[0] in output
    assert (folder / "per_utt_phone").is_file() and "#PHONE" in (folder / "per_spk_phone").read_text()

    # Without the graph there are phonemes only, and no words of an earlier decoding.
    on_data(place, decode, "--set-name", "dev", "--subnet", "max", "--method", "greedy")
    assert not (folder / "recogs").exists() and (folder / "recogs_phone").exists()
    output = call(score, place / "exp").output
    assert "%PER" in output and "%WER" not in output


def test_other_commands_search_the_graph(place: Path) -> None:
    made = (place / "data").resolve().parent
    (place / "exp" / "graph.json").unlink(missing_ok=True)
    refused = call(transcribe, place / "exp", made / "audio" / "dev2.wav", status=1).stderr
    assert "no search graph is known; run slimasr-decode once" in refused
    on_data(place, search, "--set", "search.kind=exhaustive")
    found = json.loads((place / "exp" / "results.json").read_text())["subnets"]["w1"]["wer"]["dev"]
    references = {f"dev{i}": text.split() for i, text in enumerate(TEXTS)}
    expected = words_of(place, "dev", 1.0, 0.0, Subnet(1.0))
    assert found["errors"] == errors(expected, references) and found["decoding"].startswith("graph ")
    # The search has noted the graph, so that audio files can be transcribed now.
    assert call(transcribe, place / "exp", made / "audio" / "dev2.wav").output.strip() == " ".join(expected["dev2"])
    call(extract, place / "exp", "--subnet", "max", "--out", place / "alone")
    assert call(transcribe, place / "alone", made / "audio" / "dev2.wav").output.strip() == " ".join(expected["dev2"])
    # Streams have no graph, and phonemes are no words.
    assert "cannot be streamed" in call(transcribe, place / "exp", "--stream", "-", status=1).stderr


def test_export_asks_for_the_graph_before_it_traces_models(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    (place / "exp" / "graph.json").unlink(missing_ok=True)
    traced: list[object] = []
    monkeypatch.setattr("slimasr.export.bundle.write_graphs", lambda *given: traced.append(given))
    refused = call(export, place / "exp", "--subnet", "max", "--out", place / "bundle", status=1).stderr
    assert "no search graph is known; run slimasr-decode once" in refused
    assert not traced and not (place / "bundle").exists()


def test_alignments_take_pronunciations(place: Path) -> None:
    on_data(place, align, "--set-name", "dev")
    facts = json.loads((place / "exp" / "alignments" / "alignments.json").read_text())
    assert facts["source"] == "pronunciations"
    alignments = read_alignments(place / "exp" / "alignments", ["dev"])
    assert sum(timeline.aligned for timeline in alignments.timelines.values()) == len(TEXTS)


def test_graphs_that_do_not_belong(place: Path) -> None:
    data = place / "data"
    made = data.resolve()
    data.unlink()
    data.mkdir()
    for path in made.iterdir():
        (data / path.name).symlink_to(path)
    (folder,) = data.glob("graph_*")
    copied = data / "copy"
    shutil.copytree(made / folder.name, copied)
    folder.unlink()
    assert f"{folder}/graph.json is missing: run stage 3" in on_data(place, decode, status=1).stderr
    record = json.loads((copied / "graph.json").read_text())
    shutil.copytree(copied, folder)
    (folder / "graph.json").write_text(json.dumps({**record, "tokenizer": "another"}))
    assert "was made for another tokenizer" in on_data(place, decode, status=1).stderr
    (folder / "graph.json").write_text(json.dumps(record))
    (folder / "HLG.fst").write_bytes((folder / "HLG.fst").read_bytes()[:100])
    assert "HLG.fst has changed since stage 3 wrote it" in on_data(place, decode, status=1).stderr
    exp = place / "exp"
    assert "has no scales; run slimasr-decode --tune" in on_data(place, decode, "--scales", exp, status=1).stderr
    missing = place / "nowhere"
    assert f"{missing}/config.yaml" in on_data(place, decode, "--scales", missing, status=1).stderr


def test_paths_that_reach_no_end_are_counted(place: Path) -> None:
    """With a beam that keeps the best path alone, some utterances end within a word."""
    stored = place / "exp" / "config.yaml"
    save_config(load_config(stored, ["decoding.graph.beam=0.001", "decoding.graph.max_active=2"]), stored)
    said = on_data(place, decode, "--set-name", "dev", "--subnet", "max").stderr
    found = read_recogs(place / "exp" / "decode" / "w1" / "dev" / "recogs")
    empty = sum(not one.hyp for one in found)
    assert empty > 0
    noun = "utterance" if empty == 1 else "utterances"
    assert f"note: w1 dev: {empty} {noun} reached no final state of the graph and have no words; raise" in said
