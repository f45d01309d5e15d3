"""A recipe of own data in a folder of its own, and ways to spoil the data."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lhotse import CutSet
from lhotse.utils import fastcopy
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.prepare import run
from tests.data.own import (
    OTHERS,
    SEED_OF_OTHERS,
    cuts_of,
    kaldi,
    lhotse_cuts,
    lhotse_pair,
    shar,
    write_audio,
    write_lines,
    write_wav,
)
from tests.data.own import SPOKEN as GOOD


@dataclass
class Desk:
    """A folder with good audio, sources that a test writes, and the recipe that reads them."""

    root: Path
    sources: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def audio(self) -> Path:
        return self.root / "audio"

    def prepare(self, *more: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of slimasr-prepare."""
        write_audio(self.root / "others", OTHERS, first_seed=SEED_OF_OTHERS)
        others = str(kaldi(self.root / "good", self.root / "others", OTHERS))
        data = {"corpus": "own", "max_bad_share": 0.0, **self.data}
        data |= {"sources": {"dev": others, "test": others, **self.sources}, "options": self.options}
        config = self.root / "conf.yaml"
        config.write_text(yaml.safe_dump({"name": "own", "data": data}))
        arguments = ["--config", str(config), "--data", str(self.root / "data"), *more]
        result = CliRunner().invoke(command_app(run), arguments)
        return result.exit_code, result.stdout, result.stderr

    def table(self, *rows: str, header: str = "path,sentence") -> Path:
        self.sources["train"] = str(write_lines(self.root / "train.csv", [header, *rows]))
        return self.root / "train.csv"

    def kaldi(self, name: str, *lines: str) -> None:
        """A good Kaldi directory with another content of one file."""
        self.sources["train"] = str(kaldi(self.root / "train", self.audio))
        write_lines(self.root / "train" / name, lines)

    def json(self, **values: Any) -> None:
        """JSON lines of one utterance."""
        row = {"audio_filepath": str(self.audio / GOOD[0].file), "text": "uno", **values}
        self.sources["train"] = str(write_lines(self.root / "train.jsonl", [json.dumps(row)]))

    def sound(self, name: str, content: bytes) -> None:
        """JSON lines of one utterance, whose audio file holds these bytes."""
        (self.root / name).write_bytes(content)
        self.json(audio_filepath=name)


def good(desk: Desk, number: int = 0) -> str:
    return str(desk.audio / GOOD[number].file)


def bytes_of(desk: Desk) -> bytes:
    return (desk.audio / GOOD[0].file).read_bytes()


def empty_folder(desk: Desk) -> None:
    (desk.root / "train").mkdir()
    desk.sources["train"] = str(desk.root / "train")


def audio_alone(desk: Desk) -> None:
    desk.sources["train"] = str(desk.audio)


def two_formats(desk: Desk) -> None:
    desk.kaldi("more.csv", "path,sentence", "a.wav,a")


def two_tables(desk: Desk) -> None:
    desk.kaldi("more.csv", "path,sentence", "a.wav,a")
    write_lines(desk.root / "train" / "other.tsv", ["path\tsentence"])
    desk.options["format"] = "csv"


def two_transcripts(desk: Desk) -> None:
    audio_alone(desk)
    for ending in (".txt", ".lab"):
        write_lines((desk.audio / GOOD[0].file).with_suffix(ending), ["uno"])


def twins(desk: Desk) -> None:
    audio_alone(desk)
    write_lines((desk.audio / GOOD[0].file).with_suffix(".txt"), ["uno"])
    write_wav((desk.audio / GOOD[0].file).with_suffix(".flac"))


def wide(desk: Desk) -> None:
    desk.table(f"{good(desk)},uno").write_bytes("path,sentence\na.wav,uno\n".encode("utf-16"))


def latin(desk: Desk) -> None:
    desk.table(f"{good(desk)},uno").write_bytes("path,sentence\na.wav,perché\n".encode("latin-1"))


def stereo(desk: Desk) -> None:
    write_wav(desk.root / "two.wav", channels=2)
    desk.json(audio_filepath="two.wav")


def mixed_rates(desk: Desk) -> None:
    write_wav(desk.root / "slow.wav", rate=8000)
    desk.table(f"{good(desk)},uno", "slow.wav,due")


