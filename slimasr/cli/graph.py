"""``slimasr-graph`` (stage 3): make the search graph of a lexicon and an n-gram language model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import ConfigOption, DataOption, DebugOption, SetOption, entry, print_notes, quick_imports
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.data.graphs.graph import SetReport

IfNeededOption = Annotated[
    bool, typer.Option("--if-needed", help="Do nothing if the configuration has no tokenizer.lexicon.")
]
MOST_NAMED = 10


def run(
    config: ConfigOption,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    if_needed: IfNeededOption = False,
    debug: DebugOption = False,
) -> None:
    """Make the search graph of a lexicon and a language model.

    Writes the lexicon, the language model and the graph to DATA/graph_<kind>_<size>, and prints the perplexity of the
    dev and test sets and the words that cannot be found.
    """
    from slimasr.config.load import load_config

    recipe = load_config(config, overrides or ())
    if recipe.tokenizer.lexicon is None:
        if if_needed:
            return
        raise UserError("tokenizer.lexicon: is null; name a dictionary, spelling or pieces to make a search graph")
    with quick_imports():
        from slimasr.data.graphs.stage import make_graph

    record = make_graph(recipe, data)
    typer.echo(
        f"{record.num_words} words, {record.num_pronunciations} pronunciations, {record.num_labels} labels; "
        f"{' + '.join(map(str, record.ngrams))} n-grams; {record.states} states, {record.arcs} arcs"
    )
    for name, report in record.sets.items():
        typer.echo(f"{name}: {report.describe()}")
        print_notes(_notes(name, report))


def _notes(set_name: str, report: SetReport) -> list[str]:
    """The words of a set that no search finds, or only with little probability."""
    reasons = {
        "words that the language model has not seen": report.oov,
        "words without pronunciation, which count as errors": report.without_pronunciation,
    }
    notes = []
    for what, counts in reasons.items():
        more = ", ..." if len(counts) > MOST_NAMED else ""
        if counts:
            notes.append(f"{set_name}: {what}: {', '.join(list(counts)[:MOST_NAMED])}{more}")
    return notes


main = partial(entry, run)
