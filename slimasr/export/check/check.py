"""Checks every size of a bundle in an unmodified sherpa-onnx, beside our search in torch on the same audio."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby

from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import noted_graph
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.record import describe_hardware
from slimasr.export.check.audio import AudioSet, Heard
from slimasr.export.check.bundle import CheckedBundle, Variant
from slimasr.export.check.compare import Difference, Theirs, as_ours, differences, rate_of
from slimasr.export.check.emulate import Emulator, recognize_emulated
from slimasr.export.check.encoders import largest_difference
from slimasr.export.check.files import EXPORT
from slimasr.export.check.reference import Reference
from slimasr.export.check.runtime import Method, Ran, Run, recognize
from slimasr.export.check.searches import Found
from slimasr.export.check.streams import StreamReference
from slimasr.export.check.tokens import Reading, TokenReading, WordReading
from slimasr.results.deployed import DeployedModel, DeployedRate
from slimasr.supernet.subnet import Subnet

BATCH = 16
"""Utterances of a batch, besides those recognised one by one."""

SHOWN = 3
"""A message shows at most so many utterances that differ."""


@dataclass(frozen=True)
class Terms:
    """How a bundle is tried, and what is accepted.

    Attributes:
        paths: hypotheses of modified beam search.
        most_loss: points of WER that int8 may lose against float.
        threads: of the second measurement of load time and RTF.
        emulate: processors on which the encoders are tried, too, in int8 where there is int8.
    """

    paths: int = 4
    most_loss: float = 0.5
    threads: int = os.cpu_count() or 1
    emulate: tuple[Emulator, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What became of one size in one precision.

    Attributes:
        variant: the size and its precision.
        model: its figures; None if sherpa-onnx does not run it.
        failures: one line for each reason why it is not accepted.
        differs: whether it says other words than torch in float, so that its figures are those of another model.
    """

    variant: Variant
    model: DeployedModel | None
    failures: tuple[str, ...] = ()
    differs: bool = False


@dataclass(frozen=True)
class _Own:
    """The utterances of one size, and what torch finds in them."""

    sets: Sequence[AudioSet]
    reference: Reference | StreamReference
    reading: Reading
    max_active: int
    ours: Mapping[Method, Sequence[Found]]

    @property
    def audio(self) -> list[Heard]:
        """The utterances of all sets."""
        return [heard for one in self.sets for heard in one.audio]


def check_bundle(
    bundle: CheckedBundle, experiment: Experiment, sets: Sequence[AudioSet], terms: Terms
) -> Iterator[Checked]:
    """Check every size in every precision.

    Args:
        bundle: the bundle.
        experiment: the experiment from which it was made, with the same weights.
        sets: the utterances.
        terms: how it is tried, and what is accepted.

    Yields:
        The result of each size in each precision, float before int8. Pathways in whose language no utterance is are
        left out.

    Raises:
        UserError: sherpa-onnx is not installed, or the graph of a CTC bundle is not that of the experiment.
    """
    runtime = f"sherpa-onnx {runtime_version()}"
    graph = None if bundle.manifest.graph is None else SearchGraph.open(noted_graph(experiment))
    reading = TokenReading.of(experiment.tokenizer) if graph is None else WordReading(graph.words)
    for _, variants in groupby(bundle.variants(), key=lambda variant: variant.size.id):
        of_size = list(variants)
        size = of_size[0].size
        served = [part for part in (one.served(size.language) for one in sets) if part.audio]
        if not served:
            continue
        reference = _reference(bundle, experiment, size.subnet, terms, graph)
        ours = reference.recognize([heard for one in served for heard in one.audio])
        own = _Own(served, reference, reading, experiment.config.decoding.graph.max_active, ours)
        plain: DeployedModel | None = None
        for variant in of_size:
            checked = _check(bundle, variant, own, terms, runtime)
            if variant.precision == "float":
                plain = checked.model
                yield checked
                continue
            lost = _losses(variant, plain, checked.model, terms.most_loss)
            yield Checked(variant, checked.model, (*checked.failures, *lost))


def _reference(
    bundle: CheckedBundle, experiment: Experiment, subnet: Subnet, terms: Terms, graph: SearchGraph | None
) -> Reference | StreamReference:
    """Prepare a subnet in torch."""
    manifest = bundle.manifest
    if manifest.streaming is None:
        return Reference.of(experiment, subnet, manifest.context_size, terms.paths, graph)
    return StreamReference.of(experiment, subnet, manifest.streaming, manifest.context_size, terms.paths)


def runtime_version() -> str:
    """Return the version of sherpa-onnx.

    Raises:
        UserError: it is not installed.
    """
    try:
        return version("sherpa-onnx")
    except PackageNotFoundError:
        raise UserError("sherpa-onnx is not installed: pip install 'slimasr[export]'") from None


def runs_of(bundle: CheckedBundle, terms: Terms) -> list[Run]:
    """Return how a size is tried: the first run is measured with one thread, the last one with all."""
    runs = [Run(), Run(batch=BATCH)]
    if bundle.kind != "ctc":
        beam = Run("modified_beam_search", terms.paths)
        runs += [beam, Run("modified_beam_search", terms.paths, batch=BATCH)]
    return [*runs, Run(threads=terms.threads)]


