"""Where the recipe's data folder keeps what, and how files get there whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from slimasr.errors import UserError
from slimasr.files import write_json_atomic

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
    if not path.is_file():
        raise UserError(f"{path} is missing: run {stage} first")
    return CutSet.from_jsonl_lazy(path).to_eager()


def write_cuts(path: Path, cuts: Iterable[Cut]) -> None:
    """Write a cut manifest under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # lhotse chooses the format by the end of the name.
    partial = path.with_name(f".partial_{path.name}")
    with CutSet.open_writer(partial, overwrite=True) as writer:
        for cut in cuts:
            writer.write(cut)
    os.replace(partial, path)


def write_bad(path: Path, bad: Iterable[BadUtterance]) -> None:
    """List left-out utterances as JSON."""
    write_json_atomic(path, [asdict(item) for item in bad])


def read_bad(path: Path) -> list[BadUtterance]:
    """Read `write_bad`'s list; a missing file is an empty one."""
    if not path.is_file():
        return []
    return [BadUtterance(**item) for item in json.loads(path.read_text(encoding="utf-8"))]


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
