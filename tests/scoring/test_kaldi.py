"""Files in the layout of Kaldi's scripts: their documented examples, and what they do at the edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.scoring import EditCounts, Utterance, WerResult, align, pair, read_text, read_utt2spk, score
from slimasr.scoring.kaldi import ops, per_spk, per_utt, wer_lines

# The example in the documentation of wer_per_utt_details.pl: one insertion, one deletion, one substitution.
EXAMPLE = Utterance(
    "UTT-A",
    ("word-A", "word-B", "word-C", "word-D", "word-E"),
    ("word-A", "word-A", "word-B", "word-D", "word-X"),
)

# And its speakers, from the documentation of wer_per_spk_details.pl.
SPEAKER_EXAMPLE = """\
SPEAKER         id       #SENT      #WORD       Corr        Sub        Ins        Del        Err      S.Err
A               raw          1          5          3          1          1          1          3          1
A               sys          1          5      60.00      20.00      20.00      20.00      60.00     100.00
SUM             raw          1          5          3          1          1          1          3          1
SUM             sys          1          5      60.00      20.00      20.00      20.00      60.00     100.00
"""


def test_wer_and_ser_lines() -> None:
    result = WerResult(EditCounts(968, 81, 12, 30), sentences=130, wrong_sentences=50)
    assert wer_lines(result).splitlines() == [
        "%WER 11.40 [ 123 / 1079, 12 ins, 30 del, 81 sub ]",
        "%SER 38.46 [ 50 / 130 ]",
        "Scored 130 sentences, 0 not present in hyp.",
    ]
    assert wer_lines(result, missing=3).splitlines()[::2] == [
        "%WER 11.40 [ 123 / 1079, 12 ins, 30 del, 81 sub ] [PARTIAL]",
        "Scored 130 sentences, 3 not present in hyp.",
    ]


def test_per_utt_example() -> None:
    assert per_utt([align(EXAMPLE)]) == (
        "UTT-A ref  word-A   <eps>  word-B  word-C  word-D  word-E\n"
        "UTT-A hyp  word-A  word-A  word-B   <eps>  word-D  word-X\n"
        "UTT-A op      C       I       C       D       C       S  \n"
        "UTT-A #csid 3 1 1 1\n"
    )


def test_per_utt_of_nothing() -> None:
    assert per_utt([align(Utterance("u", (), ()))]) == "u ref  \nu hyp  \nu op   \nu #csid 0 0 0 0\n"


def test_per_spk_example() -> None:
    assert per_spk([align(EXAMPLE)], {"UTT-A": "A"}) == SPEAKER_EXAMPLE


def test_per_spk_sums_and_widths() -> None:
    long = "a-speaker-with-a-long-name"
    utterances = [
        Utterance("1", ("a", "b"), ("a", "b")),
        Utterance("2", ("a", "b"), ("a",)),
        Utterance("3", (), ("a",)),
    ]
    lines = per_spk([align(u) for u in utterances], {"1": "s", "2": "s", "3": long}).splitlines()
    # A speaker without words has no percentages; SUM has all.
    assert [line.split()[:2] for line in lines[1:]] == [
        [long, "raw"],
        ["s", "raw"],
        ["s", "sys"],
        ["SUM", "raw"],
        ["SUM", "sys"],
    ]
    assert lines[2].split()[2:] == ["2", "4", "3", "0", "0", "1", "1", "1"]
    assert lines[4].split()[2:] == ["3", "4", "3", "0", "1", "1", "2", "2"]
    assert {line.index(line.split()[1]) for line in lines} == {len(long) + 1}


def test_per_spk_needs_every_speaker() -> None:
    with pytest.raises(UserError, match="UTT-A is not in utt2spk"):
        per_spk([align(EXAMPLE)], {"UTT-B": "A"})


def test_ops_example() -> None:
    rows = [line.split() for line in ops([align(EXAMPLE)]).splitlines()]
    assert sorted(rows) == [
        ["correct", "word-A", "word-A", "1"],
        ["correct", "word-B", "word-B", "1"],
        ["correct", "word-D", "word-D", "1"],
        ["deletion", "word-C", "<eps>", "1"],
        ["insertion", "<eps>", "word-A", "1"],
        ["substitution", "word-E", "word-X", "1"],
    ]


def test_ops_columns_are_sorted_and_at_most_sixteen_wide() -> None:
    utterances = [Utterance(str(i), ("b",), ("b",)) for i in range(10)]
    utterances.append(Utterance("x", ("a" * 20,), ("c",)))
    assert ops([align(u) for u in utterances]).splitlines() == [
        f"substitution  {'a' * 20}    {'c':>16}     1",
        f"correct       {'b':>16}    {'b':>16}    10",
    ]


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("u1 HELLO  WORLD\nu2\nu3\tÉTÉ\u00a0\n", encoding="utf-8")
    assert read_text(path) == {"u1": ("HELLO", "WORLD"), "u2": (), "u3": ("ÉTÉ",)}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"u1 a\n\nu2 b\n", "text:2: empty line"),
        (b"u1 a\nu1 b\n", "text:2: utterance u1 comes twice"),
        (b"u1 \xff\xfe\n", "is not UTF-8"),
    ],
)
def test_bad_text_files(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(UserError, match=match) as error:
        read_text(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_bad_speakers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: No such file"):
        read_text(tmp_path / "nothing")
    (tmp_path / "utt2spk").write_text("u1 s1\nu2\n")
    with pytest.raises(UserError, match="utt2spk:2: expected"):
        read_utt2spk(tmp_path / "utt2spk")


def test_pairing() -> None:
    refs, hyps = {"a": ("x",), "b": ("y",)}, {"c": ("z",), "a": ("x",)}
    with pytest.raises(UserError, match=r"utterance b has no hypothesis \(1 of 2.*--allow-missing"):
        pair(refs, hyps)
    paired = pair(refs, hyps, allow_missing=True)
    assert paired.utterances == (Utterance("a", ("x",), ("x",)), Utterance("b", ("y",), ()))
    assert (paired.missing, paired.extra) == (("b",), ("c",))
    assert score(paired.utterances, replications=0).counts.deletions == 1
