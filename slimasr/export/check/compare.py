"""Compares what sherpa-onnx and torch have recognised of the same audio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slimasr.export.check.audio import Heard
from slimasr.export.check.runtime import Method, Ran, Run
from slimasr.export.check.searches import Found
from slimasr.export.check.tokens import Reading, changed_tokens
from slimasr.results.deployed import DeployedRate
from slimasr.scoring import Utterance, score


@dataclass(frozen=True)
class Theirs:
    """What another runtime has found, in our terms.

    Attributes:
        run: how it recognised.
        found: by utterance.
    """

    run: Run
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Difference:
    """An utterance that a runtime and torch recognise differently.

    Attributes:
        heard: the utterance.
        run: how the runtime recognised it.
        ours: text of torch.
        theirs: text of the runtime.
    """

    heard: Heard
    run: Run
    ours: str
    theirs: str


def as_ours(ran: Iterable[Ran], reading: Reading) -> list[Theirs]:
    """Return results of sherpa-onnx in our terms."""
    return [Theirs(one.run, tuple(Found(reading.text(said), reading.ids(said)) for said in one.said)) for one in ran]


def differences(
    audio: Sequence[Heard], ours: Mapping[Method, Sequence[Found]], theirs: Sequence[Theirs]
) -> list[Difference]:
    """Return the utterances whose ids or texts differ, in the order of the runs.

    Args:
        audio: the utterances.
        ours: what torch found in them, by the name of the search.
        theirs: what the runtime found in them.
    """
    return [
        Difference(heard, one.run, mine.text, found.text)
        for one in theirs
        for heard, mine, found in zip(audio, ours[one.run.method], one.found, strict=True)
        if found != mine
    ]


def rate_of(
    audio: Sequence[Heard],
    ours: Mapping[Method, Sequence[Found]],
    theirs: Sequence[Theirs],
    numbers: range,
    in_words: bool,
) -> DeployedRate:
    """Return the figures of a set.

    Args:
        audio: utterances of all sets.
        ours: what torch found in them, by the name of the search.
        theirs: what the runtime found in them; the first one is greedy search, one utterance at a time.
        numbers: which utterances belong to the set.
        in_words: whether texts consist of words.
    """
    part = audio[numbers.start : numbers.stop]
    mine = {method: found[numbers.start : numbers.stop] for method, found in ours.items()}
    of_set = [Theirs(one.run, one.found[numbers.start : numbers.stop]) for one in theirs]
    other = {difference.heard.name for difference in differences(part, mine, of_set)}
    greedy = mine["greedy_search"]
    changed = (changed_tokens(one.ids, found.ids) for one, found in zip(greedy, of_set[0].found, strict=True))
    rate = DeployedRate(
        utterances=len(part),
        identical=len(part) - len(other),
        tokens=sum(len(found.ids) for found in greedy),
        changed_tokens=sum(changed),
    )
    scored = in_words and any((heard.text or "").split() for heard in part)
    return rate.model_copy(update=_error_rates(part, greedy, of_set)) if scored else rate


def _error_rates(audio: Sequence[Heard], greedy: Sequence[Found], theirs: Sequence[Theirs]) -> dict[str, object]:
    """Return the keys of `DeployedRate` that need references."""
    beams = [one for one in theirs if one.run.method == "modified_beam_search"]
    by_greedy = score(_pairs(audio, theirs[0].found), replications=0)
    return {
        "wer": by_greedy.wer,
        "torch_wer": score(_pairs(audio, greedy), replications=0).wer,
        "beam_wer": score(_pairs(audio, beams[0].found), replications=0).wer if beams else None,
        "errors": by_greedy.counts.errors,
        "words": by_greedy.counts.words,
    }


def _pairs(audio: Sequence[Heard], found: Sequence[Found]) -> list[Utterance]:
    return [
        Utterance(heard.name, tuple((heard.text or "").split()), tuple(one.text.split()))
        for heard, one in zip(audio, found, strict=True)
    ]
