"""Evaluation batches know their language, and a run checks that every language has what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation import eval_batches
from slimasr.data.languages import check_trained_languages, check_validated_languages
from slimasr.data.manifests.stage import prepare
from slimasr.errors import UserError
from tests.data.corpus import config, in_languages, quiet, run_stages

RECIPE = config(dev="dev+test")
"""Four utterances of ``speakere`` and four of ``tester``."""


def by_number(name: str) -> str:
    return "fr" if name.endswith(("1", "2")) else "nl"


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(first, second, strict=True))


def test_batches_of_several_languages_never_mix_them(
    an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_languages(monkeypatch, by_number)
    tokenizer = run_stages(RECIPE, tmp_path, an4)
    batches = list(eval_batches(RECIPE, tmp_path, "dev+test", tokenizer, 6.0))
    names = [name for batch in batches for name in batch.ids]
    assert len(set(names)) == len(names) == 8
    assert all({by_number(name) for name in batch.ids} == {batch.language} for batch in batches)
    assert any(len(batch) > 1 for batch in batches)
    for language in ("fr", "nl"):
        alone = list(eval_batches(RECIPE, tmp_path, "dev+test", tokenizer, 6.0, language=language))
        assert_same(alone, [batch for batch in batches if batch.language == language])
    with pytest.raises(UserError, match=r"dev\+test: has no utterance in the language it; name another set"):
        next(eval_batches(RECIPE, tmp_path, "dev+test", tokenizer, 6.0, language="it"))


def test_one_language_is_batched_as_none(an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = run_stages(RECIPE, tmp_path / "english", an4)
    english = list(eval_batches(RECIPE, tmp_path / "english", "dev+test", tokenizer, 6.0))
    in_languages(monkeypatch, lambda name: None)
    run_stages(RECIPE, tmp_path / "unknown", an4)
    unknown = list(eval_batches(RECIPE, tmp_path / "unknown", "dev+test", tokenizer, 6.0))
    assert_same(english, unknown)
    assert {batch.language for batch in english} == {"en"}
    assert {batch.language for batch in unknown} == {""}


def without_speaker_e(name: str) -> str | None:
    return None if name.startswith("speakere") else "fr"


@pytest.mark.parametrize(
    ("language", "pathways", "message"),
    [
        (by_number, ("fr",), "dev.test: utterance speakere-0 has the language nl, but space.languages has fr; add"),
        (lambda name: None, ("fr",), r"dev.test: utterance speakere-0 has no language, .* \(fr\); give"),
        (without_speaker_e, (), "dev.test: utterance speakere-0 has no language, while others of the set have one"),
        (
            lambda name: "fr",
            ("fr", "it"),
            "data.dev: dev.test has no reference word in the language it: its error rate",
        ),
        (lambda name: "de" if name.startswith("tester") else "fr", (), None),
        (by_number, (), None),
        (lambda name: None, (), None),
    ],
)
def test_what_a_dev_set_needs(
    an4: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    language: Callable[[str], str | None],
    pathways: tuple[str, ...],
    message: str | None,
) -> None:
    in_languages(monkeypatch, language)
    prepare(RECIPE.data, tmp_path, an4, False, quiet)
    if message is None:
        check_validated_languages(tmp_path, "dev+test", pathways)
        return
    with pytest.raises(UserError, match=message):
        check_validated_languages(tmp_path, "dev+test", pathways)


def test_what_training_sets_need(an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_languages(monkeypatch, by_number)
    prepare(RECIPE.data, tmp_path, an4, False, quiet)
    check_trained_languages(tmp_path, ["train"], ("fr", "nl"))
    check_trained_languages(tmp_path, ["train"], ())
    with pytest.raises(UserError, match="^train: utterance speaker.-0 has the language nl, but space.languages has fr"):
        check_trained_languages(tmp_path, ["train"], ("fr",))
    with pytest.raises(UserError, match="data.train: train have no utterance in the language it of space.languages"):
        check_trained_languages(tmp_path, ["train"], ("fr", "nl", "it"))
