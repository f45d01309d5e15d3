"""Which search graph an experiment searches, and with which scales."""

from __future__ import annotations

from pathlib import Path

from slimasr.config.search import DecodingConfig
from slimasr.data.files import DataFolder
from slimasr.data.graphs.graph import Graph, load_graph
from slimasr.data.sets import graph_folder
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.folder import needed
from slimasr.locking import file_lock
from slimasr.results.graph import GraphFile, TunedEntry, read_graph_file


def graph_of(experiment: Experiment, decoding: DecodingConfig, folder: Path | None = None) -> SearchGraph | None:
    """Open the graph that an experiment searches; None if the search needs none.

    Args:
        experiment: a trained experiment.
        decoding: the search.
        folder: the folder of the graph, which is noted in the experiment; None = the one that is noted there.

    Raises:
        UserError: no graph is noted, or it is missing, damaged or of another tokenizer, or the extra ``graph`` is not
            installed.
    """
    if decoding.kind != "graph":
        return None
    if folder is None:
        return SearchGraph.open(noted_graph(experiment))
    place = folder.resolve()
    graph = load_graph(place, experiment.tokenizer)
    noted = read_graph_file(experiment.dir)
    if (noted.folder, noted.digest) != (str(place), graph.digest):
        _change(experiment.dir, {"folder": str(place), "digest": graph.digest})
    return SearchGraph.open(graph)


def noted_graph(experiment: Experiment) -> Graph:
    """Find the graph that is noted in an experiment.

    Raises:
        UserError: no graph is noted, or it is missing, damaged or of another tokenizer.
    """
    noted = read_graph_file(experiment.dir)
    if noted.folder is None:
        raise UserError(
            f"{experiment.dir}: no search graph is known; run slimasr-decode once with the data folder that has it"
        )
    return load_graph(Path(noted.folder), experiment.tokenizer)


def graph_in(experiment: Experiment, decoding: DecodingConfig, data: Path) -> SearchGraph | None:
    """Open the graph that stage 3 has written to a data folder; None if the search needs none. Raises as `graph_of`."""
    return graph_of(experiment, decoding, graph_folder(experiment.config, DataFolder(data)))


def write_scales(exp: Path, tuned: TunedEntry) -> None:
    """Note the scales with which an experiment is decoded from now on."""
    _change(exp, {"tuned": tuned})


def take_scales(exp: Path, other: Path) -> TunedEntry:
    """Note the scales of another experiment in this one, and return them.

    Raises:
        UserError: one of the folders is no experiment, or ``slimasr-decode --tune`` has not run in the other one.
    """
    for folder in (exp, other):
        needed(folder / "config.yaml")
    tuned = read_graph_file(other).tuned
    if tuned is None:
        raise UserError(f"{other / GraphFile.PLACE}: has no scales; run slimasr-decode --tune there first")
    write_scales(exp, tuned.model_copy(update={"tried": ()}))
    return tuned


def _change(exp: Path, changes: dict[str, object]) -> None:
    with file_lock(exp / GraphFile.PLACE):
        # Keys that were never set are not written.
        before = read_graph_file(exp).to_dict()
        GraphFile.model_validate({**before, **changes}).write(exp)
