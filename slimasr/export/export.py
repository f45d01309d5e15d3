"""Writes a bundle to its place: the sizes, the tools beside them, and what is known of each size."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.export import device
from slimasr.export.bundle import write_bundle
from slimasr.export.context import DEFAULT_CONTEXT
from slimasr.export.folders import file_notes, new_folder
from slimasr.export.gate import GateTrials, Say, note_known, pass_gate
from slimasr.export.manifest import Manifest, write_manifest
from slimasr.export.packages import needed
from slimasr.export.readme import bundle_readme
from slimasr.export.web import add_web, check_runtime
from slimasr.export.writer import JOINER_INT8, WEIGHTS_INT8, BundleOptions
from slimasr.files import write_atomic
from slimasr.supernet.subnet import Subnet

RUN = "run.py"
README = "README.md"


def unheard(line: str) -> None:
    """Print nothing."""


def export_bundle(
    experiment: Experiment,
    subnets: Sequence[Subnet],
    out: Path,
    options: BundleOptions,
    trials: GateTrials | None = None,
    web: Path | None = None,
    say: Say = unheard,
) -> Manifest:
    """Write the bundle of some subnets.

    Args:
        experiment: a trained experiment.
        subnets: the sizes.
        out: the folder, which is new, empty, or a bundle, which is replaced.
        options: what is written.
        trials: the sets on which int8 files are measured; None = they are not, and the manifest has what earlier
            exports measured.
        web: the ``dist`` folder of npm's onnxruntime-web, which adds a web page; None = no page.
        say: prints a line for the user.

    Raises:
        UserError: the extra ``export`` is not installed, ``out`` or ``web`` is another folder, a file cannot be
            written, or a file that was written does not compute what the model computes.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        needed(package)
    if not subnets:
        raise UserError("name at least one subnet with --subnet")
    if web is not None:
        check_runtime(web)
    if options.int8 and trials is not None:
        trials.check_known(experiment, subnets)
    with new_folder(out) as folder:
        manifest = write_bundle(experiment, subnets, folder, options)
        if options.int8:
            manifest = _with_int8_rates(experiment, folder, manifest, scheme_of(options, manifest), trials, say)
        shutil.copyfile(device.__file__, folder / RUN)
        if web is not None:
            add_web(folder, web)
        # The README names the files that are there, and is one of them.
        manifest = manifest.model_copy(update={"files": file_notes(folder)})
        write_atomic(folder / README, bundle_readme(manifest.model_dump(mode="json", by_alias=True)))
        manifest = manifest.model_copy(update={"files": file_notes(folder)})
        write_manifest(folder, manifest)
    return manifest


def _with_int8_rates(
    experiment: Experiment, folder: Path, manifest: Manifest, scheme: str, trials: GateTrials | None, say: Say
) -> Manifest:
    """Measure int8 files and leave out those that lose too much, or note what is known of them without trials."""
    if trials is None:
        return note_known(experiment, manifest, scheme)
    return _without_idle(folder, pass_gate(experiment, folder, manifest, scheme, trials, say))


def _without_idle(folder: Path, manifest: Manifest) -> Manifest:
    """Remove what no size needs if all int8 encoders have been left out."""
    if any(size.int8 for size in manifest.sizes):
        return manifest
    for name in (WEIGHTS_INT8, JOINER_INT8):
        (folder / name).unlink(missing_ok=True)
    return manifest.model_copy(update={"joiner_int8": None})


def scheme_of(options: BundleOptions, manifest: Manifest) -> str:
    """Say how weights are rounded and on what the text depends besides, for the record of what was measured."""
    parts = [f"{options.int8_bits} bits", "scales of each size" if options.standalone else "scales shared by all sizes"]
    if options.int8_joiner:
        parts.append("joiner too")
    if manifest.streaming is not None:
        parts.append(f"chunks of {manifest.streaming.chunk_frames} frames")
    # Of an LSTM predictor; others have a context of their own.
    if manifest.context_size == options.context != DEFAULT_CONTEXT:
        parts.append(f"decoder of {options.context} labels")
    return ", ".join(parts)
