"""``slimasr-quantize``: export subnets as int8 ONNX files and measure their WER in onnxruntime."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import (
    DataOption,
    DebugOption,
    ExpArgument,
    entry,
    opened,
    print_notes,
    progress,
    quick_imports,
    set_name_option,
    subnets_option,
)


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    subnets: Annotated[list[str] | None, subnets_option("front")] = None,
    set_names: Annotated[list[str] | None, set_name_option("the dev and test sets")] = None,
    debug: DebugOption = False,
) -> None:
    """Export subnets as int8 ONNX files and measure their WER.

    Writes EXP/export/<subnet>/*.int8.onnx and runs them with onnxruntime. This needs the extra "export":
    pip install -e '.[export]'.
    """
    with quick_imports():
        from slimasr.data.dataloading import eval_batches
        from slimasr.data.evaluation_notes import evaluation_notes
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.provenance import checked_identity, unverified_sets
        from slimasr.decoding.graphs import graph_in
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnets
        from slimasr.export.measure import measure_int8

    # Names that are mistyped should fail before the model is loaded.
    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    experiment = opened(Experiment.open(exp))
    config = experiment.config
    tokenizer = experiment.tokenizer
    # Batches can be iterated over only once, and every subnet needs them: each set is a function that makes them.
    sets = {
        name: partial(eval_batches, config, data, name, tokenizer, config.decoding.batch_seconds)
        for name in set_names or [config.data.dev, *config.data.test]
    }
    print_notes(unverified_sets(config, data, list(sets)))
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in sets}
    for name in sets:
        print_notes(evaluation_notes(config, data, name, tokenizer, losses=False))
    graph = graph_in(experiment, config.decoding, data)
    for subnet in find_subnets(experiment, subnets or ["front"]):
        measured = measure_int8(experiment, subnet, sets, experiment.weights_digest, fingerprints, graph)
        for name, figures in progress(measured, len(sets), subnet.id):
            typer.echo(f"{subnet.id} {name}: WER {figures.wer:.2f} % in int8 ({figures.runtime})")


main = partial(entry, run)
