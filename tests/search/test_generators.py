"""Generators on a made-up network small enough to know everything about."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from slimasr.config.search import EvolutionSearchConfig, ExhaustiveSearchConfig, Nsga2SearchConfig, RandomSearchConfig
from slimasr.errors import UserError
from slimasr.search.feasible import Feasible
from slimasr.search.generator import Generator, Proposal
from slimasr.search.generators import Evolution, build_generator, next_in_gaps
from slimasr.search.history import Candidate, History, error_threshold, rivals_of
from slimasr.search.nsga2 import GENERATION, Nsga2
from slimasr.search.prefix import layer_keys
from slimasr.supernet.front import Limits, find_front
from slimasr.supernet.subnet import Subnet
from tests.search.kit import PAPER, SPACE, count, count_paper, errors_of, feasible, measured, run_to_end

EVOLUTION = EvolutionSearchConfig(initial=12, generations=4, mutations=4, crossovers=4, buckets=8)
CONFIGS = {
    "exhaustive": ExhaustiveSearchConfig(),
    "random": RandomSearchConfig(candidates=30),
    "evolution": EVOLUTION,
    "nsga2": Nsga2SearchConfig(candidates=30, population=8),
}


def order(subnet: Subnet) -> tuple[object, ...]:
    return layer_keys(subnet, subnet.path or range(4))


def paper_order(subnet: Subnet) -> tuple[object, ...]:
    return layer_keys(subnet, subnet.path or range(16))


def generator(kind: str, allowed: Feasible | None = None, seed: int = 0) -> Generator:
    return build_generator(CONFIGS[kind], allowed or feasible(), order, seed)


def totals(found: list[Candidate]) -> list[Subnet]:
    return [candidate.subnet for candidate in found]


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_subnet_at_most_once_and_as_many_as_asked_for(kind: str) -> None:
    found = run_to_end(generator(kind))
    expected = {"exhaustive": 117, "random": 30, "evolution": 12 + 4 * 8, "nsga2": 30}[kind]
    assert generator(kind).total() == expected == len(found) == len(set(totals(found)))
    assert all(subnet in SPACE for subnet in totals(found))
    assert {SPACE.max, SPACE.min} <= set(totals(found))


@pytest.mark.parametrize("kind", CONFIGS)
def test_limits_hold_before_evaluation(kind: str) -> None:
    found = run_to_end(generator(kind, feasible(params=60, macs=110)))
    assert found and all(c.costs["params"] <= 60 and c.costs["macs"] <= 110 for c in found)
    assert SPACE.min in totals(found)
    if kind == "exhaustive":
        assert set(totals(found)) == {s for s in SPACE if count(s)["params"] <= 55}


@pytest.mark.parametrize("kind", ["exhaustive", "random", "evolution"])
@pytest.mark.parametrize("killed_after", [1, 7, 15, 29])
def test_a_search_that_was_killed_finds_what_one_without_kills_finds(kind: str, killed_after: int) -> None:
    whole = run_to_end(generator(kind))
    first = run_to_end(generator(kind), most=killed_after)
    rest = run_to_end(generator(kind), History(first))
    assert {c.subnet: c.generation for c in first + rest} == {c.subnet: c.generation for c in whole}


@pytest.mark.parametrize("kind", ["exhaustive", "random", "evolution"])
def test_two_workers_run_the_search_of_one(kind: str) -> None:
    whole, rng = run_to_end(generator(kind)), random.Random(5)
    workers, claims, done = [generator(kind), generator(kind)], dict[int, Candidate](), list[Candidate]()
    while True:
        idle = [number for number in (0, 1) if number not in claims]
        number = rng.choice([0, 1])
        if number in claims:
            done.append(claims.pop(number))
            continue
        running = [Candidate(c.subnet, "running", c.costs, c.generation) for c in claims.values()]
        proposal = workers[number].propose(History([*done, *running]))
        if proposal is None and len(idle) == 2:
            break
        if proposal is not None:
            claims[number] = measured(proposal)
    assert len(done) == len(whole)
    assert {c.subnet: c.generation for c in done} == {c.subnet: c.generation for c in whole}


def test_a_generation_waits_for_what_others_measure() -> None:
    worker = generator("evolution")
    found = run_to_end(worker, most=11)
    proposal = generator("evolution").propose(History(found))
    assert proposal is not None and proposal.generation == 0
    running = Candidate(proposal.subnet, "running", count(proposal.subnet), 0)
    assert worker.propose(History([*found, running])) is None
    following = worker.propose(History([*found, measured(proposal)]))
    assert following is not None and following.generation == 1


def test_children_descend_from_the_best_of_every_bucket() -> None:
    """With genes resampled never, mutants are their parents: known, so only crossovers of the archive remain."""
    config = EVOLUTION.model_copy(update={"mutation_probability": 0.0, "generations": 1})
    found = run_to_end(Evolution(feasible(), order, config, 0))
    parents = [c for c in found if c.generation == 0]
    children = [c.subnet for c in found if c.generation == 1]
    low, high = count(SPACE.min)["params"], count(SPACE.max)["params"]
    best: dict[int, Candidate] = {}
    for parent in sorted(parents, key=lambda c: (c.errors, c.dev_loss, c.costs["params"])):
        best.setdefault(min(7, int(8 * (parent.costs["params"] - low) / (high - low))), parent)
    genes = [SPACE.genes_of(c.subnet) for c in best.values()]
    assert 0 < len(children) <= 4
    for child in children:
        own = SPACE.genes_of(child).items()
        assert any(all(value in (a.get(name), b.get(name)) for name, value in own) for a in genes for b in genes), child


@pytest.mark.parametrize("bound", [40.0, 50.0, 60.0])
def test_parents_of_an_earlier_search_without_limits_are_those_within_them(bound: float) -> None:
    config = EVOLUTION.model_copy(update={"mutation_probability": 0.0, "crossovers": 40, "mutations": 0})
    found, allowed = run_to_end(generator("evolution")), feasible(params=bound)
    worker = Evolution(allowed, order, config, 0)
    best: dict[int, Candidate] = {}
    for parent in sorted(found, key=lambda c: (c.errors, c.dev_loss, c.costs["params"])):
        if parent.costs["params"] <= bound:
            best.setdefault(worker.buckets.index(parent.costs), parent)
    genes = [SPACE.genes_of(c.subnet) for c in best.values()]
    earlier = History(replace(c, generation=0) for c in found)
    children = worker.plan(1, earlier)
    assert children and any(c.costs["params"] > bound for c in earlier.measured)
    for child in children:
        own = SPACE.genes_of(child).items()
        assert any(all(value in (a.get(name), b.get(name)) for name, value in own) for a in genes for b in genes), child


def test_nsga2_takes_nothing_above_a_limit_into_its_population() -> None:
    found, worker = run_to_end(generator("exhaustive")), generator("nsga2", feasible(params=50))
    assert isinstance(worker, Nsga2)
    drawn = [replace(c, marks={GENERATION: 0}) for c in found[:20] + found[-1:]]
    assert worker.propose(History(drawn)) is not None
    values = [trial.values for trials in worker.population.members.values() for trial in trials]
    assert values and all(params <= 50 for _, params in values)


def test_evolution_finds_a_better_front_than_random_search_of_equal_length() -> None:
    """The paper's space, where some layers need their channels and others do not: least errors at every size."""

    def errors(subnet: Subnet) -> int:
        genes = PAPER.genes_of(subnet)
        return 2000 - sum(round((30 if n % 3 else 2) * int(genes.get(f"{n}.ffn", 0)) ** 0.25) for n in range(16))

    def area(config: EvolutionSearchConfig | RandomSearchConfig, seed: int) -> float:
        worker, found = build_generator(config, feasible(PAPER), paper_order, seed), list[Candidate]()
        while (proposal := worker.propose(History(found))) is not None:
            subnet = proposal.subnet
            figures = (count_paper(subnet), proposal.generation, errors(subnet), 9999, 0.0)
            found.append(Candidate(subnet, "measured", *figures))
        sizes = range(30_000, 100_000, 2_000)
        return sum(min(c.errors or 0 for c in found if c.costs["params"] <= size) for size in sizes)

    evolution = EvolutionSearchConfig(initial=60, generations=6, mutations=15, crossovers=15, buckets=16)
    pairs = [(area(evolution, seed), area(RandomSearchConfig(candidates=240), seed)) for seed in range(4)]
    assert all(ours < theirs for ours, theirs in pairs), pairs


