"""``slimasr <stage>``: every stage command under one name, ``slimasr config`` and ``slimasr doctor``.

Stages are imported when they are called, so that ``slimasr --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import typer

from slimasr.cli import config
from slimasr.cli.common import command_app, guard
from slimasr.cli.doctor import doctor

STAGES = {
    "prepare": "Read a corpus into manifests.",
    "features": "Compute features and their statistics.",
    "bpe": "Train the subword model.",
    "train": "Train a supernet or separate model; run again to resume.",
    "search": "Measure all subnets on dev; the front; the best under limits.",
    "quantize": "Chosen subnets as int8 ONNX files, and their WER in onnxruntime.",
    "decode": "Recognise test sets with chosen subnets.",
    "score": "Word error rates of decoded sets or of two text files.",
    "report": "Write the HTML report of one or more experiments.",
    "align": "At which frame a trained model emits each reference token.",
    "extract": "Save one subnet as a stand-alone model.",
    "profile": "Parameters, bytes, MACs, time and memory of every subnet.",
    "transcribe": "Print the text of audio files.",
}
PASS_ALL = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def main_app() -> typer.Typer:
    """The ``slimasr`` command with all its stages."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Train one speech recogniser, ship many sizes of it.",
    )
    for stage, summary in STAGES.items():
        app.command(stage, help=summary, add_help_option=False, context_settings=PASS_ALL)(_forward_to(stage))
    app.command("config")(guard(config.run))
    app.command("doctor")(guard(doctor))
    return app


def main() -> None:
    """Console script ``slimasr``."""
    main_app()()


def _forward_to(stage: str) -> Callable[[typer.Context], None]:
    def forward(ctx: typer.Context) -> None:
        module = import_module(f"slimasr.cli.{stage}")
        command_app(module.run)(args=ctx.args, prog_name=f"slimasr {stage}")

    return forward
