"""Transcripts and lists of corpora as people save and spoil them, from the file to the cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.prepare import run as prepare_command
from slimasr.config.load import load_config
from slimasr.data.corpora import CORPORA, ListedUtterance
from slimasr.data.files import DataFolder
from slimasr.data.manifests.listing import check_names, text_problem
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import audio_path, config, quiet, set_text, write_audio

MINI = ("train-clean-5", "dev-clean-2")


def _texts(an4: Path, tmp_path: Path, part: str = "test") -> dict[str, str]:
    prepare(config().data, tmp_path / "data", an4, False, quiet)
    cuts = CutSet.from_file(DataFolder(tmp_path / "data").raw_cuts(part))
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def _resave(folder: Path, before: str, after: str, encoding: str = "utf-8") -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_text(encoding="utf-8").replace(before, after).encode(encoding))


@pytest.mark.parametrize(
    ("before", "after", "encoding"),
    [("\n", "\r\n", "utf-8-sig"), ("\n", "\r", "utf-8"), (" (", "\t(", "utf-8"), (" ", "  ", "utf-8-sig")],
)
def test_an4_saved_in_other_ways_is_the_same(an4: Path, tmp_path: Path, before: str, after: str, encoding: str) -> None:
    expected = _texts(an4, tmp_path)
    _resave(an4 / "etc", before, after, encoding)
    assert _texts(an4, tmp_path) == expected


@pytest.mark.parametrize("space", ["\u2028", "\u0085", "\u00a0", "\u3000", "\v", "\x1c", "\u2003", " \t\u202f"])
def test_white_space_of_any_kind_separates_words(an4: Path, tmp_path: Path, space: str) -> None:
    set_text(an4, "test", "tester-0", f"YES{space}STOP")
    assert _texts(an4, tmp_path)["tester-0"] == "YES STOP"


def test_marks_inside_a_transcript_are_dropped(an4: Path, tmp_path: Path) -> None:
    set_text(an4, "test", "tester-1", "\ufeffYES \ufeff STO\ufeffP")
    assert _texts(an4, tmp_path)["tester-1"] == "YES STOP"


def test_characters_of_the_tokenizer_itself_are_bad_text(an4: Path, tmp_path: Path) -> None:
    assert text_problem("YES\u2585") is not None and text_problem("YES") is None
    set_text(an4, "test", "tester-1", "YES\u2581STOP")
    with pytest.raises(UserError, match=r"tester-1: .*an4_test\.transcription:\d+: the transcript holds U\+2581"):
        _texts(an4, tmp_path)


@pytest.mark.parametrize("text", ["STOP", None])
def test_an4_with_two_transcripts_for_an_utterance(an4: Path, text: str | None) -> None:
    path = an4 / "etc" / "an4_test.transcription"
    first = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + (first if text is None else f"{text} {text} {text} {text} (tester-1)") + "\n")
    how = "the same" if text is None else "another"
    message = rf"an4_test\.transcription:5: utterance tester-1 has {how} transcript in line 2"
    with pytest.raises(UserError, match=message):
        CORPORA["an4"].list_utterances(an4, ("test",), {})


def test_an4_parts_that_contradict_each_other(an4: Path) -> None:
    etc = an4 / "etc"
    for end, line in (("fileids", "an4test_clstk/tester/speakera-0"), ("transcription", "NO NO NO NO (speakera-0)")):
        path = etc / f"an4_test.{end}"
        path.write_text(path.read_text() + line + "\n")
    message = r"an4_test\.transcription:5: utterance speakera-0 has another transcript, first in .*_train.*:1;"
    with pytest.raises(UserError, match=message):
        CORPORA["an4"].list_utterances(an4, ("train",), {})


def test_an4_line_without_id_is_named(an4: Path) -> None:
    path = an4 / "etc" / "an4_test.transcription"
    path.write_text(path.read_text().replace("(tester-2)", "tester-2"))
    with pytest.raises(UserError, match=r"an4_test\.transcription:3: expected .*tester-2"):
        CORPORA["an4"].list_utterances(an4, ("test",), {})


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("a b", "0020"), ("a\u00a0b", "00A0"), ("a\u2028b", "2028"), ("a:\tb", "0009")),
        *(("a\x07", "0007"), ("a\udcff", "DCFF"), ("a\ufeff", "FEFF")),
    ],
)
def test_names_that_files_cannot_hold(name: str, code: str) -> None:
    audio = Path("x.wav")
    with pytest.raises(UserError, match=rf"utterance id 'a.* holds U\+{code}"):
        check_names(ListedUtterance(name, audio, "A", "s"))
    with pytest.raises(UserError, match=rf"list:3: speaker 'a.* of utterance u holds U\+{code}"):
        check_names(ListedUtterance("u", audio, "A", name, source="list:3"))


def test_names_that_are_fine_and_none() -> None:
    for name in ("é-1", "字_2", "a:b", "a/b", "(1)", "नमस्ते", "می\u200cخواهم"):
        check_names(ListedUtterance(name, Path("x.wav"), "A", ""))
    with pytest.raises(UserError, match=r"x\.wav: the utterance id is empty"):
        check_names(ListedUtterance("", Path("x.wav"), "A", "s"))


def test_a_speaker_folder_with_a_space_is_refused_in_stage_1(an4: Path, tmp_path: Path) -> None:
    folder = audio_path(an4, "speakera-0").parent
    folder.rename(folder.with_name("speaker a"))
    path = an4 / "etc" / "an4_train.fileids"
    path.write_text(path.read_text().replace("/speakera/", "/speaker a/"))
    with pytest.raises(UserError, match=r"speaker 'speaker a' of utterance speakera-0 holds U\+0020"):
        prepare(config().data, tmp_path / "data", an4, False, quiet)


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    """Two chapters in LibriSpeech's layout, one in each part."""
    for part, chapter in zip(MINI, ("7-1", "8-2"), strict=True):
        folder = tmp_path / "ls" / part / chapter.replace("-", "/")
        folder.mkdir(parents=True)
        for number in range(2):
            write_audio(folder / f"{chapter}-000{number}.flac", 0.1 * np.ones(8000), 16000)
        (folder / f"{chapter}.trans.txt").write_text(f"{chapter}-0000 ONE TWO\n{chapter}-0001 NINE\n")
    return tmp_path / "ls"


