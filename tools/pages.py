"""Where generated pages stand, and how they are written or checked."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_PROOFS = ("results_finetune_*.json", "results_robustness.json")
"""Results that compare starts or levels of sound, not the methods of a paper: no claim is judged by them."""


def results_files() -> list[Path]:
    """Return the files of results of all recipes, except those of models on devices."""
    return sorted(ROOT.glob("egs/*/results*.json"))


def judges_claims(path: Path) -> bool:
    """Return whether the claims of papers are judged by a file of results."""
    return not any(path.match(pattern) for pattern in NO_PROOFS)


def results_page(path: Path) -> Path:
    """Return the page of a file of results: results_todm.json belongs to RESULTS_todm.md."""
    return path.with_name(f"{path.stem.replace('results', 'RESULTS')}.md")


def write_or_check(page: Path, text: str, script: str) -> None:
    """Write a page; with ``--check`` among the arguments, exit with status 1 and a message if it is out of date.

    Args:
        page: the page.
        text: what it should hold.
        script: name of the script that writes it.
    """
    if "--check" not in sys.argv[1:]:
        page.write_text(text, encoding="utf-8")
    elif page.read_text(encoding="utf-8") != text:
        sys.exit(f"{page.relative_to(ROOT)}: run tools/{script}")
