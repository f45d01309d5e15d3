"""Measures sizes of a bundle in int8 in a device's runtime, and leaves out those that lose too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slimasr.data.batches.batch import Batch
from slimasr.decoding.decode import describe
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import noted_graph
from slimasr.experiment import Experiment
from slimasr.export.manifest import Manifest, SizeNote
from slimasr.export.packages import needed
from slimasr.export.runtime import decode_onnx, open_size
from slimasr.results.decoded import STREAMING
from slimasr.results.perturbed import is_perturbed
from slimasr.results.schema import Int8Entry, Results, SubnetEntry, WerEntry
from slimasr.results.store import read_results, update_results
from slimasr.scoring import score
from slimasr.scoring.languages import score_languages, with_languages
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Int8Trial:
    """With what the int8 files of a bundle are measured.

    Attributes:
        sets: set name -> a function that returns a new iteration over its batches.
        data: set name -> fingerprint of the set.
        graph: the graph of ``decoding.kind: graph``.
        languages: set name -> utterance id -> language, of sets whose languages are measured one by one, too.
    """

    sets: Mapping[str, Callable[[], Iterable[Batch]]]
    data: Mapping[str, str]
    graph: SearchGraph | None = None
    languages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def measure_int8(
    experiment: Experiment, folder: Path, manifest: Manifest, size: SizeNote, scheme: str, trial: Int8Trial
) -> Iterator[tuple[str, WerEntry]]:
    """Measure the WER of a size in int8, and add it to ``subnets.<id>.int8`` of results.json.

    A set is not measured again if neither it nor weights, scheme, decoding and runtime have changed.

    Args:
        experiment: the experiment of the supernet.
        folder: the bundle.
        manifest: its manifest.
        size: a size with int8 files.
        scheme: how its weights were rounded, in words.
        trial: with what it is measured.

    Yields:
        The name of each set and its entry: WER, interval, and the conditions.

    Raises:
        UserError: the extra ``export`` is not installed, or a set has no word.
    """
    decoding = describe(experiment.config.decoding, trial.graph)
    weights = experiment.weights_digest
    runtime = _runtime(scheme)
    found = _recorded(experiment.dir, size.subnet)
    assert size.int8 is not None
    model = None
    for name, batches in trial.sets.items():
        languages = trial.languages.get(name, {})
        known = found.get(name)
        made_with = None if known is None else (known.weights, known.decoding, known.runtime, known.data)
        same = made_with == (weights, decoding, runtime, trial.data[name])
        # A pathway may have been measured on its own language alone, or on all of the set.
        if known is not None and same and known.languages.keys() == set(languages.values()):
            yield name, known
            continue
        model = model or open_size(
            folder, manifest, size.id, experiment.model, int8=True, threads=experiment.config.search.rtf_threads
        )
        utterances = decode_onnx(model, batches(), experiment.tokenizer, experiment.config.decoding, trial.graph)
        entry = score(utterances).wer_entry().measured_in_int8(weights, decoding, runtime, trial.data[name])
        if languages:
            entry = with_languages(entry, score_languages(utterances, languages, name))
        int8 = Int8Entry(wer={name: entry}, bytes=size.int8.bytes, runtime=runtime)
        # After every set, so that a kill loses no finished one.
        update_results(experiment.dir, Results(subnets={size.id: SubnetEntry(subnet=size.subnet, int8=int8)}))
        yield name, entry


def float_rates(experiment: Experiment, subnet: Subnet, data: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return what is known of a size in float: set name -> WER in percent.

    It counts if the checkpoint that is exported was measured by the search that the configuration names, whole or chunk
    by chunk. Perturbed sets are left out, as nothing is chosen by them.

    Args:
        experiment: the experiment of the supernet.
        subnet: the size; what counts of a pathway is the WER on its own language.
        data: set name -> fingerprint of sets that had to be the same when they were measured; None = any will do.

    Raises:
        UserError: the search needs a graph that is not there.
    """
    entry = read_results(experiment.dir).subnets.get(subnet.id)
    if entry is None or not entry.wer:
        return {}
    search, prints = search_of(experiment), data or {}
    rates = {}
    for name, wer in entry.wer.items():
        # Files of older versions lack all three.
        made_alike = (
            wer.checkpoint in (None, experiment.checkpoint)
            and wer.decoding.removesuffix(STREAMING) in ("", search)
            and wer.data in (None, prints.get(name, wer.data))
        )
        own = _own(wer, subnet)
        if made_alike and own is not None and not is_perturbed(name):
            rates[name] = own
    return rates


def int8_rates(experiment: Experiment, subnet: Subnet, scheme: str) -> dict[str, float]:
    """Return what is known of a size in int8: set name -> WER in percent.

    It counts if earlier files of the same weights were measured by the search that the configuration names, in the
    runtime that is installed.

    Args:
        experiment: the experiment of the supernet.
        subnet: the size; what counts of a pathway is the WER on its own language.
        scheme: how the weights were rounded, in words.

    Raises:
        UserError: the extra ``export`` is not installed, or the search needs a graph that is not there.
    """
    conditions = (experiment.weights_digest, search_of(experiment), _runtime(scheme))
    known = _recorded(experiment.dir, subnet)
    made_with = {name: (wer.weights, wer.decoding, wer.runtime) for name, wer in known.items()}
    found = {name: _own(wer, subnet) for name, wer in known.items() if made_with[name] == conditions}
    return {name: rate for name, rate in found.items() if rate is not None}


def _runtime(scheme: str) -> str:
    """Describe what int8 files run in, and how their weights were rounded."""
    return f"onnxruntime {needed('onnxruntime').__version__}, {scheme}"


def search_of(experiment: Experiment) -> str:
    """Describe the search for the words that the configuration names.

    Raises:
        UserError: it needs a graph that is not there.
    """
    decoding = experiment.config.decoding
    return describe(decoding, noted_graph(experiment) if decoding.kind == "graph" else None)


def _own(entry: WerEntry, subnet: Subnet) -> float | None:
    """Return the WER on the language of a pathway, of any other subnet on all utterances; None = it is not known."""
    # Files of older versions have no languages.
    if subnet.serves("") or not entry.languages:
        return entry.wer
    own = entry.languages.get(subnet.pathway)
    return None if own is None else own.wer


def _recorded(exp: Path, subnet: Subnet) -> Mapping[str, WerEntry]:
    """Read the WER entries in int8 from results.json, by set name."""
    entry = read_results(exp).subnets.get(subnet.id)
    return {} if entry is None or entry.int8 is None else entry.int8.wer
