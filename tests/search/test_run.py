"""Whole searches of an untrained model on real files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.search import run
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.decode import describe
from slimasr.decoding.searches.greedy import greedy_search
from slimasr.experiment import Experiment
from slimasr.experiment.archive import Conditions, read_archive, read_candidates
from slimasr.losses import transducer
from slimasr.measure.quality import joined_features, measure_quality
from slimasr.search.evaluator import Evaluator
from slimasr.supernet.front import Measurement, find_front
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json
from tests.search.untrained import edit_distance, make_experiment

SEARCH = command_app(run)


def search(experiment: Path, data: Path, *options: str) -> str:
    result = CliRunner().invoke(SEARCH, [str(experiment), "--data", str(data), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_search_measures_every_subnet_and_writes_its_front(experiment: Path, data: Path) -> None:
    output = search(experiment, data)  # prints what the first one measured
    entries = results_json(experiment)["subnets"]
    assert list(entries) == ["w1", "w0.5"]
    model = Experiment.open(experiment).model
    for subnet_id, entry in entries.items():
        extracted = model.extract(Subnet(entry["subnet"]["width"]))
        assert entry["costs"]["params"] == sum(p.numel() for p in extracted.parameters())
        assert entry["costs"]["rtf"] > 0
        assert entry["costs"]["rtf_p90"] >= entry["costs"]["rtf"]
        assert entry["wer"]["dev"]["words"] == 2 + 1 + 3 + 2 + 2
        assert f"{subnet_id}" in output
    content = json.loads((experiment / "search" / "front.json").read_text())
    measured = [
        Measurement(Subnet.from_dict(e["subnet"]), e["wer"]["dev"]["wer"], e["dev_loss"], e["costs"])
        for e in entries.values()
    ]
    assert [item["id"] for item in content["front"]] == [m.subnet.id for m in find_front(measured, "params")]


def test_figures_are_those_of_the_extracted_model_utterance_by_utterance(untrained: Path, data: Path) -> None:
    opened, subnet = Experiment.open(untrained), Subnet(0.5)
    config = opened.config
    batches = list(eval_batches(config, data, "dev", opened.tokenizer, 200.0))
    quality = measure_quality(opened.model, subnet, batches, opened.tokenizer, config.loss, config.decoding)
    alone = opened.model.extract(subnet).eval()
    errors, loss, tokens = 0, 0.0, 0
    for batch in batches:
        for row in range(len(batch)):
            one = batch.select([row])
            with torch.no_grad():
                encoded = alone.encode(one.x, one.x_lens)
                am = alone.project_encoder(encoded.out)
                ids = greedy_search(alone, am, encoded.lens)[0]
                lm = alone.joiner.project_predictor(alone.predictor(one.y))
                logits = alone.joiner(am.unsqueeze(2), lm.unsqueeze(1))
            limits = torch.tensor([[0, 0, int(one.y_lens), int(encoded.lens)]])
            loss += float(transducer.rnnt_loss(logits, one.y, 0, limits, reduction="sum", backend="torch"))
            tokens += one.num_tokens
            errors += edit_distance(one.texts[0].split(), opened.tokenizer.decode(ids).split())
    assert quality.wer.counts.errors == errors
    assert quality.loss == pytest.approx(loss / tokens, rel=1e-4)


def test_second_run_measures_nothing(experiment: Path, data: Path) -> None:
    before = (experiment / "results.json").read_bytes()
    search(experiment, data)
    assert (experiment / "results.json").read_bytes() == before


def test_a_killed_search_measures_what_is_missing(experiment: Path, data: Path) -> None:
    complete = results_json(experiment)
    kept = complete["subnets"]["w1"]
    partial = {**complete, "subnets": {"w1": kept}}
    (experiment / "results.json").write_text(json.dumps(partial))
    search(experiment, data)
    entries = results_json(experiment)["subnets"]
    assert entries["w1"] == kept
    assert entries["w0.5"]["wer"] == complete["subnets"]["w0.5"]["wer"]


def test_other_weights_are_measured_anew(experiment: Path, data: Path) -> None:
    assert len(read_archive(Experiment.open(experiment))) == 2
    checkpoint = torch.load(experiment / "final.pt", weights_only=True)
    checkpoint["model"]["joiner.output.bias"][0] += 100.0
    torch.save(checkpoint, experiment / "final.pt")
    assert read_archive(Experiment.open(experiment)) == []
    search(experiment, data)
    # All blank now: every word is deleted.
    assert [m.wer for m in read_archive(Experiment.open(experiment))] == [100.0, 100.0]


def test_figures_of_a_search_in_int8_and_of_one_without_stay_apart(experiment: Path, data: Path) -> None:
    """Loss tells them apart where a handful of words does not."""
    floats = {m.subnet.id: (m.wer, m.dev_loss) for m in read_archive(Experiment.open(experiment))}
    other = f"sqlite:///{experiment}/int8.db"
    search(experiment, data, "--set", "search.int8=true", "--storage", other)
    found = {name: json.loads((experiment / "search" / f"{name}.json").read_text()) for name in ("candidates", "front")}
    assert (found["candidates"]["kind"], found["candidates"]["int8"]) == ("exhaustive", True)
    opened = Experiment.open(experiment)
    batches = list(eval_batches(opened.config, data, "dev", opened.tokenizer, 200.0))
    config = opened.config.model_copy(update={"search": opened.config.search.model_copy(update={"int8": True})})
    evaluator, rounded = Evaluator(opened.model, opened.tokenizer, batches, config), dict[str, tuple[float, float]]()
    for measurement in read_archive(Experiment.open(experiment)):
        quality = evaluator.quality(measurement.subnet)
        rounded[measurement.subnet.id] = quality.wer.wer, pytest.approx(quality.loss)
        assert measurement.dev_loss != pytest.approx(floats[measurement.subnet.id][1], rel=1e-6)
    assert rounded.keys() == floats.keys()
    assert {m.subnet.id: (m.wer, m.dev_loss) for m in read_candidates(Experiment.open(experiment))} == rounded
    for items in (found["candidates"]["candidates"], found["front"]["front"]):
        assert items and all((item["wer"], item["dev_loss"]) == rounded[item["id"]] for item in items)
    search(experiment, data)
    assert {m.subnet.id: (m.wer, m.dev_loss) for m in read_archive(Experiment.open(experiment))} == floats


def test_a_record_of_another_decoding_is_not_taken_over(experiment: Path) -> None:
    (first, second), config = read_archive(Experiment.open(experiment)), Experiment.open(experiment).config
    greedy = Conditions("dev", False, describe(config.decoding))
    assert read_archive(Experiment.open(experiment), greedy) == [first, second]
    assert read_archive(Experiment.open(experiment), replace(greedy, decoding="modified beam search, beam 4")) == []
    results = results_json(experiment)
    for name in ("int8", "decoding"):  # as before searches noted them
        del results["subnets"]["w1"]["search"][name]
    (experiment / "results.json").write_text(json.dumps(results))
    assert read_archive(Experiment.open(experiment), greedy) == [first, second]
    assert read_archive(Experiment.open(experiment), replace(greedy, int8=True)) == []


def test_limits_choose_and_complain(experiment: Path, data: Path) -> None:
    sizes = {m.subnet.id: m.costs["params"] for m in read_archive(Experiment.open(experiment))}
    assert "best under the limits: w0.5" in search(experiment, data, "--max-params", str(sizes["w0.5"]))
    result = CliRunner().invoke(SEARCH, [str(experiment), "--data", str(data), "--max-params", "10"])
    assert result.exit_code == 1
    assert f"nearest is w0.5 with {sizes['w0.5']:,}" in result.output


def test_pruned_loss_needs_no_heads_on_extracted_models(tmp_path: Path, data: Path) -> None:
    opened = Experiment.open(make_experiment(tmp_path / "pruned", data, [0.5, 1.0], transducer="pruned"))
    config, subnet = opened.config, Subnet(0.5)
    batches = list(eval_batches(config, data, "dev", opened.tokenizer, 200.0))
    alone = opened.model.extract(subnet).eval()
    whole = measure_quality(opened.model, subnet, batches, opened.tokenizer, config.loss, config.decoding)
    cut = measure_quality(alone, Subnet(), batches, opened.tokenizer, config.loss, config.decoding)
    assert cut.wer.counts == whole.wer.counts
    assert cut.loss > 0


def test_slices_of_a_separate_model(tmp_path: Path, data: Path) -> None:
    experiment = make_experiment(tmp_path / "separate", data, [1.0])
    search(experiment, data)
    front = (experiment / "search" / "front.json").read_bytes()
    output = search(experiment, data, "--slice", "1.0,0.75,0.5")
    results = results_json(experiment)
    assert list(results["slices"]) == ["w1", "w0.75", "w0.5"]
    assert set(results["slices"]["w0.5"]["wer"]) == {"dev", "test"}
    assert "untrained slice w0.5" in output
    # The slice of everything is the model itself.
    assert results["slices"]["w1"]["wer"]["dev"] == results["subnets"]["w1"]["wer"]["dev"]
    assert list(results["subnets"]) == ["w1"]
    assert (experiment / "search" / "front.json").read_bytes() == front


def test_slices_of_a_supernet_are_refused(experiment: Path, data: Path) -> None:
    result = CliRunner().invoke(SEARCH, [str(experiment), "--data", str(data), "--slice", "0.5"])
    assert result.exit_code == 1
    assert "not a separate model" in result.output


def test_timing_audio_is_real_and_of_the_right_length(untrained: Path, data: Path) -> None:
    opened = Experiment.open(untrained)
    batches = list(eval_batches(opened.config, data, "dev", opened.tokenizer, 200.0))
    longest = batches[0].x[0, : batches[0].x_lens[0]]
    long = joined_features(batches, 20.0)
    assert long.shape == (2000, 80)
    assert torch.equal(long[: len(longest)], longest)
    assert torch.equal(joined_features(batches, 0.3), longest[:30])
