"""What an experiment's search has found so far, read from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimasr.errors import UserError
from slimasr.experiment.checkpoints import fingerprint
from slimasr.files import read_json, understanding
from slimasr.results.store import read_results
from slimasr.supernet.front import Measurement
from slimasr.supernet.subnet import Subnet

AGAIN = "run stage 5 (slimasr-search) again"


@dataclass(frozen=True)
class Conditions:
    """What a WER on dev depends on beside subnet and weights.

    Attributes:
        set_name: the dev set.
        int8: whether weights were rounded as int8 has them.
        decoding: the search for the best labels, in words.
        data: fingerprint of the set, None where it is not known.
    """

    set_name: str
    int8: bool
    decoding: str
    data: str | None = None

    def held(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry of results.json was measured under them."""
        found, wers = entry["search"], entry.get("wer", {})
        # Older records tell the decoding beside the WER alone, and of int8 nothing: it was rare.
        decoding = found.get("decoding", wers.get(self.set_name, {}).get("decoding"))
        # Entries that were written before sets had fingerprints, and callers that know none, count as the same set.
        data = found.get("data") or self.data
        return (found.get("int8", False), decoding, data) == (self.int8, self.decoding, self.data or data)


def read_archive(exp: Path, conditions: Conditions | None = None) -> list[Measurement]:
    """The subnets measured in full (costs and time too) on the weights that the experiment has now.

    Args:
        conditions: under which; default: those of the last search.
    """
    conditions = conditions or _last_conditions(exp)
    with understanding(exp / "results.json", AGAIN):
        return [_in_results(entry) for entry in _entries(exp) if conditions is None or conditions.held(entry)]


def read_candidates(exp: Path) -> list[Measurement]:
    """Every subnet that has a WER on the weights of now, the archive first; the others have counted costs alone."""
    archive = read_archive(exp)
    known = {measurement.subnet for measurement in archive}
    with understanding(_file(exp, "candidates"), AGAIN):
        others = [
            Measurement(Subnet.from_dict(entry["subnet"]), entry["wer"], entry["dev_loss"], entry["costs"])
            for entry in _current(exp, "candidates").get("candidates", ())
        ]
    return archive + [measurement for measurement in others if measurement.subnet not in known]


def measured_subnets(exp: Path) -> list[Subnet]:
    """The subnets measured in full on the weights of now, under whatever conditions."""
    with understanding(exp / "results.json", AGAIN):
        return [_subnet(entry) for entry in _entries(exp)]


def read_front(exp: Path) -> list[Subnet]:
    """The front that a search found on the weights of now, cheapest first.

    Raises:
        UserError: none has been found.
    """
    front = recorded_front(exp)
    if not front:
        raise UserError(f"{exp} has no front yet: run stage 5 (slimasr-search) first, or name subnets")
    return front


def recorded_front(exp: Path) -> list[Subnet]:
    """The same; empty where no search has found one."""
    with understanding(_file(exp, "front"), AGAIN):
        return [_subnet(item) for item in _current(exp, "front").get("front", ())]


def _file(exp: Path, name: str) -> Path:
    return exp / "search" / f"{name}.json"


def _current(exp: Path, name: str) -> dict[str, Any]:
    """A file of ``search/``; empty when absent, or of other weights."""
    path = _file(exp, name)
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, AGAIN)
    return content if content.get("weights") == fingerprint(exp / "final.pt") else {}


def _last_conditions(exp: Path) -> Conditions | None:
    """None before a search, and where an older one has not told."""
    content = _current(exp, "candidates")
    if "int8" not in content:
        return None
    with understanding(_file(exp, "candidates"), AGAIN):
        return Conditions(content["set"], content["int8"], content["decoding"], content.get("data"))


def _entries(exp: Path) -> list[Mapping[str, Any]]:
    """What was measured in full on the weights of now, under whatever conditions."""
    entries: dict[str, Mapping[str, Any]] = read_results(exp).get("subnets", {})
    weights = fingerprint(exp / "final.pt")
    return [entry for entry in entries.values() if entry.get("search", {}).get("weights") == weights]


def _in_results(entry: Mapping[str, Any]) -> Measurement:
    found = entry["search"]
    return Measurement(_subnet(entry), found["wer"], found["dev_loss"], entry["costs"])


def _subnet(entry: Mapping[str, Any]) -> Subnet:
    return Subnet.from_dict(entry["subnet"])
