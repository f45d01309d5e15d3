"""Candidates as trials of an optuna study, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from slimasr.search.history import Candidate, State
from slimasr.search.nsga2 import distributions
from slimasr.supernet.space import SearchSpace

_STATES: dict[State, TrialState] = {
    "running": TrialState.FAIL,
    "measured": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
}
_NO_COSTS = {"claim", "id", "generation", "errors", "words", "dev_loss", "wer_at_least", "seconds", "limits"}


def as_trial(candidate: Candidate, space: SearchSpace, cost: str, more: Mapping[str, Any]) -> FrozenTrial:
    """The trial of a finished candidate, or of one whose worker died while it ran.

    Args:
        cost: the second value; the first one is the WER.
        more: attributes in addition to the candidate's own: ``claim``, ``seconds``, ``limits``.
    """
    genes = space.genes_of(candidate.subnet)
    measured = candidate.state == "measured"
    attributes = {
        "id": candidate.subnet.id,
        "generation": candidate.generation,
        **candidate.costs,
        "errors": candidate.errors,
        "words": candidate.words,
        "dev_loss": candidate.dev_loss,
        "wer_at_least": candidate.wer if candidate.state == "stopped" else None,
        **more,
    }
    return create_trial(
        state=_STATES[candidate.state],
        values=[candidate.wer, candidate.costs[cost]] if measured else None,
        params=genes,
        distributions={name: choices for name, choices in distributions(space).items() if name in genes},
        user_attrs={name: value for name, value in attributes.items() if value is not None},
        system_attrs=dict(candidate.marks or {}),
    )


def as_candidate(trial: FrozenTrial, space: SearchSpace) -> Candidate:
    """Inverse of `as_trial` for a finished candidate."""
    attributes = attributes_of(trial)
    return Candidate(
        space.from_genes(trial.params),
        "measured" if trial.state == TrialState.COMPLETE else "stopped",
        {name: value for name, value in attributes.items() if name not in _NO_COSTS},
        attributes.get("generation"),
        attributes["errors"],
        attributes["words"],
        attributes.get("dev_loss"),
        trial.system_attrs,
    )


def attributes_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """A trial's attributes as `as_trial` gives them; trials from before there were claims have them in groups."""
    attributes = trial.user_attrs
    if "found" not in attributes:
        return attributes
    found = dict(attributes["found"])
    costs = {**attributes["costs"], **found.pop("costs", {})}
    return {"generation": attributes["generation"], "limits": attributes.get("limits", {}), **costs, **found}