def _libri(folder: Path, sets: tuple[str, ...] = MINI) -> dict[str, list[ListedUtterance]]:
    return CORPORA["librispeech"].list_utterances(folder, sets, {})


@pytest.mark.parametrize(
    "line", ["7-1-0000\tONE TWO", "7-1-0000   ONE TWO ", " 7-1-0000\u00a0ONE TWO", "7-1-0000 \tONE TWO"]
)
def test_librispeech_with_other_white_space(libri: Path, line: str) -> None:
    (libri / MINI[0] / "7/1/7-1.trans.txt").write_text(f"{line}\r\n\r\n7-1-0001 NINE")
    first, second = _libri(libri)[MINI[0]]
    assert (first.id, first.text, second.id) == ("7-1-0000", "ONE TWO", "7-1-0001")
    assert first.audio.is_file()
    assert second.source.endswith("7-1.trans.txt:3")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("7-1-0000 ONE\nNINE TWO\n", r"7-1\.trans\.txt:2: expected .* no audio file NINE\.flac"),
        ("7-1-0000 ONE\n8-2-0000 TWO\n", r"7-1\.trans\.txt:2: expected .* no audio file 8-2-0000\.flac"),
        ("7-1-0000 ONE\n7-1-0000 ONE\n", r"7-1\.trans\.txt:2: utterance 7-1-0000 has the same transcript in line 1"),
        ("7-1-0000 ONE\n\n7-1-0000 TWO\n", r"7-1\.trans\.txt:3: .*7-1-0000 has another transcript in line 1"),
    ],
)
def test_librispeech_lines_that_do_not_fit(libri: Path, lines: str, message: str) -> None:
    (libri / MINI[0] / "7/1/7-1.trans.txt").write_text(lines)
    with pytest.raises(UserError, match=message):
        _libri(libri)


def test_librispeech_line_without_text_is_bad_and_named(libri: Path, tmp_path: Path) -> None:
    (libri / MINI[1] / "8/2/8-2.trans.txt").write_text("8-2-0000 ONE\n8-2-0001\n")
    recipe = config(corpus="librispeech", train=[MINI[0]], dev=MINI[1], test=[])
    with pytest.raises(UserError, match=r"8-2-0001: .*8-2\.trans\.txt:2: empty transcript"):
        prepare(recipe.data, tmp_path / "data", libri, False, quiet)


def test_librispeech_chapters_that_contradict_each_other(libri: Path) -> None:
    (libri / MINI[1] / "8/2/7-1-0001.flac").write_bytes((libri / MINI[1] / "8/2/8-2-0001.flac").read_bytes())
    (libri / MINI[1] / "8/2/8-2.trans.txt").write_text("8-2-0000 ONE TWO\n7-1-0001 TEN\n")
    message = r"8-2\.trans\.txt:2: utterance 7-1-0001 {}, first in .*7-1\.trans\.txt:2; keep"
    with pytest.raises(UserError, match=message.format("has another transcript")):
        _libri(libri)
    with pytest.raises(UserError, match=message.format("is listed twice")):
        _libri(libri, ("+".join(MINI),))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train\ta\tm1", r"digits\.tsv:2: expected set"),
        ("eval\ta\tm1\tone", r"digits\.tsv:2: expected set \(train, dev, test\)"),
        ("train\ta\tm1\ttwo", r"digits\.tsv:2: utterance a is listed twice, first in .*digits\.tsv:1"),
        ("test\ta\tm1\ttwo", r"digits\.tsv:2: utterance a has another transcript, first in"),
    ],
)
def test_damaged_list_of_digits(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "digits.tsv").write_text(f"train\ta\tm1\tone\n{line}\n")
    with pytest.raises(UserError, match=message):
        CORPORA["digits"].list_utterances(tmp_path, ("train",), {})


def test_configurations_of_windows_editors(tmp_path: Path) -> None:
    text = "name: café\r\ndata: {corpus: an4}\r\n"
    (tmp_path / "c.yaml").write_bytes(text.encode("utf-8-sig"))
    assert load_config(tmp_path / "c.yaml").name == "café"
    (tmp_path / "c.yaml").write_bytes(text.encode("utf-16"))
    result = CliRunner().invoke(command_app(prepare_command), ["--config", str(tmp_path / "c.yaml")])
    assert result.exit_code == 1
    assert "c.yaml: is UTF-16" in result.stderr
    (tmp_path / "c.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"c\.yaml:1: is not UTF-8 text"):
        load_config(tmp_path / "c.yaml")
