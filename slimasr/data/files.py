"""Paths in the recipe's data folder, and reading and writing its manifests."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.serialization import decode_json_line, deserialize_item

from slimasr.errors import UserError
from slimasr.files import read_json, replacing, understanding, write_json_atomic, writing

# The name is matched non-greedily, so that a suffix such as _sp0.9 does not become part of it.
_MANIFEST = re.compile(r"cuts_(?P<name>.+?)(_sp[0-9.]+)?\.jsonl\.gz")
FIRST_REASONS = 3
"""A message names at most this many utterances that were left out."""

MUSAN_SET = "musan"
"""Set name of the noise manifest, next to those of the corpus."""

NOISE_SET = "noise@folder"
"""Set name of the noise of ``data.noise``. No corpus has a set of this name."""

ROOMS_SET = "rooms@folder"
"""Set name of the recorded room impulse responses of ``data.reverb.folder``."""


@dataclass(frozen=True)
class BadUtterance:
    """An utterance that is left out of training, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class DataFolder:
    """Paths inside a recipe's data folder."""

    root: Path

    def raw_cuts(self, set_name: str) -> Path:
        """Cuts with transcripts, as stage 1 writes them."""
        return self.root / "manifests" / f"cuts_{set_name}.jsonl.gz"

    def raw_bad(self, set_name: str) -> Path:
        """Utterances that stage 1 left out."""
        return self.root / "manifests" / f"bad_{set_name}.json"

    @property
    def split(self) -> Path:
        """How stage 1 split dev and test sets off, if the corpus has none."""
        return self.root / "manifests" / "split.json"

    @property
    def features(self) -> Path:
        """Everything stage 2 writes; feature paths in its manifests are relative to it."""
        return self.root / "features"

    def cuts(self, set_name: str, speed: float = 1.0) -> Path:
        """Cuts with features, as stage 2 writes them."""
        return self.features / f"cuts_{set_name}{speed_suffix(speed)}.jsonl.gz"

    def bad(self, set_name: str) -> Path:
        """Utterances that stage 2 left out."""
        return self.features / f"bad_{set_name}.json"

    @property
    def stats(self) -> Path:
        """Mean and standard deviation of the training features, and how they were computed."""
        return self.stats_of("")

    def stats_of(self, name: str) -> Path:
        """The statistics with a name of their own (``features.name``); those of `stats` have none."""
        return self.features / (f"stats_{name}.json" if name else "stats.json")

    def lock(self, product: str) -> Path:
        """The lock file for writing a product such as ``manifests`` or ``lang_bpe_500``."""
        return self.root / f"{product}.lock"

    def lang(self, kind: str, vocab_size: int, name: str = "") -> Path:
        """A tokenizer, as stage 3 writes it, by its kind and size or by a name of its own (``tokenizer.name``)."""
        return self.root / f"lang_{name or f'{kind}_{vocab_size}'}"

    def graph(self, kind: str, vocab_size: int, name: str = "") -> Path:
        """The search graph of a tokenizer, as stage 3 writes it; the arguments are those of `lang`."""
        return self.root / f"graph_{name or f'{kind}_{vocab_size}'}"


def speed_suffix(speed: float) -> str:
    """The suffix of file names for a speed; empty for speed 1."""
    return "" if speed == 1.0 else f"_sp{speed:g}"


def read_cuts(path: Path, stage: str) -> CutSet:
    """Read a cut manifest eagerly.

    Args:
        stage: the stage that makes the file, for the error message, for example ``"stage 1 (slimasr-prepare)"``.
    """
    return CutSet.from_cuts(iterate_cuts(path, stage))


def iterate_cuts(path: Path, stage: str) -> Iterator[Cut]:
    """Yield the cuts of a manifest one at a time; ``stage`` is that of `read_cuts`.

    This does not use lhotse's reader, for which a path may also be a URL or a command.

    Raises:
        UserError: the file is missing or damaged.
    """
    for number, line in iterate_lines(path, stage):
        with understanding(path, f"line {number} is not a cut; run {stage} again"):
            cut: Cut = deserialize_item(decode_json_line(line))
        # Outside of `understanding`, which would blame the file for errors of the caller.
        yield cut


