"""Which files of a folder are the data: lists among other files, and the manifests of shards under all their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.corpora import OwnOptions
from slimasr.config.data import DataConfig
from slimasr.data.own.find import detect, find_format
from slimasr.data.own.read import make_audio, read_source
from slimasr.data.shar.files import read_shard, shard_name
from slimasr.data.shar.found import given_shards, is_given
from slimasr.errors import UserError
from slimasr.progress import silent
from tests.data.made_shards import write_shards
from tests.data.own import SPOKEN, nemo, shar, write_audio, write_lines


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    write_audio(tmp_path / "audio")
    return tmp_path / "audio"


def ids(path: Path, made: Path, **options: Any) -> list[str]:
    parsed = OwnOptions(**options)
    make_audio(path, parsed, made, silent)
    return [item.id for item in read_source(path, parsed, made)]


def test_other_files_of_json_do_not_make_a_list_ambiguous(audio: Path, tmp_path: Path) -> None:
    folder = nemo(tmp_path / "train", audio).parent
    write_lines(folder / "info.json", [json.dumps({"license": "CC0", "hours": 1})])
    write_lines(folder / "config.json", ["{", '  "rate": 16000', "}"])
    (folder / "empty.jsonl").touch()
    assert detect(folder).name == "jsonl"
    assert ids(folder, tmp_path / "made") == [item.id for item in SPOKEN]
    # Several lists still are ambiguous.
    write_lines(folder / "more.jsonl", [json.dumps({"audio_filepath": "a.wav", "text": "a"})])
    with pytest.raises(UserError, match=r"train: holds 2 lists \(more\.jsonl, train\.jsonl\); name the one to read"):
        ids(folder, tmp_path / "made")


def test_a_list_whose_audio_is_named_by_an_option_is_found_among_others(audio: Path, tmp_path: Path) -> None:
    row = {"ton": str(audio / SPOKEN[0].file), "text": "uno", "id": "a"}
    write_lines(tmp_path / "train" / "list.jsonl", [json.dumps(row)])
    options = {"format": "jsonl", "audio_column": "ton"}
    assert ids(tmp_path / "train", tmp_path / "made", **options) == ["a"]
    write_lines(tmp_path / "train" / "info.json", [json.dumps({"path": "x"})])
    assert ids(tmp_path / "train", tmp_path / "made", **options) == ["a"]


@pytest.mark.parametrize(
    ("manifest", "archive", "name"),
    [
        ("cuts.000000.jsonl.gz", None, "000000"),
        ("cuts.12.jsonl", None, "12"),
        ("cuts.000000-0a1b2c3d.jsonl.gz", None, "000000-0a1b2c3d"),
        ("cuts.train.jsonl.gz", "features.train.tar", "train"),
        ("cuts.jsonl.gz", "recording.tar", ""),
        # A manifest of a whole set.
        ("cuts.train.jsonl.gz", None, None),
        ("cuts.jsonl.gz", "recording.000000.tar", None),
        ("cuts_train.jsonl.gz", "recording.tar", None),
        ("recording.000000.jsonl.gz", None, None),
        ("cuts.000000.json", None, None),
    ],
)
def test_the_name_of_a_shard_is_that_of_its_files(
    manifest: str, archive: str | None, name: str | None, tmp_path: Path
) -> None:
    if archive is not None:
        (tmp_path / archive).touch()
    assert shard_name(tmp_path / manifest) == name


@pytest.mark.parametrize("name", ["000000", "000000-0a1b2c3d", "first", ""])
def test_shards_of_all_names_are_read_in_place_and_as_own_data(name: str, audio: Path, tmp_path: Path) -> None:
    folder = shar(tmp_path / "train", audio, cuts_per_shard=3)
    middle = f".{name}" if name else ""
    for field, ending in (("cuts", "jsonl.gz"), ("recording", "tar")):
        (folder / f"{field}.000000.{ending}").rename(folder / f"{field}{middle}.{ending}")
    expected = [item.id for item in SPOKEN]
    for source in (folder, folder / f"cuts{middle}.jsonl.gz"):
        assert detect(source).name == "shar"
        assert ids(source, tmp_path / "made") == expected
        config = DataConfig(
            corpus="own",
            sources={"train": str(source), "dev": "x"},
            test=[],
            storage="shar",
            shar={"content": "audio"},
        )
        assert is_given(config, "train")
        (shard,) = given_shards(config, "train")
        assert [cut.id for cut in read_shard(shard, "audio")] == expected


def test_shards_of_features_alone_say_what_is_missing(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", [2])
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("000000", "000000-0a1b2c3d"))
    assert find_format(folder, OwnOptions()).name == "shar"
    with pytest.raises(UserError, match=r"cuts\.0.*-0a1b2c3d\.jsonl\.gz: there is no recording\.0.*-0a1b2c3d\.tar"):
        ids(folder, tmp_path / "made")
