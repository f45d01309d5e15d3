"""Unknown and missing languages through the command line: one line that names the set, option or file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.prepare import run as prepare
from tests.cli.test_bad_input import error_of

Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path) -> Fails:
    """Stage 1 of a corpus in ``tmp_path/corpus``, with the given lines of section ``data``; its error."""

    def run(corpus: str, **section: str) -> str:
        recipe = tmp_path / "conf.yaml"
        lines = "".join(f"  {key}: {value}\n" for key, value in section.items())
        recipe.write_text(f"name: tiny\ndata:\n  corpus: {corpus}\n{lines}", encoding="utf-8")
        folders = ["--data", str(tmp_path / "data"), "--corpus-dir", str(tmp_path / "corpus")]
        result = CliRunner().invoke(command_app(prepare), ["--config", str(recipe), *folders])
        assert not (tmp_path / "data" / "manifests").exists() or not list(tmp_path.rglob("cuts_*"))
        return error_of((result.exit_code, result.stdout, result.stderr))

    return run


def test_languages_that_are_not_synthesised(fails: Fails) -> None:
    error = fails("digits", options="{languages: en xx}")
    assert "data.options.languages: unknown language 'xx'; the languages of corpus digits are en, fr, it, nl" in error
    error = fails("digits", options="{languages: fr, set_sizes: train-it=3}")
    assert "data.options.set_sizes: there is no set 'train-it'; the sets are train-fr, dev-fr, test-fr" in error


def test_sets_of_languages_that_a_corpus_lacks(fails: Fails, tmp_path: Path) -> None:
    transcripts = tmp_path / "corpus" / "mls_french" / "train" / "transcripts.txt"
    transcripts.parent.mkdir(parents=True)
    transcripts.write_text("1_2_000003\tbonjour\n")
    sets = {"train": "[train-fr]", "test": "[]"}
    assert "corpus mls has no set 'dev-xx'" in fails("mls", dev="dev-xx", **sets)
    assert "mls_dutch/dev/transcripts.txt is missing" in fails("mls", dev="dev-nl", **sets)
    assert "'dev-fr+': the name of a set is missing before or after +" in fails("mls", dev="dev-fr+", **sets)
    assert "'dev-fr+dev-fr' joins the set dev-fr with itself" in fails("mls", dev="dev-fr+dev-fr", **sets)


@pytest.mark.parametrize(
    ("corpus", "listing", "content", "message"),
    [
        ("prompts", "en/prompts.tsv", "file\ttext\n", "fr/prompts.tsv is missing"),
        ("spoken_digits", "fsdd/recordings/1_a_1.wav", "", "corpus spoken_digits has no set 'train-fr'; it has dev-ar"),
    ],
)
def test_a_corpus_of_several_languages_without_the_one_of_a_set(
    fails: Fails, tmp_path: Path, corpus: str, listing: str, content: str, message: str
) -> None:
    path = tmp_path / "corpus" / listing
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert message in fails(corpus, train="[train-fr]", dev="dev-fr", test="[]")
