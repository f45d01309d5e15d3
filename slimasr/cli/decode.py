"""``slimasr-decode`` (stage 6): recognise sets with chosen subnets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DataOption,
    DebugOption,
    ExpArgument,
    entry,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
    set_name_option,
    subnets_option,
)

MethodOption = Annotated[
    Literal["greedy", "modified_beam"] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="Search method: greedy or modified_beam. Default: decoding.kind of the configuration.",
    ),
]
BeamOption = Annotated[
    int | None,
    typer.Option(
        "--beam",
        metavar="NUMBER",
        min=1,
        help="Number of hypotheses that modified_beam keeps for each utterance. "
        "Default: decoding.beam of the configuration.",
    ),
]
MaxSymbolsOption = Annotated[
    int | None,
    typer.Option(
        "--max-symbols-per-frame",
        metavar="NUMBER",
        min=1,
        help="Largest number of tokens that greedy search emits at one encoder frame. "
        "Default: decoding.max_symbols_per_frame of the configuration.",
    ),
]
StreamOption = Annotated[
    bool,
    typer.Option("--stream", help="Recognise chunk by chunk, as while audio arrives; needs an encoder that streams."),
]


def run(
    exp: ExpArgument,
    data: DataOption = Path("data"),
    subnets: Annotated[list[str] | None, subnets_option("all")] = None,
    set_names: Annotated[list[str] | None, set_name_option("the dev and test sets")] = None,
    method: MethodOption = None,
    beam: BeamOption = None,
    max_symbols: MaxSymbolsOption = None,
    stream: StreamOption = False,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Recognise dev and test sets with chosen subnets.

    Writes the files recogs, errs, utt2spk and decode.json to EXP/decode/<subnet>/<set>.
    """
    with quick_imports():
        from slimasr.data.coverage import coverage_notes
        from slimasr.data.dataloading import eval_batches
        from slimasr.data.evaluation_notes import evaluation_notes
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.provenance import checked_identity, unverified_sets
        from slimasr.decoding.decode import decode_batches, default_device, describe, override
        from slimasr.decoding.sets import DecodedSet, read_speakers, write_decoded
        from slimasr.decoding.stream import StreamRecognizer
        from slimasr.decoding.stream_sets import decode_streams, describe_streams
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnets

    one_thread()
    # Names that are mistyped should fail before the model is loaded.
    check_sets(set_names or (), DataFolder(data).raw_cuts, "stage 1 (slimasr-prepare)")
    experiment = opened(Experiment.open(exp, checkpoint))
    config = experiment.config
    tokenizer = experiment.tokenizer
    model = experiment.model.to(default_device())
    decoding = override(config.decoding, method, beam, max_symbols)
    how = describe_streams(decoding) if stream else describe(decoding)
    chosen = find_subnets(experiment, subnets or ["all"])
    names = set_names or [config.data.dev, *config.data.test]
    print_notes(unverified_sets(config, data, names))
    speakers = {name: read_speakers(data, name) for name in names}
    identities = {name: checked_identity(config, data, name).fingerprint for name in names}
    # All notes come before the first set is decoded, which may take long.
    print_notes(coverage_notes(data, names, tokenizer))
    for set_name in names:
        print_notes(evaluation_notes(config, data, set_name, tokenizer, losses=False))
    for subnet in chosen:
        for set_name in names:
            batches = eval_batches(config, data, set_name, tokenizer, decoding.batch_seconds)
            shown = progress(batches, None, f"{subnet.id} {set_name}")
            if stream:
                streamed = decode_streams(StreamRecognizer.of(experiment, subnet, decoding), shown)
                utterances = tuple(utterance.words for utterance in streamed)
            else:
                utterances = tuple(decode_batches(model, shown, tokenizer, subnet, decoding))
            made_by = (experiment.checkpoint, how, identities[set_name])
            result = DecodedSet(subnet, utterances, speakers[set_name], *made_by)
            folder = write_decoded(exp, set_name, result)
            typer.echo(f"{subnet.id} {set_name}: {len(utterances)} utterances, {folder}")


main = partial(entry, run)
