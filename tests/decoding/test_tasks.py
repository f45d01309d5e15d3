"""Which pathway is run on which set."""

from __future__ import annotations

import pytest

from slimasr.decoding.tasks import Task, tasks_of
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet

FR = Subnet(pathway="fr")
NL = Subnet(pathway="nl")
SETS = {"test-fr": {"a": "fr"}, "test-nl": {"b": "nl"}, "dev": {"c": "fr", "d": "nl"}}


def test_the_recipes_sets_in_other_languages_are_left_out() -> None:
    expected = [Task(FR, "test-fr", "fr"), Task(FR, "dev", "fr")]
    assert tasks_of([FR], SETS, sets_named=False) == expected
    assert expected[1].spoken(SETS) == {"c": "fr"}


def test_pathways_that_serve_no_named_set_are_left_out() -> None:
    named = {"test-nl": SETS["test-nl"]}
    assert tasks_of([FR, NL], named, subnets_named=False) == [Task(NL, "test-nl", "nl")]
    with pytest.raises(UserError, match="test-nl: its language, nl, is not that of fr"):
        tasks_of([FR], SETS, subnets_named=False)
    with pytest.raises(UserError, match="fr: test-nl have no utterance in the language fr"):
        tasks_of([FR], named, subnets_named=False)


def test_a_pathway_and_sets_that_are_named_meet_whatever_the_language() -> None:
    tasks = tasks_of([FR, Subnet()], SETS)
    assert tasks == [Task(subnet, name) for subnet in (FR, Subnet()) for name in SETS]
    assert tasks[2].spoken(SETS) == {"c": "fr", "d": "nl"}
