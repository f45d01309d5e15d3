"""What a GPU does in training, in eight minutes: see ``--help`` for the parts. Every result is one line of JSON.

Steps are the trainer's own on a batch of noise. Their share is that of the speed of matrix products in the same
precision, measured in the same run; the operations of a step are counted once (`flops`), without element-wise ones and
without the predictor's LSTM, for which torch has no formula on GPUs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import pruned_loss
import torch
from common import report, report_figures
from flops import Flops, count_flops
from gpu_setting import EGS, Clock, Setting, explained, setting_of
from steps import make_step
from torch.profiler import ProfilerActivity, profile

from slimasr.config.load import load_config
from slimasr.data.files import DataFolder
from slimasr.data.memory.dataloading import BatchSource
from slimasr.data.tokens.load import load_tokenizer
from slimasr.losses import transducer
from slimasr.methods import resolve_config
from slimasr.models.build import build_model
from slimasr.supernet.build import build_space
from slimasr.training.distributed import process_group

WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")


def product_speed(setting: Setting, dtype: torch.dtype) -> float:
    """Return operations per second of the fastest of some square matrix products."""
    best = 0.0
    for n in setting.products:
        a = torch.randn(n, n, device=setting.device, dtype=dtype)
        out = torch.empty_like(a)
        best = max(best, 2 * n**3 / setting.time(partial(torch.mm, a, a, out=out), 10))
    return best


def measure_steps(setting: Setting, clock: Clock) -> None:
    """Time, share of the device's speed, and peak memory of every method, size and precision."""
    speeds = {name: product_speed(setting, dtype) for name, dtype in setting.precisions.items()}
    per_second = {f"{name}_gflop": speed / 1e9 for name, speed in speeds.items()}
    place = torch.cuda.get_device_name(setting.device) if setting.on_gpu else "cpu"
    report_figures("matrix products, 10^9 operations per second", device=place, torch=torch.__version__, **per_second)
    for size in setting.sizes:
        for method in ("separate", "slimmable", "sandwich"):
            counted: Flops | None = None
            for precision in setting.precisions:
                name = f"step, {method} {size.name} {precision}"
                if not clock.allows(name):
                    continue
                with explained(name):
                    config = size.config(method, f"training.precision={precision}")
                    step = partial(make_step(config, setting.world), setting.batch(config))
                    step()
                    counted = counted or count_flops(step)
                    measure_step(setting, name, step, counted, speeds[precision])


def measure_step(setting: Setting, name: str, step: Callable[[], object], counted: Flops, speed: float) -> None:
    """Time one step and print the result."""
    peak = None
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    seconds = setting.time(step, setting.repeats, warm_ups=1)
    if setting.on_gpu:
        peak = torch.cuda.max_memory_allocated(setting.device) / 1e6
    report_figures(
        name,
        seconds=seconds,
        gflop=counted.products / 1e9,
        share_of_products=counted.products / seconds / speed,
        peak_mb=peak,
        audio_seconds_per_second=setting.utterances * setting.seconds / seconds,
    )


def count_waits(setting: Setting, clock: Clock) -> None:
    """Count how often the CPU waits for the device in a step, at most once besides logging, and name the lines."""
    size = setting.sizes[0]
    for method in ("separate", "slimmable", "sandwich"):
        name = f"waits for the device per step, {method} {size.name}"
        if not clock.allows(name):
            continue
        config = size.config(method)
        step = partial(make_step(config, setting.world), setting.batch(config))
        step()
        step()
        setting.wait()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_gpu else [])]
        with profile(activities=activities) as recorded:
            step()
        events = Counter(event.name for event in recorded.events() or ())
        report_figures(
            name,
            waits=sum(events[kind] for kind in WAITS),
            # The end of the profile is itself one of these.
            device_waits=events["cudaDeviceSynchronize"],
            copies_to_cpu=sum(count for kind, count in events.items() if kind.startswith("Memcpy DtoH")),
            launches=events["cudaLaunchKernel"],
            target=1,
            lines=", ".join(waiting_lines(step)) if setting.on_gpu else "none",
        )