def truncated(desk: Desk) -> None:
    desk.sound("cut.wav", bytes_of(desk)[:1000])


def alone(desk: Desk) -> None:
    folder = lhotse_pair(desk.root / "train", desk.audio)
    (folder / "my_supervisions_train.jsonl.gz").unlink()
    desk.sources["train"] = str(folder)


def changed_cuts(desk: Desk, change: Callable[[Any], Any]) -> None:
    (desk.root / "train").mkdir()
    CutSet([change(cut) for cut in cuts_of(desk.audio, GOOD)]).to_file(desk.root / "train" / "cuts.jsonl.gz")
    desk.sources["train"] = str(desk.root / "train")


def mixed_cuts(desk: Desk) -> None:
    changed_cuts(desk, lambda cut: cut.pad(duration=2.0))


def address(desk: Desk) -> None:
    change_source(desk, "url", "https://example.org/a.wav")


def faster(desk: Desk) -> None:
    changed_cuts(desk, lambda cut: cut.perturb_speed(1.1))


def command_in_cuts(desk: Desk) -> None:
    change_source(desk, "command", f"touch {desk.root}/ran")


def change_source(desk: Desk, kind: str, place: str) -> None:
    def change(cut: Any) -> Any:
        source = fastcopy(cut.recording.sources[0], type=kind, source=place)
        return fastcopy(cut, recording=fastcopy(cut.recording, sources=[source]))

    changed_cuts(desk, change)


def broken_line(desk: Desk) -> None:
    path = lhotse_cuts(desk.root / "train", desk.audio)
    lines = path.read_text().splitlines()
    write_lines(path, [lines[0], lines[1].replace('"start"', '"begin"', 1)])
    desk.sources["train"] = str(path)


def changed_cut(desk: Desk, text: Any = GOOD[0].text, **values: Any) -> None:
    """Other values in the first line of a manifest of cuts, or another text of its supervision."""
    path = lhotse_cuts(desk.root / "train", desk.audio)
    first, *rest = path.read_text().splitlines()
    cut = json.loads(first) | values
    cut["supervisions"][0]["text"] = text
    write_lines(path, [json.dumps(cut), *rest])
    desk.sources["train"] = str(path)


def damaged_gzip(desk: Desk) -> None:
    path = desk.root / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"audio_filepath": "a.wav", "text": "' + bytes(range(65, 91)) * 40)[:-12])
    desk.sources["train"] = str(path)


def shar_folder(desk: Desk) -> Path:
    desk.sources["train"] = str(shar(desk.root / "train", desk.audio))
    return desk.root / "train"


def truncated_shard(desk: Desk) -> None:
    path = shar_folder(desk) / "recording.000000.tar"
    path.write_bytes(path.read_bytes()[:8000])


def audio_of_others(desk: Desk) -> None:
    folder = shar_folder(desk)
    shutil.copyfile(folder / "recording.000001.tar", folder / "recording.000000.tar")


def shorter_shard(desk: Desk) -> None:
    """The archive ends behind its first cut, and not within one."""
    path = shar_folder(desk) / "recording.000000.tar"
    with tarfile.open(path) as whole:
        members = [(member, whole.extractfile(member)) for member in whole.getmembers()[:2]]
        with tarfile.open(path.with_name("new.tar"), "w") as shorter:
            for member, content in members:
                shorter.addfile(member, content)
    path.with_name("new.tar").rename(path)


def shard_without_audio(desk: Desk) -> None:
    (shar_folder(desk) / "recording.000001.tar").unlink()


def slow_shar(desk: Desk) -> None:
    write_audio(desk.root / "slow", rate=8000)
    desk.sources["train"] = str(shar(desk.root / "train", desk.root / "slow"))


def hostile_shar(desk: Desk) -> None:
    """Cuts and members of the archive are named so that they would be written outside of the folder."""
    (desk.root / "train").mkdir()
    cuts = [fastcopy(cut, id=f"../../{cut.id}") for cut in cuts_of(desk.audio, GOOD)]
    CutSet(cuts).to_shar(desk.root / "train", {"recording": "wav"}, shard_size=None)
    desk.sources["train"] = str(desk.root / "train")
