"""The study: the one record of a search, shared by all its workers on any number of machines.

The table of claims is the record. What was evaluated is also a trial of an optuna study in the same database, for
optuna's dashboard and plots: the holder of a claim adds it once the outcome is recorded, or whoever takes the claim
over from a holder that died in between.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from slimasr.errors import UserError
from slimasr.locking.liveness import has_ended, is_here, process_identity
from slimasr.search.claims import CLAIMS, Claims, Row
from slimasr.search.database import AWAY, Database
from slimasr.search.generators import Proposal
from slimasr.search.history import Candidate, History, State
from slimasr.search.trials import as_trial, earlier_claims
from slimasr.supernet.front import Limits
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet

MOST_DEATHS = 3
"""So many workers may die over one subnet before a run of the search stops."""

_RECENT = ("content of the dev set",)
"""Parts of a study's identity that older studies lack."""

_RUNNING = CLAIMS.c.state == "running"
_SETTLED = {"owner": None, "token": None}


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
    """A subnet that this worker alone may measure; ``token`` tells the claim from all others."""

    token: str
    candidate: Candidate


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
        self.database = database
        self.name = name
        self._space = space
        self._cost = cost
        self._limits = limits
        self._owner = process_identity()
        self._rows: dict[str, Row] = {}
        self._candidates: dict[int, Candidate] = {}  # by the number of their claim
        self._unsettled: set[str] = set()
        self._last = 0
        self._study = database.patiently(
            lambda: optuna.create_study(
                storage=database.storage,
                study_name=name,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        )
        self._claims = database.patiently(lambda: self._open(dict(identity)))
        # Who died earlier may have been killed for any reason: it says nothing about this run.
        self._earlier_deaths = {row.subnet: row.deaths + (row.state == "running") for row in self._current()}

    def history(self) -> History:
        """All candidates as they are now.

        Raises:
            UserError: one subnet has killed several workers since the study was opened.
        """
        for row in self._current():
            deaths = row.deaths - self._earlier_deaths.get(row.subnet, 0)
            if deaths >= MOST_DEATHS and row.number not in self._candidates:
                name = Subnet.from_json(json.loads(row.proposal)["subnet"]).id
                raise UserError(f"{deaths} workers died over subnet {name}: is the memory enough? (fewer --workers)")
        return History(self._candidates[number] for number in sorted(self._candidates))

    def claim(self, proposal: Proposal, costs: Mapping[str, float]) -> Claim | None:
        """Claim a subnet; None when another worker was first."""
        key = _key(proposal.subnet.to_json())
        content = {
            "subnet": proposal.subnet.to_json(),
            "costs": dict(costs),
            "generation": proposal.generation,
            "marks": dict(proposal.marks or {}),
        }
        values = {
            "number": self._claims.next_number,
            "state": "running",
            "owner": self._owner,
            "token": uuid.uuid4().hex,
            "started": self._claims.now,
            "proposal": json.dumps(content),
        }

        def take() -> Row | None:
            self._read()
            row = self._rows.get(key)
            if row is None:
                self._claims.add({"subnet": key, **values})
            elif row.number not in self._candidates:
                self._claims.update(key, row.token, values)
            self._read()
            return self._rows.get(key)

        row = self.database.patiently(take)
        if row is None or row.token != values["token"]:
            return None
        return Claim(row.token, self._candidates[row.number])

    def finish(self, claim: Claim, outcome: Outcome) -> Candidate | None:
        """Record what was found; None when the claim had been taken away, as this worker was thought dead."""
        found = asdict(outcome)
        state = "stopped" if found.pop("stopped") else "measured"
        values = {
            "state": state,
            "ended": self._claims.now,
            "seconds": CLAIMS.c.seconds + found.pop("seconds"),
            "outcome": json.dumps({**found, "limits": self._limits.given}),
        }
        key = _key(claim.candidate.subnet.to_json())

        def record() -> Row:
            self._claims.update(key, claim.token, values, _RUNNING)
            self._read()
            return self._rows[key]

        row = self.database.patiently(record)
        # An attempt whose connection broke may have got through: what counts is what the table holds.
        if row.token != claim.token or row.state != state:
            return None
        self._add_trial(row, claim.token)
        return self._candidates[row.number]

    def give_back(self, claim: Claim) -> None:
        """Free the subnet for others."""
        self._free(_key(claim.candidate.subnet.to_json()), claim.token, {})

    @contextmanager
    def alive(self, claim: Claim) -> Iterator[None]:
        """Heartbeats from a thread, while the claim is worked on."""
        ended = threading.Event()
        key = _key(claim.candidate.subnet.to_json())

        def beat() -> None:
            while not ended.wait(self.database.heartbeat_seconds):
                try:
                    self._claims.update(key, claim.token, {})
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
        for row in self._current():
            if row.token is None:
                continue
            silent = row.silence > self.database.grace_seconds and self.database.settled
            if not has_ended(row.owner) and (is_here(row.owner) or not silent):
                continue
            unchanged = CLAIMS.c.heartbeat == row.heartbeat
            if row.state == "running":
                self._free(row.subnet, row.token, {"deaths": CLAIMS.c.deaths + 1}, unchanged)
            else:
                self._take_over_trial(row, unchanged)

    def seconds(self) -> float:
        """Time spent on evaluations so far, all workers together."""
        return sum(row.seconds for row in self._current())

    def busy_seconds(self) -> float:
        """How long at least one worker was at an evaluation that came to its end; they may overlap."""
        busy = 0.0
        until = -math.inf
        for start, end in sorted((row.started, row.ended) for row in self._current() if row.ended is not None):
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
        return busy

    def _current(self) -> list[Row]:
        self.database.patiently(self._read)
        return list(self._rows.values())

    def _read(self) -> None:
        """Bring what is known of the claims up to date."""
        for row in self._claims.read(self._last, self._unsettled):
            before = self._rows.get(row.subnet)
            if before is not None:
                self._candidates.pop(before.number, None)
            candidate = self._candidate(row)
            if candidate is not None:
                self._candidates[row.number] = candidate
            self._rows[row.subnet] = row
            self._last = max(self._last, row.number)
            if row.token is None:
                self._unsettled.discard(row.subnet)
            else:
                self._unsettled.add(row.subnet)

    def _candidate(self, row: Row) -> Candidate | None:
        """None for a subnet that may be claimed.

        An evaluation was stopped early as other subnets are better; where limits are tighter now, those others may be
        above them.
        """
        proposal = json.loads(row.proposal)
        found = json.loads(row.outcome or "{}")
        state: State = row.state
        if state != "measured":
            before = found.get("limits", {})
            known = all(before.get(name, math.inf) <= bound for name, bound in self._limits.given.items())
            if found and known:
                state = "stopped"
            elif state == "running":
                found = {}
            else:
                return None
        return Candidate(
            Subnet.from_json(proposal["subnet"]),
            state,
            {**proposal["costs"], **found.get("costs", {})},
            proposal["generation"],
            found.get("errors"),
            found.get("words"),
            found.get("dev_loss"),
            proposal["marks"],
        )

    def _free(self, key: str, token: str, more: Mapping[str, Any], *expected: Any) -> None:
        """Without an outcome a stopped claim is free; with one it is what it was before."""
        values = {"state": "stopped", **_SETTLED, **more}
        self.database.patiently(lambda: self._claims.update(key, token, values, _RUNNING, *expected))

    def _take_over_trial(self, row: Row, *expected: Any) -> None:
        """What a dead worker found is recorded; perhaps it has not added the trial."""
        token = uuid.uuid4().hex
        values = {"owner": self._owner, "token": token}
        if self.database.patiently(lambda: self._claims.update(row.subnet, row.token, values, *expected)):
            self._add_trial(row, token, 1)

    def _add_trial(self, row: Row, token: str, attempts: int = 0) -> None:
        """Add the trial of a finished claim, unless an earlier attempt has done it."""
        trial = as_trial(row, self._space, self._cost)
        attempt = itertools.count(attempts)

        def add() -> None:
            known = self._study.get_trials(deepcopy=False) if next(attempt) else []
            if all(other.user_attrs.get("claim") != row.number for other in known):
                self._study.add_trial(trial)

        self.database.patiently(add)
        self.database.patiently(lambda: self._claims.update(row.subnet, token, _SETTLED))

    def _open(self, identity: dict[str, Any]) -> Claims:
        """The claims of this name and identity, with what a study from before there were claims has found."""
        attributes = self._study.user_attrs
        if "identity" not in attributes:
            self._study.set_user_attr("identity", identity)
        stored = attributes.get("identity", identity)
        self.notes = self._agree(stored, identity)
        claims = Claims(self.database.storage.engine, _key(json.dumps([self.name, stored], sort_keys=True)))
        if "claims" not in attributes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(["dev WER %", self._cost])
            trials = self._study.get_trials(deepcopy=False)
            for subnet, claim in earlier_claims(trials):
                claims.add({"subnet": _key(subnet), **claim})
            for trial in trials:
                if trial.state == TrialState.RUNNING:  # its worker was killed
                    self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            self._study.set_user_attr("claims", CLAIMS.name)
        return claims

    def _agree(self, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
        """Compare identities; returns what cannot be compared."""
        notes = []
        for key, value in identity.items():
            if key not in stored and key in _RECENT:
                # The study was made before searches recorded this.
                notes.append(f"study {self.name} does not record the {key}; that it is the same is not verified")
            elif stored.get(key) != value:
                there, here = _difference(stored.get(key), value)
                found = f"study {self.name} in {self.database.name} was made with another {key}"
                raise UserError(f"{found} ({there} there, {here} here): name another --storage, or delete that study")
        return notes


def _key(text: str) -> str:
    """What stands for a text in the table's primary key."""
    return hashlib.sha256(text.encode()).hexdigest()


def _difference(there: Any, here: Any) -> tuple[Any, Any]:
    """The first values that differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            if there.get(key) != here.get(key):
                return f"{key}: {there.get(key, 'none')}", f"{here.get(key, 'none')}"
    return there, here
