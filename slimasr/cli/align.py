"""``slimasr-align``: find when each character of the references is spoken, for losses that need alignments."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimasr.cli.common import (
    CheckpointOption,
    DataOption,
    DebugOption,
    entry,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
    set_name_option,
    subnet_option,
)

if TYPE_CHECKING:
    from slimasr.config.schema import Config
    from slimasr.decoding.alignment.realign import PassFigures
    from slimasr.decoding.alignment.sources import AlignmentData, Source
    from slimasr.experiment import Experiment
    from slimasr.supernet.subnet import Subnet

MIN_COUNT = 200
"""Default of ``--min-count``."""


class Paths(str, Enum):
    """What ``--source`` may be."""

    ctc = "ctc"
    transducer = "transducer"
    pronunciations = "pronunciations"
    folder = "folder"


ExpOption = Annotated[
    Path | None,
    typer.Argument(metavar="EXP", show_default=False, help="Experiment folder of the model that aligns."),
]
SourceOption = Annotated[
    Paths | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        show_default=False,
        help="Where times come from: ctc, the best path of the model's CTC head, whose blanks are silence; "
        "transducer, its best path, where each token lasts until halfway to the next one; pronunciations, the best CTC "
        "path through any pronunciation of each word (extra graph); or folder, the alignments that are in the folder "
        "already. Default: pronunciations if tokens are phonemes, else ctc if there is a CTC head, else transducer.",
    ),
]
CtmOption = Annotated[
    Path | None,
    typer.Option(
        "--ctm",
        metavar="FILE",
        show_default=False,
        help="Take times from a CTM file of another aligner, such as Kaldi or MFA, with words or characters.",
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="YAML file that names the sets, in place of EXP, with --ctm or --source folder.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", show_default=False, help="Folder of the alignments. Default: EXP/alignments."),
]
RealignOption = Annotated[
    int,
    typer.Option(
        "--realign",
        metavar="N",
        min=0,
        show_default=False,
        help="Then N times: train a small classifier of frames on the alignment and take its best path, with "
        "optional silence between characters. Prints how well the classifier distinguishes frames. Default: 0.",
    ),
]
StatesOption = Annotated[
    bool,
    typer.Option("--states", help="Write states.json, too: tied states (characters in context) of the training sets."),
]
MinCountOption = Annotated[
    int | None,
    typer.Option(
        "--min-count",
        metavar="N",
        min=1,
        show_default=False,
        help=f"Frames of 10 ms that a state of --states needs at least. Default: {MIN_COUNT}.",
    ),
]


def run(
    exp: ExpOption = None,
    data: DataOption = Path("data"),
    set_names: Annotated[list[str] | None, set_name_option("the training sets and the dev set")] = None,
    source: SourceOption = None,
    ctm: CtmOption = None,
    config: RecipeOption = None,
    out: OutOption = None,
    times: RealignOption = 0,
    states: StatesOption = False,
    min_count: MinCountOption = None,
    subnet: Annotated[str | None, subnet_option("max")] = None,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Find when each character of the references is spoken.

    Writes DIR/<set>.jsonl: the characters of every transcript, with a word boundary in front of every word, and their
    first and last frames of 10 ms at natural speed. loss.alignments names the folder.
    """
    with quick_imports():
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.data.identity.experiment import checked_identity, unverified_sets
        from slimasr.decoding.alignment.sets import align_sets, tie_states, write_sets
        from slimasr.decoding.tasks import served_sets
        from slimasr.errors import UserError
        from slimasr.experiment.subnets import chosen_subnet
        from slimasr.locking import folder_lock

    one_thread()
    if min_count is not None and not states:
        raise UserError("--min-count: has no meaning without --states")
    # Names that are mistyped should fail before the model is loaded.
    check_sets(set_names or (), DataFolder(data).cuts, "stage 2 (slimasr-features)")
    folder = _folder(exp, out)
    needs_model = ctm is None and source is not Paths.folder
    experiment, material = _opened(exp, config, data, checkpoint, needs_model)
    section = material.config.data
    aligning = None if experiment is None or not needs_model else chosen_subnet(experiment, subnet)
    names = set_names or served_sets(aligning, data, list(dict.fromkeys([*section.train, section.dev])))
    # What cannot be verified is a note; data that have changed are an error, before anything is computed.
    print_notes(unverified_sets(material.config, data, names))
    fingerprints = {name: checked_identity(material.config, data, name).fingerprint for name in names}
    if aligning is None:
        chosen = _source(material, source, ctm, folder, names)
    else:
        # A pathway aligns other languages than its own only if the user has named the sets.
        language = "" if set_names or aligning.serves("") else aligning.pathway
        chosen = _model_source(experiment, aligning, source, language)
    with folder_lock(folder / "alignments.lock", "slimasr-align") as lock:
        origin, sets = align_sets(material, chosen, names, times, _report)
        for path, total, missing in write_sets(folder, origin, fingerprints, sets, lock):
            without = f", {missing} of them without an alignment" if missing else ""
            typer.echo(f"{path}: {total} utterances{without}")
        if states:
            tied = tie_states(material, folder, MIN_COUNT if min_count is None else min_count)
            typer.echo(f"{folder / 'states.json'}: {tied.count} states, one of them silence")


