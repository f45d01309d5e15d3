"""Decoding, and the search for the front."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    Natural,
    Positive,
    PositiveFloat,
    Section,
    Text,
    Threads,
)

CostName = Literal["params", "int8_bytes", "macs", "rtf"]
TimedSeconds = Annotated[float, Bounds(0.01, 3600.0)]
Population = Annotated[int, Bounds(2, LARGEST_INT)]


class DecodingConfig(Section):
    """Search for the best label sequence."""

    kind: Literal["greedy", "modified_beam"] = "greedy"
    beam: Positive = 4
    max_symbols_per_frame: Positive = 1
    batch_seconds: PositiveFloat = 200.0


class SearchSection(Section):
    """What every search says: the cost of the front, how time is measured, how a subnet is evaluated.

    ``limits``: cost name -> upper bound; subnets above one are not evaluated. ``int8``: measure WER and loss with
    weights rounded as int8 sees them. ``stop_early``: give a subnet up once it can no longer enter the front, and
    measure the loss only of those that can. ``cache_megabytes``: memory of a worker for hidden states that subnets
    of an equal prefix of layers share. ``energy``: see ``training.energy``.

    ``storage``: URL of the database that all workers of a search share; null = a file in the experiment. It may be
    away for ``storage_patience`` seconds. Workers give a sign of life every ``heartbeat_seconds``; after six of them
    without one, what a worker had begun is free for others.
    """

    cost: CostName = "params"
    limits: dict[CostName, PositiveFloat] = {}
    int8: bool = False
    rtf_seconds: TimedSeconds = 10.0
    rtf_threads: Threads = 1
    stop_early: bool = True
    cache_megabytes: Natural = 1024
    energy: bool = False
    storage: Text | None = None
    storage_patience: PositiveFloat = 300.0
    heartbeat_seconds: Positive = 10


class ExhaustiveSearchConfig(SearchSection):
    """Measures every subnet of the space."""

    kind: Literal["exhaustive"] = "exhaustive"


class RandomSearchConfig(SearchSection):
    """Max, min, and subnets drawn uniformly over sizes."""

    kind: Literal["random"] = "random"
    candidates: Positive = 100


class EvolutionSearchConfig(SearchSection):
    """Evolution from the best subnet of every size (paper 2).

    The first ``initial`` candidates are max, min and subnets drawn uniformly over sizes; each of ``generations`` then
    adds ``mutations`` and ``crossovers`` of archive members. The archive keeps the best subnet of each of ``buckets``
    equal ranges of cost.
    """

    kind: Literal["evolution"] = "evolution"
    initial: Positive = 512
    generations: Natural = 20
    mutations: Natural = 128
    crossovers: Natural = 128
    mutation_probability: Fraction = 0.2
    buckets: Positive = 64


class Nsga2SearchConfig(SearchSection):
    """NSGA-II on WER and cost (optuna's sampler)."""

    kind: Literal["nsga2"] = "nsga2"
    candidates: Positive = 100
    population: Population = 32


SearchConfig = Annotated[
    ExhaustiveSearchConfig | RandomSearchConfig | EvolutionSearchConfig | Nsga2SearchConfig,
    Field(discriminator="kind"),
]