def waiting_lines(step: Callable[[], object]) -> list[str]:
    """Return the lines of Python at which a step waits for the device, with their numbers of waits."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    lines = Counter(f"{Path(item.filename).name}:{item.lineno}" for item in caught)
    return [f"{line} x{count}" for line, count in lines.most_common()]


def compare_optimizers(setting: Setting, clock: Clock) -> None:
    """Fused AdamW against AdamW by lists of tensors, on the parameters of each size."""
    for size in setting.sizes:
        name = f"AdamW, fused against foreach, {size.name}, seconds"
        if not clock.allows(name):
            continue
        with explained(name):
            config, _ = resolve_config(size.config("slimmable"))
            widths = build_space(config).widths
            with torch.device("meta"):
                model = build_model(config.model, config.loss, config.tokenizer.vocab_size, widths)
            seconds = {}
            for kind in ("fused", "foreach"):
                parameters = [torch.randn(p.shape, device=setting.device) for p in model.parameters()]
                for parameter in parameters:
                    parameter.grad = torch.randn_like(parameter)
                optimizer = torch.optim.AdamW(parameters, fused=kind == "fused", foreach=kind == "foreach")
                seconds[kind] = setting.time(optimizer.step, setting.repeats)
            report(name, seconds["fused"], seconds["foreach"], seconds["fused"] / seconds["foreach"], None)


def compare_compiled(setting: Setting, clock: Clock) -> None:
    """Steps with and without ``training.compile``, and how many minutes of training repay the compiler."""
    size = setting.sizes[0]
    precision = "training.precision=bf16" if setting.on_gpu else "training.precision=float32"
    for method in ("separate", "slimmable"):
        name = f"step, compiled against not, {method} {size.name}, seconds"
        if not clock.allows(name):
            continue
        with explained(name):
            seconds = {}
            first = {}
            for compiled in ("false", "true"):
                config = size.config(method, precision, f"training.compile={compiled}")
                step = partial(make_step(config, setting.world), setting.batch(config))
                first[compiled] = setting.time(step, 1, warm_ups=0)
                seconds[compiled] = setting.time(step, setting.repeats)
            ours, other = seconds["true"], seconds["false"]
            # A run of r steps gains r (other - ours), and takes r ours.
            repaid = (first["true"] - first["false"]) / (other - ours) * ours / 60 if ours < other else None
            started = first["true"]
            report(name, ours, other, ours / other, None, first_step=started, minutes_until_repaid=repaid or "never")


def compare_with_k2(setting: Setting, clock: Clock) -> None:
    """The pruned loss, ours in torch against k2's."""
    name = "whole pruned loss, torch backend against k2, seconds"
    if importlib.util.find_spec("k2") is None:
        report_figures(name, skipped="k2 is not installed")
        return
    if not clock.allows(name):
        return
    import k2

    with setting.device:
        inputs = pruned_loss.Inputs()
        shape = (pruned_loss.BATCH, pruned_loss.FRAMES, pruned_loss.UNITS)
        lm = torch.randn(shape[0], pruned_loss.SYMBOLS + 1, shape[2]).requires_grad_()
        am = torch.randn(shape).requires_grad_()
        logits = torch.randn(*shape[:2], pruned_loss.PRUNE_RANGE, shape[2]).requires_grad_()
    ours = setting.time(lambda: pruned_loss.loss_step(transducer, inputs, lm, am, logits, backend="torch"), 5)
    other = setting.time(lambda: pruned_loss.loss_step(k2, inputs, lm, am, logits), 5)
    report(name, ours, other, ours / other, None)


