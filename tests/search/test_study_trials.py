"""The trials that show a study in optuna's tools: one for each evaluation; and studies that had trials alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError

from slimasr.errors import UserError
from slimasr.search.database import Database
from slimasr.search.generator import Proposal
from slimasr.search.history import Candidate
from slimasr.search.nsga2 import distributions
from slimasr.search.study import Study
from slimasr.supernet.front import Limits
from tests.search.kit import SPACE, count, search_alone
from tests.search.test_generators import CONFIGS, generator
from tests.search.test_study import FOUND, forge_owner, measure, open_study, server, trials_of, url

__all__ = ["server", "url"]
EARLIER = json.loads(Path(__file__).with_name("earlier_studies.json").read_text())
"""From the version before there were claims. ``found``: one worker's searches, in order. ``studies``: the first trials
of two of them, the last of which was cut short by a kill."""


class Killed(BaseException):
    """Stands for a kill."""


def summary(candidate: Candidate) -> list[Any]:
    return [candidate.subnet.id, candidate.state, candidate.errors, candidate.generation]


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_worker_searches_as_it_did_before_there_were_claims(tmp_path: Path, kind: str) -> None:
    study = open_study(f"sqlite:///{tmp_path}/study.db")
    search_alone(study, generator(kind))
    assert [summary(candidate) for candidate in study.history().finished] == EARLIER["found"][kind]


def make_earlier(url: str, kind: str) -> optuna.Study:
    """A study as the earlier version left it."""
    storage = Database(url, patience=60.0, heartbeat_seconds=1).storage
    made = optuna.create_study(storage=storage, study_name="made-up", directions=["minimize", "minimize"])
    for name, value in EARLIER["studies"][kind]["user_attrs"].items():
        made.set_user_attr(name, value)
    for data in EARLIER["studies"][kind]["trials"]:
        trial = create_trial(
            state=TrialState[data["state"]],
            values=data["values"],
            params=data["params"],
            distributions={name: distributions(SPACE)[name] for name in data["params"]},
            user_attrs=data["user_attrs"],
            system_attrs=data["system_attrs"],
        )
        trial.datetime_start = datetime.fromisoformat(data["start"])
        trial.datetime_complete = datetime.fromisoformat(data["complete"]) if data["complete"] else None
        made.add_trial(trial)
    return made


def open_earlier(url: str, limits: Limits | None = None, **changed: object) -> Study:
    identity = {"space": {"depth": [4, 3, 2]}, "dev set": "dev", "cost": "params", **changed}
    return open_study(url, "made-up", limits=limits, **identity)


@pytest.mark.parametrize("kind", ["evolution", "nsga2"])
def test_an_earlier_study_is_resumed(url: str, kind: str) -> None:
    made, found = make_earlier(url, kind), EARLIER["found"][kind]
    before = [trial for trial in made.get_trials() if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    study = open_earlier(url)
    candidates = study.history().finished
    assert [candidate.subnet.to_json() for candidate in candidates] == [trial.user_attrs["subnet"] for trial in before]
    for candidate, trial in zip(candidates, before, strict=True):
        attributes = trial.user_attrs
        state = "measured" if trial.state == TrialState.COMPLETE else "stopped"
        assert (candidate.state, candidate.costs) == (state, attributes["costs"])
        assert (candidate.generation, candidate.marks) == (attributes["generation"], trial.system_attrs)
        assert (candidate.errors, candidate.words) == (attributes["found"]["errors"], attributes["found"]["words"])
        assert candidate.dev_loss == attributes["found"]["dev_loss"]
    assert study.seconds() == 2.0 * len(candidates)
    assert not study.history().select("running")
    search_alone(study, generator(kind))
    assert len(study.history()) == len(found)
    if kind == "evolution":
        assert {c.subnet.id: c.generation for c in study.history().finished} == {name: g for name, _, _, g in found}
    after = made.get_trials()
    assert {trial.state for trial in after} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    assert [trial for trial in after if trial in before] == before
    assert len([trial for trial in after if "claim" in trial.user_attrs]) == len(found) - len(before)
    assert [c.subnet for c in open_earlier(url).history().finished] == [c.subnet for c in study.history().finished]


def test_an_earlier_study_of_something_else_is_refused(url: str) -> None:
    make_earlier(url, "evolution")
    with pytest.raises(UserError, match=r"another cost \(params there, macs here\)"):
        open_earlier(url, cost="macs")
    assert open_earlier(url, **{"content of the dev set": "abc"}).notes == [
        "study made-up does not record the content of the dev set; that it is the same is not verified"
    ]


def test_tighter_limits_ask_again_for_what_an_earlier_study_stopped(url: str) -> None:
    """It had a limit of 1000 parameters."""
    made = make_earlier(url, "evolution")
    stopped = [trial for trial in made.get_trials() if trial.state == TrialState.PRUNED]
    found = {"errors": 1, "words": 100, "dev_loss": 0.5, "seconds": 1.0}
    again = create_trial(
        values=[1.0, 1.0],
        params=stopped[0].params,
        distributions=stopped[0].distributions,
        user_attrs={**stopped[0].user_attrs, "found": found},
    )
    made.add_trial(again)
    history = open_earlier(url, Limits(params=900)).history()
    assert [c.subnet.to_json() for c in history.finished if c.errors == 1] == [stopped[0].user_attrs["subnet"]]
    assert not history.select("stopped")
    assert len(open_earlier(url, Limits(params=1000)).history().select("stopped")) == len(stopped) - 1


@pytest.mark.parametrize("added", [False, True])
def test_a_kill_at_the_end_of_an_evaluation_leaves_one_trial_or_none(
    url: str, monkeypatch: pytest.MonkeyPatch, added: bool
) -> None:
    study, subnet = open_study(url), SPACE.max
    forge_owner(study, "elsewhere|1|1")
    claim = study.claim(Proposal(subnet), count(subnet))
    assert claim is not None
    add = study._study.add_trial

    def die(trial: optuna.trial.FrozenTrial) -> None:
        if added:
            add(trial)
        raise Killed

    monkeypatch.setattr(study._study, "add_trial", die)
    with pytest.raises(Killed):
        study.finish(claim, FOUND)
    later, another = open_study(url), open_study(url)
    assert [c.state for c in later.history().select("measured", "running")] == ["measured" if added else "running"]
    later.reap()
    assert later._claims.rows()  # its worker may still be at it
    monkeypatch.setattr("slimasr.search.database.BEATS_OF_GRACE", -1)
    dead = later._claims.rows()
    another.reap()
    monkeypatch.setattr(later._claims, "rows", lambda: dead)  # as if both had looked at the same time
    later.reap()
    assert not another._claims.rows()
    (trial,) = trials_of(later)
    assert trial.state == (TrialState.COMPLETE if added else TrialState.FAIL)
    assert trial.user_attrs["id"] == subnet.id
    assert another.claim(Proposal(subnet), count(subnet)) is None if added else measure(another, subnet) is None
    assert [c.subnet for c in another.history().measured] == [subnet]
    assert another.seconds() == FOUND.seconds


@pytest.mark.parametrize("broken", ["add", "beat", "remove", "add_trial"])
def test_a_connection_that_breaks_after_a_write_has_written_once(
    url: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    study, subnet = open_study(url), SPACE.max
    owner = study._study if broken == "add_trial" else study._claims
    write = getattr(owner, broken)
    failures = iter([OperationalError("", None, Exception("broken"))])

    def break_once(*arguments: object) -> object:
        result = write(*arguments)
        for failure in failures:
            raise failure
        return result

    monkeypatch.setattr(owner, broken, break_once)
    measure(study, subnet)
    other = open_study(url)
    assert [c.subnet for c in other.history().measured] == [subnet]
    assert other.seconds() == FOUND.seconds
    assert len(trials_of(other)) == 1
    assert not other._claims.rows()


def test_a_worker_that_looked_before_another_one_finished_measures_nothing(url: str) -> None:
    study, other = open_study(url), open_study(url)
    assert SPACE.max not in other.history()
    measure(study, SPACE.max)
    assert other.claim(Proposal(SPACE.max), count(SPACE.max)) is None
    assert not other._claims.rows()


def test_a_subnet_that_is_measured_after_all_has_a_trial_of_either_outcome(url: str) -> None:
    subnet = SPACE.max
    measure(open_study(url), subnet, replace(FOUND, stopped=True, dev_loss=None))
    tighter = open_study(url, limits=Limits(params=4e6))
    claim = tighter.claim(Proposal(subnet), count(subnet))
    assert claim is not None
    # While it is measured again, and if that comes to nothing, it is what it was for those with looser limits.
    assert [c.state for c in open_study(url).history().finished] == ["stopped"]
    tighter.give_back(claim)
    assert [c.state for c in open_study(url).history().finished] == ["stopped"]
    measure(tighter, subnet)
    assert [trial.state for trial in trials_of(tighter)] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert tighter.seconds() == 2 * FOUND.seconds


def test_candidates_are_in_the_order_of_their_claims(url: str) -> None:
    study = open_study(url)
    subnets = list(SPACE)[:5]
    claims = [study.claim(Proposal(subnet), count(subnet)) for subnet in subnets]
    for index in (3, 0, 4):
        claim = claims[index]
        assert claim is not None and study.finish(claim, FOUND)
    assert [c.subnet for c in study.history().select("measured", "running")] == subnets
    assert [c.subnet for c in open_study(url).history().finished] == [subnets[0], subnets[3], subnets[4]]
