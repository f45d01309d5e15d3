"""Where the recipe's data folder keeps what, and how files get there whole."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.serialization import decode_json_line, deserialize_item

from slimasr.errors import UserError
from slimasr.files import read_json, replacing, understanding, write_json_atomic

_MANIFEST = re.compile(r"cuts_(?P<name>.+?)(_sp[0-9.]+)?\.jsonl\.gz")
FIRST_REASONS = 3
"""Left-out utterances that a message names."""

MUSAN_SET = "musan"
"""Name of the manifest of noise, beside those of the corpus's sets."""


@dataclass(frozen=True)
class BadUtterance:
    """An utterance left out of training, and why."""

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
        return self.features / "stats.json"

    def lock(self, product: str) -> Path:
        """Lock of whoever writes a product, such as ``manifests`` or ``lang_bpe_500``."""
        return self.root / f"{product}.lock"

    def lang(self, kind: str, vocab_size: int) -> Path:
        """A tokenizer, as stage 3 writes it."""
        return self.root / f"lang_{kind}_{vocab_size}"


def speed_suffix(speed: float) -> str:
    """What marks a speed in file names; the natural one has no mark."""
    return "" if speed == 1.0 else f"_sp{speed:g}"


def read_cuts(path: Path, stage: str) -> CutSet:
    """Read a cut manifest eagerly.

    Args:
        stage: what makes the file, for the error message, e.g. ``"stage 1 (slimasr-prepare)"``.
    """
    return CutSet.from_cuts(iterate_cuts(path, stage))


def iterate_cuts(path: Path, stage: str) -> Iterator[Cut]:
    """The cuts of a manifest, one after the other; ``stage`` as in `read_cuts`.

    Read here and not by lhotse, for which a path may also be a URL or a command.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        known = _sets_in(path.parent)
        there = f"; sets that are there: {', '.join(known)}" if known else ""
        raise UserError(f"{path} is missing: run {stage} first{there}")
    if not path.stat().st_size:
        raise UserError(f"{path}: damaged (empty file); run {stage} again")
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                with understanding(path, f"line {number} is not a cut; run {stage} again"):
                    cut: Cut = deserialize_item(decode_json_line(line))
                yield cut
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); run {stage} again") from None


def check_sets(names: Iterable[str], manifest: Callable[[str], Path], stage: str) -> None:
    """Raise `UserError` for a set named by ``--set-name`` that does not exist; names those that do.

    Args:
        manifest: gives the manifest of a set, e.g. `DataFolder.cuts`.
        stage: what makes it, as in `read_cuts`.
    """
    for name in names:
        path = manifest(name)
        known = _sets_in(path.parent)
        if known and name not in known:
            raise UserError(
                f"--set-name {name}: {path} is missing: run {stage} for it, or name one of {', '.join(known)}"
            )


def _sets_in(folder: Path) -> list[str]:
    """Names of the sets whose manifests lie in a folder, at whatever speed."""
    found = (_MANIFEST.fullmatch(path.name) for path in folder.glob("cuts_*.jsonl.gz"))
    return sorted({match["name"] for match in found if match})


def write_cuts(path: Path, cuts: Iterable[Cut]) -> None:
    """Write a cut manifest under a temporary name, then rename it.

    Raises:
        UserError: it cannot be written; what was there before is untouched.
    """
    # Neither time nor name inside, so that the same cuts make the same file.
    with (
        replacing(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        for cut in cuts:
            line = json.dumps(cut.to_dict(), ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))


def write_bad(path: Path, bad: Iterable[BadUtterance]) -> None:
    """List left-out utterances as JSON."""
    write_json_atomic(path, [asdict(item) for item in bad])


def read_bad(path: Path) -> list[BadUtterance]:
    """Read `write_bad`'s list; a missing file is an empty one."""
    if not path.is_file():
        return []
    advice = "run the stage that wrote it again"
    items: list[dict[str, str]] = read_json(path, advice, list)
    with understanding(path, advice):
        return [BadUtterance(**item) for item in items]


def describe_left_out(bad: Sequence[BadUtterance], num_listed: int, set_name: str, listing: Path) -> str | None:
    """One line on a set's left-out utterances: their number, the file that lists them and the first reasons; None
    where there are none.

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
        listing: gives the file that lists a set's left-out utterances, as `write_bad` writes it.
    """
    notes = []
    for name, count in counts.items():
        bad = read_bad(listing(name))
        notes.append(describe_left_out(bad, count + len(bad), name, listing(name)))
    return [note for note in notes if note is not None]


def check_bad_share(bad: list[BadUtterance], num_listed: int, max_share: float, set_name: str) -> None:
    """Raise `UserError` when too much of a training set is unusable.

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