def iterate_lines(path: Path, stage: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a manifest with their numbers, counted from 1; ``stage`` is that of `read_cuts`.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        known = sets_in(path.parent)
        there = f"; sets that are there: {', '.join(known)}" if known else ""
        raise UserError(f"{path} is missing: run {stage} first{there}")
    if not path.stat().st_size:
        raise UserError(f"{path}: damaged (empty file); run {stage} again")
    try:
        with gzip.open(path, "rb") as file:
            # A truncated or damaged gzip file raises only here, while lines are read.
            yield from enumerate(file, start=1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); run {stage} again") from None


def check_sets(names: Iterable[str], manifest: Callable[[str], Path], stage: str, option: str = "--set-name") -> None:
    """Raise `UserError` if a set given by an option does not exist; the message lists those that do.

    Sets that a recipe joins (``dev-fr+dev-nl``) are made by the stages like any other.

    Args:
        manifest: returns the path of a set's manifest, for example `DataFolder.cuts`.
        stage: the stage that makes it, as in `read_cuts`.
        option: the option of the command line that gives the names.
    """
    for name in names:
        path = manifest(name)
        known = sets_in(path.parent)
        if known and name not in known:
            raise UserError(
                f"{option} {name}: {path} is missing: add it to data.test and run {stage} again, "
                f"or name one of {', '.join(known)}"
            )


def sets_in(folder: Path) -> list[str]:
    """Names of the sets whose manifests are in a folder, at any speed."""
    found = (_MANIFEST.fullmatch(path.name) for path in folder.glob("cuts_*.jsonl.gz"))
    return sorted({match["name"] for match in found if match})


def write_cuts(path: Path, cuts: Iterable[Cut]) -> None:
    """Write a cut manifest under a temporary name, then rename it.

    Raises:
        UserError: it cannot be written; an existing file is unchanged.
    """
    # gzip stores neither time nor name, so that equal cuts make equal files.
    with (
        replacing(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        for cut in cuts:
            # Lone surrogates, from file names that are not UTF-8, are written as the escapes that JSON reads back.
            line = json.dumps(cut.to_dict(), ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))


def write_split(folder: DataFolder, facts: Mapping[str, Any] | None) -> None:
    """Record how dev and test sets were split off; None = they were not, and an earlier record is removed."""
    if facts is not None:
        write_json_atomic(folder.split, dict(facts))
    elif folder.split.is_file():
        with writing(folder.split):
            folder.split.unlink()


def write_bad(path: Path, bad: Iterable[BadUtterance]) -> None:
    """Write the utterances that were left out as JSON."""
    write_json_atomic(path, [asdict(item) for item in bad])


def read_bad(path: Path) -> list[BadUtterance]:
    """Read the list that `write_bad` wrote; a missing file is an empty list."""
    if not path.is_file():
        return []
    advice = "run the stage that wrote it again"
    items: list[dict[str, str]] = read_json(path, advice, list)
    with understanding(path, advice):
        return [BadUtterance(**item) for item in items]


def describe_left_out(bad: Sequence[BadUtterance], num_listed: int, set_name: str, listing: Path) -> str | None:
    """Describe the utterances of a set that were left out; None if there are none.

    The line has their number, the file that lists them and the first reasons.

    Args:
        num_listed: utterances of the set, good and bad.
    """
    if not bad:
        return None
    first = "; ".join(f"{item.id}: {item.reason}" for item in bad[:FIRST_REASONS])
    more = "; ..." if len(bad) > FIRST_REASONS else ""
    return f"{set_name}: {len(bad)} of {num_listed} utterances left out ({listing}); first: {first}{more}"


def left_out_notes(counts: Mapping[str, int], listing: Callable[[str], Path]) -> list[str]:
    """`describe_left_out` for several sets.

    Args:
        counts: set name -> number of its usable utterances.
        listing: returns the file that `write_bad` wrote for a set.
    """
    notes = []
    for name, count in counts.items():
        bad = read_bad(listing(name))
        notes.append(describe_left_out(bad, count + len(bad), name, listing(name)))
    return [note for note in notes if note is not None]


def check_bad_share(bad: list[BadUtterance], num_listed: int, max_share: float, set_name: str) -> None:
    """Raise `UserError` if too many utterances of a training set are unusable.

    Args:
        num_listed: utterances of the set, good and bad.
        max_share: ``data.max_bad_share``.
    """
    if not bad or len(bad) <= max_share * num_listed:
        return
    raise UserError(
        f"{set_name}: {len(bad)} of {num_listed} training utterances cannot be used, above "
        f"data.max_bad_share {max_share:g}; first: {bad[0].id}: {bad[0].reason}"
    )
