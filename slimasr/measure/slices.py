"""Untrained slices of a separate model: what a supernet is compared with (baseline of claim C1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import load_weights
from slimasr.measure.quality import Batches, measure_quality, wer_entry
from slimasr.models.build import build_model
from slimasr.results.schema import Results, SubnetEntry, WerEntry
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet


def measure_slices(
    experiment: Experiment, widths: Sequence[float], sets: Mapping[str, Batches], data: Mapping[str, str]
) -> Iterator[tuple[Subnet, dict[str, float]]]:
    """WER of untrained slices of a separate model (baseline of claim C1.4), width after width.

    The model's weights are put into a model of the same size whose norms are shared by all widths:
    parameters and running statistics are sliced by prefix, as there is only one set. Results go under
    ``slices`` in results.json; they never reach the front.

    Args:
        widths: fractions of the separate model's own channels.
        sets: set name -> batches.
        data: set name -> fingerprint of the set.

    Yields:
        The slice and its WER in percent per set.

    Raises:
        UserError: the experiment holds a supernet, or a width does not give whole channel numbers.
    """
    if experiment.space.count() != 1:
        raise UserError(f"--slice: {experiment.dir} is not a separate model, its subnets are trained already")
    config = experiment.config
    shared = config.model.encoder.model_copy(update={"norm": "shared"})
    loss = config.loss if experiment.model.has_training_heads else None
    model = build_model(
        config.model.model_copy(update={"encoder": shared}),
        loss,
        experiment.tokenizer.vocab_size,
        sorted({1.0, *widths}, reverse=True),
    ).eval()
    load_weights(model, experiment.model.state_dict(), experiment.dir / "final.pt")
    for subnet in map(Subnet, widths):
        wers: dict[str, WerEntry] = {}
        for name, batches in sets.items():
            quality = measure_quality(model, subnet, batches(), experiment.tokenizer, config.loss, config.decoding)
            wers[name] = wer_entry(quality, experiment.checkpoint, config.decoding, data[name])
        update_results(experiment.dir, Results(slices={subnet.id: SubnetEntry(subnet=subnet, wer=wers)}))
        yield subnet, {name: entry.wer for name, entry in wers.items()}
