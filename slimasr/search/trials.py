"""Claims as trials of an optuna study, for its dashboard and plots; and the claims of a study that has trials alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from slimasr.search.claims import Row
from slimasr.search.nsga2 import distributions
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


def as_trial(claim: Row, space: SearchSpace, cost: str) -> FrozenTrial:
    """A finished claim: genes as parameters, WER and cost as values, all else as attributes that can be sorted."""
    proposal = json.loads(claim.proposal)
    outcome = json.loads(claim.outcome)
    subnet = Subnet.from_json(proposal["subnet"])
    costs = {**proposal["costs"], **outcome["costs"]}
    measured = claim.state == "measured"
    wer = 100.0 * outcome["errors"] / outcome["words"]
    attributes = {
        "claim": claim.number,
        "id": subnet.id,
        "generation": proposal["generation"],
        **costs,
        "errors": outcome["errors"],
        "dev_loss": outcome["dev_loss"],
        "wer_at_least": None if measured else wer,
    }
    genes = space.genes_of(subnet)
    trial = create_trial(
        state=TrialState.COMPLETE if measured else TrialState.PRUNED,
        values=[wer, costs[cost]] if measured else None,
        params=genes,
        distributions={name: choices for name, choices in distributions(space).items() if name in genes},
        user_attrs={name: value for name, value in attributes.items() if value is not None},
    )
    trial.datetime_start = datetime.fromtimestamp(claim.started)
    trial.datetime_complete = datetime.fromtimestamp(claim.ended)
    return trial


def earlier_claims(trials: Iterable[FrozenTrial]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Subnets and claims of a study from before there were claims, in the order of its trials.

    Its trials say by ``found`` what an evaluation found. A subnet that was stopped early may have been measured later,
    under tighter limits.
    """
    finished: dict[str, FrozenTrial] = {}
    for trial in trials:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "found" in trial.user_attrs:
            before = finished.get(trial.user_attrs["subnet"])
            if before is None or before.state == TrialState.PRUNED:
                finished[trial.user_attrs["subnet"]] = trial
    for number, (subnet, trial) in enumerate(finished.items(), start=1):
        attributes = trial.user_attrs
        marks = trial.system_attrs
        proposal = {"subnet": subnet, "marks": marks, **{k: attributes[k] for k in ("costs", "generation")}}
        outcome = {"costs": {}, "limits": attributes.get("limits", {}), **attributes["found"]}
        assert trial.datetime_start is not None and trial.datetime_complete is not None, "a finished trial has both"
        yield (
            subnet,
            {
                "number": number,
                "state": "measured" if trial.state == TrialState.COMPLETE else "stopped",
                "started": trial.datetime_start.timestamp(),
                "ended": trial.datetime_complete.timestamp(),
                "seconds": outcome.pop("seconds"),
                "proposal": json.dumps(proposal),
                "outcome": json.dumps(outcome),
            },
        )
