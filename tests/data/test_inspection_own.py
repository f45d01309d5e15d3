"""`slimasr-inspect` on data that no stage has read: ids that occur twice, histograms, and what it does not read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.inspect import run
from slimasr.data.inspection.facts import inspect_sets
from slimasr.report.tables.data import MOST_INTERVALS, data_tables
from tests.data.own import SPOKEN, lhotse_cuts, write_audio, write_lines
from tests.data.test_inspection import speech


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    write_audio(tmp_path / "audio")
    return tmp_path / "audio"


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command_app(run), [*map(str, arguments)])


def table_of(audio: Path, tmp_path: Path) -> Path:
    """Two utterances of one id."""
    files = [audio / item.file for item in SPOKEN]
    rows = [f"{files[0]},uno,a", f"{files[1]},due,b", f"{files[2]},tre,a"]
    return write_lines(tmp_path / "train.csv", ["path,text,id", *rows])


def json_lines(audio: Path, tmp_path: Path) -> Path:
    """A file that is listed twice, which makes two equal ids."""
    rows = [{"audio_filepath": str(audio / SPOKEN[number].file), "text": "uno"} for number in (0, 1, 0)]
    return write_lines(tmp_path / "train.jsonl", map(json.dumps, rows))


def cuts(audio: Path, tmp_path: Path) -> Path:
    path = lhotse_cuts(tmp_path / "train", audio)
    first, second, _ = path.read_text(encoding="utf-8").splitlines()
    return write_lines(path, [first, second, first])


@pytest.mark.parametrize(
    ("write", "twice", "same_audio"),
    [(table_of, "a", False), (json_lines, "train-audio-ann-ann-1", True), (cuts, "ann-1", True)],
)
def test_ids_that_are_listed_twice_are_a_repetition(
    write: Callable[[Path, Path], Path], twice: str, same_audio: bool, audio: Path, tmp_path: Path
) -> None:
    path = write(audio, tmp_path)
    result = inspect(path, "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.stdout)["sets"]
    assert facts["utterances"] == 3
    repeats = {each["kind"]: (each["utterances"], each["examples"]) for each in facts["repeats"]}
    assert repeats.pop("same id") == (1, [[twice, twice]])
    assert list(repeats) == (["same audio"] if same_audio else [])
    (line,) = [line for line in inspect(path).stdout.splitlines() if "same id" in line]
    assert line.split()[-3:] == [twice, "=", twice]


def test_histograms_are_tables_as_well(audio: Path, tmp_path: Path) -> None:
    lines = inspect(table_of(audio, tmp_path)).stdout.splitlines()
    start = lines.index("Lengths of utterances")
    assert lines[start + 1].split() == ["seconds", "train"]
    end = next(number for number in range(start, len(lines)) if lines[number].startswith("Utterances in each"))
    assert sum(int(line.split()[-1]) for line in lines[start + 2 : end]) == 3
    assert "Text of utterances" in lines


def test_rows_of_a_histogram_count_every_utterance_and_join_neighbouring_bins() -> None:
    sets = {"long": speech(300), "short": speech(300, seed=1)[:20]}
    facts = inspect_sets({name: [(each, None) for each in found] for name, found in sets.items()})
    tables = {table.title: table for table in data_tables(facts, histograms=True)}
    for title, name in (("Lengths of utterances", "durations"), ("Text of utterances", "pace")):
        table = tables[title]
        assert table.columns[1:] == ("long", "short")
        assert len(table.rows) <= MOST_INTERVALS + 1
        for column, each in enumerate(facts.sets, start=1):
            histogram = getattr(each, name)
            assert sum(int(row[column]) for row in table.rows) == each.utterances
            within = [row for row in table.rows if row[0] != "above"]
            for row in within:
                start, end = (round(float(value) / histogram.width) for value in row[0].split(" to "))
                assert int(row[column]) == sum(histogram.counts[start:end])
    # A page draws them instead.
    assert {table.title for table in data_tables(facts)}.isdisjoint({"Lengths of utterances", "Text of utterances"})
    empty = inspect_sets({"train": []})
    assert [table.title for table in data_tables(empty, histograms=True)] == ["Sets", "Lengths and text"]


def test_a_list_of_shards_is_one_clear_line(tmp_path: Path) -> None:
    shard = {"cuts": "a/cuts.000000.jsonl.gz", "recording": "a/recording.000000.tar"}
    path = write_lines(tmp_path / "list.jsonl", [json.dumps(shard)])
    result = inspect(path)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {path}: is a list of shards, which stage 1 (slimasr-prepare) reads; inspect its")
