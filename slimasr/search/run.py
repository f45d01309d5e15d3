"""The search: measure what the generator proposes, keep results as each subnet ends, go on after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from slimasr.errors import UserError
from slimasr.experiment import Experiment, load_weights, read_results, update_results, write_json_atomic
from slimasr.models.build import build_model
from slimasr.search.evaluate import Batches, joined_features, measure_costs, measure_quality, wer_entry
from slimasr.search.front import Measurement, find_front
from slimasr.search.generators import Generator
from slimasr.supernet.subnet import Subnet


class Search:
    """One search over an experiment's subnets. Iterate over `measure` to run what is left of it."""

    def __init__(self, experiment: Experiment, generator: Generator, dev_batches: Batches) -> None:
        """``dev_batches`` gives the dev set anew at every call."""
        self.experiment = experiment
        self.generator = generator
        self.dev_batches = dev_batches
        self.weights = fingerprint(experiment.dir / "final.pt")
        self.archive = {m.subnet.id: m for m in read_archive(experiment.dir)}

    @property
    def remaining(self) -> int:
        """How many subnets are still to be measured."""
        return self.generator.total() - len(self.archive)

    def measure(self) -> Iterator[Measurement]:
        """Measure subnet after subnet; each one's results are on disk before the next begins."""
        config = self.experiment.config
        while proposed := self.generator.propose(self.archive):
            features = joined_features(self.dev_batches(), config.search.rtf_seconds)
            for subnet in proposed:
                measurement, entry = self._measure(subnet, features)
                update_results(self.experiment.dir, {"subnets": {subnet.id: entry}})
                self.archive[subnet.id] = measurement
                self.write_front()
                yield measurement

    def write_front(self) -> list[Measurement]:
        """Write ``search/front.json`` from everything measured so far, and give the front, cheapest first."""
        config = self.experiment.config
        front = find_front(self.archive.values(), config.search.cost)
        content = {
            "set": config.data.dev,
            "cost": config.search.cost,
            "measured": len(self.archive),
            "front": [item.to_dict() for item in front],
        }
        write_json_atomic(self.experiment.dir / "search" / "front.json", content)
        return front

    def _measure(self, subnet: Subnet, features: Tensor) -> tuple[Measurement, dict[str, Any]]:
        experiment, config = self.experiment, self.experiment.config
        quality = measure_quality(
            experiment.model, subnet, self.dev_batches(), experiment.tokenizer, config.loss, config.decoding
        )
        costs = measure_costs(experiment.model, subnet, features, config.search, config.decoding)
        measurement = Measurement(subnet, quality.wer.wer, quality.loss, costs)
        entry = {
            "subnet": subnet.to_dict(),
            "costs": costs,
            "dev_loss": quality.loss,
            "wer": {config.data.dev: wer_entry(quality, experiment.checkpoint, config.decoding)},
            "search": {"wer": measurement.wer, "dev_loss": measurement.dev_loss, "weights": self.weights},
        }
        return measurement, entry


def read_archive(exp: Path) -> list[Measurement]:
    """The subnets that a search has measured on the weights that the experiment has now."""
    weights = fingerprint(exp / "final.pt")
    entries = read_results(exp).get("subnets", {})
    return [_read(entry) for entry in entries.values() if entry.get("search", {}).get("weights") == weights]


def fingerprint(path: Path) -> str:
    """Short digest of a checkpoint: figures measured on other weights are measured again.

    Raises:
      UserError: there is no checkpoint.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first") from None


def measure_slices(
    experiment: Experiment, widths: Sequence[float], sets: Mapping[str, Batches]
) -> Iterator[tuple[Subnet, dict[str, float]]]:
    """WER of untrained slices of a separate model (baseline of claim C1.4), width after width.

    The model's weights are put into a model of the same size whose norms are shared by all widths:
    parameters and running statistics are sliced by prefix, as there is only one set. Results go under
    ``slices`` in results.json; they never reach the front.

    Args:
      widths: fractions of the separate model's own channels.
      sets: set name -> batches.

    Yields:
      The slice and its WER in percent per set.

    Raises:
      UserError: the experiment holds a supernet, or a width does not give whole channel numbers.
    """
    if experiment.space.count() != 1:
        raise UserError(f"--slice: {experiment.dir} is not a separate model, its subnets are trained already")
    config = experiment.config
    shared = config.model.encoder.model_copy(update={"norm": "shared"})
    loss = config.loss if hasattr(experiment.model, "simple_am_head") or hasattr(experiment.model, "ctc_head") else None
    model = build_model(
        config.model.model_copy(update={"encoder": shared}),
        loss,
        experiment.tokenizer.vocab_size,
        sorted({1.0, *widths}, reverse=True),
    ).eval()
    load_weights(model, experiment.model.state_dict(), experiment.dir / "final.pt")
    for subnet in map(Subnet, widths):
        wers: dict[str, Any] = {}
        for name, batches in sets.items():
            quality = measure_quality(model, subnet, batches(), experiment.tokenizer, config.loss, config.decoding)
            wers[name] = wer_entry(quality, experiment.checkpoint, config.decoding)
        update_results(experiment.dir, {"slices": {subnet.id: {"subnet": subnet.to_dict(), "wer": wers}}})
        yield subnet, {name: entry["wer"] for name, entry in wers.items()}


def _read(entry: Mapping[str, Any]) -> Measurement:
    found = entry["search"]
    return Measurement(Subnet.from_dict(entry["subnet"]), found["wer"], found["dev_loss"], entry["costs"])
