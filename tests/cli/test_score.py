"""Scores through the command line: Kaldi text files, decoded sets, and input that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import kaldialign
import pytest
from click.testing import Result
from typer.testing import CliRunner

from slimasr.cli.common import command_app
from slimasr.cli.score import run
from slimasr.decoding.sets import DecodedSet, write_decoded
from slimasr.experiment import read_results
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet

REF = "u1 THE CAT SAT\nu2 ON THE MAT\nu3 YES\n"
HYP = "u3 YES\nu1 THE HAT SAT\nu2 ON MAT NOW OK\n"


def score(*arguments: object) -> Result:
    return CliRunner().invoke(command_app(run), [str(a) for a in arguments])


def texts(folder: Path, ref: str = REF, hyp: str = HYP) -> list[object]:
    (folder / "ref").write_text(ref)
    (folder / "hyp").write_text(hyp)
    return ["--ref", folder / "ref", "--hyp", folder / "hyp"]


def test_text_files(tmp_path: Path) -> None:
    result = score(*texts(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    edits = kaldialign.edit_distance(["ON", "THE", "MAT"], ["ON", "MAT", "NOW", "OK"])
    assert lines[0] == (
        f"%WER {100 * (1 + edits['total']) / 7:.2f} [ {1 + edits['total']} / 7, {edits['ins']} ins, "
        f"{edits['del']} del, {1 + edits['sub']} sub ]"
    )
    assert lines[1:3] == ["%SER 66.67 [ 2 / 3 ]", "Scored 3 sentences, 0 not present in hyp."]
    assert lines[3].startswith("95 % interval ")
    assert result.stderr == ""


def test_details(tmp_path: Path) -> None:
    (tmp_path / "utt2spk").write_text("u1 alice\nu2 bob\nu3 bob\n")
    out = tmp_path / "details"
    result = score(*texts(tmp_path), "--utt2spk", tmp_path / "utt2spk", "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["errs", "ops", "per_spk", "per_utt", "wer"]
    assert (out / "wer").read_text().splitlines() == result.stdout.splitlines()[:3]
    assert "u1 #csid 2 1 0 0\n" in (out / "per_utt").read_text()
    rows = [line.split() for line in (out / "per_spk").read_text().splitlines()]
    assert ["alice", "raw", "1", "3", "2", "1", "0", "0", "1", "1"] in rows
    (out / "per_spk").unlink()
    assert score(*texts(tmp_path), "--out", out).exit_code == 0
    assert not (out / "per_spk").exists()


def test_comparison(tmp_path: Path) -> None:
    (tmp_path / "hyp2").write_text(REF)
    result = score(*texts(tmp_path), "--hyp2", tmp_path / "hyp2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    errors = int(lines[0].split("[ ")[1].split(" ")[0])
    assert lines[4].startswith("%WER 0.00 [ 0 / 7")
    assert lines[-1].startswith(f"second against first: {-100 * errors / 7:+.2f} points")
    # A draw of u3 alone, on which both are perfect, comes once in 27.
    assert 95.0 < float(lines[-1].split("better in ")[1].split(" %")[0]) < 97.5


def test_missing_hypotheses(tmp_path: Path) -> None:
    arguments = texts(tmp_path, hyp="u1 THE CAT SAT\nu9 WHO\n")
    result = score(*arguments)
    assert result.exit_code == 1
    assert "utterance u2 has no hypothesis (2 of 3 have none)" in result.stderr
    result = score(*arguments, "--allow-missing")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("%WER 57.14 [ 4 / 7, 0 ins, 4 del, 0 sub ] [PARTIAL]\n")
    assert "Scored 3 sentences, 2 not present in hyp." in result.stdout
    assert "2 utterances without hypothesis, scored as empty" in result.stderr
    assert "1 utterances without reference, not scored" in result.stderr


def test_empty_references_are_said(tmp_path: Path) -> None:
    result = score(*texts(tmp_path, "u1\nu2 A\n", "u1 B\nu2 A\n"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("%WER 100.00 [ 1 / 1, 1 ins")
    assert "1 utterances with an empty reference, all words count as insertions" in result.stderr


def test_input_that_cannot_be_scored(tmp_path: Path) -> None:
    texts(tmp_path)
    ref, hyp = tmp_path / "ref", tmp_path / "hyp"
    (tmp_path / "twice").write_text("u1 A\nu1 B\n")
    (tmp_path / "blank").write_text("u1 A\n\n")
    (tmp_path / "empty").write_text("u1\n")
    for arguments, message in (
        (["--ref", ref], "name either an experiment folder, or --ref and --hyp"),
        ([tmp_path, "--ref", ref, "--hyp", hyp], "name either an experiment folder, or --ref and --hyp"),
        (["--ref", tmp_path / "no", "--hyp", hyp], "no: No such file or directory"),
        (["--ref", tmp_path, "--hyp", hyp], "Is a directory"),
        (["--ref", tmp_path / "twice", "--hyp", hyp], "twice:2: utterance u1 comes twice"),
        (["--ref", tmp_path / "blank", "--hyp", hyp], "blank:2: empty line"),
        (["--ref", tmp_path / "empty", "--hyp", hyp], "no reference has a word"),
        (
            ["--ref", ref, "--hyp", hyp, "--utt2spk", ref, "--out", tmp_path],
            "ref:1: expected '<utterance id>",
        ),
        ([tmp_path], "holds no decoded set; run stage 6 (slimasr-decode) first"),
    ):
        result = score(*arguments)
        assert result.exit_code == 1, arguments
        assert result.stderr.count("\n") == 1
        assert message in result.stderr


def decoded(words: str, prefix: str, decoding: str = "greedy, at most 1 per frame") -> DecodedSet:
    """Three utterances; those whose reference word is not among ``words`` are recognised as nothing."""
    refs = ("A", "B", "C")
    utterances = tuple(Utterance(f"{prefix}{i}", (ref,), (ref,) if ref in words else ()) for i, ref in enumerate(refs))
    speakers = {u.id: "s1" for u in utterances}
    return DecodedSet(Subnet(0.5), utterances, speakers, "final", decoding, "f00d")


def test_experiment(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(
        json.dumps({"seed": 7, "subnets": {"w0.5": {"costs": {"params": 3}, "wer": {"other": {"wer": 1.0}}}}})
    )
    write_decoded(tmp_path, "dev", decoded("ABC", "dev"))
    folder = write_decoded(tmp_path, "test", decoded("A", "test"))
    result = score(tmp_path, "--pool")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("%WER") == 3
    assert {path.name for path in folder.iterdir()} == {
        *("recogs", "errs", "utt2spk", "decode.json"),
        *("wer", "per_utt", "per_spk", "ops"),
    }
    assert (folder / "wer").read_text().startswith("%WER 66.67 [ 2 / 3, 0 ins, 2 del, 0 sub ]\n")
    results = read_results(tmp_path)
    assert results["seed"] == 7
    subnet = results["subnets"]["w0.5"]
    assert subnet["subnet"] == {"width": 0.5}
    assert subnet["costs"] == {"params": 3}
    assert sorted(subnet["wer"]) == ["dev", "dev+test", "other", "test"]
    entry = subnet["wer"]["test"]
    low, high = entry.pop("ci95")
    assert low < entry["wer"] < high
    assert entry == {
        "wer": pytest.approx(200 / 3),
        "errors": 2,
        "words": 3,
        "ins": 0,
        "del": 2,
        "sub": 0,
        "ser": pytest.approx(200 / 3),
        "sentences": 3,
        "checkpoint": "final",
        "decoding": "greedy, at most 1 per frame",
        "data": "f00d",
    }
    pooled = subnet["wer"]["dev+test"]
    assert (pooled["errors"], pooled["words"], pooled["sentences"]) == (2, 6, 6)


def test_one_set_of_an_experiment(tmp_path: Path) -> None:
    write_decoded(tmp_path, "dev", decoded("ABC", "dev"))
    write_decoded(tmp_path, "test", decoded("A", "test"))
    assert score(tmp_path, "--set-name", "test").exit_code == 0
    assert list(read_results(tmp_path)["subnets"]["w0.5"]["wer"]) == ["test"]
    result = score(tmp_path, "--set-name", "eval")
    assert result.exit_code == 1
    assert "decode/w0.5/eval is missing; run stage 6" in result.stderr


def test_damaged_experiment(tmp_path: Path) -> None:
    write_decoded(tmp_path, "dev", decoded("ABC", "dev", "modified beam search, beam 4"))
    folder = write_decoded(tmp_path, "test", decoded("A", "test"))
    result = score(tmp_path, "--pool")
    assert result.exit_code == 1
    assert "were decoded in different ways" in result.stderr
    (folder / "decode.json").write_text("{")
    assert "decode.json: missing or damaged; run stage 6" in score(tmp_path).stderr
    (folder / "recogs").write_text("test0:\tref=['A']\n")
    assert "recogs: expected two lines" in score(tmp_path).stderr
    assert not (tmp_path / "results.json").exists()
