"""The README's figures are those of the results they claim to show."""

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


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
