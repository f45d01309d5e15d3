"""Imports point one way, as CONTRIBUTING.md's map says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "slimasr"
BASIC = {"config", "errors", "files", "locking", "progress", "textfiles"}
MODELS = BASIC | {"elastic", "encoders", "supernet"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "progress": set(),
    "textfiles": {"errors"},
    "locking": {"errors"},
    "config": BASIC,
    "losses": {"errors"},
    "results": {"errors", "files", "locking", "supernet"},
    "scoring": {"errors", "files", "locking", "results", "supernet", "textfiles"},
    "data": BASIC,
    "supernet": BASIC,
    "elastic": {"supernet"},
    "encoders": BASIC | {"elastic", "supernet"},
    "models": MODELS,
    "objective": BASIC | {"data", "encoders", "losses", "models", "supernet"},
    "methods": BASIC | {"data", "elastic", "encoders", "models", "objective", "supernet"},
    "experiment": BASIC | {"data", "models", "results", "supernet"},
    "decoding": MODELS | {"data", "experiment", "losses", "models", "results", "scoring"},
    "energy": {"errors", "results"},
    "training": MODELS
    | {"data", "decoding", "energy", "experiment", "methods", "models", "objective", "results", "scoring"},
    "measure": MODELS | {"data", "decoding", "experiment", "models", "objective", "results", "scoring"},
    "export": MODELS | {"data", "decoding", "experiment", "models", "results", "scoring"},
    "search": MODELS
    | {"data", "decoding", "energy", "experiment", "export", "measure", "models", "results", "scoring"},
    "report": BASIC | {"data", "energy", "experiment", "measure", "results", "scoring", "supernet"},
    "claims": {"config", "report", "results", "supernet"},
    "recognizer": {"decoding", "experiment", "export", "supernet"},
    "__init__": {"experiment", "recognizer"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def code_of(text: str) -> str:
    """A module without its docstrings and comments."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not is_docstring(part)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]


def test_the_map_names_every_room() -> None:
    found = {path.stem for path in PACKAGE.glob("*.py")} | {
        p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()
    }
    assert found == ALLOWED.keys() | {"cli"}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for path in files_of(room):
        targets = {name.split(".")[1] for name in imports(path) if name.startswith("slimasr.")}
        assert targets - {room} <= ALLOWED[room], path


def test_methods_know_no_encoder_and_encoders_no_method() -> None:
    used = {name for path in files_of("methods") for name in imports(path) if name.startswith("slimasr.encoders")}
    assert used == {"slimasr.encoders.base"}


def test_a_report_knows_no_method_and_no_paper() -> None:
    """What holds for every method is in report, what a paper says of its own is in claims."""
    names = ("slimmable", "todm", "TODM", "collaborative", "mask_learning", "OrthoSoftmax", "ASR Pathways", "LTH")
    for path in files_of("report"):
        text = path.read_text(encoding="utf-8")
        assert not {word for word in names if word in code_of(text)}, path


def test_papers_know_nothing_of_each_other() -> None:
    papers = ("slimmable", "todm", "collaborative", "orthosoftmax", "pathways")
    for paper in papers:
        for path in [*PACKAGE.glob(f"claims/{paper}.py"), *PACKAGE.glob(f"claims/{paper}/*.py")]:
            others = [f"slimasr.claims.{other}" for other in papers if other != paper]
            assert not [name for name in imports(path) if name.startswith(tuple(others))], path


def test_scoring_and_results_run_without_torch() -> None:
    heavy = {"torch", "lhotse", "k2"}
    for room in ("scoring", "results", "config", "supernet"):
        for path in files_of(room):
            assert not heavy & {name.split(".")[0] for name in imports(path)}, path
