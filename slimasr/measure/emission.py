"""Emission delays of a set that was recognised in streams, against alignments; kept in results.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slimasr.data.features.frames import FRAME_SHIFT
from slimasr.data.timelines.folder import Alignments
from slimasr.decoding.streaming.sets import StreamedUtterance
from slimasr.decoding.streaming.stream import StreamRecognizer
from slimasr.measure.latency import TimedUtterance, TimedWord, available_times, emission_delays, emitted_words
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.store import update_results
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class DecodedBy:
    """With what a set was recognised.

    Attributes:
        checkpoint: name of the checkpoint with the weights.
        decoding: the search in words.
        data: fingerprint of the set.
    """

    checkpoint: str
    decoding: str
    data: str | None


def spoken_words(alignments: Alignments, name: str) -> list[TimedWord]:
    """Return the words of an utterance and when they end; none if no alignment was found.

    Raises:
        UserError: the utterance is not among the alignments.
    """
    timeline = alignments.of(name)
    return [TimedWord(word, end * FRAME_SHIFT) for word, _, end in timeline.words()] if timeline.aligned else []


def set_delays(
    recognizer: StreamRecognizer, utterances: Iterable[StreamedUtterance], alignments: Alignments, by: DecodedBy
) -> DelayEntry:
    """Summarise how late the words of a set were recognised.

    Args:
        recognizer: has recognised the set.
        utterances: the set.
        alignments: of the set.
        by: noted beside the delays.

    Raises:
        UserError: an utterance is not among the alignments.
    """
    timed = []
    for utterance in utterances:
        times = available_times(utterance.result, recognizer.model.encoder)
        emitted = emitted_words(utterance.result.tokens, times, recognizer.tokenizer)
        spoken = spoken_words(alignments, utterance.words.id)
        timed.append(TimedUtterance(spoken, emitted, times[0] if times else None))
    notes = {
        "data": by.data,
        "checkpoint": by.checkpoint,
        "decoding": by.decoding,
        "alignments": str(alignments.folder),
    }
    return emission_delays(timed).model_copy(update=notes)


def save_delays(exp: Path, subnet: Subnet, set_name: str, delays: DelayEntry) -> None:
    """Write the delays of a subnet on a set into an experiment's results.json."""
    entry = SubnetEntry(subnet=subnet, latency=LatencyEntry(delays={set_name: delays}))
    update_results(exp, Results(subnets={subnet.id: entry}))
