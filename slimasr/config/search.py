"""Decoding, and the search for the Pareto front of WER and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    Natural,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Text,
    Threads,
)

if TYPE_CHECKING:
    from slimasr.config.schema import Config

DecodingKind = Literal["greedy", "modified_beam", "graph"]
CostName = Literal["params", "int8_bytes", "macs", "rtf", "latency"]
TimedSeconds = Annotated[float, Bounds(0.01, 3600.0)]
ActiveStates = Annotated[int, Bounds(2, 2**31 - 1)]
Population = Annotated[int, Bounds(2, LARGEST_INT)]


class GraphDecodingConfig(Section):
    """Settings of graph decoding."""

    acoustic_scale: PositiveFloat = 1.0
    """Factor of the model's log-probabilities; the language model's have factor 1."""

    prior_scale: NonNegativeFloat = 0.0
    """Share of the label prior, the mean log-probability that the model gives a label in training data, which is
    subtracted from the model's log-probabilities; 0 = none."""

    beam: PositiveFloat = 16.0
    """Largest difference in cost (negative log-probability, after scaling) between a path and the best one of a frame;
    paths beyond it are left out."""

    max_active: ActiveStates = 3000
    """Largest number of states of the graph that the paths of a frame may end in."""


class DecodingConfig(Section):
    """Search for the words of an utterance."""

    kind: DecodingKind = "greedy"
    """Search algorithm: greedy; modified_beam, of a transducer, merges equal hypotheses and emits at most one symbol
    per frame; graph, of a CTC model, finds the best path through lexicon and language model (``slimasr-graph``);
    validation during training is always greedy."""

    beam: Positive = 4
    """Number of hypotheses that modified_beam keeps per utterance; 1 = greedy."""

    max_symbols_per_frame: Positive = 1
    """Largest number of symbols that greedy search emits per encoder frame; modified_beam needs 1."""

    batch_seconds: PositiveFloat = 200.0
    """Longest batch of validation, decoding and search in seconds of audio, padding included; it bounds memory and
    changes no result."""

    graph: GraphDecodingConfig = GraphDecodingConfig()
    """Settings of graph."""

    def check(self, config: Config) -> None:
        if config.model.kind == "ctc" and self.kind == "modified_beam":
            raise ValueError("decoding.kind: modified_beam searches transducers; a CTC model has greedy and graph")
        if config.model.kind == "ctc" and self.max_symbols_per_frame != 1:
            raise ValueError("decoding.max_symbols_per_frame: must be 1, as a CTC model gives each frame one label")
        if config.model.kind == "transducer" and self.kind == "graph":
            raise ValueError("decoding.kind: graph needs a CTC model (model.kind: ctc)")


class SearchSection(Section):
    """Settings of every search: the cost of the Pareto front, the measurement of time, the evaluation of a subnet."""

    cost: CostName = "params"
    """Cost that the Pareto front weighs against the dev WER: parameters, bytes in int8, multiply-accumulates per second
    of audio, real-time factor, or latency of the encoder on a device, which needs the profile of one (``slimasr-search
    --latency``)."""

    limits: dict[CostName, PositiveFloat] = {}
    """Upper bounds of costs, in parameters, bytes, multiply-accumulates per second of audio, seconds per second of
    audio, and milliseconds of latency; subnets above one are not evaluated; {} = none."""

    int8: bool = False
    """Whether WER and loss are measured with weights rounded to int8."""

    rtf_seconds: TimedSeconds = 10.0
    """Seconds of dev audio on which the real-time factor of a subnet is measured."""

    rtf_threads: Threads = 1
    """Processor threads for the measurement of the real-time factor, and for onnxruntime in slimasr-export."""

    stop_early: bool = True
    """Whether the evaluation of a subnet stops once it can neither reach the Pareto front nor become a parent; the
    exhaustive search ignores it."""

    halving: bool = False
    """Whether the evaluation of a subnet also stops after a part of the dev set (of ``decoding.batch_seconds``) on
    which most subnets of nearly its cost are better; the search takes less time, but it may miss subnets of the Pareto
    front; the exhaustive search ignores it."""

    cache_megabytes: Natural = 1024
    """Memory of each worker in megabytes (1e6 bytes) for hidden states that subnets with equal first layers share;
    0 = none."""

    energy: bool = False
    """Whether the search reads the machine's energy meters and counts processor and GPU time (extra ``energy``)."""

    storage: Text | None = None
    """URL of the database that all workers of a search share, such as postgresql://user@host/name; null = a file in
    the experiment's folder."""

    storage_patience: PositiveFloat = 300.0
    """Seconds for which a worker retries while the database is unreachable."""

    heartbeat_seconds: Positive = 10
    """Seconds between a worker's heartbeats; after six missed heartbeats workers on other machines take over its
    unfinished subnets."""


class ExhaustiveSearchConfig(SearchSection):
    """Evaluation of every subnet of the space."""

    kind: Literal["exhaustive"] = "exhaustive"
    """Selects the evaluation of all subnets."""


class RandomSearchConfig(SearchSection):
    """Evaluation of max, min, and subnets drawn uniformly over sizes."""

    kind: Literal["random"] = "random"
    """Selects random search."""

    candidates: Positive = 100
    """Number of subnets to evaluate, max and min included."""


class EvolutionSearchConfig(SearchSection):
    """Evolution from the best subnet of every size (paper 2)."""

    kind: Literal["evolution"] = "evolution"
    """Selects evolutionary search."""

    initial: Positive = 512
    """Number of subnets to evaluate first: max, min, and subnets drawn uniformly over sizes."""

    generations: Natural = 20
    """Number of generations after the first subnets; 0 = none."""

    mutations: Natural = 128
    """Number of mutated subnets in a generation, each from one of the parents."""

    crossovers: Natural = 128
    """Number of subnets in a generation that take each gene from one of two parents."""

    mutation_probability: Fraction = 0.2
    """Probability that a mutation draws a gene (width, depth, or a size in a layer) again; 1 = a random subnet."""

    buckets: Positive = 64
    """Number of equal ranges of cost; the best subnet of each range is a parent of the next generation."""


class Nsga2SearchConfig(SearchSection):
    """NSGA-II on WER and cost (optuna's sampler)."""

    kind: Literal["nsga2"] = "nsga2"
    """Selects NSGA-II."""

    candidates: Positive = 100
    """Number of subnets to evaluate, max and min included."""

    population: Population = 32
    """Number of subnets in a generation, the parents of the next one."""


SearchConfig = Annotated[
    ExhaustiveSearchConfig | RandomSearchConfig | EvolutionSearchConfig | Nsga2SearchConfig,
    Field(discriminator="kind"),
]
