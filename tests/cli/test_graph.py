"""Stage 3 with a lexicon through the command line: tokenizer, search graph, and what is wrong with their inputs."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("kaldifst")
from slimasr.cli.bpe import run as bpe
from slimasr.cli.common import command_app
from slimasr.cli.graph import run as graph
from slimasr.config.load import parse_config, save_config
from slimasr.data.files import DataFolder
from slimasr.data.graphs.arpa import read_arpa
from slimasr.data.graphs.graph import load_graph
from slimasr.data.manifests.stage import prepare
from slimasr.data.tokens.load import load_tokenizer
from slimasr.errors import UserError
from tests.data.corpus import make_an4, quiet, set_text

DICTIONARY = "ONE W AH N\nTWO T UW\nNINE N AY N\nSTOP S T AA P\nYES Y EH S\nYES(2) Y AE S\nNEVER N EH V ER\n"


@dataclass(frozen=True)
class Place:
    """A tiny corpus after stage 1, with a dictionary."""

    root: Path

    @property
    def dictionary(self) -> Path:
        return self.root / "an4" / "etc" / "an4.dic"

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.root / "data")

    def recipe(self, **sections: Any) -> None:
        tree = {
            "name": "tiny",
            "data": {"corpus": "an4", "max_bad_share": 0.2},
            "model": {"kind": "ctc"},
            "tokenizer": {"kind": "phonemes", "vocab_size": 40, "lexicon": "corpus:etc/an4.dic"},
        }
        save_config(parse_config({**tree, **sections}), self.root / "c.yaml")

    def run(self, command: Callable[..., None], *more: str) -> Result:
        arguments = ["--config", str(self.root / "c.yaml"), "--data", str(self.root / "data"), *more]
        return CliRunner().invoke(command_app(command), arguments)

    def makes(self, command: Callable[..., None], *more: str) -> Result:
        result = self.run(command, *more)
        assert result.exit_code == 0, result.output
        return result

    def fails(self, command: Callable[..., None], status: int = 1) -> str:
        result = self.run(command)
        assert result.exit_code == status, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("prepared"))
    make_an4(place.root / "an4")
    place.dictionary.write_text(DICTIONARY)
    set_text(place.root / "an4", "test", "tester-0", "ONE SEVEN")
    place.recipe()
    recipe = parse_config({"name": "tiny", "data": {"corpus": "an4"}})
    prepare(recipe.data, place.folder.root, place.root / "an4", False, quiet)
    return place.root


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Place:
    shutil.copytree(prepared, tmp_path / "place")
    # The record of the corpus's folder moves with the copy.
    (tmp_path / "place" / "data" / "manifests" / "corpus.json").write_text(
        json.dumps({"folder": str(tmp_path / "place" / "an4")})
    )
    return Place(tmp_path / "place")


def test_tokenizer_and_graph_of_a_dictionary(place: Place) -> None:
    made = place.makes(bpe)
    assert made.stdout == "19 tokens\n"
    (note,) = made.stderr.splitlines()
    assert note.startswith("note: test: 1 of ") and "have no pronunciation" in note and note.endswith("SEVEN")
    made = place.makes(graph)
    lines = made.stdout.splitlines()
    assert lines[0].startswith("6 words, 7 pronunciations, 16 labels; ")
    assert [line.split(":")[0] for line in lines[1:]] == ["dev", "test"]
    assert "note: test: words without pronunciation, which count as errors: SEVEN" in made.stderr.splitlines()
    target = place.folder.graph("phonemes", 40)
    assert {path.name for path in target.iterdir()} == {"HLG.fst", "graph.json", "lexicon.txt", "lm.arpa", "words.txt"}
    tokenizer = load_tokenizer(place.folder.lang("phonemes", 40))
    opened = load_graph(target, tokenizer)
    assert opened.words == ("<eps>", "ONE", "TWO", "NINE", "STOP", "YES", "NEVER", "#0", "<s>", "</s>")
    assert opened.lexicon().pronunciations["YES"] == (("Y", "EH", "S#"), ("Y", "AE", "S#"))
    # A word that no transcript has is in the model all the same.
    assert ("NEVER",) in {ngram.words for ngram in read_arpa(target / "lm.arpa")}
    before = opened.path.stat().st_mtime_ns
    place.makes(graph)
    assert opened.path.stat().st_mtime_ns == before, "made again without need"
    place.recipe(language_model={"order": 2})
    place.makes(graph)
    assert opened.path.stat().st_mtime_ns != before


def test_graph_of_the_pieces_of_a_sentencepiece_model(place: Place) -> None:
    place.recipe(tokenizer={"kind": "bpe", "vocab_size": 24, "lexicon": "pieces"}, model={})
    place.makes(bpe)
    place.makes(graph)
    tokenizer = load_tokenizer(place.folder.lang("bpe", 24))
    lexicon = load_graph(place.folder.graph("bpe", 24), tokenizer).lexicon()
    assert set(lexicon.words) == {"ONE", "TWO", "NINE", "STOP", "YES"}
    for word, (pieces,) in lexicon.pronunciations.items():
        assert tokenizer.decode([tokenizer.tokens.index(piece) for piece in pieces]) == word
    with pytest.raises(UserError, match="was made for another tokenizer"):
        load_graph(place.folder.graph("bpe", 24), _other_tokenizer(place))


def _other_tokenizer(place: Place) -> Any:
    place.recipe()
    place.makes(bpe)
    return load_tokenizer(place.folder.lang("phonemes", 40))


def test_a_given_model_and_further_texts(place: Place) -> None:
    place.makes(bpe)
    with gzip.open(place.root / "more.gz", "wt") as file:
        file.write("<s> NEVER STOP </s>\nSTOP NEVER\n")
    place.recipe(language_model={"texts": [str(place.root / "mo*.gz")]})
    place.makes(graph)
    target = place.folder.graph("phonemes", 40)
    assert ("NEVER", "STOP") in {ngram.words for ngram in read_arpa(target / "lm.arpa")}
    shutil.copy(target / "lm.arpa", place.root / "given.arpa")
    size = sum(1 for _ in read_arpa(place.root / "given.arpa"))
    # Of the model's words, those with a pronunciation are kept.
    place.dictionary.write_text(DICTIONARY.replace("TWO T UW\n", "OTHER T UW\n"))
    place.recipe(
        data={"corpus": "an4", "max_bad_share": 1.0},
        language_model={"arpa": str(place.root / "given.arpa"), "max_ngrams": size // 2},
    )
    place.makes(bpe)
    made = place.makes(graph)
    words = {word for ngram in read_arpa(target / "lm.arpa") for word in ngram.words}
    assert words == {"ONE", "NINE", "STOP", "YES", "NEVER", "<s>", "</s>"}
    assert sum(1 for _ in read_arpa(target / "lm.arpa")) <= size // 2
    assert "note: dev: words that the language model has not seen: TWO" in made.stderr


def test_spelling(place: Place) -> None:
    place.recipe(tokenizer={"kind": "phonemes", "vocab_size": 40, "lexicon": "spelling"})
    place.makes(bpe)
    place.makes(graph)
    assert (
        load_tokenizer(place.folder.lang("phonemes", 40)).decode(
            load_tokenizer(place.folder.lang("phonemes", 40)).encode("TWO")
        )
        == "T W O#"
    )


def test_without_a_lexicon_there_is_no_graph(place: Place) -> None:
    place.recipe(tokenizer={"kind": "char", "vocab_size": 20})
    assert place.fails(graph).startswith("error: tokenizer.lexicon: is null; name a dictionary, spelling or pieces")
    assert place.makes(graph, "--if-needed").stdout == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an4.dic: the dictionary holds no word"),
        (DICTIONARY + "SIX\n", "an4.dic:8: the word has no phonemes: 'SIX'"),
        ("ONE W AH N\n", "above data.max_bad_share 0.2; first: "),
        (None, "an4.dic: there is no such dictionary"),
        ("".join(f"W{n} A{n} B{n}\n" for n in range(30)), "tokenizer.vocab_size 40: too small for the phonemes of "),
    ],
)
def test_dictionaries_that_cannot_be_used(place: Place, text: str | None, message: str) -> None:
    place.dictionary.unlink() if text is None else place.dictionary.write_text(text)
    assert message in place.fails(bpe)
    assert not place.folder.lang("phonemes", 40).exists()


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.3
-0.5\t</s>
-0.5\tONE\t-0.3
-0.5\tTWO

\\2-grams:
-0.3\t<s> ONE
-0.3\tONE TWO

\\end\\
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARPA[:-10], "given.arpa: is cut short, it has no \\end\\"),
        (ARPA[:-30], "given.arpa:12: is no 2-gram with its probability, or the file is cut short: '-0.'"),
        (ARPA.replace("ONE", "UN").replace("TWO", "DEUX"), "has none of the 6 words of the lexicon; give the one of"),
        (ARPA.replace("ONE", "one").replace("TWO", "two"), "lexicon, but would have some in upper case"),
        (ARPA.replace("<s>", "<sos>"), "given.arpa: the model has no <s> or no </s>"),
        (None, "given.arpa: there is no such file"),
    ],
)
def test_language_models_that_cannot_be_used(place: Place, text: str | None, message: str) -> None:
    given = place.root / "given.arpa"
    place.makes(bpe)
    place.recipe(language_model={"arpa": str(given)})
    if text is not None:
        given.write_text(ARPA)
        place.makes(graph)
        given.write_text(text)
    assert message in place.fails(graph)
    # A graph that was made before from other inputs does not seem to belong to these.
    with pytest.raises(UserError, match=r"graph\.json is missing: run stage 3 \(slimasr-graph\) first"):
        load_graph(place.folder.graph("phonemes", 40), load_tokenizer(place.folder.lang("phonemes", 40)))


def test_what_is_missing_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tokens.txt is missing" in place.fails(graph) or "bpe.model is missing" in place.fails(graph)
    place.makes(bpe)
    place.recipe(language_model={"texts": ["corpus:LM/*.gz"]})
    assert "language_model.texts: " in place.fails(graph)
    place.recipe(tokenizer={"kind": "phonemes", "vocab_size": 40, "lexicon": "spelling"})
    assert "was made with tokenizer.lexicon corpus:etc/an4.dic, the configuration has spelling" in place.fails(graph)
    place.recipe()
    monkeypatch.setitem(sys.modules, "kaldifst", None)
    assert place.fails(graph) == "error: kaldifst is not installed: pip install 'slimasr[graph]'"


def test_files_of_a_graph_that_were_changed_are_named(place: Place) -> None:
    place.makes(bpe)
    place.makes(graph)
    target = place.folder.graph("phonemes", 40)
    tokenizer = load_tokenizer(place.folder.lang("phonemes", 40))
    words = (target / "words.txt").read_text()
    (target / "words.txt").write_text(words.replace(" 3\n", " 7\n"))
    with pytest.raises(UserError, match=r"words\.txt:4: damaged"):
        load_graph(target, tokenizer)
    (target / "words.txt").write_text(words)
    os.truncate(target / "HLG.fst", 100)
    with pytest.raises(UserError, match=r"HLG\.fst has changed since stage 3 wrote it"):
        load_graph(target, tokenizer)
    # The stage notices it too, and makes the graph again.
    place.makes(graph)
    assert load_graph(target, tokenizer).words


def test_a_damaged_record_is_made_again(place: Place) -> None:
    place.recipe()
    place.makes(bpe)
    place.makes(graph)
    record = place.folder.graph("phonemes", 40) / "graph.json"
    before = record.read_text()
    record.write_text("{")
    # Other commands ask for this one.
    place.makes(graph)
    assert record.read_text() == before
