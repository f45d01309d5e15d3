"""The layout of an experiment's graph.json: the search graph of its results, and how its scores are weighed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from slimasr.results.entry import Entry, File, Number


class TriedEntry(Entry):
    """One choice of scales that was tried."""

    acoustic_scale: Number
    """Factor of the model's log-probabilities."""

    prior_scale: Number
    """Share of the label prior that is subtracted."""

    wer: Number
    """WER on the set in percent."""


class TunedEntry(Entry):
    """The scales that `slimasr-decode --tune` has chosen, and what it has tried."""

    acoustic_scale: Number
    """Factor of the model's log-probabilities, `decoding.graph.acoustic_scale` of this experiment from then on."""

    prior_scale: Number
    """Share of the label prior that is subtracted, `decoding.graph.prior_scale` of this experiment from then on."""

    experiment: str
    """Name of the experiment whose model was tried; another one where the scales were taken over."""

    subnet: str
    """Id of the subnet that was tried."""

    checkpoint: str
    """Checkpoint that was tried."""

    set_name: str
    """The set whose WER was compared."""

    tried: tuple[TriedEntry, ...] = ()
    """All choices, in the order in which they were tried."""


class GraphFile(File):
    """Decoding notes in `graph.json` of an experiment in which graph it has searched."""

    PLACE: ClassVar[str] = "graph.json"
    ADVICE: ClassVar[str] = "remove it and run stage 6 (slimasr-decode) again"

    folder: str | None = None
    """The folder of the graph, which `slimasr-graph` has written; absent before the first search in a graph."""

    digest: str | None = None
    """Digest of the graph; absent before the first search in a graph."""

    tuned: TunedEntry | None = None
    """The chosen scales; absent unless `slimasr-decode --tune` or `--scales` was asked for them."""


def read_graph_file(exp: Path) -> GraphFile:
    """Read the notes of an experiment, empty ones if there are none.

    Raises:
        UserError: the file is damaged.
    """
    return GraphFile.read(exp) or GraphFile()
