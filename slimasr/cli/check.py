"""``slimasr-check``: run every size of a bundle in sherpa-onnx, beside the search in torch on the same audio."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    DebugOption,
    entry,
    one_thread,
    opened,
    print_notes,
    progress,
    quick_imports,
    set_name_option,
)
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.experiment import Experiment
    from slimasr.export.check.audio import AudioSet
    from slimasr.export.check.bundle import CheckedBundle
    from slimasr.export.check.emulate import Emulator

BundleArgument = Annotated[
    Path, typer.Argument(metavar="DIR", show_default=False, help="Folder that slimasr-export has written.")
]
ExpOption = Annotated[
    Path | None,
    typer.Option(
        "--exp",
        metavar="EXP",
        show_default=False,
        help="Experiment folder from which the bundle was made. Default: the one that the bundle names.",
    ),
]
DataOptional = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        show_default=False,
        help="Folder of data, which stages 1 and 2 write. Without it, --wav or synthetic audio is recognised.",
    ),
]
WavOption = Annotated[
    list[Path] | None,
    typer.Option("--wav", metavar="FILE", help="Audio file to recognise; may be given several times."),
]
LossOption = Annotated[
    float,
    typer.Option(
        "--max-int8-loss",
        metavar="POINTS",
        min=0.0,
        help="Points of WER that int8 may lose against float on a set.",
    ),
]
PathsOption = Annotated[
    int, typer.Option("--beam", metavar="NUMBER", min=1, help="Hypotheses that modified beam search keeps.")
]
EmulateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--emulate",
        metavar="PROCESSOR",
        help=(
            "Also run the encoders on an emulated processor: haswell (AVX2 without VNNI), cortex-a76 or cortex-a53 "
            "(ARM with and without products of int8). A size that has int8 files is run in int8 only. This needs qemu. "
            "The option may be given several times."
        ),
    ),
]
SysrootOption = Annotated[
    Path | None,
    typer.Option(
        "--sysroot",
        metavar="DIR",
        show_default=False,
        help=(
            "Folder with a system of the emulated processor's architecture, with Python, numpy and onnxruntime, where "
            "that is not the architecture of this machine; tools/arm_sysroot.sh makes one."
        ),
    ),
]


def run(
    bundle: BundleArgument,
    exp: ExpOption = None,
    data: DataOptional = None,
    set_names: Annotated[list[str] | None, set_name_option("the dev and test sets")] = None,
    wav: WavOption = None,
    max_loss: LossOption = 0.5,
    paths: PathsOption = 4,
    emulate: EmulateOption = None,
    sysroot: SysrootOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare a bundle in sherpa-onnx with the search in torch.

    In float, texts and tokens must be identical for every utterance, in greedy and in modified beam search, one by one
    and in batches; in int8, the WER must not be more than --max-int8-loss above that of float. Otherwise, the first
    differences are printed, and the status is 1. WER, size, time and memory are noted in DIR/check.json,
    DIR/manifest.json and EXP/results.json. This needs the extra "export": pip install -e '.[export]'.
    """
    with quick_imports():
        from slimasr.export.check.bundle import CheckedBundle
        from slimasr.export.check.check import Terms, check_bundle
        from slimasr.export.check.files import bundle_problems
        from slimasr.export.check.record import check_weights, save
        from slimasr.report.tables.deployed import checked_table
        from slimasr.report.tables.terminal import print_table

    one_thread()
    terms = Terms(paths, max_loss, emulate=_emulators(emulate or (), sysroot))
    opened_bundle = CheckedBundle.open(bundle)
    if emulate and opened_bundle.kind == "streaming":
        raise UserError("--emulate: runs encoders of whole utterances alone, and this bundle streams; leave it out")
    _refuse(bundle_problems(opened_bundle))
    experiment = _experiment(opened_bundle, exp)
    check_weights(opened_bundle, experiment)
    sets = _audio(opened_bundle, experiment, data, set_names, wav)
    found = []
    variants = list(opened_bundle.variants())
    for checked in progress(check_bundle(opened_bundle, experiment, sets, terms), len(variants), "check"):
        found.append(checked)
        for failure in checked.failures:
            typer.echo(failure, err=True)
    tried = {str(checked.variant) for checked in found}
    print_notes(f"{one}: not tried, no utterance is in its language" for one in map(str, variants) if one not in tried)
    if not found:
        raise UserError(f"{bundle}: no utterance is in the language of a size; name other sets with --set-name")
    record = save(opened_bundle, experiment, found)
    print_table(checked_table(record))
    failed = [str(checked.variant) for checked in found if checked.failures]
    if failed:
        raise UserError(f"{bundle}: not accepted: {', '.join(failed)}; see above")


main = partial(entry, run)


def _emulators(names: Sequence[str], sysroot: Path | None) -> tuple[Emulator, ...]:
    """Find the emulators of --emulate, before anything is run."""
    from slimasr.export.check.emulate import Emulator, is_foreign

    found = tuple(Emulator.find(name, sysroot) for name in dict.fromkeys(names))
    if sysroot is not None and not any(is_foreign(name) for name in names):
        raise UserError(
            "--sysroot: no processor of --emulate is of another architecture than this machine; leave it out"
        )
    return found


def _refuse(problems: Sequence[str]) -> None:
    """Raise the last problem of a bundle's files, after the others have been printed."""
    for problem in problems[:-1]:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise UserError(problems[-1])


def _experiment(bundle: CheckedBundle, exp: Path | None) -> Experiment:
    """Open the experiment from which a bundle was made."""
    from slimasr.experiment import Experiment

    if exp is not None:
        return opened(Experiment.open(exp))
    if bundle.experiment is None:
        raise UserError(f"{bundle.folder}: does not name its experiment; give the folder with --exp")
    if not bundle.experiment.is_dir():
        raise UserError(f"{bundle.folder}: its experiment {bundle.experiment} is not there; give its folder with --exp")
    return opened(Experiment.open(bundle.experiment))


def _audio(
    bundle: CheckedBundle,
    experiment: Experiment,
    data: Path | None,
    set_names: Sequence[str] | None,
    wav: Sequence[Path] | None,
) -> list[AudioSet]:
    """Read what is recognised: sets, files, or synthetic utterances if neither is named."""
    from slimasr.data.files import DataFolder, check_sets
    from slimasr.data.identity.experiment import checked_identity
    from slimasr.export.check.audio import AudioSet, file_audio, set_audio, synthetic_audio

    if set_names and data is None:
        raise UserError("--set-name: names a set in the folder of --data; add it")
    found = []
    if data is not None:
        check_sets(set_names or (), DataFolder(data).raw_cuts, "stage 1 (slimasr-prepare)")
        config = experiment.config
        for name in set_names or [config.data.dev, *config.data.test]:
            identity = checked_identity(config, data, name).fingerprint
            found.append(AudioSet(name, set_audio(data, name), identity))
    if wav:
        found.append(AudioSet("files", file_audio(wav, bundle.sample_rate)))
    if not found:
        found.append(AudioSet("synthetic", synthetic_audio(bundle.sample_rate)))
    return [_with_frames(one, bundle.sample_rate) for one in found]


def _with_frames(heard: AudioSet, sample_rate: int) -> AudioSet:
    """Leave out utterances without a feature frame, and say so."""
    kept = heard.with_frames(sample_rate)
    missing = len(heard.audio) - len(kept.audio)
    if not kept.audio:
        raise UserError(f"{heard.name}: no audio is as long as a feature frame, 10 ms; name longer recordings")
    if missing:
        print_notes([f"{heard.name}: {missing} of {len(heard.audio)} are shorter than 10 ms and are left out"])
    return kept
