"""Characters that a tokenizer lacks: counted by hand, and said in stage 3 and by decode."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimasr.cli.bpe import run as bpe
from slimasr.cli.common import command_app
from slimasr.config.data import TokenizerConfig
from slimasr.config.load import save_config
from slimasr.data.manifests.stage import prepare
from slimasr.data.tokens.coverage import alphabet, coverage_notes, measure_coverage
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.subwords import MODEL_FILE, train_model
from slimasr.files import write_atomic
from tests.data.corpus import config, quiet, set_text

KNOWN = frozenset("ABCDE'")


def test_words_and_utterances_are_counted() -> None:
    found = measure_coverage(["AB CX", "XX CX", "ED", "", "Y"], KNOWN)
    assert (found.words, found.uncovered_words) == (6, 4)
    assert (found.utterances, found.uncovered_utterances) == (5, 3)
    # X stands in four places (CX twice, XX), Y in one.
    assert found.characters == ("X", "Y")
    assert found.examples == ("CX", "XX", "Y")
    assert found.cure is None
    line = found.describe()
    assert "4 of 6 words (66.7 %) in 3 of 5 utterances" in line
    assert "X (U+0058), Y (U+0059); for example CX, XX, Y" in line


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("ab Cd DE", ("in upper case", 2)),
        ("A, B! C", ("without punctuation", 2)),
        ("ab, cd", ("in upper case and without punctuation", 2)),
        ("ＡＢ Ｃ", ("in Unicode form NFKC", 2)),
        ("ａｂ", ("in upper case and in Unicode form NFKC", 1)),
        ("- A", ("without punctuation", 1)),
        ("10 20 e", None),
    ],
)
def test_a_normalisation_that_helps_is_proposed(text: str, cure: tuple[str, int] | None) -> None:
    assert measure_coverage([text], KNOWN).cure == cure


def test_decomposed_letters() -> None:
    composed = measure_coverage(["e\u0301te\u0301 \u00e9"], frozenset("\u00e9t"))
    assert composed.uncovered_words == 1 and composed.cure == ("in Unicode form NFC", 1)
    # A combining mark alone cannot be shown.
    assert "U+0301" in composed.describe() and "\u0301 (" not in composed.describe()
    assert measure_coverage(["\u00e9t\u00e9"], frozenset("e\u0301t")).cure == ("in Unicode form NFD", 1)


@pytest.mark.parametrize(("kind", "size"), [("char", 24), ("bpe", 24), ("unigram", 22)])
def test_agrees_with_what_the_tokenizer_itself_finds_unknown(tmp_path: Path, kind: str, size: int) -> None:
    options = TokenizerConfig.model_validate({"kind": kind, "vocab_size": size})
    model = train_model(["ÄÖ TWO 한국 नमस्ते", "THREE TWO"] * 9, options)
    write_atomic(tmp_path / MODEL_FILE, model)
    tokenizer = load_tokenizer(tmp_path)
    words = ["TWO", "ÄÖ", "TWÄ", "국한", "한글", "नम", "नमन", "two", "A", "T2", "THREE", "<blk>", "\u2047"]
    for word in words:
        unknown = tokenizer.unk_id in tokenizer.encode(word)
        assert measure_coverage([word], alphabet(tokenizer.tokens)).uncovered_words == unknown, word


def test_stage_3_names_sets_that_are_not_covered_and_no_others(an4: Path, tmp_path: Path) -> None:
    recipe, data = config(), tmp_path / "data"
    save_config(recipe, tmp_path / "c.yaml")
    arguments = ["--config", str(tmp_path / "c.yaml"), "--data", str(data)]
    prepare(recipe.data, data, an4, False, quiet)
    result = CliRunner().invoke(command_app(bpe), arguments)
    assert result.exit_code == 0 and result.stderr == ""
    set_text(an4, "train", "speakere-1", "Café YES")
    prepare(recipe.data, data, an4, False, quiet)
    result = CliRunner().invoke(command_app(bpe), arguments)
    assert result.exit_code == 0, result.output
    (note,) = result.stderr.splitlines()
    assert note.startswith("note: dev: 1 of ") and "in 1 of 4 utterances" in note
    assert "é (U+00E9)" in note and "for example Café" in note
    (lang,) = data.glob("lang_*")
    assert list(coverage_notes(data, ["dev", "dev", "nowhere"], load_tokenizer(lang))) == [note.removeprefix("note: ")]


def test_training_words_that_a_small_vocabulary_drops(tmp_path: Path, an4: Path) -> None:
    recipe = config()
    recipe = recipe.model_copy(update={"tokenizer": TokenizerConfig(kind="char", vocab_size=8)})
    save_config(recipe, tmp_path / "c.yaml")
    prepare(recipe.data, tmp_path / "data", an4, False, quiet)
    result = CliRunner().invoke(
        command_app(bpe), ["--config", str(tmp_path / "c.yaml"), "--data", str(tmp_path / "data")]
    )
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" train", " dev", " test"]
