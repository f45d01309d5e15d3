"""Chosen subnets as int8 ONNX files, and their WER in onnxruntime."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DataOption, DebugOption, ExpArgument, entry, opened, print_notes, progress

SubnetsOption = Annotated[
    list[str] | None, typer.Option("--subnet", help="A width, an id, max, min, JSON, front or all; repeatable.")
]
SetsOption = Annotated[list[str] | None, typer.Option("--set-name", help="Repeatable (default: dev and test sets).")]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    subnets: SubnetsOption = None,
    set_names: SetsOption = None,
    debug: DebugOption = False,
) -> None:
    """Write export/<subnet>/*.int8.onnx and measure WER with them (default: the front); needs the extra export."""
    # These import torch and lhotse: not needed to print the help.
    from slimasr.data.dataloading import eval_batches
    from slimasr.data.evaluation_notes import evaluation_notes
    from slimasr.data.files import DataFolder, check_sets
    from slimasr.data.provenance import checked_identity, unverified_sets
    from slimasr.experiment import Experiment
    from slimasr.experiment.checkpoints import fingerprint
    from slimasr.experiment.subnets import find_subnets
    from slimasr.export.measure import measure_int8

    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    experiment = opened(Experiment.open(exp))
    config, tokenizer = experiment.config, experiment.tokenizer
    sets = {
        name: partial(eval_batches, config, data, name, tokenizer, config.decoding.batch_seconds)
        for name in set_names or [config.data.dev, *config.data.test]
    }
    print_notes(unverified_sets(config, data, list(sets)))
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in sets}
    for name in sets:
        print_notes(evaluation_notes(config, data, name, tokenizer, losses=False))
    for subnet in find_subnets(experiment, subnets or ["front"]):
        measured = measure_int8(experiment, subnet, sets, fingerprint(exp / "final.pt"), fingerprints)
        for name, figures in progress(measured, len(sets), subnet.id):
            typer.echo(f"{subnet.id} {name}: WER {figures['wer']:.2f} % in int8 ({figures['runtime']})")


def main() -> None:
    """Console script ``slimasr-quantize``."""
    entry(run)
