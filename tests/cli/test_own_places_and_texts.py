"""Own data through slimasr-prepare: paths that lead out of their folder, and texts in other encodings."""

from __future__ import annotations

import codecs
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.own_desk import Desk, change_source, good
from tests.cli.test_bad_input import error_of
from tests.data.own import SPOKEN, kaldi, lhotse_pair, nemo, write_audio, write_lines

OUTSIDE = "../secret.wav"
TEXTS = [item.text for item in SPOKEN]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    write_audio(tmp_path / "audio")
    # It is there, so that only the check of its path keeps it out.
    write_audio(tmp_path, [SPOKEN[0]])
    (tmp_path / SPOKEN[0].file).rename(tmp_path / "secret.wav")
    return Desk(tmp_path)


def climbing_pair(desk: Desk) -> None:
    folder = lhotse_pair(desk.root / "train", desk.audio)
    path = folder / "my_recordings_train.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().replace(good(desk, 1), OUTSIDE)
    path.write_bytes(gzip.compress(lines.encode()))
    desk.sources["train"] = str(folder)


def climbing_list(desk: Desk) -> None:
    write_lines(desk.audio / "ann" / "ann.trans.txt", ["ann-1 uno", "../../secret due"])
    desk.sources["train"] = str(desk.audio)


LEADS_OUT = re.escape(f"the path {OUTSIDE} leads out of ") + r".*; write it as an absolute path, or set data\.options\."
CLIMBING: dict[str, tuple[Callable[[Desk], None], str]] = {
    "kaldi": (
        lambda d: d.kaldi("wav.scp", f"ann-1 {good(d)}", f"ann-2 {OUTSIDE}", f"bob-1 {good(d, 2)}"),
        rf"wav\.scp:2: {LEADS_OUT}",
    ),
    "json lines": (lambda d: d.json(audio_filepath=OUTSIDE), rf"train\.jsonl:1: {LEADS_OUT}"),
    "cuts": (lambda d: change_source(d, "file", OUTSIDE), rf"cuts\.jsonl\.gz:1: {LEADS_OUT}"),
    "recordings": (climbing_pair, rf"my_supervisions_train\.jsonl\.gz:2: {LEADS_OUT}"),
    "lists": (climbing_list, r"ann\.trans\.txt:2: the id \.\./\.\./secret must be the name of a file in this folder"),
}


@pytest.mark.parametrize("case", CLIMBING)
def test_paths_that_lead_out_of_their_folder_are_refused(case: str, desk: Desk) -> None:
    spoil, expected = CLIMBING[case]
    spoil(desk)
    error = error_of(desk.prepare())
    assert re.search(expected, error), error
    assert not list(desk.root.glob("data/manifests/cuts_*"))


def transcripts(desk: Desk) -> Path:
    """A folder of audio with transcripts, one of which is returned."""
    for item in SPOKEN:
        write_lines((desk.audio / item.file).with_suffix(".txt"), [item.text])
    desk.sources["train"] = str(desk.audio)
    return (desk.audio / SPOKEN[1].file).with_suffix(".txt")


def lists(desk: Desk) -> Path:
    for speaker in ("ann", "bob"):
        own = [f"{item.id} {item.text}" for item in SPOKEN if item.speaker == speaker]
        path = write_lines(desk.audio / speaker / f"{speaker}.trans.txt", own)
    desk.sources["train"] = str(desk.audio)
    return path


def in_kaldi(name: str) -> Callable[[Desk], Path]:
    def write(desk: Desk) -> Path:
        desk.sources["train"] = str(kaldi(desk.root / "train", desk.audio))
        return desk.root / "train" / name

    return write


def json_lines(desk: Desk) -> Path:
    desk.sources["train"] = str(nemo(desk.root / "lists", desk.audio))
    return desk.root / "lists" / "train.jsonl"


FILES: dict[str, Callable[[Desk], Path]] = {
    "x.txt": transcripts,
    "trans.txt": lists,
    "text": in_kaldi("text"),
    "wav.scp": in_kaldi("wav.scp"),
    "json lines": json_lines,
}


@pytest.mark.parametrize("case", FILES)
def test_utf_16_is_one_clear_line(case: str, desk: Desk) -> None:
    path = FILES[case](desk)
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.encode("utf-16"))
    assert error_of(desk.prepare()) == f"error: {path}: is UTF-16 or UTF-32 text; save it as UTF-8"
    # Without the mark at its beginning, the bytes between the letters give it away.
    path.write_bytes(text.encode("utf-16-le"))
    assert re.search(rf"{re.escape(str(path))}:[12]: (holds a NUL byte|is not UTF-8)", error_of(desk.prepare()))


@pytest.mark.parametrize("case", FILES)
def test_byte_order_marks_and_other_line_ends_change_nothing(case: str, desk: Desk) -> None:
    path = FILES[case](desk)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
    status, _, err = desk.prepare()
    assert status == 0, err
    with gzip.open(desk.root / "data/manifests/cuts_train.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert [cut["supervisions"][0]["text"] for cut in found] == TEXTS
    assert all(cut["id"].endswith(item.id) for cut, item in zip(found, SPOKEN, strict=True))
