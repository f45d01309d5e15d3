"""``slimasr-export``: write subnets as a bundle, which device runtimes load."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import (
    DataOption,
    DebugOption,
    ExpArgument,
    MaxInt8,
    MaxLatency,
    MaxMacs,
    MaxParams,
    MaxRtf,
    entry,
    opened,
    quick_imports,
    set_name_option,
    subnets_option,
)
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.experiment import Experiment
    from slimasr.supernet.front import Limits
    from slimasr.supernet.subnet import Subnet

MAX_INT8_LOSS = 0.5

OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", show_default=False, help="Folder of the bundle; a bundle is replaced.")
]
Int8Option = Annotated[
    bool,
    typer.Option(
        "--int8",
        help="Write each size in int8, too, and measure its WER on dev, and on the sets of --set-name, in onnxruntime.",
    ),
]
BitsOption = Annotated[
    int,
    typer.Option(
        "--int8-bits",
        metavar="NUMBER",
        min=7,
        max=8,
        help="Bits of int8 weights: 7 for x86 processors without VNNI, where sums of 8-bit products saturate.",
    ),
]
JoinerOption = Annotated[bool, typer.Option("--int8-joiner", help="Write the joiner in int8, too.")]
LossOption = Annotated[
    float,
    typer.Option(
        "--max-int8-loss",
        metavar="POINTS",
        min=0.0,
        help="Points of WER on dev by which int8 may be worse than float; a size that loses more gets no int8 file.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Write int8 files whatever they lose, and without dev; the manifest says so.")
]
StandaloneOption = Annotated[
    bool,
    typer.Option(
        "--standalone",
        help="Put the weights of each size into its own file, for clients that load models from memory: assets of "
        "Android apps, WebAssembly.",
    ),
]
ContextOption = Annotated[
    int,
    typer.Option(
        "--context",
        metavar="LABELS",
        min=1,
        help="Labels that the decoder of an LSTM predictor sees; others ignore it.",
    ),
]
StreamingOption = Annotated[
    bool,
    typer.Option("--streaming", help="Write encoders that take speech chunk by chunk; needs an encoder that streams."),
]
ChunkOption = Annotated[
    int | None,
    typer.Option(
        "--chunk-frames",
        metavar="FRAMES",
        min=1,
        show_default=False,
        help="With --streaming: feature frames of 10 ms in a chunk. Default: 32, or the segment of an Emformer.",
    ),
]
WebOption = Annotated[
    Path | None,
    typer.Option(
        "--web",
        metavar="DIST",
        show_default=False,
        help="Add a web page that runs the sizes in a browser; DIST is the dist folder of npm's onnxruntime-web.",
    ),
]


def run(
    exp: ExpArgument,
    out: OutOption,
    subnets: Annotated[list[str] | None, subnets_option("the best subnet within limits, else front")] = None,
    max_params: MaxParams = None,
    max_int8_mb: MaxInt8 = None,
    max_macs: MaxMacs = None,
    max_rtf: MaxRtf = None,
    max_latency_ms: MaxLatency = None,
    int8: Int8Option = False,
    int8_bits: BitsOption = 8,
    int8_joiner: JoinerOption = False,
    data: DataOption = Path("data"),
    set_names: Annotated[list[str] | None, set_name_option("dev")] = None,
    max_int8_loss: LossOption = MAX_INT8_LOSS,
    force: ForceOption = False,
    standalone: StandaloneOption = False,
    context: ContextOption = 16,
    streaming: StreamingOption = False,
    chunk_frames: ChunkOption = None,
    web: WebOption = None,
    debug: DebugOption = False,
) -> None:
    """Write subnets as a bundle for devices.

    A bundle stores the weights once; each size is a small file beside them, which sherpa-onnx runs. Its README.md says
    how to use it, and run.py measures all sizes on a device and chooses one. This needs the extra "export":
    pip install -e '.[export]'.
    """
    with quick_imports():
        from slimasr.experiment import Experiment
        from slimasr.export.export import export_bundle
        from slimasr.export.gate import Gate, GateTrials
        from slimasr.export.writer import BundleOptions
        from slimasr.supernet.front import Limits

    if not int8:
        idle = {"--int8-bits": int8_bits != 8, "--int8-joiner": int8_joiner, "--set-name": bool(set_names)}
        _refuse_idle("--int8", {**idle, "--max-int8-loss": max_int8_loss != MAX_INT8_LOSS, "--force": force})
    if not streaming:
        _refuse_idle("--streaming", {"--chunk-frames": chunk_frames is not None})
    limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf, max_latency_ms)
    experiment = opened(Experiment.open(exp))
    chosen = _chosen(experiment, subnets, limits)
    unmeasured = int8 and force and not data.is_dir()
    options = BundleOptions(int8, int8_bits, int8_joiner, standalone, context, streaming, chunk_frames, unmeasured)
    dev = experiment.config.data.dev
    sets = list(dict.fromkeys([dev, *(set_names or ())]))
    trials = None
    if int8 and not unmeasured:
        trials = GateTrials.find(experiment, Gate(data, sets, max_int8_loss, force), typer.echo)
    manifest = export_bundle(experiment, chosen, out, options, trials, web, typer.echo)
    for size in manifest.sizes:
        files = [size.float.encoder] + ([size.int8.encoder] if size.int8 else [])
        typer.echo(f"{out}: {size.id}, {size.params:,} parameters, {', '.join(files)}")
    total = sum(file.bytes for file in manifest.files.values())
    typer.echo(f"{out}: {total / 1e6:.2f} MB in all; {out}/README.md says how to use it")


main = partial(entry, run)


def _refuse_idle(needed: str, idle: Mapping[str, bool]) -> None:
    """Refuse options that were given but would have no effect without another one."""
    for name, is_idle in idle.items():
        if is_idle:
            raise UserError(f"{name}: has no effect without {needed}; add it, or leave {name} out")


def _chosen(experiment: Experiment, names: list[str] | None, limits: Limits) -> list[Subnet]:
    """Return the sizes: those that are named, and the best one within limits."""
    from slimasr.experiment.archive import read_candidates
    from slimasr.experiment.subnets import find_subnets
    from slimasr.supernet.front import best_under

    found = find_subnets(experiment, names) if names else []
    if limits.given:
        languages = experiment.space.pathways or ("",)
        found += [best_under(read_candidates(experiment), limits, language).subnet for language in languages]
    if not found:
        found = find_subnets(experiment, ["front"])
    return list(dict.fromkeys(found))
