"""What is said of the keys is complete and true: compared with pydantic's own schema, and with what it accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from slimasr.config.corpora import CORPUS_OPTIONS
from slimasr.config.data import DataConfig
from slimasr.config.describe import Part, all_parts, find_parts, sentence_of, without_repetition
from slimasr.config.load import parse_config
from slimasr.config.page import config_page
from slimasr.config.phrases import phrase
from slimasr.config.schema import Config
from slimasr.config.section import LARGEST_INT, Section
from slimasr.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
MINIMAL: dict[str, Any] = {"name": "test", "data": {"corpus": "an4"}}
NEEDED: dict[str, dict[str, Any]] = {
    "MaskLearningConfig": {"budgets": [0.5]},
    "Config": MINIMAL,
    "DataConfig": {"corpus": "an4"},
    "InitConfig": {"from": "exp"},
    "NoiseConfig": {"folder": "noise"},
    "LayerSizes": {"ffn1": 1, "heads": 1, "conv": 1, "ffn2": 1},
    "LayerSpaceConfig": {"depths": [1]},
    "ListSpaceConfig": {"subnets": {}},
    "PathwaySpaceConfig": {"languages": ["fr"]},
    "PhaseConfig": {"epoch": 2},
    "PiecewiseScheduleConfig": {"points": [[0, 1], [1, 0]]},
    "EncoderSection": {"kind": "conformer", "d_model": 1, "num_layers": 1},
    "PowerSamplingConfig": {"power": 0.5},
    "TreeConfig": {"shared": 0, "depths": [2, 1]},
}
"""Section -> the keys that it cannot do without."""

EVERY = [(part, key) for part in all_parts() for key in part.keys]
every_part = pytest.mark.parametrize("part", all_parts(), ids=lambda part: part.title)

RANGE = re.compile(r"(integer|number|fraction)s? (?:(>=?) (\S+)|in ([\[(])(\S+), (\S+)([\])]))")
OUTSIDE = {"number", "range"}
"""Errors of pydantic that say that a number is outside its range."""


def errors_of(section: type[Section], key: str, value: Any) -> set[str]:
    """The kinds of errors that a value of one key makes; those of several keys together do not count."""
    try:
        section.model_validate({**NEEDED.get(section.__name__, {}), key: value})
    except ValidationError as error:
        return {item["type"] for item in error.errors() if item["type"] != "value_error"}
    return set()


def in_shape(words: str, value: Any) -> Any:
    """A value of the type that the words describe, with this number wherever it has one."""
    if words.startswith("mapping of "):
        of, to = words.removeprefix("mapping of ").split(" to ")
        return {of.split(" | ")[0]: in_shape(to, value)}
    if words.startswith("list of "):
        return [in_shape(words.removeprefix("list of "), value)]
    times = {"two": 2, "pairs": 2, "four": 4}.get(words.split(" ")[0])
    return value if times is None else [value] * times


def probes(words: str) -> Iterator[tuple[int | float, bool]]:
    """Numbers at the ends of the range in the words, one step inside and outside, and whether they are within."""
    found = RANGE.search(words)
    assert found is not None
    word, relation, lowest, opening, low, high, closing = found.groups()

    def beside(text: str, towards: float) -> int | float:
        return int(text) + (1 if towards > 0 else -1) if word == "integer" else math.nextafter(float(text), towards)

    if relation is not None:
        yield beside(lowest, math.inf), True
        yield beside(lowest, -math.inf), False
        yield float(lowest) if word != "integer" else int(lowest), relation == ">="
        yield (LARGEST_INT if word == "integer" else 1e300), True
        return
    yield beside(low, math.inf), True
    yield beside(low, -math.inf), False
    yield beside(high, -math.inf), True
    yield beside(high, math.inf), False
    yield float(low), opening == "["
    yield float(high), closing == "]"


def test_every_key_of_pydantic_s_schema_is_described() -> None:
    schema = Config.model_json_schema()
    sections = {"Config": schema, **schema["$defs"]}
    sections |= {options.__name__: options.model_json_schema() for options in CORPUS_OPTIONS.values()}
    described: dict[str, set[str]] = {name: set() for name in sections}
    for part in all_parts():
        for name in {part.section.__name__, *(cls.__name__ for cls in subclasses(part.section))} & set(sections):
            described[name] |= {key.last_name for key in part.keys}
    assert described == {name: set(section.get("properties", {})) for name, section in sections.items()}
    assert len(EVERY) > 200


def subclasses(section: type[Section]) -> Iterator[type[Section]]:
    for below in section.__subclasses__():
        yield below
        yield from subclasses(below)


@every_part
def test_a_section_has_a_summary_and_every_key_one_sentence(part: Part) -> None:
    assert part.summary.endswith(".")
    for key in part.keys:
        assert key.sentence, f"{key.name}: write a sentence below it, in {part.section.__module__}"
        assert key.sentence[0].isupper(), key.name
        assert key.sentence.endswith("."), key.name
        assert not re.search(r"[.!?] [A-Z]", key.sentence), f"{key.name}: one sentence"
        assert key.sentence.count("``") % 2 == 0, key.name


@every_part
def test_a_default_is_the_real_one(part: Part) -> None:
    needed = NEEDED.get(part.section.__name__, {})
    for key in part.keys:
        if key.default is None:
            assert key.last_name in needed or key.last_name == "kind"
            continue
        given = {**needed, key.last_name: yaml.safe_load(key.default)}
        assert part.section.model_validate(given) == part.section.model_validate(needed), key.name


def test_the_defaults_of_a_configuration_are_those_described() -> None:
    described = {key.name: key.default for part, key in EVERY if is_taken(part)}
    found = dict(flat(parse_config(MINIMAL).model_dump(mode="json"), ""))
    # Of what the minimal configuration leaves out, the description says null or has the options of a corpus.
    assert found.keys() - {"name", "data.corpus"} <= described.keys()
    for name in found.keys() - {"name", "data.corpus"}:
        default = described[name]
        assert default is not None, name
        assert yaml.safe_load(default) == found[name], name


def is_taken(part: Part) -> bool:
    """Whether a configuration without any ``kind`` has these keys."""
    return not part.choice or part.choice == "all kinds" or part.choice.endswith("(default)")


def flat(tree: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


@every_part
def test_a_range_is_what_validation_accepts(part: Part) -> None:
    for key in part.keys:
        if not RANGE.search(key.type):
            # A seed of the digits may be any integer, and each corpus checks its own options.
            has_number = re.search(r"integer|number|fraction", key.type)
            assert not has_number or key.name in ("data.options", "data.options.seed"), key.name
            continue
        for value, is_within in probes(key.type):
            errors = errors_of(part.section, key.last_name, in_shape(key.type, value))
            assert errors <= OUTSIDE, (key.name, value, errors)
            assert bool(errors) != is_within, (key.name, key.type, value)


def test_integers_without_an_upper_bound_end_where_the_page_says() -> None:
    assert str(LARGEST_INT) in config_page()
    open_ended = [(part, key) for part, key in EVERY if re.match(r"integer >=", key.type)]
    assert len(open_ended) > 50
    exceptions = {"seed": 2**63 - 1, "data.options.shortest": None}
    for part, key in open_ended:
        highest = exceptions.get(key.name, LARGEST_INT)
        if highest is not None:
            assert errors_of(part.section, key.last_name, highest) == set()
            assert errors_of(part.section, key.last_name, highest + 1) == {"range"}


@every_part
def test_choices_are_what_validation_accepts(part: Part) -> None:
    for key in part.keys:
        words = key.type.split(" | ")
        if {"section", "text", "path", "integer"} & set(words) or not all(map(re.compile(r"\w+").fullmatch, words)):
            continue
        for value in [yaml.safe_load(word) for word in words]:
            assert errors_of(part.section, key.last_name, value) == set(), (key.name, value)
        assert errors_of(part.section, key.last_name, "of no such kind"), key.name


@every_part
def test_null_is_accepted_where_it_is_said(part: Part) -> None:
    for key in part.keys:
        errors = errors_of(part.section, key.last_name, None)
        assert (errors == set()) == ("null" in key.type.split(" | ")), key.name


def test_null_means_something() -> None:
    silent = [key.name for _, key in EVERY if "null" in key.type and "null =" not in key.sentence]
    assert not silent, "say what null means"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("training.num_epochs", "integer >= 1 | null"),
        ("training.clip_norm", "number > 0 | null"),
        ("training.optimizer", "section (kind: adamw | scaled_adam)"),
        ("training.optimizer.betas", "two fractions in [0, 1)"),
        ("training.num_threads", "integer in [1, 1024] | auto | null"),
        ("decoding.kind", "greedy | modified_beam | graph"),
        ("data.train", "list of set names"),
        ("data.speeds", "list of numbers in [0.1, 10]"),
        ("data.musan", "section | null"),
        ("data.resample", "true | false"),
        ("loss.alignments", "path | null"),
        ("space.widths", "list of fractions in (0, 1]"),
        ("space.units", "mapping of text to list of integers >= 1"),
        ("search.limits", "mapping of params | int8_bytes | macs | rtf | latency to number > 0"),
        ("method.phases", "list of sections"),
        ("method.phases.N.optimizer", "section (kind: adamw | scaled_adam) | null"),
        ("data.options.max_digits", "integer in [1, 100]"),
    ],
)
def test_types_read_as_a_user_would_write_them(name: str, words: str) -> None:
    assert {key.type for _, key in EVERY if key.name == name} == {words}


def test_no_type_shows_python() -> None:
    assert phrase(list[dict[str, int]]) == "list of mapping of text to integer"
    assert not [key.type for _, key in EVERY if re.search(r"NoneType|Annotated|class|Literal|Union|\bstr\b", key.type)]


@pytest.mark.parametrize(
    ("name", "titles", "number"),
    [
        ("training.num_epochs", {"training"}, 1),
        ("num_epochs", {"training"}, 1),
        ("features", {"top level", "features"}, 4),
        ("encoder.kernel_size", {"model.encoder, kind: conformer (default)"}, 1),
        ("data.options.an4", {"data.options, corpus: an4"}, 0),
        ("data.options.num_train", {"data.options, corpus: digits"}, 1),
        ("data.options.digits", {"data.options, corpus: digits"}, 10),
        ("search.nsga2", {"search, all kinds", "search, kind: nsga2"}, 15),
        ("search.nsga2.cost", {"search, all kinds"}, 1),
        ("training.schedule.cosine", {find_parts("training.schedule.linear")[0].title}, 4),
        ("method.phases.3.epoch", {"method.phases.N"}, 1),
        ("phases.N.epoch", {"method.phases.N"}, 1),
    ],
)
def test_finds_what_is_meant(name: str, titles: set[str], number: int) -> None:
    found = find_parts(name)
    assert {part.title for part in found} == titles
    assert sum(len(part.keys) for part in found) == number


def test_a_section_comes_with_what_is_in_it() -> None:
    titles = [part.title for part in find_parts("method.todm")]
    assert titles[:2] == ["method, kind: todm", "method.phases.N"]
    assert "method.phases.N.optimizer, kind: scaled_adam" in titles
    assert not [title for title in titles if "slimmable" in title or title.startswith("training")]


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("trainig", "training"),
        ("training.num_epoch", "training.num_epochs"),
        ("num_epoch", "training.num_epochs"),
        ("encoder.num_layrs", "model.encoder.num_layers"),
        ("data.options.an", "data.options.an4"),
        ("method.tdom", "method.todm"),
    ],
)
def test_suggests_the_nearest_name(name: str, suggested: str) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"{name}: no section or key has this name (did you mean {suggested}?")
    ):
        find_parts(name)


@pytest.mark.parametrize("name", ["", ".", "xyzzy", "N", "7"])
def test_unknown_names_are_errors_of_one_line(name: str) -> None:
    with pytest.raises(UserError, match="no section or key has this name") as caught:
        find_parts(name)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_as_repeated_stands_elsewhere() -> None:
    parts = without_repetition(all_parts())
    by_title = {part.title.replace(" (default)", ""): part for part in parts}
    repeated = [part for part in parts if part.same_as]
    assert {part.name for part in repeated} == {"method.phases.N.optimizer", "method.phases.N.schedule"}
    for part in repeated:
        original = by_title[part.title.replace(part.name, part.same_as, 1)]
        assert original.section is part.section
        assert original.keys


def test_the_page_has_every_key_and_is_up_to_date() -> None:
    page = config_page()
    for part in without_repetition(all_parts()):
        heading = f"# {part.title}\n"
        assert heading in page
        section = page.partition(heading)[2].partition("\n#")[0]
        for key in part.keys:
            default = "needed" if key.default is None else key.default
            cells = [key.last_name, key.type, default, key.sentence.replace("``", "")]
            assert cells in [cells_of(line) for line in section.splitlines()], key.name
    assert PAGE.read_text(encoding="utf-8") == page, "run: slimasr config --markdown > docs/config.md"


def cells_of(row: str) -> list[str]:
    """The cells of a row of a table in Markdown, as a reader sees them."""
    cells = re.split(r" (?<!\\)\| ", row.removeprefix("| ").removesuffix(" |"))
    return [re.sub(r"\\([|*<])", r"\1", cell.replace("`", "")) for cell in cells]


def test_the_page_s_first_line_says_how_it_is_made_and_links_lead_somewhere() -> None:
    page = config_page()
    assert "slimasr config --markdown > docs/config.md" in page.splitlines()[0]
    headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith("#")]
    # GitHub: lower case, no punctuation, hyphens for spaces.
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(#([^)]*)\)", page)
    assert targets
    assert set(targets) <= anchors


class Silent(Section):
    """A section of this test."""

    said: int = 1
    """The first one."""

    silent: int = 2
    other: int = 3
    """The third one."""


class Heir(Silent):
    """It takes sentences from above, and has its own."""

    silent: int = 4
    """Now it says something."""


def test_a_key_without_a_sentence_is_seen() -> None:
    assert [sentence_of(Silent, name) for name in ("said", "silent", "other")] == [
        "The first one.",
        "",
        "The third one.",
    ]
    assert [sentence_of(Heir, name) for name in ("said", "silent")] == ["The first one.", "Now it says something."]


def test_every_corpus_has_its_options() -> None:
    corpora = DataConfig.model_json_schema()["properties"]["corpus"]["enum"]
    assert list(CORPUS_OPTIONS) == corpora
