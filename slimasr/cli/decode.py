"""``slimasr-decode`` (stage 6): recognise sets with chosen subnets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.data.alignments import Alignments
    from slimasr.experiment import Experiment

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
AlignmentsOption = Annotated[
    Path | None,
    typer.Option(
        "--alignments",
        metavar="DIR",
        show_default=False,
        help="With --stream: alignments of slimasr-align; how late words are recognised is noted in EXP/results.json.",
    ),
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
    alignments: AlignmentsOption = None,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Recognise dev and test sets with chosen subnets.

    Writes the files recogs, errs, utt2spk and decode.json to EXP/decode/<subnet>/<set>.
    """
    with quick_imports():
        from slimasr.data.dataloading import eval_batches
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.provenance import checked_identity
        from slimasr.decoding.decode import decode_batches, default_device, describe, override
        from slimasr.decoding.sets import DecodedSet, read_speakers, write_decoded
        from slimasr.decoding.stream import StreamRecognizer
        from slimasr.decoding.stream_sets import decode_streams, describe_streams
        from slimasr.experiment import Experiment
        from slimasr.experiment.subnets import find_subnets
        from slimasr.measure.emission import DecodedBy, save_delays, set_delays

    _check_options(stream, alignments)
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
    speakers = {name: read_speakers(data, name) for name in names}
    identities = {name: checked_identity(config, data, name).fingerprint for name in names}
    times = _checked_alignments(alignments, identities)
    _note(experiment, data, names)
    for subnet in chosen:
        recognizer = StreamRecognizer.of(experiment, subnet, decoding) if stream else None
        for set_name in names:
            batches = eval_batches(config, data, set_name, tokenizer, decoding.batch_seconds)
            shown = progress(batches, None, f"{subnet.id} {set_name}")
            made_by = (experiment.checkpoint, how, identities[set_name])
            if recognizer is None:
                streamed = []
                utterances = tuple(decode_batches(model, shown, tokenizer, subnet, decoding))
            else:
                streamed = list(decode_streams(recognizer, shown))
                utterances = tuple(utterance.words for utterance in streamed)
            folder = write_decoded(exp, set_name, DecodedSet(subnet, utterances, speakers[set_name], *made_by))
            if recognizer is not None and times is not None:
                save_delays(exp, subnet, set_name, set_delays(recognizer, streamed, times, DecodedBy(*made_by)))
            typer.echo(f"{subnet.id} {set_name}: {len(utterances)} utterances, {folder}")


def _check_options(stream: bool, alignments: Path | None) -> None:
    if alignments is not None and not stream:
        raise UserError("--alignments needs --stream: only streams know when words are recognised")


def _checked_alignments(folder: Path | None, identities: Mapping[str, str]) -> Alignments | None:
    """Read the alignments of the sets with these fingerprints; None without a folder."""
    if folder is None:
        return None
    from slimasr.data.alignments import check_aligned_sets, read_alignments

    check_aligned_sets(folder, identities)
    return read_alignments(folder, identities)


def _note(experiment: Experiment, data: Path, names: list[str]) -> None:
    """Print what is to be known of sets before the first one is decoded, which may take long."""
    from slimasr.data.coverage import coverage_notes
    from slimasr.data.evaluation_notes import evaluation_notes
    from slimasr.data.provenance import unverified_sets

    config = experiment.config
    tokenizer = experiment.tokenizer
    print_notes(unverified_sets(config, data, names))
    print_notes(coverage_notes(data, names, tokenizer))
    for set_name in names:
        print_notes(evaluation_notes(config, data, set_name, tokenizer, losses=False))


main = partial(entry, run)
