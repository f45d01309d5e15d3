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

    A pathway is measured on the utterances in its own language, or on all of them if both --subnet and --set-name are
    given.
    """
    with quick_imports():
        from slimasr.data.data_identity import checked_identity, unverified_sets
        from slimasr.data.evaluation_notes import evaluation_notes
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.memory.dataloading import eval_batches
        from slimasr.decoding.graphs import graph_in
        from slimasr.decoding.tasks import is_multilingual, languages_of_sets, tasks_of
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnets
        from slimasr.export.measure import measure_int8

    # Names that are mistyped should fail before the model is loaded.
    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    experiment = opened(Experiment.open(exp))
    config = experiment.config
    tokenizer = experiment.tokenizer
    names = set_names or [config.data.dev, *config.data.test]
    print_notes(unverified_sets(config, data, names))
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in names}
    for name in names:
        print_notes(evaluation_notes(config, data, name, tokenizer, losses=False))
    graph = graph_in(experiment, config.decoding, data)
    chosen = find_subnets(experiment, subnets or ["front"])
    languages = languages_of_sets(data, names)
    tasks = tasks_of(chosen, languages, subnets_named=bool(subnets), sets_named=bool(set_names))
    multilingual = is_multilingual(config, data, languages)
    seconds = config.decoding.batch_seconds
    for subnet in chosen:
        own = {task.set_name: task for task in tasks if task.subnet == subnet}
        # Batches can be iterated over only once, and a set may need none: each set is a function that makes them.
        sets = {
            name: partial(eval_batches, config, data, name, tokenizer, seconds, language=task.language)
            for name, task in own.items()
        }
        of_sets = {name: task.spoken(languages, multilingual=multilingual) for name, task in own.items()}
        spoken = {name: found for name, found in of_sets.items() if found}
        measured = measure_int8(experiment, subnet, sets, experiment.weights_digest, fingerprints, graph, spoken)
        for name, figures in progress(measured, len(sets), subnet.id):
            typer.echo(f"{subnet.id} {name}: WER {figures.wer:.2f} % in int8 ({figures.runtime})")


main = partial(entry, run)
