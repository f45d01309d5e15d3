"""Studies that many processes share: no subnet is measured twice, and no death stops the search."""

from __future__ import annotations

import ast
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import OperationalError

from slimasr.errors import UserError
from slimasr.locking.liveness import has_ended, process_identity
from slimasr.search.claims import CLAIMS
from slimasr.search.database import Database, default_url
from slimasr.search.generator import Proposal
from slimasr.search.nsga2 import distributions
from slimasr.search.study import MOST_DEATHS, Outcome, Study
from slimasr.supernet.front import Limits
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet
from tests.search.claim_worker import RACED
from tests.search.kit import SPACE, count
from tests.search.postgres import Server, running_server

ROOT = Path(__file__).parents[2]
FOUND = Outcome(errors=7, words=100, dev_loss=0.5, stopped=False, seconds=60.0)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL that runs."""
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return default_url(tmp_path)
    server: Server = request.getfixturevalue("server")
    import psycopg

    name = f"test{abs(hash(tmp_path))}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.replace("/postgres", f"/{name}")


def open_study(
    url: str, name: str = "study", patience: float = 60.0, limits: Limits | None = None, **identity: object
) -> Study:
    database = Database(url, patience=patience, heartbeat_seconds=1)
    return Study(database, name, SPACE, identity, "params", limits or Limits())


def measure(study: Study, subnet: Subnet, found: Outcome = FOUND) -> None:
    claim = study.claim(Proposal(subnet), count(subnet))
    assert claim is not None and study.finish(claim, found)


def start_workers(url: str, log: Path, seeds: range, deaths: float = 0.0) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.search.claim_worker", url, str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [subprocess.Popen([*command, str(n), str(deaths)], cwd=ROOT, env=environment) for n in seeds]


def test_racing_processes_measure_every_subnet_once(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers = start_workers(url, log, range(4))
    assert [worker.wait(timeout=240) for worker in workers] == [0] * 4
    lines = [line.split() for line in log.read_text().splitlines()]
    assert Counter(name for name, _ in lines) == Counter(subnet.id for subnet in RACED)
    assert len({pid for _, pid in lines}) > 1
    study = open_study(url, "race")
    assert {c.subnet for c in study.history().measured} == set(RACED)
    assert Counter(trial.user_attrs["id"] for trial in trials_of(study)) == Counter(subnet.id for subnet in RACED)


def test_killed_workers_stop_nothing(url: str, tmp_path: Path) -> None:
    """Workers die over every seventh subnet or so and are replaced until all is measured; again once each.

    They die at work, or when what they found is recorded and their claim still there.
    """
    log = tmp_path / "log"
    workers, deaths, deadline = start_workers(url, log, range(3), 0.15), 0, time.monotonic() + 400
    while workers:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        for worker in [w for w in workers if w.poll() is not None]:
            workers.remove(worker)
            if worker.returncode:
                deaths += 1
                # After a while of dying, one that lives ends the matter.
                workers += start_workers(url, log, range(10 + deaths, 11 + deaths), 0.15 if deaths < 4 else 0.0)
    assert deaths > 0
    expected = Counter(subnet.id for subnet in RACED)
    assert Counter(line.split()[0] for line in log.read_text().splitlines()) == expected
    study = open_study(url, "race")
    study.reap()
    assert not study._claims.rows()
    recorded = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    assert Counter(trial.user_attrs["id"] for trial in recorded) == expected


def test_tighter_limits_ask_again_for_what_was_given_up(url: str) -> None:
    """Those that beat it may be above them; under looser ones they are still there."""
    first, second, third = list(SPACE)[:3]
    given_up = replace(FOUND, stopped=True, dev_loss=None)
    study = open_study(url, limits=Limits(params=5e6))
    measure(study, first)
    measure(study, second, given_up)
    for limits in (Limits(), Limits(params=5e6), Limits(params=6e6)):
        known = open_study(url, limits=limits)
        assert second in known.history() and known.claim(Proposal(second), count(second)) is None
    for limits in (Limits(params=4e6), Limits(params=5e6, macs=1e9)):
        tighter = open_study(url, limits=limits)
        assert first in tighter.history()
        assert second not in tighter.history() and third not in tighter.history()
    measure(tighter, second)
    assert [c.subnet for c in tighter.history().measured] == [first, second]
    assert tighter.claim(Proposal(second), count(second)) is None
    # Found in full, it counts whatever the limits.
    assert [c.subnet for c in study.history().measured] == [first, second]


def test_what_was_found_comes_back(url: str) -> None:
    study, (first, second, third) = open_study(url), list(SPACE)[:3]
    measure(study, first)
    measure(study, second, Outcome(9, 100, None, True, 1.0, {"rtf": 0.25}))
    claim = study.claim(Proposal(third, 4, {"mark": [1, 2]}), count(third))
    history = open_study(url).history()
    assert [c.state for c in map(history.get, (first, second, third)) if c] == ["measured", "stopped", "running"]
    (measured,), (stopped,), (running,) = history.measured, history.select("stopped"), history.select("running")
    assert (measured.wer, measured.dev_loss, measured.costs) == (7.0, 0.5, count(first))
    assert (stopped.wer, stopped.dev_loss, stopped.costs["rtf"]) == (9.0, None, 0.25)
    assert (running.generation, running.marks) == (4, {"mark": [1, 2]})
    assert study.seconds() == 61.0
    assert claim is not None and claim.candidate == running


def test_evaluations_at_the_same_time_count_once(url: str) -> None:
    """Minutes of six evaluations: 0-2 and 1-4 overlap, 2-3 is within, 6-7 stands alone, one failed, one goes on."""
    study, noon = open_study(url), datetime(2024, 5, 1, 12)
    ran = [(0, 2, "COMPLETE"), (1, 4, "PRUNED"), (2, 3, "COMPLETE"), (6, 7, "COMPLETE"), (4, 6, "FAIL")]
    shown = optuna.load_study(study_name="study", storage=study.database.storage)
    for subnet, (start, end, state) in zip(SPACE, ran, strict=False):
        trial = create_trial(
            state=TrialState[state],
            values=[1.0, 1.0] if state == "COMPLETE" else None,
            params=SPACE.genes_of(subnet),
            distributions={name: distributions(SPACE)[name] for name in SPACE.genes_of(subnet)},
            user_attrs={"errors": 1, "words": 100},
        )
        trial.datetime_start = noon + timedelta(minutes=start)
        trial.datetime_complete = noon + timedelta(minutes=end)
        shown.add_trial(trial)
    assert study.claim(Proposal(SPACE.min), count(SPACE.min))
    assert study.busy_seconds() == pytest.approx(60.0 * (4 + 1))


def trials_of(study: Study) -> list[FrozenTrial]:
    """What optuna's own tools read."""
    return optuna.load_study(study_name=study.name, storage=study.database.storage).get_trials()


