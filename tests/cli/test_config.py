"""``slimasr config`` prints every key, and answers without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from slimasr.cli.main import main_app
from slimasr.config.describe import all_parts, without_repetition
from slimasr.config.page import config_page


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main_app(), ["config", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_prints_every_key_with_type_default_and_sentence() -> None:
    lines = run().splitlines()
    for part in without_repetition(all_parts()):
        assert part.title in lines
        for key in part.keys:
            default = "needed" if key.default is None else key.default
            cells = [key.name, key.type, default, key.sentence.replace("``", "")]
            assert cells in [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines], key.name
        if part.same_as:
            assert any(line.endswith(f"Its keys are those of {part.same_as}.") for line in lines)


def test_prints_one_key() -> None:
    title, summary, heading, row = run("training.num_epochs").splitlines()[:4]
    assert title == "training"
    assert summary.strip().endswith(".")
    assert heading.split() == ["key", "type", "default", "meaning"]
    assert row.split()[:7] == ["training.num_epochs", "integer", ">=", "1", "|", "null", "30"]


def test_draws_tables_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    text = run("data.options")
    assert "num_train" in text
    assert "data.options.num_train" not in text
    assert "AN4 has no options." in text
    assert max(len(line) for line in text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()) <= 100


def test_prints_the_page() -> None:
    assert run("--markdown") == config_page()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainig"], "error: trainig: no section or key has this name (did you mean training?)\n"),
        (["training", "--markdown"], "error: --markdown prints the whole page; leave out the section or key\n"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main_app(), ["config", *arguments])
    assert result.exit_code == 1
    assert result.stderr == message


def test_answers_without_torch() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from slimasr.cli.main import main_app\n"
        "result = CliRunner().invoke(main_app(), ['config'])\n"
        "assert 'training.num_epochs' in result.stdout\n"
        "assert not {'torch', 'lhotse', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
