"""Token sequences of hypotheses as chains of links, whose common starts exist once."""

from __future__ import annotations

from collections.abc import Sequence

from slimasr.decoding.searches.label_search import Hypothesis

_FEW = 16
"""So few tokens are not worth a search for their common start."""


class Link:
    """One token of a hypothesis, and all tokens before it.

    Attributes:
        before: the link of the token before; None = there is none.
        token: id of the token.
        frame: the encoder frame that emitted it.
        length: number of tokens up to here.
    """

    __slots__ = ("before", "frame", "length", "token")

    def __init__(self, before: Chain, token: int, frame: int) -> None:
        self.before = before
        self.token = token
        self.frame = frame
        self.length: int = 1 if before is None else before.length + 1


Chain = Link | None
"""The last link of a token sequence; None = the sequence is empty."""


def labels(chain: Chain, start: Chain = None) -> Hypothesis:
    """Return the tokens of a chain, from its start or behind one of its links."""
    tokens: list[int] = []
    frames: list[int] = []
    while chain is not start:
        assert chain is not None
        tokens.append(chain.token)
        frames.append(chain.frame)
        chain = chain.before
    return Hypothesis(tuple(reversed(tokens)), tuple(reversed(frames)))


def settle(chains: Sequence[Chain], alive: Sequence[bool], kept: int) -> tuple[Hypothesis, tuple[Chain, ...], int]:
    """Take the common start of the chains of one stream away.

    Chains are examined only once they have become twice as long as they were after the last time, so that the work
    per token is constant, however long two hypotheses go on that differ in an early token.

    Args:
        chains: of the stream's hypotheses.
        alive: for each of them, whether its slot is in use; the chains of others do not count.
        kept: length of the longest chain after the last time.

    Returns:
        The common start, the remaining chains, and ``kept`` for the next call.
    """
    longest = _longest(chains)
    if longest < 2 * kept + _FEW:
        return Hypothesis(), tuple(chains), kept
    living = [chain for chain, lives in zip(chains, alive, strict=True) if lives]
    common = _common(living)
    if common is None:
        return Hypothesis(), tuple(chains), longest
    # New links, because the old ones would keep the settled tokens in memory.
    moved: dict[int, Chain] = {id(common): None}
    left = tuple(_moved(chain, moved) if lives else None for chain, lives in zip(chains, alive, strict=True))
    return labels(common), left, _longest(left)


def _longest(chains: Sequence[Chain]) -> int:
    return max(0 if chain is None else chain.length for chain in chains)


def _common(chains: Sequence[Chain]) -> Chain:
    """Return the last link that is part of all chains."""
    # By identity: the deepest link is replaced by the one before it, until all are the same.
    ends: dict[int, Link] = {}
    for chain in chains:
        if chain is None:
            return None
        ends[id(chain)] = chain
    while len(ends) > 1:
        deepest = max(ends.values(), key=lambda link: link.length)
        del ends[id(deepest)]
        if deepest.before is None:
            return None
        ends[id(deepest.before)] = deepest.before
    return next(iter(ends.values()))


def _moved(chain: Chain, moved: dict[int, Chain]) -> Chain:
    """Copy the links of a chain that have not been copied yet.

    Args:
        chain: the chain.
        moved: identity of a link -> its copy; copies are added.
    """
    pending: list[Link] = []
    while chain is not None and id(chain) not in moved:
        pending.append(chain)
        chain = chain.before
    copy = None if chain is None else moved[id(chain)]
    for link in reversed(pending):
        copy = Link(copy, link.token, link.frame)
        moved[id(link)] = copy
    return copy
