"""Inspect data where it lies: the sets of a data folder, or whatever corpus own reads, before any stage has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from lhotse.cut import Cut

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.corpora.base import ListedUtterance, OptionValue, parse_options
from slimasr.data.files import MUSAN_SET, BadUtterance, DataFolder, iterate_cuts, read_bad, sets_in
from slimasr.data.inspection.facts import DataFacts, inspect_sets
from slimasr.data.inspection.gathering import AudioFigures
from slimasr.data.inspection.sounds import measure_sounds
from slimasr.data.manifests.stage import build_cuts
from slimasr.data.own.read import default_label, make_audio, read_source
from slimasr.data.shar.lists import is_list
from slimasr.errors import UserError
from slimasr.progress import Progress

STAGE = "stage 1 (slimasr-prepare)"


@dataclass(frozen=True)
class _Found:
    """A set: its cuts, which may be read once, and the utterances that cannot be used."""

    cuts: Iterable[Cut]
    left_out: Sequence[BadUtterance]


def inspect_paths(
    paths: Sequence[Path],
    options: OwnOptions,
    set_names: Sequence[str] | None,
    num_threads: int,
    progress: Progress,
) -> DataFacts:
    """Inspect data folders with manifests, and other data as corpus own reads them.

    Args:
        options: how other data are read.
        set_names: names of the sets of data folders, and of other data, which are named as their file or folder; None =
            all of them.
        num_threads: threads that read audio; 0 = audio is not read.

    Raises:
        UserError: a path holds no data, a set is missing, or a list cannot be read.
    """
    with TemporaryDirectory(prefix="slimasr-inspect-") as made:
        found: dict[str, _Found] = {}
        for number, path in enumerate(paths):
            own = _sets_of_folder(path) or _other_data(path, options, Path(made) / str(number), progress)
            for name, each in own.items():
                # Sets of several folders may have one name; the path tells them apart.
                found[f"{path}/{name}" if name in found else name] = each
        chosen = _choose(found, set_names, paths)
        figures = {name: _with_figures(each.cuts, name, num_threads, progress) for name, each in chosen.items()}
        return inspect_sets(figures, {name: each.left_out for name, each in chosen.items()})


def read_options(pairs: Sequence[str]) -> OwnOptions:
    """Read ``name=value`` as options of corpus own.

    Raises:
        UserError: an option is unknown, or its value is of another type.
    """
    values: dict[str, OptionValue] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise UserError(f"--option {pair}: needs the form NAME=VALUE, such as text_column=sentence")
        field = OwnOptions.model_fields.get(name)
        # Numbers are text for options that are text, such as the number of a channel.
        is_text = field is None or isinstance(field.default, str)
        values[name] = text if is_text else _plain(text)
    return parse_options(OwnOptions, values, "own")


def _plain(text: str) -> OptionValue:
    """A number or truth value as YAML has it, or else the text itself."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (bool, int, float)) else text


def _sets_of_folder(path: Path) -> dict[str, _Found]:
    """The sets of a data folder, with training sets first; empty if the path is none."""
    folder = DataFolder(path)
    names = sorted(set(sets_in(folder.raw_cuts("any").parent)) - {MUSAN_SET}, key=_place)
    return {name: _Found(iterate_cuts(folder.raw_cuts(name), STAGE), read_bad(folder.raw_bad(name))) for name in names}


def _other_data(path: Path, options: OwnOptions, made: Path, progress: Progress) -> dict[str, _Found]:
    """One set, of whatever corpus own reads."""
    if not path.exists():
        raise UserError(f"{path}: no such folder or file; name a data folder of {STAGE}, or data that corpus own reads")
    name = default_label(path)
    # Another sampling rate is a fact about the data here, and no error.
    config = DataConfig.model_validate(
        {"corpus": "own", "sources": {name: str(path)}, "train": [name], "resample": True}
    )
    if path.is_file() and is_list(path):
        raise UserError(
            f"{path}: is a list of shards, which {STAGE} reads; inspect its data folder, or name a Shar folder instead"
        )
    make_audio(path, options, made, progress)
    listed = list(read_source(path, options, made))
    cuts: list[Cut] = []
    bad: list[BadUtterance] = []
    for group in _without_repeats(progress(listed, len(listed), f"headers of {name}")):
        found, left_out = build_cuts(group, config)
        cuts += found
        bad += left_out
    return {name: _Found(cuts, bad)}


def _without_repeats(listed: Iterable[ListedUtterance]) -> list[list[ListedUtterance]]:
    """The utterances in groups in which each id occurs once: stage 1 refuses repeated ids, which are shown here."""
    groups: list[list[ListedUtterance]] = []
    seen: Counter[str] = Counter()
    for utterance in listed:
        place = seen[utterance.id]
        seen[utterance.id] += 1
        if place == len(groups):
            groups.append([])
        groups[place].append(utterance)
    return groups


def _choose(found: Mapping[str, _Found], names: Sequence[str] | None, paths: Sequence[Path]) -> dict[str, _Found]:
    if names is None:
        return dict(found)
    for name in names:
        if name not in found:
            where = ", ".join(map(str, paths))
            raise UserError(
                f"--set-name {name}: not in {where}, which has the sets {', '.join(found)}; name one of them"
            )
    return {name: found[name] for name in dict.fromkeys(names)}


def _with_figures(
    cuts: Iterable[Cut], name: str, num_threads: int, progress: Progress
) -> Iterator[tuple[Cut, AudioFigures]]:
    if num_threads == 0:
        return ((cut, None) for cut in cuts)
    return measure_sounds(cuts, num_threads, progress, label=f"audio of {name}")


def _place(name: str) -> tuple[int, str]:
    """Training sets come first, then dev and test sets, then others."""
    kinds = ("train", "dev", "test")
    place = next((number for number, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name