def _check(bundle: CheckedBundle, variant: Variant, own: _Own, terms: Terms, runtime: str) -> Checked:
    """Run one size in one precision, and compare and measure it."""
    audio = own.audio
    client = bundle.client(variant, own.max_active)
    try:
        ran = recognize(client, audio, runs_of(bundle, terms))
    except UserError as error:
        return Checked(variant, None, (str(error),))
    theirs = as_ours(ran, own.reading)
    rates = _rates(bundle, own, theirs)
    model = _measured(variant, ran, sum(heard.seconds(bundle.sample_rate) for heard in audio), rates, runtime)
    emulated, failures = _emulated(bundle, variant, own, terms)
    model = model.model_copy(update={"emulated": emulated}) if emulated else model
    if variant.precision == "int8":
        return Checked(variant, model, failures)
    described = _described(variant, differences(audio, own.ours, theirs), own)
    return Checked(variant, model, (*described, *failures), differs=bool(described))


def _emulated(
    bundle: CheckedBundle, variant: Variant, own: _Own, terms: Terms
) -> tuple[dict[str, dict[str, DeployedRate]], tuple[str, ...]]:
    """Return the figures of each set on each emulated processor, and why there are none on others.

    Float is emulated only if the size has no int8 files: its kernels differ by rounding alone, and emulating them takes
    many times longer than emulating those of int8.
    """
    found: dict[str, dict[str, DeployedRate]] = {}
    failures: list[str] = []
    reference = own.reference
    skipped = variant.precision == "float" and variant.size.int8 is not None
    if skipped or not isinstance(reference, Reference):
        return found, ()
    for emulator in terms.emulate:
        try:
            theirs = recognize_emulated(emulator, variant.encoder, reference, own.audio)
        except UserError as error:
            failures.append(str(error))
        else:
            found[emulator.name] = _rates(bundle, own, theirs)
    return found, tuple(failures)


def _rates(bundle: CheckedBundle, own: _Own, theirs: Sequence[Theirs]) -> dict[str, DeployedRate]:
    """Return the figures of each set."""
    audio = own.audio
    rates: dict[str, DeployedRate] = {}
    first = 0
    for one in own.sets:
        numbers = range(first, first + len(one.audio))
        rate = rate_of(audio, own.ours, theirs, numbers, own.reading.in_words)
        rates[one.name] = rate.model_copy(update={"weights": bundle.manifest.model.weights, "data": one.data})
        first = numbers.stop
    return rates


def _measured(
    variant: Variant, ran: Sequence[Ran], seconds: float, rates: Mapping[str, DeployedRate], runtime: str
) -> DeployedModel:
    """Put the figures of a model together."""
    single, threads = ran[0], ran[-1]
    return DeployedModel(
        bytes=variant.note.bytes,
        runtime=runtime,
        sets=rates,
        load_ms=1e3 * single.load_seconds,
        load_ms_threads=1e3 * threads.load_seconds,
        rtf=single.seconds / seconds,
        rtf_threads=threads.seconds / seconds,
        threads=threads.run.threads,
        peak_mb=single.peak_bytes / 1e6,
        before_mb=single.before_bytes / 1e6,
        hardware=describe_hardware(),
    )


def _described(variant: Variant, found: Sequence[Difference], own: _Own) -> tuple[str, ...]:
    """Return one line that says which utterances differ, and by how much the encoder does."""
    if not found:
        return ()
    # One utterance may differ in several runs.
    names = list(dict.fromkeys(difference.heard.name for difference in found))
    shown = "; ".join(
        f"{one.heard.name} ({one.run}): torch {one.ours!r}, sherpa-onnx {one.theirs!r}" for one in found[:SHOWN]
    )
    encoders = ""
    if isinstance(own.reference, Reference):
        largest = largest_difference(variant.encoder, own.reference, [one.heard for one in found[:SHOWN]])
        encoders = f"; the largest difference of encoder outputs is {largest:.1e}"
    count = "1 utterance differs" if len(names) == 1 else f"{len(names)} of {len(own.audio)} utterances differ"
    return (f"{variant.encoder}: {count} from the search in torch: {shown}{encoders}: {EXPORT}",)


def _losses(
    variant: Variant, plain: DeployedModel | None, int8: DeployedModel | None, most_loss: float
) -> Iterator[str]:
    """Yield a line for each set on which int8 loses more than is accepted, unless it was written all the same."""
    if plain is None or int8 is None or variant.note.forced:
        return
    for name, rate in int8.sets.items():
        before = plain.sets[name].wer
        if rate.wer is None or before is None or rate.wer - before <= most_loss:
            continue
        yield (
            f"{variant.encoder}: WER on {name} is {rate.wer:.2f} % in int8 and {before:.2f} % in float, more than "
            f"{most_loss:g} points apart: leave int8 out for {variant.size.id}, try --int8-bits 7, or accept it with "
            "--max-int8-loss"
        )
