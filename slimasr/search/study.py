"""The study: the one record of a search, shared by all its workers on any number of machines.

What was found is kept in the trials of an optuna study, which optuna's dashboard and plots show, and what is being
evaluated in a separate table of claims. A worker inserts a claim, adds the trial when the evaluation is finished, and
then removes the claim. So whoever reads claims first and then trials misses nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from slimasr.errors import UserError
from slimasr.locking.liveness import has_ended, is_here, process_identity
from slimasr.search.claims import CLAIMS, Claims, Row
from slimasr.search.database import AWAY, Database
from slimasr.search.generator import Proposal
from slimasr.search.history import Candidate, History
from slimasr.search.trials import as_candidate, as_trial, attributes_of
from slimasr.supernet.front import Limits
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

MOST_DEATHS = 3
"""So many workers may die over one subnet before a run of the search stops."""

_RECENT = ("content of the dev set",)
"""Parts of a study's identity that older studies lack."""

PREDICTED = ("latency",)
"""Costs that depend on what a search was given besides the experiment."""


def nothing_predicted(subnet: Subnet) -> Mapping[str, float]:
    """Return no cost."""
    return {}


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found; fields as in `Candidate`. ``stopped``: whether early; ``costs``: measured ones."""

    errors: int
    words: int
    dev_loss: float | None
    stopped: bool
    seconds: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A subnet that this worker alone may measure; claims are numbered in the order in which they were made."""

    number: int
    candidate: Candidate
    start: datetime = field(default_factory=datetime.now, compare=False)


