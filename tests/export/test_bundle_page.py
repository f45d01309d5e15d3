"""The page about bundles names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_about_other_exporters_has_tests() -> None:
    page = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    section = page.partition("## What users of other exporters met\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 15
    for row in rows:
        named = re.findall(r"`([a-z_0-9/]+\.py)`", row.split(" | ")[-1])
        assert named and all((ROOT / "tests" / name).is_file() for name in named), row
