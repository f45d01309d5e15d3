"""The layout of the files that a search leaves in ``search/``: its candidates, its Pareto front, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from slimasr.results.entry import Entry, File, Flag, Genes, Number, Whole
from slimasr.supernet.front import Measurement


class FoundEntry(Entry):
    """This is a subnet that was measured on the whole dev set."""

    id: str
    """Id of the subnet."""

    subnet: Genes
    """The subnet's genes, as in results.json."""

    wer: Number
    """WER on dev in percent."""

    dev_loss: Number | None
    """Main loss of the model on dev per reference token; null where it could not matter, as the WER was too high."""

    costs: Mapping[str, Number]
    """Costs by name, as in results.json; time and memory only where they have been measured."""

    @classmethod
    def of(cls, found: Measurement) -> FoundEntry:
        """Make the entry of a measurement."""
        return cls(
            id=found.subnet.id, subnet=found.subnet, wer=found.wer, dev_loss=found.dev_loss, costs=dict(found.costs)
        )

    def measurement(self) -> Measurement:
        """Return the measurement, as Pareto fronts and limits use it."""
        return Measurement(self.subnet, self.wer, self.dev_loss, self.costs)


class StoppedEntry(Entry):
    """The evaluation of this subnet was stopped early, as it could not reach the Pareto front any more."""

    id: str
    """Id of the subnet."""

    subnet: Genes
    """The subnet's genes, as in results.json."""

    wer_at_least: Number
    """Lower bound of the WER on dev in percent: the errors found so far, of all words."""

    costs: Mapping[str, Number]
    """Costs by name, as in results.json."""

    @classmethod
    def of(cls, found: Measurement) -> StoppedEntry:
        """Make the entry of a measurement whose WER is a lower bound."""
        return cls(id=found.subnet.id, subnet=found.subnet, wer_at_least=found.wer, costs=dict(found.costs))


class SearchFile(File):
    """What the files of a search have in common."""

    ADVICE: ClassVar[str] = "run stage 5 (slimasr-search) again"

    set_name: str = Field(validation_alias="set", serialization_alias="set")
    """Name of the dev set."""

    cost: str
    """Name of the cost that the Pareto front weighs against the WER."""

    weights: str | None = None
    """Digest of `final.pt`: what was found on other weights is not used. The first version's files lack it."""

    data: str | None = None
    """Fingerprint of the dev set. Files of older versions lack it."""


class Front(SearchFile):
    """The search writes the Pareto front of WER and cost here."""

    PLACE: ClassVar[str] = "search/front.json"

    measured: Whole = 0
    """How many subnets the search has evaluated, those stopped early included."""

    front: tuple[FoundEntry, ...]
    """The subnets of the Pareto front, cheapest first."""


class Candidates(SearchFile):
    """The search writes every subnet here that it has evaluated."""

    PLACE: ClassVar[str] = "search/candidates.json"

    kind: str | None = None
    """The candidate generator, `search.kind`. Files of older versions lack it; the configuration names it."""

    int8: Flag | None = None
    """Whether the search saw weights rounded as int8 has them. Files of older versions lack it; the configuration
    says so."""

    decoding: str | None = None
    """The search for the words, in words. Files of older versions lack it."""

    candidates: tuple[FoundEntry, ...]
    """The subnets measured on the whole dev set."""

    stopped: tuple[StoppedEntry, ...] = ()
    """The subnets whose evaluation was stopped early."""


class Summary(File):
    """The search notes here how fast it was, and how long it took compared with the training."""

    PLACE: ClassVar[str] = "search/summary.json"
    ADVICE: ClassVar[str] = "remove it and run stage 5 (slimasr-search) again"

    generator: str
    """The candidate generator, `search.kind`."""

    candidates: Whole
    """How many subnets were evaluated, those stopped early included."""

    stopped_early: Whole
    """How many of them were stopped early."""

    space: Whole
    """How many subnets the search space has."""

    minutes: Number
    """Wall time of all runs of the search, in minutes."""

    evaluation_minutes: Number
    """Time of all evaluations in minutes, added up over the workers."""

    per_minute: Number
    """Subnets evaluated per minute of wall time."""

    train_minutes: Number | None
    """Wall time of the training in minutes, null where it is not known."""

    workers: Whole
    """Worker processes of the last run."""

    weights: str
    """Digest of `final.pt`."""

    int8: Flag | None = None
    """Whether the search saw weights rounded as int8 has them. Files of older versions lack it."""

    decoding: str | None = None
    """The search for the words, in words. Files of older versions lack it."""

    data: str | None = None
    """Fingerprint of the dev set. Files of older versions lack it."""
