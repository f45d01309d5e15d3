"""The study: the one record of a search, shared by all its workers on any number of machines.

Every subnet that a worker takes up is a trial of an optuna study. To claim one, a worker writes a running trial for
it and then looks: of all trials for this subnet that have not failed, the one with the smallest number holds the
claim, and the others give way. The database numbers the trials of a study one after the other (PostgreSQL and MySQL
lock the study's row meanwhile, SQLite has one writer at a time), so whoever is not first sees whoever is.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from slimasr.errors import UserError
from slimasr.locking.liveness import has_ended, is_here, process_identity
from slimasr.search.database import AWAY, Database
from slimasr.search.generators import Proposal
from slimasr.search.history import Candidate, History, State
from slimasr.search.nsga2 import distributions
from slimasr.supernet.front import Limits
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

MOST_DEATHS = 3
"""So many workers may die over one subnet before a run of the search gives in."""

_RECENT = ("content of the dev set",)
"""Parts of a study's identity that older studies lack."""

_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "measured",
    TrialState.PRUNED: "stopped",
}
# Optuna leaves trials alone that never had a heartbeat; a worker can be killed between its two writes.
_WITHOUT_HEARTBEAT = sqlalchemy.text(
    "SELECT t.trial_id FROM trials t LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id "
    "WHERE t.study_id = :study AND t.state = 'RUNNING' AND h.trial_id IS NULL"
)


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found; fields as in `Candidate`. ``stopped``: it was given up; ``costs``: measured ones."""

    errors: int
    words: int
    dev_loss: float | None
    stopped: bool
    seconds: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A subnet that this worker alone may measure."""

    trial_id: int
    candidate: Candidate