def test_samples_are_spread_evenly_over_sizes() -> None:
    """The paper's space: genes drawn alone would pile up in the middle (central limit)."""
    allowed = feasible(PAPER)
    drawn = allowed.sample(256, random.Random(0), buckets=16)
    assert len(set(drawn)) == 256 and drawn[0] == PAPER.max and drawn[1] == PAPER.min
    ranges = allowed.buckets(16)
    counts = [sum(ranges.index(allowed.costs(s)) == index for s in drawn) for index in range(16)]
    assert min(counts) >= 8 and max(counts) <= 24, counts
    alone = [ranges.index(allowed.costs(PAPER.sample(random.Random(n)))) for n in range(256)]
    assert alone.count(15) == 0


@pytest.mark.parametrize("number", [8, 12, 16, 40, 63, 72, 100])
def test_few_samples_are_spread_as_evenly(number: int) -> None:
    """Also where there are fewer of them than ranges, or a few more: counts in eighths of all sizes."""
    allowed = feasible(PAPER)
    drawn = allowed.sample(number, random.Random(0), buckets=64)
    assert len(drawn) == number and drawn == allowed.sample(number, random.Random(0), buckets=64)
    eighths = allowed.buckets(8)
    counts = [sum(eighths.index(allowed.costs(s)) == index for s in drawn) for index in range(8)]
    assert all(abs(found - number / 8) <= 1 + number / 50 for found in counts), counts


