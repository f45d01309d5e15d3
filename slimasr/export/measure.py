"""Measures chosen subnets in int8 in a device's runtime; the results are stored with those of the search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from slimasr.data.batch import Batch
from slimasr.decoding.decode import describe
from slimasr.decoding.graph import SearchGraph
from slimasr.experiment import Experiment
from slimasr.export.onnx import export_onnx, needed, quantize
from slimasr.export.runtime import decode_onnx, open_runtime
from slimasr.locking import folder_lock
from slimasr.results.schema import Int8Entry, Results, SubnetEntry, WerEntry
from slimasr.results.store import read_results, update_results
from slimasr.scoring import score
from slimasr.scoring.languages import score_languages, with_languages
from slimasr.supernet.subnet import Subnet

NO_LANGUAGES: Mapping[str, Mapping[str, str]] = {}


def measure_int8(
    experiment: Experiment,
    subnet: Subnet,
    sets: Mapping[str, Callable[[], Iterable[Batch]]],
    weights: str,
    data: Mapping[str, str],
    graph: SearchGraph | None = None,
    languages: Mapping[str, Mapping[str, str]] = NO_LANGUAGES,
) -> Iterator[tuple[str, WerEntry]]:
    """Write ``export/<subnet id>/*.int8.onnx``, and the WER of each set to ``subnets.<id>.int8`` of results.json.

    A set is not measured again if neither it nor weights, decoding and runtime have changed.

    Args:
        experiment: the experiment of the supernet.
        subnet: the subnet to measure.
        sets: set name -> a function that returns a new iteration over its batches.
        weights: digest of the checkpoint.
        data: set name -> fingerprint of the set.
        graph: the graph of ``decoding.kind: graph``.
        languages: set name -> utterance id -> language, of sets whose languages are measured one by one, too.

    Yields:
        The name of each set and its entry: WER, interval, and the conditions.

    Raises:
        UserError: the extra ``export`` is not installed, or a set has no word.
    """
    needed("onnxruntime")
    # A second process waits, and then finds what the first one has measured.
    lock = experiment.dir / "export" / f"{subnet.id}.lock"
    with folder_lock(lock, f"slimasr-quantize of {subnet.id}", wait=True):
        yield from _measure_int8(experiment, subnet, sets, weights, data, graph, languages)


def _measure_int8(
    experiment: Experiment,
    subnet: Subnet,
    sets: Mapping[str, Callable[[], Iterable[Batch]]],
    weights: str,
    data: Mapping[str, str],
    graph: SearchGraph | None,
    languages: Mapping[str, Mapping[str, str]],
) -> Iterator[tuple[str, WerEntry]]:
    """Measure the sets whose recorded entry was made under other conditions; the caller holds the lock."""
    decoding = describe(experiment.config.decoding, graph)
    version = f"onnxruntime {needed('onnxruntime').__version__}"
    found = _recorded(experiment.dir, subnet)
    missing = []
    for name in sets:
        known = found.get(name)
        made_with = None if known is None else (known.weights, known.decoding, known.runtime, known.data)
        same = made_with == (weights, decoding, version, data[name])
        # A pathway may have been measured on its own language alone, or on all of the set.
        if known is None or not same or known.languages.keys() != set(languages.get(name, {}).values()):
            missing.append(name)
    yield from ((name, found[name]) for name in sets if name not in missing)
    if not missing:
        return
    model = experiment.model.extract(subnet)
    # Only the int8 files are kept.
    with TemporaryDirectory(prefix="slimasr-") as temporary:
        files = quantize(export_onnx(model, Path(temporary)), experiment.dir / "export" / subnet.id)
    runtime = open_runtime(files, model, experiment.config.search.rtf_threads)
    for name in missing:
        utterances = decode_onnx(runtime, sets[name](), experiment.tokenizer, experiment.config.decoding, graph)
        entry = score(utterances).wer_entry().measured_in_int8(weights, decoding, version, data[name])
        if name in languages:
            entry = with_languages(entry, score_languages(utterances, languages[name], name))
        int8 = Int8Entry(wer={name: entry}, bytes=files.bytes, runtime=version)
        # After every set, so that a kill loses no finished one.
        update_results(experiment.dir, Results(subnets={subnet.id: SubnetEntry(subnet=subnet, int8=int8)}))
        yield name, entry


def _recorded(exp: Path, subnet: Subnet) -> Mapping[str, WerEntry]:
    """Read the WER entries in int8 from results.json, by set name."""
    entry = read_results(exp).subnets.get(subnet.id)
    return {} if entry is None or entry.int8 is None else entry.int8.wer
