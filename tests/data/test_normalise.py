"""``data.text``: the rules one by one, their order and counts, and what later stages see of them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from slimasr.config.data_text import TextConfig
from slimasr.data.corpora.base import ListedUtterance
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.identity.manifest_record import check_corpus
from slimasr.data.manifests.normalise import Rules, normalise_utterances, normalised, read_rules
from slimasr.data.manifests.stage import idle_rules, prepare, text_notes
from slimasr.errors import UserError
from tests.data.corpus import config, quiet, set_text


def rules(tmp_path: Path, text_map: str = "", **keys: Any) -> Rules:
    if text_map:
        (tmp_path / "map.tsv").write_text(text_map, encoding="utf-8")
        keys["map"] = str(tmp_path / "map.tsv")
    return read_rules(TextConfig(**keys))


@pytest.mark.parametrize(
    ("keys", "text", "expected"),
    [
        ({}, "  Don't\u00a0STOP, now ", "Don't STOP, now"),
        ({"case": "upper"}, "straße élan", "STRASSE ÉLAN"),
        ({"case": "lower"}, "ÉLAN Of", "élan of"),
        (
            {"remove_punctuation": True},
            "«Ça va?» l'été, it’s 'so' well-known… ¡sí!",
            "Ça va l'été it's so well known sí",
        ),
        # An accent of its own belongs to the letter before it, a quotation mark does not.
        ({"remove_punctuation": True}, "cafe\u0301's 'n' dogs' 3'", "cafe\u0301's n dogs 3"),
        # Symbols are spoken more often than not.
        ({"remove_punctuation": True}, "5 € + 3 $", "5 € + 3 $"),
        ({"drop": [r"<[^>]*>", r"\(\w+\)"]}, "<noise>a<breath>b (LAUGHS) c", "a b c"),
        ({"unicode": "NFC"}, "cafe\u0301 ﬁn", "caf\u00e9 ﬁn"),
        ({"unicode": "NFKC"}, "ﬁn ＡＢ ①", "fin AB 1"),
    ],
)
def test_each_rule(keys: dict[str, Any], text: str, expected: str, tmp_path: Path) -> None:
    assert normalised(text, rules(tmp_path, **keys)).text == expected


def test_one_kind_of_apostrophe_is_left_and_counted(tmp_path: Path) -> None:
    result = normalised("it’s it's l’acqua ‘so’", rules(tmp_path, remove_punctuation=True))
    assert result.text == "it's it's l'acqua so"
    assert result.counts.punctuation == {"’": 3, "‘": 1}


def test_the_map_replaces_characters_everywhere_and_longer_text_as_words(tmp_path: Path) -> None:
    made = rules(tmp_path, "’\t'\nmr.\tmister\nmr\tmister\n&\tand\n%\t percent\nnew york\tNY\num\t\n")
    result = normalised("mr. R&B it’s 5% mrs new york um umbrella new yorker mr", made)
    # A sign that becomes a word is set off from its neighbours, an apostrophe is not.
    assert result.text == "mister R and B it's 5 percent mrs NY umbrella new yorker mister"
    assert result.counts.mapped == {"mr.": 1, "&": 1, "’": 1, "%": 1, "new york": 1, "um": 1, "mr": 1}
    # What has been replaced is not replaced again.
    assert normalised("a b", rules(tmp_path, "a\tb\nb\ta\n")).text == "b a"


def test_a_vowel_sign_belongs_to_the_word_before_it(tmp_path: Path) -> None:
    # Bengali has no letter of one code point for the second entry in any normal form.
    made = rules(tmp_path, "\u0915\u092e\tX\n\u09dc\tY\n", unicode="NFC")
    result = normalised("\u0915\u092e \u0915\u092e\u0940 \u0995\u09a1\u09bc\u0995", made)
    assert result.text == "X \u0915\u092e\u0940 \u0995Y\u0995"
    assert result.counts.mapped == {"\u0915\u092e": 1, "\u09a1\u09bc": 1}


def test_expressions_that_match_between_letters_remove_nothing(tmp_path: Path) -> None:
    result = normalised("cat data", rules(tmp_path, drop=[r"(?<=a)", r"\bd|\b"]))
    assert result.text == "cat ata"
    assert result.counts.dropped == {r"\bd|\b": 1}


def test_the_order_is_unicode_drop_map_case_punctuation(tmp_path: Path) -> None:
    made = rules(
        tmp_path,
        "é\te\n%\tpercent\n",
        unicode="NFC",
        drop=[r"\[é\]"],
        case="upper",
        remove_punctuation=True,
    )
    result = normalised("[e\u0301] 5 %, e\u0301!", made)
    assert result.text == "5 PERCENT E"
    assert result.counts.to_dict() == {
        "dropped": {r"\[é\]": 1},
        "mapped": {"%": 1, "é": 1},
        "case": {"upper": 1},
        "punctuation": {",": 1, "!": 1},
    }


def test_transcripts_that_have_their_case_already_are_not_counted(tmp_path: Path) -> None:
    made = rules(tmp_path, case="lower")
    assert [normalised(text, made).counts.case["lower"] for text in ("abc 1", "ABC 1", "aBc")] == [0, 1, 1]


def test_the_other_case_keeps_the_normal_form(tmp_path: Path) -> None:
    """In upper case, some letters exist only with an accent of its own, and others only composed."""
    for letter in map(chr, range(0xC0, 0x2000)):
        found = normalised(letter, rules(tmp_path, unicode="NFC", case="upper")).text
        assert found == unicodedata.normalize("NFC", found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b\n", "map.tsv:1: needs two columns"),
        ("a\tb\n\n\tc\n", "map.tsv:3: needs two columns"),
        ("a\tb\nb\tc\td\n", "map.tsv:2: needs two columns"),
        ("a\tb\na\tc\n", "map.tsv:2: 'a' is mapped twice"),
        ("\n", "has no lines"),
    ],
)
def test_wrong_maps_name_the_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        rules(tmp_path, content)


def test_missing_maps_and_impossible_patterns_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.text\.map: .*none\.tsv: No such file"):
        read_rules(TextConfig(map=str(tmp_path / "none.tsv")))
    with pytest.raises(ValueError, match="is not a regular expression"):
        TextConfig(drop=["("])
    with pytest.raises(ValueError, match="matches the empty text"):
        TextConfig(drop=["a*"])


def test_utterances_of_which_nothing_is_left_are_named(tmp_path: Path) -> None:
    listed = [
        ListedUtterance(name, Path("a.wav"), text, "s") for name, text in (("u1", "..."), ("u2", "a."), ("u3", ""))
    ]
    changed = normalise_utterances(listed, rules(tmp_path, remove_punctuation=True))
    assert [item.text for item in changed.utterances] == ["", "a", ""]
    assert changed.emptied == {"u1": "..."}
    assert changed.counts.punctuation == {".": 4}


def test_stage_1_changes_counts_and_records(an4: Path, tmp_path: Path) -> None:
    data_dir, folder = tmp_path / "data", DataFolder(tmp_path / "data")
    (tmp_path / "map.tsv").write_text("STOP\thalt\n")
    set_text(an4, "train", "speakera-0", "<s> STOP, STOP! </s>")
    text = {"case": "lower", "remove_punctuation": True, "map": str(tmp_path / "map.tsv")}
    recipe = config(text=text)
    counts = prepare(recipe.data, data_dir, an4, False, quiet)
    (cut,) = (cut for cut in read_cuts(folder.raw_cuts("train"), "") if cut.id == "speakera-0")
    assert cut.supervisions[0].text == "halt halt"
    record = json.loads((data_dir / "manifests" / "identity_train.json").read_text())
    assert record["text"]["punctuation"] == {",": 1, "!": 1}
    assert record["utterances"] == counts["train"]
    assert record["seconds"] == pytest.approx(
        sum(cut.duration for cut in read_cuts(folder.raw_cuts("train"), "")), abs=1e-3
    )
    assert "train: data.text changed transcripts: mapped 'STOP' " in text_notes(data_dir, counts)[0]
    assert idle_rules(recipe.data.text, data_dir, counts) == []
    (in_vain,) = idle_rules(TextConfig(drop=["<S>"], map=str(tmp_path / "map.tsv")), data_dir, counts)
    assert in_vain.startswith("data.text.drop: '<S>' matches in no transcript")
    (no_entry,) = idle_rules(TextConfig(map="other.tsv"), data_dir, [])
    assert no_entry.startswith("data.text.map: nothing in other.tsv is in any transcript")

    check_corpus(recipe.data, folder, "train")
    for other, key in (({**text, "case": "keep"}, "data.text "), ({**text, "map": None}, "data.text.map "), ({}, "")):
        with pytest.raises(UserError, match=f"prepared with {key or 'data.text'}.*run stage 1"):
            check_corpus(config(text=other).data, folder, "train")
    (tmp_path / "map.tsv").write_text("STOP\tarrêt\n")
    with pytest.raises(UserError, match="data.text.map"):
        check_corpus(recipe.data, folder, "train")
    # A trained model may be used where the file does not exist.
    (tmp_path / "map.tsv").unlink()
    check_corpus(recipe.data, folder, "train")


def test_older_records_stand_for_unchanged_transcripts(an4: Path, tmp_path: Path) -> None:
    prepare(config().data, tmp_path, an4, False, quiet)
    record = tmp_path / "manifests" / "identity_train.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in content.items() if not key.startswith("data.text")}))
    check_corpus(config().data, DataFolder(tmp_path), "train")
    with pytest.raises(UserError, match="prepared with data.text "):
        check_corpus(config(text={"case": "lower"}).data, DataFolder(tmp_path), "train")


def test_an_empty_dev_transcript_names_the_rule(an4: Path, tmp_path: Path) -> None:
    set_text(an4, "test", "tester-0", "<s> !!! </s>")
    with pytest.raises(UserError, match=r"tester-0: .*empty transcript: data.text leaves nothing of '!!!'"):
        prepare(config(text={"remove_punctuation": True}).data, tmp_path, an4, False, quiet)
