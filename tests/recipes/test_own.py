"""Own speech through all nine stages, on a table of a few seconds of noise with words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slimasr.data.files import read_cuts
from tests.recipes.conftest import EGS, TINY_MODEL, command

WORDS = ("Uno,", "due", "TRE", "l'acqua", "perché?")
SPEAKERS = 12


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three utterances of each of twelve speakers, at 8 kHz, in a folder with a space in its name."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "my speech"
    folder.mkdir()
    rows = ["path\tsentence\tclient_id\tlocale"]
    for number in range(3 * SPEAKERS):
        seconds = rng.uniform(0.6, 1.0)
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(int(8000 * seconds)), 8000)
        text = " ".join(rng.choice(WORDS, size=2))
        rows.append(f"{number}.wav\t{text}.\tspeaker{number % SPEAKERS}\tit")
    (folder / "all.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "all.tsv"


def test_every_stage_from_a_table_to_the_report(table: Path, tmp_path: Path) -> None:
    data, exp = tmp_path / "data", tmp_path / "exp"
    keys = (f'--set=data.sources={{train: ["{table}"]}}', "--set=data.options.split=0.1,0.2", *TINY_MODEL)
    keys += ("--set=space.widths=[0.25, 1.0]", "--set=data.speeds=[1.0]", "--set=training.num_threads=1")
    recipe = ("--config", EGS / "own" / "conf" / "small.yaml", "--data", data, *keys)
    command("prepare", *recipe, "--only-corpus")
    command("prepare", *recipe)

    facts = json.loads((data / "manifests" / "split.json").read_text())
    assert facts["by"] == "speaker"
    cuts = {name: list(read_cuts(data / "manifests" / f"cuts_{name}.jsonl.gz", "")) for name in facts["sizes"]}
    assert {name: len(found) for name, found in cuts.items()} == {
        name: size["utterances"] for name, size in facts["sizes"].items()
    }
    voices = [{cut.supervisions[0].speaker for cut in found} for found in cuts.values()]
    assert sum(map(len, voices)) == len(set.union(*voices)) == SPEAKERS
    spoken = [cut.supervisions[0] for found in cuts.values() for cut in found]
    assert {word for item in spoken for word in item.text.split()} == {"uno", "due", "tre", "l'acqua", "perché"}
    assert {item.language for item in spoken} == {"it"}
    record = json.loads((data / "manifests" / "identity_train.json").read_text())
    assert record["text"]["punctuation"]["."] == record["utterances"] == len(cuts["train"])

    command("features", *recipe, "--num-jobs", 1)
    command("bpe", *recipe)
    # The preset asks for 128, for which the text is too small.
    tokens = (data / "lang_bpe_128" / "tokens.txt").read_text().splitlines()
    letters = {letter for cut in cuts["train"] for letter in cut.supervisions[0].text}
    assert 3 + len(letters) < len(tokens) < 128
    command("train", *recipe, "--exp", exp)
    command("search", exp, "--data", data)
    command("decode", exp, "--data", data, "--subnet", "all")
    command("score", exp)
    results = json.loads((exp / "results.json").read_text())
    assert sorted(results["subnets"]) == ["w0.25", "w1"]
    for entry in results["subnets"].values():
        assert entry["wer"]["test"]["words"] == 2 * len(cuts["test"])
    command("report", exp, "--out", exp / "report.html")
    assert "plotly" in (exp / "report.html").read_text()
