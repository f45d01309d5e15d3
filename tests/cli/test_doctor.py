"""The doctor tells the truth about this environment and about a broken or missing k2."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from slimasr.cli.doctor import EXTRAS, Check, examine
from slimasr.cli.main import STAGES, main_app
from slimasr.config.load import save_config
from slimasr.models.build import build_model
from slimasr.supernet.build import build_space
from tests.training.kit import tiny_config


def _finding(name: str) -> Check:
    return next(f for f in examine() if f.what == name)


@pytest.fixture
def without_k2(monkeypatch: pytest.MonkeyPatch) -> None:
    """No k2 imported so far, none found but on a path that the test adds."""
    for name in [n for n in sys.modules if n == "k2" or n.startswith("k2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "k2").exists()])
    importlib.invalidate_caches()


def test_reports_this_environment() -> None:
    result = CliRunner().invoke(main_app(), ["doctor"])
    assert result.exit_code == 0
    assert torch.__version__ in result.stdout
    assert "device" in result.stdout
    assert _finding("torch") == Check("torch", torch.__version__)


def test_counts_the_parameters_of_a_recipe(tmp_path: Path) -> None:
    recipe = tiny_config()
    save_config(recipe, tmp_path / "recipe.yaml")
    # Without tokenizer and data, the recipe's own number of tokens counts.
    model = build_model(recipe.model, recipe.loss, recipe.tokenizer.vocab_size, build_space(recipe).widths)
    total = sum(parameter.numel() for parameter in model.parameters())
    arguments = ["doctor", "--config", str(tmp_path / "recipe.yaml"), "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(main_app(), arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"{total:,}, of which {total:,} are trained and 0 frozen" in result.stdout
    groups = re.findall(r"group (\w+) +([\d,]+)", result.stdout)
    assert [name for name, _ in groups] == ["decayed", "undecayed"]
    assert sum(int(count.replace(",", "")) for _, count in groups) == total
    result = CliRunner().invoke(main_app(), [*arguments, "--set", "training.init={from: nowhere}"])
    assert result.exit_code == 1
    assert "nowhere/config.yaml is missing" in result.output


def test_lists_what_the_search_needs_and_every_extra() -> None:
    found = {finding.what: finding for finding in examine()}
    assert all(found[name].advice == "" for name in ("scipy", "optuna", "sqlalchemy"))
    extras = metadata("slimasr").get_all("Provides-Extra") or []
    assert set(extras) - {"k2"} == EXTRAS.keys()
    assert {"psycopg", "onnxscript"} <= found.keys()


def test_names_what_installs_k2(without_k2: None) -> None:
    finding = _finding("k2")
    assert finding.state == "not installed"
    assert "tools/install_k2.sh" in finding.advice


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libtorch.so: undefined symbol')", "libtorch.so: undefined symbol"),
        ("import _k2_of_another_torch", "_k2_of_another_torch"),
        ("__version__ = '1.0'", "1.0 lacks rnnt_loss_pruned"),
    ],
)
def test_says_why_k2_does_not_work(
    without_k2: None, source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k2.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    finding = _finding("k2")
    sys.modules.pop("k2", None)
    assert reason in finding.state
    assert "tools/install_k2.sh" in finding.advice


def test_help_lists_every_stage_without_importing_torch() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from slimasr.cli.main import main_app\n"
        "print(CliRunner().invoke(main_app(), ['--help']).stdout)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {stage} " in done.stdout for stage in (*STAGES, "doctor"))


def test_programs_are_found_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "qemu-x86_64"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _finding("qemu-x86_64") == Check("qemu-x86_64", str(program))
    assert _finding("chromium").state == "not installed"
    assert "Debian's package chromium" in _finding("chromium").advice
    browser = tmp_path / "google-chrome"
    browser.touch(mode=0o755)
    assert _finding("chromium") == Check("chromium", str(browser))
