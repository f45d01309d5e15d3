"""Bad lists of shards and bad shards through the commands of stages 1, 2 and 4: one line that says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slimasr.cli import bpe, features, prepare, train
from slimasr.cli.common import command_app
from slimasr.config.load import save_config
from tests.cli.test_bad_input import error_of
from tests.data.made_shards import spoil_utterances, write_shards
from tests.data.test_shar_given import config_of, dev_set

CUTS, ARCHIVE = "a/cuts.000000.jsonl.gz", "a/features.000000.tar"
GOOD = {"cuts": CUTS, "features": ARCHIVE}
OTHER = {"cuts": CUTS.replace("a/", "b/"), "features": ARCHIVE.replace("a/", "b/")}


@dataclass
class Shards:
    """Two shards, ``a`` and ``b``, a list that a test writes, and the recipe that reads it."""

    root: Path
    data: dict[str, Any] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)

    @property
    def listing(self) -> Path:
        return self.root / "list.jsonl"

    def write(self, *entries: Any) -> None:
        """Write the list; texts are written as they are."""
        lines = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
        self.listing.write_text("".join(f"{line}\n" for line in lines))

    def run(self, run: Callable[..., None], *options: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command."""
        save_config(config_of(self.root, self.sources or str(self.listing), **self.data), self.root / "conf.yaml")
        arguments = ["--config", str(self.root / "conf.yaml"), "--data", str(self.root / "data"), *options]
        result = CliRunner().invoke(command_app(run), arguments)
        return result.exit_code, result.stdout, result.stderr

    def all_stages(self) -> tuple[int, str, str]:
        """What the first command that fails says, or the last one."""
        for command in (prepare.run, features.run, bpe.run):
            outcome = self.run(command)
            if outcome[0]:
                return outcome
        return self.run(train.run, "--exp", str(self.root / "exp"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    for first, name in enumerate("ab"):
        write_shards(root / name, [4], first=4 * first)
    dev_set(root / "dev")
    return root


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Shards:
    for name in ("a", "b", "dev"):
        (tmp_path / name).mkdir()
        for file in (made / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    return Shards(tmp_path)


def outside(shards: Shards) -> None:
    (shards.root / "lists").mkdir()
    (shards.root / "lists" / "list.jsonl").write_text(json.dumps({"cuts": f"../{CUTS}", "features": f"../{ARCHIVE}"}))
    shards.sources = [str(shards.root / "lists" / "list.jsonl")]


def folder_twice(shards: Shards) -> None:
    shards.write(OTHER, GOOD)
    shards.sources = [str(shards.root / "a"), str(shards.listing)]


Spoil = Callable[[Shards], Any]
LISTS: dict[str, tuple[Spoil, str]] = {
    "number": (lambda s: s.write(GOOD, {**OTHER, "num_cuts": "many"}), r":2: num_cuts: needs a whole .* not 'many'"),
    "negative": (lambda s: s.write({**GOOD, "num_cuts": -3}), r":1: num_cuts: needs a whole number from 1 on, not -3"),
    "truth": (lambda s: s.write({**GOOD, "num_cuts": True}), r":1: num_cuts: needs a whole number .* not True"),
    "cuts": (lambda s: s.write(GOOD, {**OTHER, "cuts": 5}), r":2: cuts: needs a text, not 5; correct the line"),
    "first cuts": (lambda s: s.write({**GOOD, "cuts": 5}), r":1: cuts: needs a text, not 5"),
    "features": (lambda s: s.write({**GOOD, "features": []}), r":1: features: needs a text, not \[\]"),
    "prefix": (lambda s: s.write({**GOOD, "prefix": 7}), r":1: prefix: needs a text, not 7"),
    "no cuts": (lambda s: s.write(GOOD, {"features": "x"}), r":2: names no shard; needs for example \{"),
    "no object": (lambda s: s.write(GOOD, "[1]"), r":2: names no shard"),
    "no json": (lambda s: s.write(GOOD, "", "{"), r":3: is no JSON object"),
    "latin": (
        lambda s: s.listing.write_bytes(json.dumps(GOOD).encode() + '\n{"cuts": "é"}'.encode("latin-1")),
        r":2: is not UTF-8 text \(byte \d+ of the file is 0xe9\)",
    ),
    "audio": (
        lambda s: s.write({"cuts": CUTS, "recording": "x"}),
        r":1: the shard a/cuts\.000000\.jsonl\.gz has no features; data\.shar\.content is features",
    ),
    "command": (
        lambda s: s.write(GOOD, {**OTHER, "features": f"pipe:touch {s.root}/ran"}),
        r":2: the shard pipe:touch .* is a command; set data\.shar\.allow_pipes to true",
    ),
    "empty": (
        lambda s: (s.write({"cuts": "pipe:true", "features": "pipe:true"}), s.data.update(shar={"allow_pipes": True})),
        r"pipe:true: lists no utterance; restore the shard, or leave it out",
    ),
    "address": (
        lambda s: s.write({"cuts": "s3://bucket/cuts.gz", "features": "s3://bucket/f.tar"}),
        r"s3://bucket/cuts\.gz: cannot be read \(.*smart_open",
    ),
    "missing": (
        lambda s: s.write({**GOOD, "features": "a/x.tar"}),
        r"a/x\.tar: is missing, which .*list\.jsonl:1 lists; restore it",
    ),
    "twice": (
        lambda s: s.write(GOOD, {**GOOD, "cuts": f"./{CUTS}"}),
        r":2: the shard .*a/cuts\.0.* is named already by .*list\.jsonl:1, so that ids would be there twice; remove",
    ),
    "folder twice": (folder_twice, r":2: the shard .*a/cuts\.000000\.jsonl\.gz is named already by .*/a, so that"),
    "outside": (outside, r":1: the path \.\./a/cuts\.\S* leads out of .*lists; write it as an absolute path"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_bad_list_of_shards_is_named_with_its_line(case: str, shards: Shards) -> None:
    spoil, message = LISTS[case]
    spoil(shards)
    error = error_of(shards.run(prepare.run))
    assert re.search(rf"list\.jsonl{message}" if message.startswith(":") else message, error), error
    assert not (shards.root / "ran").exists()


def test_marks_line_ends_and_blank_lines_of_a_list_do_not_matter(shards: Shards) -> None:
    shards.write("", GOOD, "", {**GOOD, "prefix": "again-"}, OTHER)
    shards.listing.write_bytes(b"\xef\xbb\xbf" + shards.listing.read_bytes().replace(b"\n", b"\r\n"))
    status, out, err = shards.run(prepare.run)
    assert status == 0, err
    assert ["train", "12"] in [line.split()[:2] for line in out.splitlines()]


def another_archive(shards: Shards) -> None:
    (shards.root / ARCHIVE).write_bytes((shards.root / "b" / "features.000000.tar").read_bytes())


def slow(shards: Shards) -> None:
    write_shards(shards.root / "slow", [4], rate=8000)
    shards.sources = [str(shards.root / "b"), str(shards.root / "slow")]


def lost(shards: Shards, path: str, size: int) -> None:
    (shards.root / path).write_bytes((shards.root / path).read_bytes()[:size])


def nothing_said(shards: Shards) -> None:
    write_shards(shards.root / "silent", [4], text="")
    shards.sources = [str(shards.root / "silent")]


def stereo(shards: Shards) -> None:
    write_shards(shards.root / "two", [2], audio=True, channels=2)
    shards.sources = [str(shards.root / "two")]
    shards.data["shar"] = {"content": "audio"}


SHARDS: dict[str, tuple[Spoil, str]] = {
    "truncated": (lambda s: lost(s, ARCHIVE, 3000), r"a/features\.000000\.tar: damaged or truncated shard \("),
    "manifest": (lambda s: lost(s, CUTS, 100), r"a/cuts\.000000\.jsonl\.gz: damaged or truncated shard \("),
    "others": (another_archive, r"a/features\.000000\.tar: damaged or truncated shard \(Mismatched IDs"),
    "no archive": (lambda s: (s.root / ARCHIVE).unlink(), r"a/features\.0.*\.tar: is missing"),
    "content": (
        lambda s: s.data.update(shar={"content": "audio"}),
        r"recording\.000000\.tar: is missing beside cuts\.000000\.jsonl\.gz; data\.shar\.content is audio: read",
    ),
    "rate": (slow, r"slow/features\.000000\.tar: the features of u\d have the sampling rate 8000, the configuration"),
    "no text": (nothing_said, r"data\.sources: no utterance in a sample of the shards of train has a transcript"),
    "no test": (lambda s: s.data.update(test=["more"]), r"data\.sources: more has no source, and no utterances are sp"),
    "stereo": (stereo, r"two/recording\.000000\.tar: u\d has 2 channels, needs to be mono: choose one by data\.option"),
    "damaged": (
        lambda s: spoil_utterances(s.root / ARCHIVE, ["u1", "u2"]),
        r"train: 2 of \d+ training utterances cannot be used, .* first: u\d: .*a/features\.000000\.tar: the features c",
    ),
}


@pytest.mark.parametrize("case", SHARDS)
def test_a_bad_shard_is_named(case: str, shards: Shards) -> None:
    spoil, message = SHARDS[case]
    shards.sources = [str(shards.root / "a"), str(shards.root / "b")]
    spoil(shards)
    error = error_of(shards.all_stages())
    assert re.search(message, error), error


def test_training_goes_on_without_damaged_utterances_and_lists_them(shards: Shards) -> None:
    write_shards(shards.root / "heard", [6, 6], audio=True)
    spoil_utterances(shards.root / "heard" / "recording.000001.tar", ["u8"])
    shards.sources = [str(shards.root / "heard")]
    # Large batches, so that the run passes over all of the shards.
    shards.data = {"shar": {"content": "audio"}, "max_bad_share": 0.2, "batch_seconds": 20.0, "num_buckets": 1}
    status, _, err = shards.all_stages()
    assert status == 0, err
    assert re.search(r"train: 1 of the utterances read so far cannot be used \(.*bad_utterances\.jsonl\)", err), err
    (line,) = (shards.root / "exp" / "bad_utterances.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "u8"
    assert "recording.000001.tar: cannot be decoded: damaged (" in json.loads(line)["reason"]


def test_a_shard_that_changes_after_stage_2_is_named_by_training(shards: Shards) -> None:
    shards.write(GOOD, OTHER)
    for command in (prepare.run, features.run, bpe.run):
        assert shards.run(command)[0] == 0
    lost(shards, ARCHIVE, 3000)
    error = error_of(shards.run(train.run, "--exp", str(shards.root / "exp")))
    assert re.search(r"a/features\.000000\.tar: has 3000 bytes, and had \d+ when stage 2 read or wrote it", error)
