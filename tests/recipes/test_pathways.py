"""Paper 5: its presets, at a small scale and at the paper's, and the scripts that train them all."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimasr.config.load import load_config
from slimasr.config.schema import Config
from slimasr.methods import resolve_config
from slimasr.models.pathways import prunable_matrices
from tests.recipes.conftest import EGS
from tests.recipes.test_compare import calls, reported, scripts, trained
from tests.recipes.test_configs import built

SMALL, PAPER = "multilingual", "mls"
MASKS = "method.masks_from"
DIFFERENCES = [
    ("imp", "unpruned", {"method.levels"}),
    ("lth", "imp", {"method.rewind"}),
    ("imp_adaptive", "imp", {"method.masks"}),
    ("lth_adaptive", "lth", {"method.masks"}),
    ("pathways_imp70", "pathways_lth70", {MASKS}),
    ("dynamic_lth50", "pathways_lth70", {"method.masks", MASKS}),
    ("pathways_two_lap70", "pathways_two_lth70", {MASKS}),
    ("dynamic_two_lth70", "pathways_two_lth70", {"method.masks"}),
    ("dynamic_two_lth20", "dynamic_two_lth50", {MASKS}),
    ("dynamic_two_lap70", "dynamic_two_lap50", {MASKS}),
    ("dynamic_two_lap20", "dynamic_two_lth50", {MASKS}),
    ("dynamic_two_n50", "dynamic_two_lth50", {"method.adapt_interval"}),
    ("dynamic_two_n500", "dynamic_two_lth50", {"method.adapt_interval"}),
    ("dynamic_two_no_residual", "dynamic_two_lth50", {"method.residual"}),
    ("dynamic_two_no_zeroing", "dynamic_two_lth50", {"method.zeroing"}),
    ("dynamic_two_keep_moments", "dynamic_two_lth50", {"method.keep_moments"}),
]
"""Preset, the one from which it departs, and the keys in which the two differ."""

PAPERS_OWN = {
    "imp": {"method.group_lasso", "method.adapt_until"},
    "pathways_imp70": {"training.num_epochs"},
    "dynamic_lth50": {"data.language_sampling", "data.language_sampling.power"},
}
"""What differs besides at the paper's scale: longer training with masks of IMP, uniform languages in table 3."""


def preset(corpus: str, name: str) -> Config:
    return load_config(EGS / corpus / "conf" / f"{name}.yaml")


def flat(tree: object, prefix: str = "") -> dict[str, object]:
    """Key -> value; the experiments of masks are one value."""
    if not isinstance(tree, dict) or prefix == f"{MASKS}.":
        return {prefix.removesuffix("."): tree}
    return {name: value for key in tree for name, value in flat(tree[key], f"{prefix}{key}.").items()}


