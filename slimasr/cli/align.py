"""Align references with encoder frames, for methods that train on frame targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DataOption, DebugOption, ExpArgument, above_zero, entry, opened, print_notes, progress

SetsOption = Annotated[list[str] | None, typer.Option("--set-name", help="Repeatable (default: train sets and dev).")]
SpeedsOption = Annotated[
    list[float] | None,
    typer.Option("--speed", callback=above_zero, help="Of train sets; repeatable (default: the configuration's)."),
]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    set_names: SetsOption = None,
    speeds: SpeedsOption = None,
    subnet: Annotated[str, typer.Option(help="A width, an id, max, min or JSON.")] = "max",
    checkpoint: Annotated[str, typer.Option(help="final, best or one of checkpoints/.")] = "final",
    debug: DebugOption = False,
) -> None:
    """Write alignments/<set>.jsonl: at which encoder frame the model emits each token of the reference."""
    # These import torch and lhotse: not needed to print the help.
    from slimasr.data.alignments import Origin, alignment_file, write_alignments, write_facts
    from slimasr.data.dataloading import eval_batches
    from slimasr.data.files import DataFolder, check_sets
    from slimasr.data.provenance import checked_identity, unverified_sets
    from slimasr.decoding.align import align_batches
    from slimasr.decoding.decode import default_device
    from slimasr.experiment import Experiment
    from slimasr.experiment.subnets import find_subnet
    from slimasr.locking import folder_lock

    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    experiment = opened(Experiment.open(exp, checkpoint))
    config, tokenizer, folder = experiment.config, experiment.tokenizer, exp / "alignments"
    model, chosen = experiment.model.to(default_device()), find_subnet(experiment, subnet)
    names = set_names or [*config.data.train, config.data.dev]
    print_notes(unverified_sets(config, data, names))
    origin = Origin(model.subsampling_factor, chosen.id, experiment.checkpoint, tokenizer.fingerprint)
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in names}
    seconds, longest = config.decoding.batch_seconds, config.data.max_cut_seconds
    with folder_lock(folder / "alignments.lock", "slimasr-align") as lock:
        write_facts(folder, origin, fingerprints)
        for set_name in names:
            for speed in (speeds or config.data.speeds) if set_name in config.data.train else [1.0]:
                batches = eval_batches(config, data, set_name, tokenizer, seconds, speed=speed, longest=longest)
                path = alignment_file(folder, set_name, speed)
                frames = dict(align_batches(model, progress(batches, None, path.stem), chosen, config.loss))
                lock.verify()
                write_alignments(path, frames)
                missed = sum(-1 in row for row in frames.values())
                without = f", {missed} of them without an alignment" if missed else ""
                typer.echo(f"{path}: {len(frames)} utterances{without}")


def main() -> None:
    """Console script ``slimasr-align``."""
    entry(run)