def compare_processes(setting: Setting, clock: Clock) -> None:
    """Two processes, one per GPU, against one with the same batch each; on a CPU over gloo."""
    name = "step, two processes against one, seconds"
    if setting.on_gpu and torch.cuda.device_count() < 2:
        report_figures(name, skipped="one GPU")
        return
    if not clock.allows(name):
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    command += ["--device", setting.device.type, "--as-one-of-two"]
    child = subprocess.run(command, check=True, capture_output=True, text=True, timeout=max(60.0, clock.left))
    ours = json.loads(child.stdout)["seconds"]
    config = setting.sizes[0].config("slimmable")
    other = setting.time(partial(make_step(config, setting.world), setting.batch(config)), setting.repeats)
    report(name, ours, other, ours / other, None)


def one_of_two(setting: Setting) -> None:
    """Time the steps of one of two processes; the first one prints the time of the slower one."""
    with process_group() as world:
        config = setting.sizes[0].config("slimmable")
        step = partial(make_step(config, world), setting.batch(config))
        seconds = max(world.gather(setting.time(step, setting.repeats)))
        if world.is_main:
            report_figures("step", seconds=seconds)


def measure_an4(setting: Setting, clock: Clock) -> None:
    """Steps on AN4's own batches, which all have other shapes, and the time in which they are loaded."""
    name = "AN4 slimmable, real batches"
    if setting.data is None:
        report_figures(name, skipped="no folder with data")
        return
    if not clock.allows(name):
        return
    config = load_config(EGS / "an4/conf/slimmable.yaml")
    lang = DataFolder(setting.data).lang(config.tokenizer.kind, config.tokenizer.vocab_size)
    model = build_model(config.model, config.loss, config.tokenizer.vocab_size, build_space(config).widths)
    frames = model.encoder.output_frames
    source = BatchSource(config, setting.data, load_tokenizer(lang), encoder_frames=frames)
    start = time.perf_counter()
    batches = list(islice(source.train_batches(1), 40 if setting.on_gpu else 3))
    loading = (time.perf_counter() - start) / len(batches)
    step = make_step(config, setting.world)
    step(batches[0])
    seconds = [setting.time(partial(step, batch), 1, warm_ups=0) for batch in batches]
    report_figures(name, seconds=statistics.median(seconds), loading_seconds=loading, steps=len(batches))


PARTS: dict[str, tuple[Callable[[Setting, Clock], None], float]] = {
    "waits": (count_waits, 0.12),
    "steps": (measure_steps, 0.45),
    "optimizers": (compare_optimizers, 0.04),
    "k2": (compare_with_k2, 0.04),
    "an4": (measure_an4, 0.1),
    "processes": (compare_processes, 0.1),
    "compiled": (compare_compiled, 0.15),
}
"""Name -> function and share of the time. Compiling comes last, because it cannot be interrupted."""


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is a GPU; cpu = tiny models")
    parser.add_argument("--seconds", type=float, default=480.0, help="time for all parts")
    parser.add_argument("--data", type=Path, help="folder that stages 1 to 3 of egs/an4 have filled")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all; on a CPU all but compiled")
    parser.add_argument("--as-one-of-two", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = setting_of(options.device or ("cuda" if torch.cuda.is_available() else "cpu"), options.data)
    if options.as_one_of_two:
        one_of_two(setting)
        return
    # On a CPU, the compiler takes longer than all other parts.
    names = options.parts or [name for name in PARTS if setting.on_gpu or name != "compiled"]
    whole = Clock(options.seconds)
    failed = False
    for name in names:
        part, _ = PARTS[name]
        # A part may use what earlier parts have left over.
        later = sum(PARTS[other][1] for other in names[names.index(name) + 1 :])
        try:
            part(setting, Clock(whole.left - later * options.seconds))
        except Exception as error:
            # An hour on a GPU is rare: the other parts still run.
            traceback.print_exc()
            report_figures(name, failed=f"{type(error).__name__}: {error}")
            failed = True
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
