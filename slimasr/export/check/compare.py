"""Compares what sherpa-onnx and torch have recognised of the same audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method, Ran, Run
from slimasr.export.check.searches import Ours
from slimasr.export.check.tokens import Reading, changed_tokens
from slimasr.results.deployed import DeployedRate
from slimasr.scoring import Utterance, score


@dataclass(frozen=True)
class Difference:
    """An utterance that sherpa-onnx and torch recognise differently.

    Attributes:
        heard: the utterance.
        run: how sherpa-onnx recognised it.
        ours: text of torch.
        theirs: text of sherpa-onnx.
    """

    heard: Heard
    run: Run
    ours: str
    theirs: str


def differences(
    audio: Sequence[Heard], ours: Mapping[Method, Sequence[Ours]], ran: Sequence[Ran], reading: Reading
) -> list[Difference]:
    """Return the utterances whose token ids or texts differ, in the order of the runs.

    Args:
        audio: the utterances.
        ours: what torch found in them, by the name of the search.
        ran: what sherpa-onnx found in them.
        reading: of what sherpa-onnx says.
    """
    found = []
    for one in ran:
        for heard, mine, said in zip(audio, ours[one.run.method], one.said, strict=True):
            theirs = reading.text(said)
            if reading.ids(said) != mine.ids or theirs != mine.text:
                found.append(Difference(heard, one.run, mine.text, theirs))
    return found


def rate_of(
    audio: Sequence[Heard], ours: Mapping[Method, Sequence[Ours]], ran: Sequence[Ran], reading: Reading, numbers: range
) -> DeployedRate:
    """Return the figures of a set.

    Args:
        audio: utterances of all sets.
        ours: what torch found in them, by the name of the search.
        ran: what sherpa-onnx found in them; the first run is greedy search, one utterance at a time.
        reading: of what sherpa-onnx says.
        numbers: which utterances belong to the set.
    """
    part = [audio[number] for number in numbers]
    mine = {method: [found[number] for number in numbers] for method, found in ours.items()}
    theirs = [Ran(one.run, tuple(one.said[number] for number in numbers), 0.0, 0.0, 0, 0) for one in ran]
    other = {difference.heard.name for difference in differences(part, mine, theirs, reading)}
    greedy = mine["greedy_search"]
    changed = [changed_tokens(found.ids, reading.ids(said)) for found, said in zip(greedy, theirs[0].said, strict=True)]
    figures = {
        "utterances": len(part),
        "identical": len(part) - len(other),
        "tokens": sum(len(found.ids) for found in greedy),
        "changed_tokens": sum(changed),
    }
    return DeployedRate(**figures, **_error_rates(part, greedy, theirs, reading))


def _error_rates(
    audio: Sequence[Heard], greedy: Sequence[Ours], ran: Sequence[Ran], reading: Reading
) -> dict[str, float | int | None]:
    """Return the keys of `DeployedRate` that need references with words; empty without them."""
    if not reading.in_words or not any((heard.text or "").split() for heard in audio):
        return {}
    by_greedy = score(_pairs(audio, [reading.text(said) for said in ran[0].said]), replications=0)
    ours = score(_pairs(audio, [found.text for found in greedy]), replications=0)
    beams = [one for one in ran if one.run.method == "modified_beam_search"]
    beam = score(_pairs(audio, [reading.text(said) for said in beams[0].said]), replications=0).wer if beams else None
    counts = by_greedy.counts
    return {
        "wer": by_greedy.wer,
        "torch_wer": ours.wer,
        "beam_wer": beam,
        "errors": counts.errors,
        "words": counts.words,
    }


def _pairs(audio: Sequence[Heard], texts: Sequence[str]) -> list[Utterance]:
    return [
        Utterance(heard.name, tuple((heard.text or "").split()), tuple(text.split()))
        for heard, text in zip(audio, texts, strict=True)
    ]
