#!/usr/bin/env python3
"""Write docs/results.md from the descriptions of the fields in slimasr/results.

With ``--check`` nothing is written; exit status 1 means that the page is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pages import ROOT, write_or_check
from pydantic import PlainSerializer
from pydantic.fields import FieldInfo

from slimasr.results.decoded import Decoded
from slimasr.results.deployed import CheckedSize, CheckFile, DeployedModel, DeployedRate
from slimasr.results.device import LatencyDeviceEntry
from slimasr.results.entry import VERSION, Entry, File
from slimasr.results.graph import GraphFile, TriedEntry, TunedEntry
from slimasr.results.latency import DelayEntry, LatencyEntry
from slimasr.results.learnt import LearntEntry, LearntSubnets
from slimasr.results.masks import Adaptations, LevelEntry, MasksEntry, MaskSource, Overlap, PairOverlap
from slimasr.results.profile import DeviceProfile, FedEntry, MachineEntry, ProfiledAudio, ProfiledModel, ProfileRow
from slimasr.results.report import (
    CandidateLists,
    ComparisonEntry,
    CurvePoint,
    MaskComparison,
    MaskName,
    PhonemeDifference,
    Report,
    ReportedRun,
    SystemEntry,
)
from slimasr.results.schema import (
    CerEntry,
    EnergyEntry,
    ExtractedFrom,
    Int8Entry,
    LanguageEntry,
    PerEntry,
    Results,
    SearchedEntry,
    SubnetEntry,
    WerEntry,
)
from slimasr.results.search import Candidates, FoundEntry, Front, StoppedEntry, Summary
from slimasr.supernet.subnet import Subnet

PAGE = ROOT / "docs" / "results.md"

HEADINGS: Mapping[type[Entry], str] = {
    Results: "results.json of an experiment",
    SubnetEntry: "Subnet",
    WerEntry: "WER of a set",
    LanguageEntry: "WER of a language",
    CerEntry: "CER of a set",
    PerEntry: "PER of a set",
    SearchedEntry: "Search of a subnet",
    LatencyEntry: "Latency of a subnet",
    DelayEntry: "Delays of a set",
    LatencyDeviceEntry: "Device of latencies",
    Int8Entry: "Subnet in int8",
    DeployedModel: "Subnet in a runtime",
    DeployedRate: "Set in a runtime",
    EnergyEntry: "Energy of a stage",
    MasksEntry: "Masks of pathways",
    PairOverlap: "Overlap of two pathways",
    Overlap: "Overlap of two masks",
    MaskSource: "Source of a mask",
    LevelEntry: "Pruning",
    Adaptations: "Adaptations of a mask",
    ExtractedFrom: "Origin of an extracted model",
    LearntSubnets: "subnets.json",
    LearntEntry: "Learnt subnet",
    Front: "search/front.json",
    Candidates: "search/candidates.json",
    FoundEntry: "Measured subnet",
    StoppedEntry: "Subnet stopped early",
    Summary: "search/summary.json",
    Decoded: "decode.json",
    GraphFile: "graph.json of an experiment",
    TunedEntry: "Scales",
    TriedEntry: "Scales that were tried",
    CheckFile: "check.json of a bundle",
    CheckedSize: "Size of a bundle",
    Report: "results.json of a report",
    ReportedRun: "Experiment of a report",
    CandidateLists: "Candidates of a report",
    CurvePoint: "Validation",
    ComparisonEntry: "Comparison",
    SystemEntry: "Side of a comparison",
    PhonemeDifference: "Comparison in phonemes",
    MaskComparison: "Comparison of two masks",
    MaskName: "Side of a comparison of masks",
    DeviceProfile: "Profile of a device",
    ProfiledModel: "Profiled model",
    FedEntry: "How streams are fed",
    MachineEntry: "Machine",
    ProfiledAudio: "Audio of a profile",
    ProfileRow: "Profiled subnet",
}
"""The sections of the page in order."""

INTRODUCTION = f"""# Result files

`tools/results_doc.py` writes this page from `slimasr/results/`, where every file has a typed schema.

All files are JSON. Their first key is `version`, the version of the layout, at present {VERSION}. Files that were
written before layouts had versions lack it and can be read. A file with a newer version is refused. Keys that are not
listed here are kept when a command changes a file, and otherwise ignored. A damaged file is refused with one line that
names the key. Error rates (WER, CER, PER and SER) are in percent, and differences between them in points. Keys marked
"always" are needed. The others are absent until something has been measured, and some in files of older versions.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *(_section(kind) for kind in HEADINGS)])


def _section(kind: type[Entry]) -> str:
    purpose = " ".join((kind.__doc__ or "").split()).replace("``", "`")
    level = "##" if issubclass(kind, File) else "###"
    head = "| key | type | always | meaning |\n| --- | --- | --- | --- |\n"
    return f"{level} {HEADINGS[kind]}\n\n{purpose}\n\n{head}{''.join(_rows(kind))}"


def _rows(kind: type[Entry]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        meaning = " ".join((field.description or "").split())
        always = "yes" if field.is_required() else ""
        yield f"| `{field.serialization_alias or name}` | {_type_of(field)} | {always} | {meaning} |\n"


def _type_of(field: FieldInfo) -> str:
    # A tuple with a serialiser of its own is written as one text.
    if any(isinstance(item, PlainSerializer) for item in field.metadata) and get_origin(field.annotation) is tuple:
        return "text"
    return _in_words(field.annotation)


def _in_words(annotation: Any) -> str:
    """Describe a type as the reader of a JSON file sees it."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Literal:
        return "text"
    if origin is Annotated:
        return _in_words(arguments[0])
    if origin in (Union, UnionType):
        kinds = [argument for argument in arguments if argument is not NoneType]
        # JSON has one type of numbers.
        words = "number" if set(kinds) == {int, float} else " or ".join(map(_in_words, kinds))
        return f"{words} or null" if NoneType in arguments else words
    if origin is tuple:
        item = _in_words(arguments[0])
        return f"list: {item}" if Ellipsis in arguments else f"list of {len(arguments)}: {item}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping: {_in_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        heading = HEADINGS[annotation]
        # GitHub's anchor of a heading: lower case, hyphens for spaces, no punctuation.
        anchor = heading.lower().replace(" ", "-").replace(".", "").replace("/", "")
        return f"[{heading}](#{anchor})"
    plain = {int: "whole number", float: "number", bool: "true or false", str: "text", Subnet: "mapping", Any: "any"}
    return plain[annotation]


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    write_or_check(PAGE, page(), "results_doc.py")


if __name__ == "__main__":
    main()
