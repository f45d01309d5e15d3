"""Histories and spaces that the tests of generators and studies share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from slimasr.search.feasible import Feasible
from slimasr.search.generator import Generator, Proposal
from slimasr.search.history import Candidate, History
from slimasr.search.study import Outcome, Study
from slimasr.supernet.front import Limits
from slimasr.supernet.space import LayerSpace
from slimasr.supernet.subnet import Subnet

SPACE = LayerSpace((4, 3, 2), (("ffn", (2, 4, 8)),))
"""3^4 + 3^3 + 3^2 = 117 subnets."""
PAPER = LayerSpace((16, 13, 9), (("ffn", (512, 1024, 2048, 4096)),))
WORDS = 1000


def count(subnet: Subnet) -> Mapping[str, float]:
    """Sizes that follow from the genes as a network's would: monotone in every one."""
    depth = 4 if subnet.path is None else len(subnet.path)
    sizes = dict(subnet.units)
    params = 10 * depth + sum(int(sizes.get(f"{layer}.ffn", 8)) for layer in range(depth))
    return {"params": float(params), "macs": 2.0 * params, "int8_bytes": 1.5 * params}


def count_paper(subnet: Subnet) -> Mapping[str, float]:
    """Paper 2's parameters, in thousands."""
    depth = 16 if subnet.path is None else len(subnet.path)
    sizes = dict(subnet.units)
    total = 13_660 + sum(1_190 + int(sizes.get(f"{layer}.ffn", 4096)) for layer in range(depth))
    return {"params": float(total), "macs": float(total)}


def errors_of(subnet: Subnet) -> int:
    """Fewer in larger networks, with noise that is the subnet's own."""
    noise = int(hashlib.sha256(subnet.to_json().encode()).hexdigest()[:4], 16) % 60
    return round(9000 / count(subnet)["params"]) + noise


def feasible(space: LayerSpace = SPACE, **limits: float) -> Feasible:
    """All of a space, or what limits leave of it."""
    return Feasible(space, count_paper if space is PAPER else count, "params", Limits(**limits))


def measured(proposal: Proposal) -> Candidate:
    """What an evaluation of the made-up network gives."""
    subnet = proposal.subnet
    errors = errors_of(subnet)
    return Candidate(
        subnet, "measured", count(subnet), proposal.generation, errors, WORDS, errors / 100, proposal.marks
    )


def run_to_end(generator: Generator, known: History | None = None, most: int = 10_000) -> list[Candidate]:
    """What one worker evaluates, in order."""
    found = [] if known is None else known.finished
    fresh: list[Candidate] = []
    while (proposal := generator.propose(History([*found, *fresh]))) is not None and len(fresh) < most:
        assert proposal.subnet not in History([*found, *fresh])
        fresh.append(measured(proposal))
    return fresh


def search_alone(study: Study, generator: Generator, most: int = 10_000) -> None:
    """What one worker does with the made-up network; it stops early what a cheaper subnet beats."""
    for _ in range(most):
        history = study.history()
        proposal = generator.propose(history)
        if proposal is None:
            return
        costs = count(proposal.subnet)
        claim = study.claim(proposal, costs)
        assert claim is not None
        errors = errors_of(proposal.subnet)
        beaten = any(c.errors < errors and c.costs["params"] <= costs["params"] for c in history.measured if c.errors)
        loss = None if beaten else errors / 100
        assert study.finish(claim, Outcome(errors, WORDS, loss, beaten, seconds=2.0))