class Study:
    """One search in a database.

    What does not show in its name is part of its identity and must agree: figures of another space, dev set or
    decoding cannot be compared with these.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        space: SearchSpace,
        identity: Mapping[str, Any],
        cost: str,
        limits: Limits,
        predicted: Callable[[Subnet], Mapping[str, float]] = nothing_predicted,
    ) -> None:
        """Open the study, or make it.

        Args:
            name: says which weights are searched.
            identity: plain JSON data.
            cost: the second objective, next to the WER.
            limits: of this search; other searches of the study may have others.
            predicted: returns the costs of a subnet that depend on what this search was given, such as the profile of a
                device; every candidate has these, whatever an earlier search has stored.

        Raises:
            UserError: the study there is one of something else; names what differs.
        """
        self.database = database
        self.name = name
        self.notes: list[str] = []
        self._space = space
        self._cost = cost
        self._limits = limits
        self._predicted = predicted
        self._owner = process_identity()
        self._trials: list[FrozenTrial] = []
        self._finished: dict[Subnet, tuple[int, Candidate]] = {}  # with the number of the claim
        self._deaths: Counter[Subnet] = Counter()
        self._study = database.patiently(
            lambda: optuna.create_study(
                storage=database.storage,
                study_name=name,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        )
        self._agree(dict(identity))
        database.patiently(self._set_up)
        self._claims = database.patiently(lambda: Claims(database.storage.engine, name))
        # Who died earlier may have been killed for any reason: it says nothing about this run.
        self._earlier_claims = {row.number for row in database.patiently(self._claims.rows)}
        self._new_trials()
        self._deaths.clear()

    def history(self) -> History:
        """All candidates as they are now.

        Raises:
            UserError: one subnet has killed several workers since the study was opened.
        """
        known: dict[Subnet, tuple[int, Candidate]] = {}
        for row in self.database.patiently(self._claims.rows):
            candidate = self._running(row)
            known[candidate.subnet] = row.number, candidate
        self._new_trials()
        known.update(self._finished)
        for subnet, deaths in self._deaths.items():
            if deaths >= MOST_DEATHS and subnet not in known:
                advice = "is the memory enough? (fewer --workers)"
                raise UserError(f"{deaths} workers died over subnet {subnet.id}: {advice}")
        return History(candidate for _, candidate in sorted(known.values(), key=lambda item: item[0]))

    def claim(self, proposal: Proposal, costs: Mapping[str, float]) -> Claim | None:
        """Claim a subnet; None when another worker was first."""
        subnet = proposal.subnet.to_json()
        token = uuid.uuid4().hex
        values = {
            "subnet": hashlib.sha256(subnet.encode()).hexdigest(),
            "owner": self._owner,
            "token": token,
            "proposal": json.dumps([subnet, dict(costs), proposal.generation, dict(proposal.marks or {})]),
        }

        def take() -> Row | None:
            self._claims.add(values)
            # An attempt whose connection broke may have got through: what counts is what the table holds.
            return next((row for row in self._claims.rows() if row.token == token), None)

        row = self.database.patiently(take)
        if row is None:
            return None
        claim = Claim(row.number, self._running(row))
        self._new_trials()
        if proposal.subnet in self._finished:
            # Another worker has finished it and removed its claim since our history was read.
            self.give_back(claim)
            return None
        return claim

    def finish(self, claim: Claim, outcome: Outcome) -> Candidate | None:
        """Record what was found; None when the claim had been taken away, as this worker was thought dead."""
        # With a fresh heartbeat nobody takes the claim away before the trial is added.
        if not self.database.patiently(lambda: self._claims.beat(claim.number)):
            return None
        candidate = replace(
            claim.candidate,
            state="stopped" if outcome.stopped else "measured",
            costs={**claim.candidate.costs, **outcome.costs},
            errors=outcome.errors,
            words=outcome.words,
            dev_loss=outcome.dev_loss,
        )
        self._add_trial(candidate, claim, {"seconds": outcome.seconds, "limits": self._limits.given or None})
        self.give_back(claim)
        return candidate

    def give_back(self, claim: Claim) -> None:
        """Free the subnet for others."""
        self.database.patiently(lambda: self._claims.remove(claim.number))

    @contextmanager
    def alive(self, claim: Claim) -> Iterator[None]:
        """Heartbeats from a thread, while the claim is worked on."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.database.heartbeat_seconds):
                try:
                    self._claims.beat(claim.number)
                except AWAY:
                    self.database.note_away()  # the next one may get through, and the worker itself waits

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def reap(self) -> None:
        """Free what dead workers had claimed: those of this machine at once, others when their heartbeat stops.

        Whoever lives on this machine keeps what it has, however long it may have slept. While the database is away
        no heartbeat can be recorded, so none is missed until it has been back for a while.
        """
        for row in self.database.patiently(self._claims.rows):
            silent = row.now - row.heartbeat > timedelta(seconds=self.database.grace_seconds) and self.database.settled
            if not has_ended(row.owner) and (is_here(row.owner) or not silent):
                continue
            claim = Claim(row.number, self._running(row))
            unchanged = CLAIMS.c.beats == row.beats
            removed = self.database.patiently(partial(self._claims.remove, row.number, unchanged))
            # It may have died after its trial was added; otherwise the trial of a failure says that it died.
            if removed and not self._is_recorded(claim):
                self._add_trial(claim.candidate, claim, {})

    def seconds(self) -> float:
        """Time spent on evaluations so far, all workers together."""
        self._new_trials()
        return sum(attributes_of(trial).get("seconds", 0.0) for trial in self._trials)

    def busy_seconds(self) -> float:
        """How long at least one worker was at an evaluation that came to its end; they may overlap."""
        self._new_trials()
        intervals = (
            (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp())
            for trial in self._trials
            if trial.state != TrialState.FAIL and trial.datetime_start and trial.datetime_complete
        )
        busy = 0.0
        until = -math.inf
        for start, end in sorted(intervals):
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
        return busy

    def _add_trial(self, candidate: Candidate, claim: Claim, more: Mapping[str, Any]) -> None:
        trial = as_trial(candidate, self._space, self._cost, {"claim": claim.number, **more})
        trial.datetime_start = claim.start
        attempt = itertools.count()

        def add() -> None:
            # An attempt whose connection broke may have got through.
            if not (next(attempt) and self._is_recorded(claim)):
                self._study.add_trial(trial)

        self.database.patiently(add)

    def _is_recorded(self, claim: Claim) -> bool:
        self._new_trials()
        return any(trial.user_attrs.get("claim") == claim.number for trial in self._trials)

    def _new_trials(self) -> None:
        """Bring what is known of the trials up to date; they do not change any more."""
        trials = self.database.patiently(lambda: self._study.get_trials(deepcopy=False))
        for trial in trials[len(self._trials) :]:
            claim = trial.user_attrs.get("claim", -1)
            if trial.state == TrialState.FAIL and claim not in self._earlier_claims:
                self._deaths[self._space.from_genes(trial.params)] += 1
            elif self._is_known(trial):
                candidate = self._with_predicted(as_candidate(trial, self._space))
                before = self._finished.get(candidate.subnet)
                if before is None or before[1].state == "stopped":
                    self._finished[candidate.subnet] = claim, candidate
        self._trials = trials

    def _is_known(self, trial: FrozenTrial) -> bool:
        """Whether a trial is of a subnet that need not be measured.

        An evaluation was stopped early as other subnets are better; where limits are tighter now, those others may be
        above them.
        """
        if trial.state != TrialState.PRUNED:
            return trial.state == TrialState.COMPLETE
        before = attributes_of(trial).get("limits", {})
        return all(before.get(name, math.inf) <= bound for name, bound in self._limits.given.items())

    def _running(self, row: Row) -> Candidate:
        subnet, costs, generation, marks = json.loads(row.proposal)
        return self._with_predicted(Candidate(Subnet.from_json(subnet), "running", costs, generation, marks=marks))

    def _with_predicted(self, candidate: Candidate) -> Candidate:
        stored = {name: value for name, value in candidate.costs.items() if name not in PREDICTED}
        return replace(candidate, costs={**stored, **self._predicted(candidate.subnet)})

    def _set_up(self) -> None:
        """Name the values, and fail what still runs: its worker was killed before there were claims."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(["dev WER %", self._cost])
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _agree(self, identity: dict[str, Any]) -> None:
        stored = self.database.patiently(lambda: self._study.user_attrs).get("identity")
        if stored is None:
            self.database.patiently(lambda: self._study.set_user_attr("identity", identity))
            return
        for key, value in identity.items():
            if key not in stored and key in _RECENT:
                # The study was made before searches recorded this.
                self.notes.append(f"study {self.name} does not record the {key}; that it is the same is not verified")
                continue
            if stored.get(key) != value:
                there, here = _difference(stored.get(key), value)
                found = f"study {self.name} in {self.database.name} was made with another {key}"
                raise UserError(f"{found} ({there} there, {here} here): name another --storage, or delete that study")


def _difference(there: Any, here: Any) -> tuple[str, str]:
    """The first values that differ, in nested mappings with the names that lead to them."""
    names = []
    while isinstance(there, dict) and isinstance(here, dict):
        key = next((key for key in {**there, **here} if there.get(key) != here.get(key)), None)
        if key is None:
            break
        names.append(f"{key}: ")
        there, here = there.get(key, "none"), here.get(key, "none")
    return f"{''.join(names)}{there}", str(here)
