#!/usr/bin/env python3
"""Print what a finite context of an LSTM predictor costs, as a table in Markdown: WER and equal texts for each context.

::

    tools/context_table.py exp/lstm --data data --context 1 2 4 8 16
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from slimasr.data.memory.dataloading import eval_batches
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.subnets import chosen_subnet
from slimasr.export.finite import ContextRow, compare_contexts
from slimasr.files import write_json_atomic
from slimasr.models.prepared import prepare
from slimasr.models.transducer import Transducer
from slimasr.report.tables.table import Table


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="experiment folder of a transducer with an LSTM predictor")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of manifests and features")
    parser.add_argument("--subnet", help="subnet that is searched, such as 0.5 (default: max)")
    parser.add_argument("--set-name", nargs="+", help="sets (default: the dev and test sets)")
    parser.add_argument("--json", type=Path, help="also write the rows of all sets to this file")
    parser.add_argument("--context", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="numbers of labels")
    return parser.parse_args()


def measure(
    experiment: Experiment, data: Path, set_name: str, subnet: str | None, contexts: list[int]
) -> list[ContextRow]:
    """Search a set with every context, and with the full history."""
    config = experiment.config
    prepared = prepare(experiment.model, chosen_subnet(experiment, subnet))
    model = prepared.model
    if not isinstance(model, Transducer) or model.config.predictor.kind != "lstm":
        raise UserError(f"{experiment.dir}: only a transducer with model.predictor.kind: lstm has a context to choose")
    batches = eval_batches(config, data, set_name, experiment.tokenizer, config.decoding.batch_seconds)
    return compare_contexts(model, batches, experiment.tokenizer, prepared.active, config.decoding, contexts)


def drawn(set_name: str, rows: list[ContextRow]) -> Table:
    """Return the rows of a set as a table."""
    return Table(set_name, ("context", "WER %", "texts as with the full history"), tuple(map(_cells, rows)))


def _cells(row: ContextRow) -> tuple[str, str, str]:
    context = "full history" if row.context is None else str(row.context)
    return context, f"{row.wer:.2f}", f"{row.same} of {row.utterances}"


def main() -> None:
    """Print one table for each set."""
    given = options()
    found: dict[str, list[ContextRow]] = {}
    try:
        experiment = Experiment.open(given.exp)
        for name in given.set_name or [experiment.config.data.dev, *experiment.config.data.test]:
            found[name] = measure(experiment, given.data, name, given.subnet, given.context)
            print(drawn(name, found[name]).markdown())
        if given.json is not None:
            write_json_atomic(given.json, {name: list(map(asdict, rows)) for name, rows in found.items()})
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
