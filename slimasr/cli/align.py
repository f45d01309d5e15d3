"""``slimasr-align``: find the encoder frame at which a model emits each token, for training on frame targets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DataOption,
    DebugOption,
    ExpArgument,
    above_zero,
    entry,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
    set_name_option,
    subnet_option,
)

SpeedsOption = Annotated[
    list[float] | None,
    typer.Option(
        "--speed",
        metavar="FACTOR",
        callback=above_zero,
        help="Speed factor of the training sets; may be given several times. "
        "Default: data.speeds of the configuration.",
    ),
]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    set_names: Annotated[list[str] | None, set_name_option("the training sets and the dev set")] = None,
    speeds: SpeedsOption = None,
    subnet: Annotated[str, subnet_option("max")] = "max",
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Find the encoder frame that emits each reference token.

    Writes EXP/alignments/<set>.jsonl, one file for each set and speed.
    """
    with quick_imports():
        from slimasr.data.alignments import Origin, alignment_file, write_alignments, write_facts
        from slimasr.data.dataloading import eval_batches
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.provenance import checked_identity, unverified_sets
        from slimasr.decoding.align import align_batches
        from slimasr.decoding.decode import default_device
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnet
        from slimasr.locking import folder_lock

    one_thread()
    # Names that are mistyped should fail before the model is loaded.
    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    experiment = opened(Experiment.open(exp, checkpoint))
    config = experiment.config
    tokenizer = experiment.tokenizer
    folder = exp / "alignments"
    model = experiment.model.to(default_device())
    chosen = find_subnet(experiment, subnet)
    names = set_names or [*config.data.train, config.data.dev]
    # What cannot be verified is a note; data that have changed are an error, before anything is computed.
    print_notes(unverified_sets(config, data, names))
    origin = Origin(model.subsampling_factor, chosen.id, experiment.checkpoint, tokenizer.fingerprint)
    fingerprints = {name: checked_identity(config, data, name).fingerprint for name in names}
    seconds = config.decoding.batch_seconds
    longest = config.data.max_cut_seconds
    with folder_lock(folder / "alignments.lock", "slimasr-align") as lock:
        write_facts(folder, origin, fingerprints)
        for set_name in names:
            # Only training sets are speed-perturbed.
            set_speeds = (speeds or config.data.speeds) if set_name in config.data.train else [1.0]
            for speed in set_speeds:
                batches = eval_batches(config, data, set_name, tokenizer, seconds, speed=speed, longest=longest)
                path = alignment_file(folder, set_name, speed)
                frames = dict(align_batches(model, progress(batches, None, path.stem), chosen, config.loss))
                # Another process may have taken the lock over if this one was suspended for long.
                lock.verify()
                write_alignments(path, frames)
                # -1 stands for a token without a frame.
                missed = sum(-1 in row for row in frames.values())
                without = f", {missed} of them without an alignment" if missed else ""
                typer.echo(f"{path}: {len(frames)} utterances{without}")


main = partial(entry, run)
