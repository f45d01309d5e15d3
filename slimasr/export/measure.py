"""The chosen subnets once more, as int8 in a device's runtime; results go where the search's are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slimasr.data.batch import Batch
from slimasr.decoding.decode import describe
from slimasr.experiment import Experiment
from slimasr.export.onnx import export_onnx, needed, quantize
from slimasr.export.runtime import OnnxTransducer, int8_wer
from slimasr.locking import folder_lock
from slimasr.results.store import read_results, update_results
from slimasr.supernet.subnet import Subnet


def measure_int8(
    experiment: Experiment,
    subnet: Subnet,
    sets: Mapping[str, Callable[[], Iterable[Batch]]],
    weights: str,
    data: Mapping[str, str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write ``export/<subnet id>/*.int8.onnx`` and ``subnets.<id>.int8`` of results.json, set after set.

    A set that was measured on these weights and with this search before, and is the same, is not measured again.

    Args:
        sets: set name -> its batches, anew at every call.
        weights: digest of the checkpoint.
        data: set name -> fingerprint of the set.

    Yields:
        Set name and its entry: WER, interval, and what it was measured with.

    Raises:
        UserError: the extra ``export`` is not installed, or a set has no word.
    """
    needed("onnxruntime")
    # Who comes second waits, and then finds what the first one has measured.
    lock = experiment.dir / "export" / f"{subnet.id}.lock"
    with folder_lock(lock, f"slimasr-quantize of {subnet.id}", wait=True):
        yield from _measure_int8(experiment, subnet, sets, weights, data)


def _measure_int8(
    experiment: Experiment,
    subnet: Subnet,
    sets: Mapping[str, Callable[[], Iterable[Batch]]],
    weights: str,
    data: Mapping[str, str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    made = {
        "weights": weights,
        "decoding": describe(experiment.config.decoding),
        "runtime": f"onnxruntime {needed('onnxruntime').__version__}",
    }
    found = read_results(experiment.dir).get("subnets", {}).get(subnet.id, {}).get("int8", {}).get("wer", {})
    wanted = {name: {**made, "data": data[name]} for name in sets}
    missing = [name for name in sets if wanted[name] != {key: found.get(name, {}).get(key) for key in wanted[name]}]
    yield from ((name, found[name]) for name in sets if name not in missing)
    if not missing:
        return
    model = experiment.model.extract(subnet)
    with TemporaryDirectory(prefix="slimasr-") as temporary:
        files = quantize(export_onnx(model, Path(temporary)), experiment.dir / "export" / subnet.id)
    runtime = OnnxTransducer(files, model, experiment.config.search.rtf_threads)
    for name in missing:
        wer = int8_wer(runtime, sets[name](), experiment.tokenizer, experiment.config.decoding)
        entry = {**wer.to_dict(), **wanted[name]}
        int8 = {"wer": {name: entry}, "bytes": files.bytes, "runtime": made["runtime"]}
        update_results(experiment.dir, {"subnets": {subnet.id: {"subnet": subnet.to_dict(), "int8": int8}}})
        yield name, entry