def _folder(exp: Path | None, out: Path | None) -> Path:
    from slimasr.errors import UserError

    if out is not None:
        return out
    if exp is None:
        raise UserError("--out: is needed without an experiment folder")
    return exp / "alignments"


def _opened(
    exp: Path | None, config: Path | None, data: Path, checkpoint: str, needs_model: bool
) -> tuple[Experiment | None, AlignmentData]:
    """Open the experiment or, without one, the configuration and the tokenizer of the data folder."""
    from slimasr.config.load import load_config
    from slimasr.data.files import DataFolder
    from slimasr.data.sets import lang_of
    from slimasr.data.tokens.load import load_tokenizer
    from slimasr.decoding.alignment.sources import AlignmentData
    from slimasr.errors import UserError
    from slimasr.experiment import Experiment

    if exp is not None and config is not None:
        raise UserError("--config: the experiment folder has its own configuration; leave one of the two out")
    if exp is not None:
        experiment = opened(Experiment.open(exp, checkpoint))
        return experiment, AlignmentData(experiment.config, data, experiment.tokenizer)
    if config is None or needs_model:
        raise UserError("needs an experiment folder whose model aligns, or --config with --ctm or --source folder")
    loaded: Config = load_config(config)
    lang = lang_of(loaded, DataFolder(data))
    return None, AlignmentData(loaded, data, load_tokenizer(lang))


def _source(material: AlignmentData, source: Paths | None, ctm: Path | None, folder: Path, names: list[str]) -> Source:
    """Return the source of times that are there already."""
    from slimasr.decoding.alignment.sources import CtmSource, FolderSource
    from slimasr.errors import UserError

    if ctm is None:
        return FolderSource(folder)
    if source is not None:
        raise UserError("--ctm: is a source of its own; leave --source out")
    return CtmSource.read(ctm, material, names)


def _model_source(experiment: Experiment | None, aligning: Subnet, source: Paths | None, language: str) -> Source:
    """Return a model as the source of times."""
    from slimasr.decoding.alignment.sources import ModelSource

    assert experiment is not None, "a subnet is that of an experiment"
    kind = None if source is None else source.value
    return ModelSource.of(experiment, aligning, kind, _watch, language)


def _watch(batches: Iterable[Any], label: str) -> Iterable[Any]:
    return progress(batches, None, label)


def _report(number: int, figures: PassFigures) -> None:
    typer.echo(f"{'alignment' if number == 0 else f'realignment {number}'}: {figures}")


main = partial(entry, run)
