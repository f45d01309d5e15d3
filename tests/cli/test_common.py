"""Errors end as one line with the right status; progress speaks up only when it takes long."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pydantic import BaseModel
from typer.testing import CliRunner

from slimasr.cli import align, common, decode, features, search
from slimasr.cli.common import DebugOption, ExpArgument, SetOption, command_app, progress
from slimasr.errors import UserError
from tests.recipes.conftest import EGS


class _Model(BaseModel):
    layers: int


def _run(exp: ExpArgument, overrides: SetOption = None, debug: DebugOption = False) -> None:
    """Raise what the argument names."""
    kind = str(exp)
    if kind == "user":
        raise UserError("data/a.flac: truncated\n  after 3 s")
    if kind == "schema":
        _Model.model_validate({"layers": "six"})
    if kind == "disk":
        raise OSError(28, "No space left on device", "exp/final.pt")
    if kind == "bug":
        raise KeyError("surprise")
    if kind == "interrupt":
        raise KeyboardInterrupt
    print(overrides)


@pytest.mark.parametrize(
    ("kind", "status", "line"),
    [
        ("user", 1, "error: data/a.flac: truncated after 3 s"),
        ("schema", 1, "error: layers: Input should be a valid integer, unable to parse string as an integer"),
        ("disk", 1, "error: No space left on device: exp/final.pt"),
        ("bug", 1, "error: KeyError: 'surprise' (unforeseen; --debug shows where)"),
        ("interrupt", 130, "interrupted"),
    ],
)
def test_errors_are_one_line(kind: str, status: int, line: str) -> None:
    result = CliRunner().invoke(command_app(_run), [kind])
    assert result.exit_code == status
    assert result.stderr.splitlines() == [line]
    assert result.stdout == ""


def test_debug_adds_the_traceback() -> None:
    result = CliRunner().invoke(command_app(_run), ["user", "--debug"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: data/a.flac")


def test_usage_errors_exit_with_2() -> None:
    runner = CliRunner()
    assert runner.invoke(command_app(_run), []).exit_code == 2
    assert runner.invoke(command_app(_run), ["ok", "--no-such"]).exit_code == 2


def test_overrides_repeat() -> None:
    result = CliRunner().invoke(command_app(_run), ["ok", "--set", "a.b=1", "--set", "c=2"])
    assert result.exit_code == 0
    assert result.stdout == "['a.b=1', 'c=2']\n"


def test_progress_passes_everything_on_and_is_quiet_when_fast(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(5), label="cuts")) == [0, 1, 2, 3, 4]
    assert list(progress(iter("abc"), label="cuts")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_progress_writes_plain_lines_when_slow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "SHOW_AFTER_SECONDS", 0.05)
    for _ in progress([1, 2, 3, 4], label="cuts"):
        time.sleep(0.03)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"cuts: [1-4]/4 in \d+ s(, about \d+ s left)?", lines[0])
    assert re.fullmatch(r"cuts: 4/4 in \d+ s", lines[1])


def test_stage_names_forward_to_the_same_command(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("u1 one two\n")
    for command in (["slimasr", "score"], ["slimasr-score"]):
        done = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:], "--ref", text, "--hyp", text],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "%WER 0.00" in done.stdout


def test_interrupt_ends_a_real_process_with_130(tmp_path: Path) -> None:
    program = tmp_path / "command.py"
    program.write_text(
        "import signal, time\n"
        "from slimasr.cli.common import entry\n"
        # A shell starts background jobs with interrupts ignored, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run() -> None:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "entry(run)\n"
    )
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted\n"


def test_imports_run_without_garbage_collection_once() -> None:
    """In a process of its own, which has not loaded torch."""
    program = (
        "import gc, sys\n"
        "from slimasr.cli.common import quick_imports\n"
        "before = gc.get_freeze_count()\n"
        "try:\n"
        "    with quick_imports():\n"
        "        assert not gc.isenabled()\n"
        "        sys.modules['torch'] = sys\n"
        "        raise ImportError\n"
        "except ImportError:\n"
        "    pass\n"
        "frozen = gc.get_freeze_count()\n"
        "assert gc.isenabled() and frozen > before, (frozen, before)\n"
        "with quick_imports():\n"
        "    assert gc.isenabled()\n"
        "assert gc.get_freeze_count() == frozen\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("named", "expected"), [("", 1), ("2", 2)])
@pytest.mark.parametrize("command", [align, decode, search, features])
def test_later_stages_use_one_thread_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: ModuleType, named: str, expected: int
) -> None:
    """The number is set before anything is read; there is nothing to read here."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", named)
    recipe = EGS / "digits" / "conf" / "slimmable.yaml"
    place = ["--config", str(recipe)] if command is features else [str(tmp_path / "exp")]
    try:
        torch.set_num_threads(2)
        done = CliRunner().invoke(command_app(command.run), [*place, "--data", str(tmp_path)])
        assert done.exit_code == 1
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
