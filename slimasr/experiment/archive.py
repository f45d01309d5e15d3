"""Reads what the search of an experiment has found so far from its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from slimasr.errors import UserError
from slimasr.experiment.folder import Experiment
from slimasr.results.schema import SearchedEntry, SubnetEntry
from slimasr.results.search import Candidates, Front, SearchFile
from slimasr.results.store import read_results
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet

F = TypeVar("F", bound=SearchFile)


@dataclass(frozen=True)
class Conditions:
    """The conditions on which a WER on dev depends, besides subnet and weights.

    Attributes:
        set_name: the dev set.
        int8: whether weights were rounded to int8.
        decoding: the search for the best labels, in words.
        data: fingerprint of the set, None if it is not known.
    """

    set_name: str
    int8: bool
    decoding: str
    data: str | None = None

    def held(self, entry: SubnetEntry, found: SearchedEntry) -> bool:
        """Return whether a subnet was measured under these conditions.

        Args:
            entry: the subnet's entry of results.json.
            found: the part of it that the search wrote.
        """
        decoding = found.decoding
        if decoding is None and self.set_name in entry.wer:
            # Older searches recorded the decoding only together with the WER.
            decoding = entry.wer[self.set_name].decoding
        # Entries from before sets had fingerprints, and callers that know none, count as the same set.
        same_data = not found.data or not self.data or found.data == self.data
        return same_data and (found.int8, decoding) == (self.int8, self.decoding)


def read_archive(experiment: Experiment, conditions: Conditions | None = None) -> list[Measurement]:
    """Read the subnets that were measured in full, including time and memory, on the experiment's present weights.

    Args:
        experiment: the experiment.
        conditions: the conditions under which they were measured; default: those of the last search.
    """
    # None if the last search recorded no conditions: then every entry counts.
    conditions = conditions or _last_conditions(experiment)
    found = [
        Measurement(_present(experiment, entry.subnet), searched.wer, searched.dev_loss, entry.costs)
        for entry, searched in _searched(experiment)
        if conditions is None or conditions.held(entry, searched)
    ]
    # A subnet may have an entry of an earlier version, under the id that it had there, and a present one.
    return list({measurement.subnet: measurement for measurement in found}.values())


def read_candidates(experiment: Experiment) -> list[Measurement]:
    """Read every subnet with a WER on the present weights: first the archive, then those with counted costs only."""
    archive = read_archive(experiment)
    known = {measurement.subnet for measurement in archive}
    current = _current(experiment, Candidates)
    found = [] if current is None else [candidate.measurement() for candidate in current.candidates]
    others = [replace(one, subnet=_present(experiment, one.subnet)) for one in found]
    return archive + [measurement for measurement in others if measurement.subnet not in known]


def measured_subnets(experiment: Experiment) -> list[Subnet]:
    """Read which subnets were measured in full on the present weights, under any conditions."""
    return [_present(experiment, entry.subnet) for entry, _ in _searched(experiment)]


def read_front(experiment: Experiment) -> list[Subnet]:
    """Read the Pareto front that a search found on the present weights, cheapest first.

    Raises:
        UserError: there is no front.
    """
    front = recorded_front(experiment)
    if not front:
        raise UserError(f"{experiment.dir} has no front yet: run stage 5 (slimasr-search) first, or name subnets")
    return front


def recorded_front(experiment: Experiment) -> list[Subnet]:
    """Read the Pareto front as `read_front` does; an empty list if there is none."""
    current = _current(experiment, Front)
    return [] if current is None else [_present(experiment, found.subnet) for found in current.front]


def _present(experiment: Experiment, subnet: Subnet) -> Subnet:
    """Return a subnet of a file as the experiment's space writes it; one outside of the space stays as it is."""
    return experiment.space.canonical(subnet) if subnet in experiment.space else subnet


def _current(experiment: Experiment, kind: type[F]) -> F | None:
    """Read a file of the search; None if it does not exist or belongs to other weights."""
    content = kind.read(experiment.dir)
    if content is None or content.weights != experiment.weights_digest:
        return None
    return content


def _last_conditions(experiment: Experiment) -> Conditions | None:
    """Read the conditions of the last search; None before any search, or if an older version did not record them."""
    last = _current(experiment, Candidates)
    if last is None or last.int8 is None or last.decoding is None:
        return None
    return Conditions(last.set_name, last.int8, last.decoding, last.data)


def _searched(experiment: Experiment) -> list[tuple[SubnetEntry, SearchedEntry]]:
    """Read all entries that were measured in full on the present weights, each with the search's part of it."""
    searched: list[tuple[SubnetEntry, SearchedEntry]] = []
    for entry in read_results(experiment.dir).subnets.values():
        if entry.search is not None and entry.search.weights == experiment.weights_digest:
            searched.append((entry, entry.search))
    return searched
