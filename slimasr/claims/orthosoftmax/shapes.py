"""Judge what OrthoSoftmax keeps (claim C4.7 of paper 4), item by item, counted over all its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from slimasr.claims.asked import prefix_of
from slimasr.claims.orthosoftmax.models import MACS, PARAMS, mask_families, model_of, orthosoftmax_runs
from slimasr.claims.verdicts import Evidence
from slimasr.report.architecture import FEED_FORWARD, kind_of
from slimasr.report.findings import Finding, Verdict
from slimasr.report.pictures.remaining import Shares, remaining_shares
from slimasr.report.records import Run, Study, SubnetRecord

CONV, HEADS = "conv", "heads"

MOST, HALF = 0.75, 0.5
"""An item is held where it is so in at least the first fraction of the cases, not held in at most the second."""

FEWEST = 3
"""With fewer cases an item is not resolved."""


@dataclass(frozen=True)
class Kept:
    """What one learnt subnet keeps.

    Attributes:
        run: its run.
        record: its record.
        shares: kept shares, block by block.
        place: its place among the learnt subnets of the run, of which there are ``number``, the largest first.
    """

    run: Run
    record: SubnetRecord
    shares: Shares
    place: int
    number: int

    def of_kind(self, kind: str) -> float | None:
        """Return the mean share of the modules of one kind over all blocks, None without any."""
        return _mean([share for block in self.shares for name, share in block.items() if kind_of(name) == kind])

    def of_blocks(self, blocks: slice) -> float:
        """Return the mean share of all modules of some blocks; every module counts once, whatever it costs."""
        return _mean([share for block in self.shares[blocks] for share in block.values()]) or 0.0


def _mean(shares: Sequence[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None


Item = Callable[[Kept], bool | None]
"""Returns whether an item of the claim is so of a subnet; None if it says nothing of this subnet."""


def what_is_kept(study: Study) -> Finding:
    """Judge C4.7: five items, each counted over the subnets of all OrthoSoftmax runs, ablations included."""
    text = (
        "Convolutions are kept most; block 1 is kept more than the mean block; the lower half of the blocks is kept "
        "less than the upper half; min has no heads in the top third of the blocks; parameters prefer feed-forward "
        "modules to heads more than MACs do. Shares of modules, which all count alike; an item is held where it is so "
        f"in at least {100 * MOST:g} % of the cases, not held in at most {100 * HALF:g} %, and not resolved with fewer "
        f"than {FEWEST}."
    )
    evidence = Evidence()
    for family in mask_families(study.runs):
        kept = list(_kept(orthosoftmax_runs(family.runs)))
        counted = {name: [item(subnet) for subnet in kept] for name, item in ITEMS.items()}
        counted["parameters prefer feed-forward modules to heads more than MACs do"] = list(_preferences(kept))
        for name, answers in counted.items():
            known = [answer for answer in answers if answer is not None]
            if known:
                line = f"{prefix_of(family)}{name}: {sum(known)} of {len(known)}{_means(name, kept)}"
                evidence.add(line, _counted(known))
    return evidence.finding("C4.7", text)


def _kept(runs: Sequence[Run]) -> Iterator[Kept]:
    for run in runs:
        learnt = [record for record in run.subnets if record.learnt is not None and record.architecture]
        for place, record in enumerate(learnt):
            yield Kept(run, record, remaining_shares(run, record), place, len(learnt))


def _convolutions_most(kept: Kept) -> bool | None:
    conv = kept.of_kind(CONV)
    others = [kept.of_kind(kind) for kind in (FEED_FORWARD, HEADS)]
    known = [share for share in others if share is not None]
    return None if conv is None or not known else conv >= max(known)


def _first_block(kept: Kept) -> bool | None:
    return kept.of_blocks(slice(0, 1)) > kept.of_blocks(slice(None))


def _lower_half(kept: Kept) -> bool | None:
    half = len(kept.shares) // 2
    # The block in the middle of an odd number belongs to neither half.
    return kept.of_blocks(slice(0, half)) < kept.of_blocks(slice(len(kept.shares) - half, None)) if half else None


def _no_heads_on_top(kept: Kept) -> bool | None:
    top = kept.shares[len(kept.shares) - len(kept.shares) // 3 :]
    if kept.record is not kept.run.smallest or not any(HEADS in block for block in top):
        return None
    return not any(block.get(HEADS) for block in top)


ITEMS: dict[str, Item] = {
    "convolutions are kept most": _convolutions_most,
    "block 1 is kept more than the mean block": _first_block,
    "the lower half is kept less than the upper half": _lower_half,
    "min has no heads in the top third": _no_heads_on_top,
}


def _preferences(kept: Sequence[Kept]) -> Iterator[bool | None]:
    """Compare runs that differ in their criterion alone, budget by budget and seed by seed."""
    for ours in kept:
        model = model_of(ours.run)
        if model.criterion != PARAMS:
            continue
        for theirs in kept:
            # Budgets of different criteria may be written differently and mean the same sizes.
            same_size = (ours.place, ours.number) == (theirs.place, theirs.number) and ours.run.seed == theirs.run.seed
            if same_size and model_of(theirs.run) == replace(model, criterion=MACS):
                first, second = _preference(ours), _preference(theirs)
                yield None if first is None or second is None else first > second


def _preference(kept: Kept) -> float | None:
    """How much larger the share of feed-forward modules is than that of heads."""
    forward, heads = kept.of_kind(FEED_FORWARD), kept.of_kind(HEADS)
    return None if forward is None or heads is None else forward - heads


def _means(name: str, kept: Sequence[Kept]) -> str:
    """Add the means over all subnets to the item that is about kinds of modules."""
    if ITEMS.get(name) is not _convolutions_most:
        return ""
    parts = []
    for kind in (CONV, FEED_FORWARD, HEADS):
        mean = _mean([share for each in kept if (share := each.of_kind(kind)) is not None])
        if mean is not None:
            parts.append(f"{kind} {100 * mean:.0f} %")
    return f" (on average {', '.join(parts)})"


def _counted(answers: Sequence[bool]) -> Verdict:
    fraction = sum(answers) / len(answers)
    if len(answers) < FEWEST or HALF < fraction < MOST:
        return Verdict.NOT_RESOLVED
    return Verdict.HELD if fraction >= MOST else Verdict.NOT_HELD