class Study:
    """One search in a database.

    What does not show in its name is part of its identity and must agree: figures of another space, dev set or
    decoding cannot stand beside these.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        space: SearchSpace,
        identity: Mapping[str, Any],
        cost: str,
        limits: Limits,
    ) -> None:
        """Open the study, or make it.

        Args:
            name: says which weights are searched.
            identity: plain JSON data.
            cost: second objective beside the WER.
            limits: of this search; other searches of the study may have others.

        Raises:
            UserError: the study there is one of something else; names what differs.
        """
        self.database, self.name, self._space, self._cost, self._limits = database, name, space, cost, limits
        self._distributions = distributions(space)
        self._owner = process_identity()
        self._suspects: dict[int, float] = {}
        self._finished: dict[int, Candidate] = {}  # by trial; they do not change any more
        self._study = database.patiently(
            lambda: optuna.create_study(
                storage=database.storage,
                study_name=name,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        )
        self._id = database.patiently(lambda: database.storage.get_study_id_from_name(name))
        self.notes: list[str] = []
        self._agree(dict(identity))
        # Who died earlier may have been killed for any reason: it says nothing about this run.
        self._last_of_earlier = max((trial.number for trial in self._trials()), default=-1)

    def history(self) -> History:
        """All candidates as they are now.

        Raises:
            UserError: one subnet has killed several workers since the study was opened.
        """
        candidates, deaths = dict[str, Candidate](), dict[str, int]()
        for trial in self._trials():
            key = trial.user_attrs["subnet"]
            if trial.state == TrialState.FAIL:
                died = trial.number > self._last_of_earlier and "lost" not in trial.user_attrs
                deaths[key] = deaths.get(key, 0) + died
            elif self._is_known(trial):
                earlier = candidates.get(key)
                if earlier is None or (earlier.state == "stopped" and trial.state == TrialState.COMPLETE):
                    candidates[key] = self._candidate(trial)
        for key, number in deaths.items():
            if number >= MOST_DEATHS and key not in candidates:
                name = Subnet.from_json(key).id
                raise UserError(f"{number} workers died over subnet {name}: is the memory enough? (fewer --workers)")
        return History(candidates.values())

    def claim(self, proposal: Proposal, costs: Mapping[str, float]) -> Claim | None:
        """Take up a subnet; None when another worker was first."""
        storage, token, key = self.database.storage, uuid.uuid4().hex, proposal.subnet.to_json()
        genes = self._space.genes_of(proposal.subnet)
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=genes,
            distributions={name: self._distributions[name] for name in genes},
            user_attrs={
                "subnet": key,
                "costs": dict(costs),
                "generation": proposal.generation,
                "limits": self._limits.given,
                "owner": self._owner,
                "token": token,
            },
            system_attrs=dict(proposal.marks or {}),
        )
        trial_id = self.database.patiently(lambda: storage.create_new_trial(self._id, trial))
        self._beat(trial_id)
        rivals = [t for t in self._trials() if t.user_attrs["subnet"] == key and self._is_known(t)]
        # A connection that broke after the write was made has written twice.
        for mine in (t for t in rivals[1:] if t.user_attrs["token"] == token):
            self._give_way(mine._trial_id)
        if not rivals or rivals[0].user_attrs["token"] != token:
            return None
        return Claim(rivals[0]._trial_id, self._candidate(rivals[0]))

    def finish(self, claim: Claim, outcome: Outcome) -> Candidate | None:
        """Record what was found; None when the claim had been taken away, as this worker was thought dead."""
        storage, costs = self.database.storage, {**claim.candidate.costs, **outcome.costs}
        found = {name: value for name, value in asdict(outcome).items() if name != "stopped"}
        state = TrialState.PRUNED if outcome.stopped else TrialState.COMPLETE
        values = None if outcome.stopped else [100.0 * outcome.errors / outcome.words, costs[self._cost]]

        def record() -> bool:
            try:
                storage.set_trial_user_attr(claim.trial_id, "found", found)
                storage.set_trial_state_values(claim.trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                return storage.get_trial(claim.trial_id).state == state  # an earlier attempt may have got through
            return True

        if not self.database.patiently(record):
            return None
        return replace(
            claim.candidate,
            state=_STATES[state],
            costs=costs,
            errors=outcome.errors,
            words=outcome.words,
            dev_loss=outcome.dev_loss,
        )

    def give_back(self, claim: Claim) -> None:
        """Free the subnet for others."""
        self._give_way(claim.trial_id)

    @contextmanager
    def alive(self, claim: Claim) -> Iterator[None]:
        """Signs of life from a thread, while the claim is worked on."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.database.heartbeat_seconds):
                try:
                    self.database.storage.record_heartbeat(claim.trial_id)
                except AWAY:
                    self.database.note_away()
                    continue  # the next one may get through, and the worker itself waits for the database
            self.database.storage.remove_session()

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
        nobody can give a sign of life, so none is missed until it has been back for a while.
        """
        running = {t._trial_id: t for t in self._trials() if t.state == TrialState.RUNNING}
        silent = self._silent()
        for trial_id, trial in running.items():
            owner = trial.user_attrs["owner"]
            if has_ended(owner) or (trial_id in silent and not is_here(owner)):
                self._set_failed(trial_id)

    def seconds(self) -> float:
        """Time spent on evaluations so far, all workers together."""
        return sum(t.user_attrs.get("found", {}).get("seconds", 0.0) for t in self._trials())

    def busy_seconds(self) -> float:
        """How long at least one worker was at an evaluation that came to its end; they may overlap."""
        intervals = (
            (t.datetime_start.timestamp(), t.datetime_complete.timestamp())
            for t in self._trials()
            if t.state in _STATES and t.datetime_start is not None and t.datetime_complete is not None
        )
        busy, until = 0.0, float("-inf")
        for start, end in sorted(intervals):
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
        return busy

    def _trials(self) -> list[FrozenTrial]:
        """In order of their numbers; what was finished when last read is not read again."""
        return self.database.patiently(lambda: self._study.get_trials(deepcopy=False))

    def _is_known(self, trial: FrozenTrial) -> bool:
        """Whether a trial is of a subnet that need not be measured, or not by us.

        A subnet was given up as others beat it; where limits are tighter now, those others may be above them.
        """
        if trial.state != TrialState.PRUNED:
            return trial.state in _STATES
        before = trial.user_attrs.get("limits", {})
        return all(before.get(name, math.inf) <= bound for name, bound in self._limits.given.items())

    def _candidate(self, trial: FrozenTrial) -> Candidate:
        if trial._trial_id in self._finished:
            return self._finished[trial._trial_id]
        attrs = trial.user_attrs
        found = attrs.get("found", {})
        candidate = Candidate(
            Subnet.from_json(attrs["subnet"]),
            _STATES[trial.state],
            {**attrs["costs"], **found.get("costs", {})},
            attrs["generation"],
            found.get("errors"),
            found.get("words"),
            found.get("dev_loss"),
            trial.system_attrs,
        )
        if trial.state.is_finished():
            self._finished[trial._trial_id] = candidate
        return candidate

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

    def _silent(self) -> set[int]:
        """Running trials that have given no sign of life for too long."""
        stale = set(self.database.patiently(lambda: self.database.storage._get_stale_trial_ids(self._id)))
        never, now = self.database.patiently(self._without_heartbeat), time.monotonic()
        if not self.database.settled:
            self._suspects = {}
            return set()
        self._suspects = {trial_id: self._suspects.get(trial_id, now) for trial_id in never}
        return stale | {i for i, since in self._suspects.items() if now - since > self.database.grace_seconds}

    def _without_heartbeat(self) -> list[int]:
        with self.database.storage.engine.connect() as connection:
            return [row[0] for row in connection.execute(_WITHOUT_HEARTBEAT, {"study": self._id})]

    def _beat(self, trial_id: int) -> None:
        self.database.patiently(lambda: self.database.storage.record_heartbeat(trial_id))

    def _give_way(self, trial_id: int) -> None:
        def mark() -> None:
            try:
                self.database.storage.set_trial_user_attr(trial_id, "lost", True)
            except optuna.exceptions.UpdateFinishedTrialError:
                return

        self.database.patiently(mark)
        self._set_failed(trial_id)

    def _set_failed(self, trial_id: int) -> None:
        def fail() -> None:
            try:
                self.database.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # finished after all, or failed by another worker

        self.database.patiently(fail)


def _difference(there: Any, here: Any) -> tuple[Any, Any]:
    """The first values that differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            if there.get(key) != here.get(key):
                return f"{key}: {there.get(key, 'none')}", f"{here.get(key, 'none')}"
    return there, here
