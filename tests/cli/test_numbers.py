"""Numbers on the command line that are none, or outside their range: refused with the option's name, before work."""

from __future__ import annotations

from importlib import import_module

import pytest
from typer.testing import CliRunner

from slimasr.cli.common import command_app

CASES = [
    ("search", ["exp"], "--max-params", ("nan", "inf", "0", "-1", "many")),
    ("search", ["exp"], "--max-int8-mb", ("nan", "-inf", "0")),
    ("search", ["exp"], "--max-macs", ("nan", "-5")),
    ("search", ["exp"], "--max-rtf", ("inf", "0")),
    ("search", ["exp"], "--workers", ("0", "-1", "1000000", "nan")),
    ("extract", ["exp", "--out", "out"], "--max-params", ("nan", "0")),
    ("features", ["--config", "x.yaml"], "--num-jobs", ("0", "-3", "1000000", "2.5")),
    ("decode", ["exp"], "--beam", ("0", "-1", "inf")),
    ("decode", ["exp"], "--max-symbols-per-frame", ("0",)),
    ("align", ["exp"], "--realign", ("nan", "-1", "0.5")),
    ("align", ["exp", "--states"], "--min-count", ("nan", "0", "-1")),
    ("profile", ["--config", "x.yaml"], "--vocab-size", ("1", "-1", "nan")),
    ("transcribe", ["exp", "a.wav"], "--window-seconds", ("nan", "inf", "0", "-5", "1e300")),
    ("transcribe", ["exp", "a.wav"], "--width", ("nan", "0", "-0.5")),
]


@pytest.mark.parametrize(
    ("stage", "needed", "option", "value"),
    [(stage, needed, option, value) for stage, needed, option, values in CASES for value in values],
)
def test_impossible_numbers_are_refused_with_the_option_s_name(
    stage: str, needed: list[str], option: str, value: str
) -> None:
    run = import_module(f"slimasr.cli.{stage}").run
    result = CliRunner().invoke(command_app(run), [*needed, f"{option}={value}"])
    assert result.exit_code == 2
    assert f"'{option}'" in result.stderr


@pytest.mark.parametrize("value", ["nan", "0.5,inf", "0", "2", "", "a,b"])
def test_impossible_slices_are_refused(value: str, tmp_path: object) -> None:
    run = import_module("slimasr.cli.search").run
    result = CliRunner().invoke(command_app(run), [str(tmp_path), f"--slice={value}"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: --slice")
