"""Figures of the README and verdicts on the papers' claims are those of the results they claim to show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_fronts_are_those_of_the_results() -> None:
    script = ROOT / "tools" / "readme_front.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((ROOT / "egs/an4/results.json").read_text())
    wers = [s["wer"]["test"]["wer"] for s in results["experiments"]["slimmable"]["subnets"].values()]
    readme = (ROOT / "README.md").read_text()
    assert len(wers) == 4
    assert all(f"{wer:.2f} [" in readme for wer in wers)
    todm = json.loads((ROOT / "egs/an4/results_todm.json").read_text())["experiments"]["todm"]["subnets"]
    ends = [by(todm.values(), key=lambda s: s["costs"]["params"]) for by in (min, max)]
    assert all(f"{end['wer']['test']['wer']:.2f} [" in readme for end in ends)


def test_verdicts_on_claims_are_those_of_the_results() -> None:
    script = ROOT / "tools" / "verdicts.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in (ROOT / "docs/papers.md").read_text().splitlines() if line.startswith("| C")]
    verdicts = {row[0].removeprefix("| "): row[1:] for row in rows if len(row) == 4}
    columns = {"held": 0, "not held": 1, "not resolved": 2}
    # Each results page says the same of its own claims.
    compared = 0
    for page in ROOT.glob("egs/*/RESULTS*.md"):
        for claim, verdict in re.findall(r"^\| (C\d\.\d+) \| .* \| ([a-z ]+) \|$", page.read_text(), re.MULTILINE):
            place = f"(../egs/{page.parent.name}/{page.name})"
            found = [name for name, column in columns.items() if place in verdicts[claim][column]]
            assert found == ([] if verdict == "not tested" else [verdict]), (page, claim)
            compared += 1
    assert compared > 40


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
