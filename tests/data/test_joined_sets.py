"""Sets joined with ``+``: any corpus, any place where a set is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.data.corpora import CORPORA
from slimasr.data.files import DataFolder, check_sets, read_cuts
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import config, quiet, run_stages

STAGE = "stage 2 (slimasr-features)"


def test_joined_sets_go_through_the_stages(an4: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    run_stages(config(train=["train"], dev="dev+test", test=["test", "dev"]), data_dir, an4)
    folder = DataFolder(data_dir)
    ids = {name: [cut.id for cut in read_cuts(folder.cuts(name), STAGE)] for name in ("dev+test", "dev", "test")}
    assert ids["dev"] and ids["test"]
    assert ids["dev+test"] == ids["dev"] + ids["test"]
    check_sets(["dev+test"], folder.cuts, STAGE)
    message = (
        r"--set-name test\+dev: .* is missing: add it to data\.test and run stage 2 .* or name one of dev, dev\+test"
    )
    with pytest.raises(UserError, match=message):
        check_sets(["test+dev"], folder.cuts, STAGE)


def test_parts_of_a_joined_set_are_compared_with_training_sets(an4: Path, tmp_path: Path) -> None:
    recipe = config(train=["train+dev"], dev="dev+test", test=[])
    with pytest.raises(UserError, match=r"training set train\+dev and set dev\+test share 4 utterances"):
        prepare(recipe.data, tmp_path / "data", an4, False, quiet)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dev+eval", "corpus an4 has no set 'eval'"),
        ("dev+", r"'dev\+': the name of a set is missing"),
        ("+dev", r"'\+dev': the name of a set is missing"),
        ("dev+test+dev", r"'dev\+test\+dev' joins the set dev with itself"),
    ],
)
def test_names_that_join_nothing(an4: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CORPORA["an4"].list_utterances(an4, (name,), {})