@pytest.mark.parametrize("corpus", [SMALL, PAPER])
@pytest.mark.parametrize(("name", "other", "changed"), DIFFERENCES, ids=[name for name, _, _ in DIFFERENCES])
def test_a_preset_differs_from_another_one_only_in_what_it_is_about(
    corpus: str, name: str, other: str, changed: set[str]
) -> None:
    a, b = (flat(preset(corpus, n).model_dump(mode="json")) for n in (name, other))
    found = {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
    assert found == {"name", *changed, *(PAPERS_OWN.get(name, set()) if corpus == PAPER else set())}


def sources(config: Config) -> Iterator[tuple[str, str, float]]:
    """Language, experiment and level of the masks with which a model starts."""
    given = getattr(config.method, "masks_from", None)
    languages = getattr(config.space, "languages", [])
    for language in languages if given else []:
        experiment, _, level = (given if isinstance(given, str) else given[language]).partition("@")
        yield language, experiment, float(level)


@pytest.mark.parametrize(
    ("script", "last"), [("compare_pathways.sh", "9"), ("compare_spoken_digits.sh", "2")], ids=["digits", "recorded"]
)
def test_every_model_starts_from_what_another_run_has_made(tmp_path: Path, script: str, last: str) -> None:
    found = trained(calls(scripts(tmp_path, SMALL), script, "--last-wave", last), SMALL)
    for config in found.values():
        languages = getattr(config.space, "languages", [])
        if languages not in ([], ["all"]):
            assert config.data.train == [f"train-{language}" for language in languages]
        if languages:
            start = found[str(config.training.init.from_)]
            assert {*config.data.train} <= {*start.data.train} and start.training.init is None
        for language, experiment, level in sources(config):
            finder = found[experiment]
            assert finder.space.languages in ([language], ["all"]) and level in finder.method.levels


STEP = """#!/bin/bash
while [ $# -gt 0 ]; do
  case $1 in
    --exp) exp=$2 ;;
    --config) exp=${exp:-exp/$(basename "$2" .yaml)} ;;
    --stop-stage) [ "$2" -gt 3 ] || exit 0 ;;
  esac
  shift
done
exp=${exp:-exp/spoken_digits}
echo "begin $exp"; sleep 0.05; echo "end $exp"
"""


@pytest.mark.parametrize(
    ("script", "last"), [("compare_pathways.sh", "9"), ("compare_spoken_digits.sh", "2")], ids=["digits", "recorded"]
)
def test_no_run_begins_before_those_that_it_needs_have_ended(tmp_path: Path, script: str, last: str) -> None:
    folder = scripts(tmp_path, SMALL)
    found = trained(calls(folder, script, "--last-wave", last), SMALL)
    (folder / "run.sh").write_text(STEP)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [folder / script, "--jobs", "8", "--last-wave", last]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for experiment, config in found.items():
        needed = {source for _, source, _ in sources(config)}
        if config.training.init is not None:
            needed.add(str(config.training.init.from_))
        begin = lines.index(f"begin {experiment}")
        assert all(lines.index(f"end {source}") < begin for source in needed), experiment


def test_waves_are_all_presets_of_the_digit_strings(tmp_path: Path) -> None:
    made = calls(scripts(tmp_path, SMALL), "compare_pathways.sh", "--last-wave", "9")
    found, experiments = trained(made, SMALL), reported(made)
    assert found.keys() == {*experiments} and len(experiments) == len(set(experiments))
    alone = ["dense_small", "unpruned", "imp", "imp_adaptive", "lth", "lth_adaptive"]
    several = {
        path.stem
        for path in (EGS / SMALL / "conf").glob("*.yaml")
        if not re.match("base|spoken_digits|prompts|(dynamic_two_)?streaming", path.stem) and path.stem not in alone
    }
    languages = ["en", "fr", "it", "nl"]
    assert {*experiments} == {f"exp/{name}" for name in several} | {
        f"exp/{name}_{language}" for name in alone for language in languages
    }
    assert all(config.training.num_threads == 1 for config in found.values())
    assert len({(config.training.num_epochs, config.training.average_start) for config in found.values()}) == 1
    assert {config.decoding.kind for config in found.values()} == {"greedy"}


def test_the_report_after_the_first_wave_has_the_dense_models(tmp_path: Path) -> None:
    made = calls(scripts(tmp_path, SMALL), "compare_pathways.sh", "--last-wave", "1")
    assert reported(made) == ["exp/dense", *(f"exp/unpruned_{language}" for language in ("en", "fr", "nl", "it"))]
    assert {"--json", "--results-md", "--claims"} <= {*made[-1]}


@pytest.mark.parametrize("corpus", [SMALL, PAPER])
def test_presets_of_a_data_folder_share_units_and_statistics(corpus: str) -> None:
    """Whatever a model is trained on."""
    kinds: dict[str, set[str]] = {}
    for path in (EGS / corpus / "conf").glob("*.yaml"):
        config = load_config(path)
        made_from = (config.data.corpus, config.data.options, config.tokenizer, config.features)
        kinds.setdefault(re.match("spoken_digits|prompts|", path.stem)[0], set()).add(str(made_from))
        assert {*config.data.train} <= {*config.tokenizer.sets} == {*config.features.sets}
    assert all(len(found) == 1 for found in kinds.values())


@pytest.mark.parametrize(
    ("corpus", "millions", "prunable", "tolerance"),
    [(PAPER, 187.36, 182.98, 0.005), (SMALL, 0.503, 0.426, 0.001)],
)
def test_dense_models_have_the_papers_size_and_half_a_million(
    corpus: str, millions: float, prunable: float, tolerance: float
) -> None:
    config, _ = resolve_config(preset(corpus, "dense"))
    model = built(config)
    assert sum(weight.numel() for weight in prunable_matrices(model).values()) / 1e6 == pytest.approx(
        prunable, abs=tolerance
    )
    assert (model.count(None).params) / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(("corpus", "share"), [(PAPER, 0.3), (SMALL, 0.41)])
def test_small_dense_models_are_as_large_as_what_is_left(corpus: str, share: float) -> None:
    """At a sparsity of 70 %: the paper's 56 of 187 M, or all that is stored of a pathway."""
    whole, small = (built(resolve_config(preset(corpus, n))[0]).count(None).params for n in ("dense", "dense_small"))
    assert small / whole == pytest.approx(share, abs=0.005)
