"""``slimasr-decode`` (stage 6): recognise sets with chosen subnets, and choose the scales of graph decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

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
    from slimasr.config.search import DecodingConfig
    from slimasr.data.batches.batch import Batch
    from slimasr.data.timelines.folder import Alignments
    from slimasr.decoding.decode import Decoding
    from slimasr.decoding.perturb import EvaluationSet
    from slimasr.decoding.tasks import Task
    from slimasr.experiment import Experiment
    from slimasr.results.perturbed import Perturbation
    from slimasr.supernet.subnet import Subnet

MethodOption = Annotated[
    Literal["greedy", "modified_beam", "graph"] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="Search method: greedy, modified_beam or graph. Default: decoding.kind of the configuration.",
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
TuneOption = Annotated[
    str | None,
    typer.Option(
        "--tune",
        metavar="SET",
        show_default=False,
        help="Decode no sets; try scales of model and label prior on SET with the max subnet, or with the pathway that "
        "--subnet names, and note the best ones in EXP/graph.json, from where all commands take them.",
    ),
]
ScalesOption = Annotated[
    Path | None,
    typer.Option(
        "--scales",
        metavar="DIR",
        show_default=False,
        help="Decode no sets; note in EXP/graph.json the scales that --tune has chosen in another experiment folder.",
    ),
]
PerturbOption = Annotated[
    list[str] | None,
    typer.Option(
        "--perturb",
        metavar="PARTS",
        show_default=False,
        help="Decode the test sets, or those of --set-name, changed by parts such as gain=-20,noise=10, as the set "
        "test@gain=-20,noise=10: gain in dB, signal-to-noise ratio of (pink) noise and babble in dB, reverb or "
        "reverb=SECONDS, telephone. Reads audio. May be repeated.",
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
    perturb: PerturbOption = None,
    tune: TuneOption = None,
    scales: ScalesOption = None,
    checkpoint: CheckpointOption = "final",
    debug: DebugOption = False,
) -> None:
    """Recognise dev and test sets with chosen subnets.

    A pathway recognises the utterances in its own language, or all of them if both --subnet and --set-name are given.

    Writes the files recogs, errs, utt2spk and decode.json to EXP/decode/<subnet>/<set>, recogs_phone and errs_phone if
    the tokens of the model are phonemes, and utt2lang if there are several languages.
    """
    with quick_imports():
        from slimasr.data.files import DataFolder, check_sets
        from slimasr.decoding.decode import default_device, override
        from slimasr.experiment import Experiment

    _check_options(stream, alignments, tune, scales)
    perturbations = _read_perturbations(perturb, alignments, tune, scales)
    one_thread()
    # Names that are mistyped should fail before the model is loaded.
    for option, given in (("--set-name", set_names or ()), ("--tune", () if tune is None else (tune,))):
        check_sets(given, DataFolder(data).raw_cuts, "stage 1 (slimasr-prepare)", option)
    if scales is not None:
        _take_scales(exp, scales)
        return
    experiment = opened(Experiment.open(exp, checkpoint))
    experiment.model.to(default_device())
    decoding = override(experiment.config.decoding, method, beam, max_symbols)
    if tune is not None:
        _tune(experiment, data, tune, subnets, decoding)
        return
    _decode(experiment, data, subnets, set_names, _Way(decoding, stream, alignments, perturbations))


class _Way(NamedTuple):
    """How sets are recognised."""

    decoding: DecodingConfig
    stream: bool
    alignments: Path | None
    perturbations: tuple[Perturbation, ...] = ()


def _decode(
    experiment: Experiment, data: Path, subnets: list[str] | None, set_names: list[str] | None, way: _Way
) -> None:
    """Recognise sets with subnets, and write what was recognised."""
    from slimasr.data.identity.experiment import checked_identity
    from slimasr.decoding.decode import decode_units, describe
    from slimasr.decoding.perturb import evaluation_sets
    from slimasr.decoding.searches.graphs import graph_in
    from slimasr.decoding.sets import DecodedSet, read_speakers, write_decoded
    from slimasr.decoding.streaming.sets import describe_streams
    from slimasr.decoding.tasks import is_multilingual, languages_of_sets, tasks_of
    from slimasr.experiment.subnets import find_subnets
    from slimasr.models.prepared import prepare

    config, decoding = experiment.config, way.decoding
    graph = None if way.stream else graph_in(experiment, decoding, data)
    how = describe_streams(decoding) if way.stream else describe(decoding, graph)
    chosen = find_subnets(experiment, subnets or ["all"])
    # Choices are made on dev, what they are worth is seen on test: dev is perturbed only if it is named.
    names = set_names or [*([] if way.perturbations else [config.data.dev]), *config.data.test]
    languages = languages_of_sets(data, names)
    tasks = tasks_of(chosen, languages, subnets_named=bool(subnets), sets_named=bool(set_names))
    multilingual = is_multilingual(config, data, languages)
    speakers = {name: read_speakers(data, name) for name in names}
    identities = {name: checked_identity(config, data, name).fingerprint for name in names}
    times = _checked_alignments(way.alignments, identities)
    _note(experiment, data, names)
    prepared = None
    for task in tasks:
        subnet, set_name = task.subnet, task.set_name
        # The tasks of one subnet are neighbours.
        if not way.stream and (prepared is None or prepared.subnet != subnet):
            prepared = prepare(experiment.model, subnet)
        utt2lang = task.spoken(languages, multilingual=multilingual)
        for evaluated in evaluation_sets(way.perturbations, data, set_name, identities[set_name]):
            made_by = (experiment.checkpoint, how, evaluated.fingerprint)
            shown = progress(
                _batches(experiment, data, task, evaluated, decoding), None, f"{subnet.id} {evaluated.name}"
            )
            if prepared is None:
                found = _streamed(experiment, subnet, decoding, shown, times, set_name, made_by)
            else:
                model, active = prepared.model, prepared.active
                found = decode_units(model, shown, experiment.tokenizer, active, decoding, graph)
            decoded = DecodedSet(
                subnet, found.words, speakers[set_name], *made_by, phonemes=found.phonemes, utt2lang=utt2lang
            )
            folder = write_decoded(experiment.dir, evaluated.name, decoded)
            print_notes(f"{subnet.id} {evaluated.name}: {note}" for note in found.notes)
            typer.echo(f"{subnet.id} {evaluated.name}: {len(found.words or found.phonemes or ())} utterances, {folder}")


def _batches(
    experiment: Experiment, data: Path, task: Task, evaluated: EvaluationSet, decoding: DecodingConfig
) -> Iterable[Batch]:
    """Read the utterances of a set that a subnet gets, changed as the perturbation says."""
    from slimasr.data.memory.dataloading import eval_batches

    return eval_batches(
        experiment.config,
        data,
        task.set_name,
        experiment.tokenizer,
        decoding.batch_seconds,
        language=task.language,
        changes=evaluated.changes,
    )


def _streamed(
    experiment: Experiment,
    subnet: Subnet,
    decoding: DecodingConfig,
    batches: Iterable[Batch],
    times: Alignments | None,
    set_name: str,
    made_by: tuple[str, str, str],
) -> Decoding:
    """Recognise a set as streams; with times of the reference, note how late words were recognised."""
    from slimasr.decoding.decode import Decoding
    from slimasr.decoding.streaming.sets import decode_streams
    from slimasr.decoding.streaming.stream import StreamRecognizer
    from slimasr.measure.emission import DecodedBy, save_delays, set_delays

    recognizer = StreamRecognizer.of(experiment, subnet, decoding)
    streamed = list(decode_streams(recognizer, batches))
    if times is not None:
        save_delays(experiment.dir, subnet, set_name, set_delays(recognizer, streamed, times, DecodedBy(*made_by)))
    return Decoding(tuple(utterance.words for utterance in streamed), None)


def _check_options(stream: bool, alignments: Path | None, tune: str | None, scales: Path | None) -> None:
    if alignments is not None and not stream:
        raise UserError("--alignments needs --stream: only streams know when words are recognised")
    if tune is not None and stream:
        raise UserError("--tune: a graph is not searched in streams; leave --stream out")
    if scales is not None and (tune is not None or stream):
        other = "--stream" if tune is None else "--tune"
        raise UserError(f"--scales: only takes scales over and decodes nothing; leave {other} or --scales out")


def _read_perturbations(
    texts: list[str] | None, alignments: Path | None, tune: str | None, scales: Path | None
) -> tuple[Perturbation, ...]:
    """Read the values of --perturb, each once."""
    from slimasr.results.perturbed import read_perturbation

    for name, other in (("--alignments", alignments), ("--tune", tune), ("--scales", scales)):
        if texts and other is not None:
            raise UserError(f"--perturb: changes sets that are decoded and scored; leave {name} or --perturb out")
    found = []
    for text in texts or ():
        try:
            found.append(read_perturbation(text))
        except UserError as error:
            raise UserError(f"--perturb {error}") from None
    return tuple(dict.fromkeys(found))


def _take_scales(exp: Path, other: Path) -> None:
    """Note the scales of another experiment, with which this one is searched from now on."""
    from slimasr.decoding.searches.graphs import take_scales
    from slimasr.experiment.folder import needed

    needed(exp / "config.yaml")
    tuned = take_scales(exp, other)
    typer.echo(f"{exp}: acoustic scale {tuned.acoustic_scale:g}, prior scale {tuned.prior_scale:g}, as {other}")


def _tune(
    experiment: Experiment, data: Path, set_name: str, subnets: list[str] | None, decoding: DecodingConfig
) -> None:
    """Choose scales on a set, print all that were tried, and note the best ones."""
    from slimasr.data.memory.dataloading import eval_batches
    from slimasr.decoding.searches.graphs import graph_in, write_scales
    from slimasr.decoding.tasks import languages_of_sets, tasks_of
    from slimasr.decoding.tune import best_of, try_scales
    from slimasr.models.prepared import runnable
    from slimasr.results.graph import GraphFile, TunedEntry

    graph = graph_in(experiment, decoding, data)
    if graph is None:
        raise UserError("--tune: chooses the scales of decoding.kind: graph; add --method graph")
    _note(experiment, data, [set_name])
    config = experiment.config
    largest = _tuned_subnet(experiment, subnets)
    # A pathway is tuned on its own language, also if it was named.
    (task,) = tasks_of([largest], languages_of_sets(data, [set_name]), subnets_named=False)
    seconds = decoding.batch_seconds
    batches = eval_batches(config, data, set_name, experiment.tokenizer, seconds, language=task.language)
    shown = progress(batches, None, f"{largest.id} {set_name}")
    model, active = runnable(experiment.model, largest)
    tried = try_scales(model, shown, experiment.tokenizer, active, decoding, graph)
    for one in tried:
        typer.echo(f"acoustic scale {one.acoustic_scale:g}, prior scale {one.prior_scale:g}: WER {one.wer:.2f} %")
    best = best_of(tried)
    tuned = TunedEntry(
        acoustic_scale=best.acoustic_scale,
        prior_scale=best.prior_scale,
        experiment=config.name,
        subnet=largest.id,
        checkpoint=experiment.checkpoint,
        set_name=set_name,
        tried=tuple(tried),
    )
    write_scales(experiment.dir, tuned)
    typer.echo(
        f"{experiment.dir / GraphFile.PLACE}: acoustic scale {best.acoustic_scale:g}, prior scale "
        f"{best.prior_scale:g}, the best on {set_name}; give other models of a comparison --scales {experiment.dir}"
    )


def _tuned_subnet(experiment: Experiment, subnets: list[str] | None) -> Subnet:
    """Return the subnet whose scales are chosen: max, or a pathway that the user names."""
    from slimasr.experiment.subnets import chosen_subnet

    if not experiment.space.pathways:
        return experiment.space.max
    if subnets is not None and len(subnets) > 1:
        raise UserError("--tune: chooses the scales of one pathway; name one --subnet")
    return chosen_subnet(experiment, subnets[0] if subnets else None)


def _checked_alignments(folder: Path | None, identities: Mapping[str, str]) -> Alignments | None:
    """Read the alignments of the sets with these fingerprints; None without a folder."""
    if folder is None:
        return None
    from slimasr.data.timelines.folder import check_aligned_sets, read_alignments

    check_aligned_sets(folder, identities)
    return read_alignments(folder, identities)


def _note(experiment: Experiment, data: Path, names: list[str]) -> None:
    """Print what is to be known of sets before the first one is decoded, which may take long."""
    from slimasr.data.batches.evaluation_notes import evaluation_notes
    from slimasr.data.identity.experiment import unverified_sets
    from slimasr.data.tokens.coverage import coverage_notes

    config = experiment.config
    tokenizer = experiment.tokenizer
    print_notes(unverified_sets(config, data, names))
    print_notes(coverage_notes(data, names, tokenizer))
    for set_name in names:
        print_notes(evaluation_notes(config, data, set_name, tokenizer, losses=False))


main = partial(entry, run)
