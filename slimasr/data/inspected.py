"""Inspect the sets of a data folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lhotse.cut import Cut

from slimasr.data.files import MUSAN_SET, DataFolder, check_sets, iterate_cuts, read_bad, sets_in
from slimasr.data.gathering import Heard
from slimasr.data.inspection import DataFacts, inspect_sets
from slimasr.data.sounds import measure_sounds
from slimasr.errors import UserError
from slimasr.progress import Progress

STAGE = "stage 1 (slimasr-prepare)"


def inspect_folder(data_dir: Path, set_names: Sequence[str] | None, num_threads: int, progress: Progress) -> DataFacts:
    """Inspect sets of a data folder, from the manifests of stage 1.

    Args:
        set_names: the sets; None = all of them.
        num_threads: threads that read audio; 0 = audio is not read.

    Raises:
        UserError: the folder has no manifests, or lacks a set.
    """
    folder = DataFolder(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such folder; name a data folder, in which {STAGE} has written manifests")
    known = sorted(set(sets_in(folder.raw_cuts("any").parent)) - {MUSAN_SET}, key=_place)
    if not known:
        raise UserError(f"{data_dir}: has no manifests; run {STAGE} with --data {data_dir}, or name another folder")
    names = known if set_names is None else list(dict.fromkeys(set_names))
    check_sets(names, folder.raw_cuts, STAGE)
    cuts = {name: iterate_cuts(folder.raw_cuts(name), STAGE) for name in names}
    heard = {name: _heard(cuts[name], name, num_threads, progress) for name in names}
    return inspect_sets(heard, {name: read_bad(folder.raw_bad(name)) for name in names})


def _heard(cuts: Iterable[Cut], name: str, num_threads: int, progress: Progress) -> Iterator[tuple[Cut, Heard]]:
    if num_threads == 0:
        return ((cut, None) for cut in cuts)
    return measure_sounds(cuts, num_threads, progress, label=f"audio of {name}")


def _place(name: str) -> tuple[int, str]:
    """Training sets come first, then dev and test sets, then others."""
    kinds = ("train", "dev", "test")
    place = next((number for number, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name