def test_the_study_is_an_ordinary_one_of_optuna(url: str) -> None:
    """What its dashboard and plots read: parameters are genes, values are WER and cost, attributes are plain."""
    study, (first, second) = open_study(url), list(SPACE)[:2]
    measure(study, first, replace(FOUND, costs={"rtf": 0.5}))
    measure(study, second, Outcome(9, 100, None, True, 1.0))
    measured, stopped = trials_of(study)
    assert (measured.state, stopped.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert measured.params == SPACE.genes_of(first) and stopped.params == SPACE.genes_of(second)
    assert measured.values == [7.0, count(first)["params"]] and stopped.values is None
    plain = {"claim": 1, "id": first.id, **count(first), "errors": 7, "words": 100, "seconds": 60.0}
    assert measured.user_attrs == {**plain, "rtf": 0.5, "dev_loss": 0.5}
    plain = {"claim": 2, "id": second.id, **count(second), "errors": 9, "words": 100, "seconds": 1.0}
    assert stopped.user_attrs == {**plain, "wer_at_least": 9.0}
    shown = optuna.load_study(study_name="study", storage=study.database.storage)
    assert shown.metric_names == ["dev WER %", "params"]
    assert [trial.number for trial in shown.best_trials] == [0]
    table = shown.trials_dataframe()
    assert table["values_dev WER %"][0] == 7.0
    assert list(table["user_attrs_id"]) == [first.id, second.id]
    pytest.importorskip("plotly")
    figure = optuna.visualization.plot_pareto_front(shown)
    assert figure.layout.xaxis.title.text == "dev WER %"


def test_the_search_uses_no_private_names_of_others() -> None:
    for path in (ROOT / "slimasr" / "search").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                assert isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"), (path, node.lineno)
            if isinstance(node, ast.ImportFrom):
                assert "._" not in str(node.module), (path, node.lineno)


def test_a_claimed_subnet_cannot_be_claimed(url: str) -> None:
    study, other, subnet = open_study(url), open_study(url), SPACE.max
    claim = study.claim(Proposal(subnet), count(subnet))
    assert claim is not None
    assert other.claim(Proposal(subnet), count(subnet)) is None
    study.give_back(claim)
    assert subnet not in other.history()
    measure(other, subnet)
    assert study.claim(Proposal(subnet), count(subnet)) is None
    assert not study.finish(claim, FOUND)


def forge_owner(study: Study, identity: str) -> None:
    """Claims made from here on look like those of another process."""
    study._owner = identity


def test_claims_of_ended_processes_are_free_at_once(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from slimasr.locking.liveness import process_identity as p; print(p())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.strip()
    assert has_ended(ended) and not has_ended(process_identity())
    study = open_study(url)
    forge_owner(study, ended)
    assert study.claim(Proposal(SPACE.max), count(SPACE.max))
    study.reap()
    assert SPACE.max not in study.history()


def test_claims_of_other_machines_are_free_when_their_heart_stops(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.search.database.BEATS_OF_GRACE", 3)
    study, watcher = open_study(url), open_study(url)
    forge_owner(study, "elsewhere|1|1")
    claim = study.claim(Proposal(SPACE.max), count(SPACE.max))
    # As if killed before the first heartbeat.
    silent = study.claim(Proposal(SPACE.min), count(SPACE.min))
    assert claim is not None and silent is not None
    with study.alive(claim):
        start = time.monotonic()
        while SPACE.min in watcher.history():
            assert time.monotonic() < start + 60
            watcher.reap()
            time.sleep(0.2)
        assert time.monotonic() > start + 2
        assert SPACE.max in watcher.history()
    while SPACE.max in watcher.history():
        assert time.monotonic() < start + 120
        watcher.reap()
        time.sleep(0.2)
    # What the slow worker brings now is too late.
    assert not study.finish(claim, FOUND)


def forget_heartbeats(study: Study) -> None:
    """All heartbeats are a day old, as after an outage or a suspend."""
    yesterday = datetime.now() - timedelta(days=1)
    with study.database.storage.engine.begin() as connection:
        connection.execute(CLAIMS.update().values(heartbeat=yesterday))


def test_a_living_worker_of_this_machine_keeps_its_claim(url: str) -> None:
    study, watcher = open_study(url), open_study(url)
    assert study.claim(Proposal(SPACE.max), count(SPACE.max))
    forge_owner(study, "elsewhere|1|1")
    assert study.claim(Proposal(SPACE.min), count(SPACE.min))
    forget_heartbeats(study)
    watcher.reap()
    assert SPACE.max in watcher.history() and SPACE.min not in watcher.history()


@pytest.mark.parametrize("noticed_by", ["calls", "heartbeat"])
def test_no_heartbeat_is_missed_right_after_an_outage(
    url: str, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    monkeypatch.setattr("slimasr.search.database.BEATS_OF_GRACE", 600)  # however slow the machine
    study, watcher = open_study(url), open_study(url)
    own = watcher.claim(Proposal(SPACE.max), count(SPACE.max))
    forge_owner(study, "elsewhere|1|1")
    assert own and study.claim(Proposal(SPACE.min), count(SPACE.min))
    forget_heartbeats(study)
    failures = iter([OperationalError("", None, Exception("away"))])

    def fail_once(*_: object) -> None:
        for failure in failures:
            raise failure

    start = time.monotonic()
    if noticed_by == "calls":
        watcher.database.patiently(fail_once)
    else:
        with monkeypatch.context() as patch, watcher.alive(own):
            patch.setattr(watcher._claims, "beat", fail_once)
            while watcher.database.settled:
                assert time.monotonic() < start + 60
                time.sleep(0.1)
    watcher.reap()
    assert SPACE.min in watcher.history()
    monkeypatch.setattr("slimasr.search.database.BEATS_OF_GRACE", 1)
    while SPACE.min in watcher.history():
        assert time.monotonic() < start + 60
        watcher.reap()
        time.sleep(0.2)


def test_a_subnet_that_kills_its_workers_ends_the_search(url: str) -> None:
    study = open_study(url)
    forge_owner(study, process_identity().rsplit("|", 1)[0] + "|0")
    for _ in range(MOST_DEATHS):
        study.history()
        assert study.claim(Proposal(SPACE.max), count(SPACE.max))
        study.reap()
    with pytest.raises(UserError, match="3 workers died over subnet w1: is the memory enough"):
        study.history()
    # They may have been killed from outside: a later run tries again, and counts anew.
    later = open_study(url)
    assert SPACE.max not in later.history()
    forge_owner(later, process_identity().rsplit("|", 1)[0] + "|0")
    assert later.claim(Proposal(SPACE.max), count(SPACE.max))
    later.reap()
    measure(later, SPACE.max)
    assert SPACE.max in later.history()


def test_a_study_of_something_else_is_refused(url: str) -> None:
    open_study(url, space={"depth": [3, 1]}, cost="params")
    open_study(url, space={"depth": [3, 1]}, cost="params")
    with pytest.raises(UserError, match=r"made with another space \(depth: \[3, 1\] there, \[3, 2\] here\)"):
        open_study(url, space={"depth": [3, 2]}, cost="params")
    with pytest.raises(UserError, match=r"another cost \(params there, macs here\): name another --storage"):
        open_study(url, space={"depth": [3, 1]}, cost="macs")
    open_study(url, "another", space={"depth": [3, 2]}, cost="params")
    # Learnt subnets have equal names and genes in every run; what differs is named without the whole subnets.
    learnt = {"max": {}, "0.63": {"width": 1.0, "units": {"0.ffn1": [[8, 16]], "1.conv": 0}}}
    open_study(url, "learnt", space=learnt)
    other = {**learnt, "0.63": {"width": 1.0, "units": {"0.ffn1": [[0, 4], [8, 16]], "1.conv": 0}}}
    with pytest.raises(UserError, match=r"\(0.63: units: 0.ffn1: \[\[8, 16\]\] there, \[\[0, 4\], \[8, 16\]\] here\)"):
        open_study(url, "learnt", space=other)


def test_a_space_of_many_genes_fits(url: str) -> None:
    """The paper's."""
    space = LayerSpace((16, 13, 9), (("ffn", (512, 1024, 2048, 4096)),))
    study = Study(Database(url, patience=10.0, heartbeat_seconds=1), "paper", space, {}, "params", Limits())
    claim = study.claim(Proposal(space.min), {"params": 29.1e6})
    assert claim is not None and study.finish(claim, FOUND)
    (found,) = study.history().measured
    assert found.subnet == space.min


def test_a_database_that_comes_back_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with running_server() as server:
        study = open_study(server.url)
        claim = study.claim(Proposal(SPACE.max), count(SPACE.max))
        assert claim is not None
        server.stop()
        back = threading.Timer(3.0, server.start)
        back.start()
        with caplog.at_level(logging.WARNING), study.alive(claim):
            assert study.finish(claim, FOUND)
        back.join()
        assert "trying again for 60 s" in caplog.text
        assert study.history().measured[0].subnet == SPACE.max
        impatient = open_study(server.url, patience=1.0)
        server.stop()
        with pytest.raises(UserError, match=r"has not answered for 1 s .*; bring it back and run the same command"):
            impatient.history()
        with pytest.raises(UserError, match=r"has not answered"):
            open_study(server.url, patience=1.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nonsense", "--storage nonsense"),
        ("nosuchdatabase://host/name", "--storage nosuchdatabase"),
        ("mysql+pymysql://host/name", "driver is not installed"),
    ],
)
def test_a_url_of_no_database(bad: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Database(bad, patience=1.0, heartbeat_seconds=1)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "study.db").write_text("notes of mine, and no database at all\n" * 100)
    with pytest.raises(UserError, match=r"study.db: file is not a database; delete it"):
        Database(default_url(tmp_path), patience=5.0, heartbeat_seconds=1)


def test_passwords_stay_secret() -> None:
    with pytest.raises(UserError, match=r"slimasr:\*\*\*@") as caught:
        Database("postgresql://slimasr:sesame@127.0.0.1:1/x", patience=0.5, heartbeat_seconds=1)
    assert "sesame" not in str(caught.value)