def test_equal_prefixes_come_together() -> None:
    found = totals(run_to_end(generator("random")))
    shuffled = random.Random(0).sample(found, len(found))

    def shared(subnets: list[Subnet]) -> int:
        keys = [order(s) for s in subnets]
        return sum(
            next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y)))
            for x, y in itertools.pairwise(keys)
        )

    assert shared(found) > 1.3 * shared(shuffled)


def test_workers_split_a_generation_by_its_gaps() -> None:
    assert next_in_gaps(range(10), 10, None) == 0
    assert next_in_gaps([*range(1, 10)], 10, 0) == 1
    assert next_in_gaps([*range(1, 10)], 10, None) == 5
    assert next_in_gaps([2, 3, 7, 8, 9], 10, 4) == 8


def test_nsga2_goes_on_from_what_the_study_holds() -> None:
    first = run_to_end(generator("nsga2"), most=14)
    rest = run_to_end(generator("nsga2"), History(first))
    assert len({c.subnet for c in first + rest}) == 30
    # Later generations breed from the earlier ones' marks.
    generations = [mark for c in first + rest for mark in (c.marks or {}).values() if isinstance(mark, int)]
    assert max(generations) >= 1


def test_rivals_cost_no_more_and_nearly_as_much() -> None:
    rng = random.Random(2)
    found = [measured(Proposal(subnet)) for subnet in rng.sample(list(SPACE), 40)]
    history = History(found)
    for candidate in found:
        cheaper = sorted(c.costs["params"] for c in found if c.costs["params"] <= candidate.costs["params"])
        rivals = [count(subnet)["params"] for subnet in rivals_of(history, candidate.costs, "params")]
        assert sorted(rivals) == (cheaper[-16:] if len(cheaper) >= 4 else [])
    # What is still being evaluated has made no errors yet.
    running = History(replace(c, state="running") for c in found)
    assert rivals_of(running, count(SPACE.max), "params") == []


def test_exhaustive_search_of_a_huge_space_is_refused() -> None:
    with pytest.raises(UserError, match=r"4,362,338,304 subnets; choose evolution"):
        build_generator(ExhaustiveSearchConfig(), feasible(PAPER), order, 0)


def test_a_limit_nothing_meets_names_the_nearest_subnet() -> None:
    with pytest.raises(UserError, match=r"params <= 20: the nearest is w1-l2-\w+ with 24 parameters"):
        feasible(params=20)
    with pytest.raises(UserError, match=rf"nearest is {PAPER.min.id} with 28,978"):
        feasible(PAPER, params=20_000)


def test_a_candidate_above_the_bar_is_neither_on_the_front_nor_a_parent() -> None:
    """Against the definitions: above the bar front and parents stay as they are; below it one of them changes."""
    rng = random.Random(1)
    allowed = Feasible(SPACE, count, "params", Limits())
    buckets = allowed.buckets(6)
    subnets = rng.sample(list(SPACE), 40)
    for size in range(1, 40):
        history = History(Candidate(s, "measured", count(s), None, errors_of(s), 1000, 1.0) for s in subnets[:size])
        new = subnets[size]
        for ranges in (None, buckets):
            threshold = error_threshold(history, count(new), "params", ranges)
            if threshold == float("inf"):
                continue
            hopeless = Candidate(new, "measured", count(new), None, int(threshold) + 1, 1000, 0.0)
            hopeful = Candidate(new, "measured", count(new), None, int(threshold) - 1, 1000, 0.0)
            for candidate, matters in ((hopeless, False), (hopeful, True)):
                joined = [*history.measured, candidate]
                on_front = new in {m.subnet for m in find_front((c.measurement() for c in joined), "params")}
                is_parent = ranges is not None and new in {c.subnet for c in ranges.best(joined).values()}
                assert (on_front or is_parent) == matters
