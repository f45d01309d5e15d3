"""The help of every command: quick, in whole sentences, without what Typer makes up."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from slimasr.cli import doctor
from slimasr.cli.common import command_app
from slimasr.cli.main import STAGES, main_app

HEAVY = (
    "torch",
    "lhotse",
    "numpy",
    "scipy",
    "optuna",
    "sqlalchemy",
    "plotly",
    "matplotlib",
    "tensorboard",
    "kaldialign",
    "sentencepiece",
    "soundfile",
)
MODULES = sorted(path.stem for path in Path(doctor.__file__).parent.glob("*.py") if path.stem != "__init__")


def help_of(stage: str) -> str:
    result = CliRunner().invoke(command_app(import_module(f"slimasr.cli.{stage}").run), ["--help"])
    assert result.exit_code == 0
    return result.stdout


def test_importing_a_command_loads_no_heavy_package() -> None:
    program = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for name in {MODULES}:\n"
        "    import_module(f'slimasr.cli.{name}')\n"
        f"    loaded = set({HEAVY}) & sys.modules.keys()\n"
        "    assert not loaded, (name, loaded)\n"
        "    library = {name.split('.')[1] for name in sys.modules if name.startswith('slimasr.')}\n"
        "    assert library <= {'cli', 'errors'}, (name, library)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_every_option_is_explained_in_sentences_and_names_its_value(stage: str) -> None:
    command = typer.main.get_command(command_app(import_module(f"slimasr.cli.{stage}").run))
    for parameter in command.params:
        text = getattr(parameter, "help", "")
        assert text and text[0].isupper() and text.endswith("."), (parameter.name, text)
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar and parameter.metavar == parameter.metavar.upper(), parameter.name


@pytest.mark.parametrize("stage", STAGES)
def test_usage_shows_plain_names(stage: str) -> None:
    usage, _, rest = help_of(stage).partition("\n\n")
    assert usage.startswith("Usage: ")
    assert not set("{}<>") & set(usage)
    assert "list[" not in rest and "<path>" not in rest
    assert all(len(line) <= 80 for line in rest.splitlines())


def test_the_first_line_of_every_command_fits_into_the_list_of_commands() -> None:
    listing = CliRunner().invoke(main_app(), ["--help"]).stdout
    for stage in STAGES:
        first, _, _ = (import_module(f"slimasr.cli.{stage}").run.__doc__ or "").partition("\n")
        assert f"  {stage:10}  {first}\n" in listing
        assert first.endswith(".")


def test_stages_of_the_one_command_have_the_same_help() -> None:
    for stage in STAGES:
        found = CliRunner().invoke(main_app(), [stage, "--help"]).stdout
        own = help_of(stage)
        assert found.partition("\n")[2] == own.partition("\n")[2]
