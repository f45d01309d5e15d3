"""Speech of the user's own: the sets of ``data.sources`` in the formats that `slimasr.data.own` reads.

The corpus's folder is one that stage 1 makes in the data folder. It keeps audio that is no file: that of Shar folders,
and the output of commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Listing,
    Options,
    Progress,
    own_sets,
    parse_options,
    refuse_contradictions,
)
from slimasr.data.own.find import paths_of
from slimasr.data.own.read import default_label, make_audio, read_source
from slimasr.data.own.sources import missing_sets
from slimasr.data.own.split import parse_shares, split
from slimasr.errors import UserError
from slimasr.files import writing

NAME = "own"
Sets = dict[str, list[ListedUtterance]]


def configured(config: DataConfig) -> Corpus:
    """The corpus of a recipe's sources."""
    return replace(CORPUS, list_with_notes=partial(list_sets, config), generate=partial(make_all_audio, config))


def make_all_audio(config: DataConfig, target: Path, options: Options, progress: Progress) -> None:
    """Write the audio of all sources that is no file to ``target``; also checks that the sources are there.

    Raises:
        UserError: see `make_audio`.
    """
    parsed = parse_options(OwnOptions, options, NAME)
    if not config.sources:
        _refuse(target, (), options)
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    for source in config.sources.values():
        for path in paths_of(source):
            make_audio(path, parsed, target, progress)


def list_sets(config: DataConfig, corpus_dir: Path, sets: Sequence[str], options: Options) -> Listing:
    """List sets that have sources, and split dev and test sets that have none off from the training sets.

    Raises:
        UserError: a source cannot be read, or a set has no source and is not the dev set or the test set.
    """
    parsed = parse_options(OwnOptions, options, NAME)
    shares = _shares(config, parsed)
    unknown = next((name for name in sets if name not in config.sources and name not in shares), None)
    if unknown is not None:
        there = ", ".join([*config.sources, *shares])
        raise UserError(f"data.sources: the set {unknown} needs a path here; there are {there}")
    trained = own_sets(config.train) if shares else []
    labels = labels_of(config.sources)
    found = {
        name: _read(config, name, parsed, corpus_dir, labels)
        for name in dict.fromkeys([*trained, *sets])
        if name not in shares
    }
    if not shares:
        return Listing(found)
    # Otherwise an id that is listed twice would be split as one utterance.
    refuse_contradictions(found)
    made = split({name: found[name] for name in trained}, shares, parsed.split_seed)
    return Listing({name: {**found, **made.sets}[name] for name in sets}, tuple(made.lines()), made.facts())


def labels_of(sources: Mapping[str, str | list[str]]) -> dict[Path, str]:
    """Path of a source -> what ids begin with that are made from file names, different for each source.

    It is the name of the first set with this source, and of the source if the set has several.
    """
    labels: dict[Path, str] = {}
    for name, source in sources.items():
        paths = paths_of(source)
        for place, path in enumerate(paths):
            label = name if len(paths) == 1 else f"{name}-{default_label(path)}"
            # Shards in different folders, for example, may have the same name.
            is_taken = label in labels.values()
            labels.setdefault(path, f"{label}-{place + 1}" if is_taken else label)
    return labels


def _read(
    config: DataConfig, name: str, options: OwnOptions, made: Path, labels: Mapping[Path, str]
) -> list[ListedUtterance]:
    found: list[ListedUtterance] = []
    for path in paths_of(config.sources[name]):
        before = len(found)
        found += read_source(path, options, made, labels[path])
        if len(found) == before:
            raise UserError(f"{path}: lists no utterance; remove it from data.sources, or name another path")
    return found


def _shares(config: DataConfig, options: OwnOptions) -> dict[str, float]:
    """Set without a source -> its share of the training data."""
    dev, test = missing_sets(config)
    if not dev and not test:
        return {}
    dev_share, test_share = parse_shares(options.split)
    # A set that is both is as large as a dev set.
    return {**dict.fromkeys(dev, dev_share), **{name: test_share for name in test if name not in dev}}


def _refuse(corpus_dir: Path, sets: Sequence[str], options: Options) -> Sets:
    raise UserError("data.sources: corpus own needs the folder or file of each set, such as {train: PATH}")


CORPUS = Corpus(NAME, (), "", _refuse, configured=configured)
