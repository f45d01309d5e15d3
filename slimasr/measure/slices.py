"""Untrained slices of a separate model, a baseline for supernets (claim C1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.identity.experiment import checked_identity
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.decode import describe
from slimasr.decoding.searches.graphs import graph_in
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_weights
from slimasr.measure.quality import measure_quality, wer_entry
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names
from slimasr.progress import Notes, Progress, silent, unread
from slimasr.results.schema import Results, SubnetEntry, WerEntry
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet


def measure_slices(
    experiment: Experiment,
    data: Path,
    widths: Sequence[float],
    *,
    progress: Progress = silent,
    notes: Notes = unread,
) -> Iterator[tuple[Subnet, dict[str, float]]]:
    """Measure the WER of untrained slices of a separate model on dev and test sets, width by width.

    The weights are copied into a model of the same size whose norms are shared by all widths: there is one set of norm
    parameters and running statistics, of which a slice uses the first channels. Results are stored under ``slices`` in
    results.json and are never part of the Pareto front.

    Args:
        experiment: a separate model.
        data: folder of the recipe's data.
        widths: fractions of the separate model's own channels.
        progress: shows how many widths were measured.
        notes: receives what is unusual about the sets, before the first width is measured.

    Yields:
        Each slice, and its WER in percent by set name.

    Raises:
        UserError: the experiment holds a supernet, a width does not give whole channel numbers, or a set cannot be
            read.
    """
    config = experiment.config
    # All sets are checked before any is decoded, which takes minutes.
    sets = (config.data.dev, *config.data.test)
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in sets}
    for name in sets:
        notes(evaluation_notes(config, data, name, experiment.tokenizer, losses=True))
    measured = _measure(experiment, data, widths, fingerprints)
    yield from progress(measured, len(widths), "slices")


def _measure(
    experiment: Experiment, data: Path, widths: Sequence[float], fingerprints: dict[str, str]
) -> Iterator[tuple[Subnet, dict[str, float]]]:
    config = experiment.config
    tokenizer = experiment.tokenizer
    """Measure the slices; ``fingerprints`` maps the names of the sets to their fingerprints."""
    model = _shared_norms(experiment, widths)
    graph = graph_in(experiment, config.decoding, data)
    for subnet in map(Subnet, widths):
        entries: dict[str, WerEntry] = {}
        for name, fingerprint in fingerprints.items():
            batches = eval_batches(config, data, name, tokenizer, config.decoding.batch_seconds)
            quality = measure_quality(model, subnet, batches, tokenizer, config.loss, config.decoding, graph)
            entries[name] = wer_entry(quality, experiment.checkpoint, describe(config.decoding, graph), fingerprint)
        entry = SubnetEntry(subnet=subnet, wer=entries)
        # After every width, so that a kill loses no finished one.
        update_results(experiment.dir, Results(slices={subnet.id: entry}))
        yield subnet, {name: measured.wer for name, measured in entries.items()}


def _shared_norms(experiment: Experiment, widths: Sequence[float]) -> SpeechModel:
    """Rebuild the separate model with norms that all widths share, so that it runs at widths it was not trained for."""
    if experiment.space.count() != 1 or experiment.space.max.pathway:
        raise UserError(f"--slice: {experiment.dir} holds a supernet, not a separate model: name another experiment")
    config = experiment.config
    encoder = config.model.encoder.model_copy(update={"norm": "shared"})
    # The loss decides which training-only heads the model has: they must be those of the checkpoint.
    loss = config.loss if experiment.model.has_training_heads else None
    model = build_model(
        config.model.model_copy(update={"encoder": encoder}),
        loss,
        experiment.tokenizer.vocab_size,
        sorted({1.0, *widths}, reverse=True),
        head_names(config),
    ).eval()
    # A separate model has one set of norms, under the names that shared norms have, so its weights fit.
    load_weights(model, experiment.model.state_dict(), experiment.dir / "final.pt")
    return model
