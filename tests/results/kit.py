"""Result files as plain data, read by json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results_json(exp: Path) -> dict[str, Any]:
    """results.json of an experiment."""
    content: dict[str, Any] = json.loads((exp / "results.json").read_text(encoding="utf-8"))
    return content


def scored(errors: int = 1, words: int = 10) -> dict[str, Any]:
    """The entry of a set in results.json."""
    counts = {"errors": errors, "words": words, "ins": 0, "del": errors, "sub": 0, "sentences": words}
    return {"wer": 100.0 * errors / words, "ser": 100.0 * errors / words, "ci95": None, **counts}
