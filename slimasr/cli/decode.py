"""Stage 6: recognise sets with chosen subnets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from slimasr.cli.common import DataOption, DebugOption, ExpArgument, entry, opened, print_notes, progress

SubnetsOption = Annotated[
    list[str] | None, typer.Option("--subnet", help="A width, an id, max, min, JSON, front or all; repeatable.")
]
SetsOption = Annotated[list[str] | None, typer.Option("--set-name", help="Repeatable (default: dev and test sets).")]
MethodOption = Annotated[Literal["greedy", "modified_beam"] | None, typer.Option(help="Default: the configuration's.")]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    subnets: SubnetsOption = None,
    set_names: SetsOption = None,
    method: MethodOption = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept by modified_beam.")] = None,
    max_symbols: Annotated[
        int | None, typer.Option("--max-symbols-per-frame", min=1, help="For greedy search.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="final, best or one of checkpoints/.")] = "final",
    debug: DebugOption = False,
) -> None:
    """Recognise sets and write decode/<subnet>/<set>/{recogs,errs,utt2spk,decode.json}."""
    # These import torch and lhotse: not needed to print the help.
    from slimasr.data.coverage import coverage_notes
    from slimasr.data.dataloading import eval_batches
    from slimasr.data.evaluation_notes import evaluation_notes
    from slimasr.data.files import DataFolder, check_sets
    from slimasr.data.provenance import checked_identity, unverified_sets
    from slimasr.decoding.decode import decode_batches, default_device, describe, override
    from slimasr.decoding.sets import DecodedSet, read_speakers, write_decoded
    from slimasr.experiment import Experiment
    from slimasr.experiment.subnets import find_subnets

    check_sets(set_names or (), DataFolder(data).raw_cuts, "stage 1 (slimasr-prepare)")
    experiment = opened(Experiment.open(exp, checkpoint))
    config, tokenizer = experiment.config, experiment.tokenizer
    model, decoding = (
        experiment.model.to(default_device()),
        override(config.decoding, method, beam, max_symbols),
    )
    chosen = find_subnets(experiment, subnets or ["all"])
    names = set_names or [config.data.dev, *config.data.test]
    print_notes(unverified_sets(config, data, names))
    speakers = {name: read_speakers(data, name) for name in names}
    identities = {name: checked_identity(config, data, name).fingerprint for name in names}
    print_notes(coverage_notes(data, names, tokenizer))
    for set_name in names:
        print_notes(evaluation_notes(config, data, set_name, tokenizer, losses=False))
    for subnet in chosen:
        for set_name in names:
            batches = eval_batches(config, data, set_name, tokenizer, decoding.batch_seconds)
            shown = progress(batches, None, f"{subnet.id} {set_name}")
            utterances = tuple(decode_batches(model, shown, tokenizer, subnet, decoding))
            made_by = (experiment.checkpoint, describe(decoding), identities[set_name])
            result = DecodedSet(subnet, utterances, speakers[set_name], *made_by)
            folder = write_decoded(exp, set_name, result)
            typer.echo(f"{subnet.id} {set_name}: {len(utterances)} utterances, {folder}")


def main() -> None:
    """Console script ``slimasr-decode``."""
    entry(run)
