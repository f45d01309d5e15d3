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
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet
from tests.results.kit import results_json, scored

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
    assert "2 utterances without a hypothesis, scored as empty" in result.stderr
    assert "1 utterance without a reference, not scored" in result.stderr


def test_empty_references_are_said(tmp_path: Path) -> None:
    result = score(*texts(tmp_path, "u1\nu2 A\n", "u1 B\nu2 A\n"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("%WER 100.00 [ 1 / 1, 1 ins")
    assert "1 utterance with an empty reference, all words count as insertions" in result.stderr


def test_input_that_cannot_be_scored(tmp_path: Path) -> None:
    texts(tmp_path)
    ref, hyp = tmp_path / "ref", tmp_path / "hyp"
    (tmp_path / "twice").write_text("u1 A\nu1 B\n")
    (tmp_path / "blank").write_text("u1 A\n\n")
    (tmp_path / "empty").write_text("u1\n")
    (tmp_path / "other").write_text("v1 A\nv2 B\n")
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
        (["--ref", tmp_path / "other", "--hyp", hyp], "have no utterance in common (the first ones are v1 and u3)"),
        (["--ref", tmp_path / "other", "--hyp", hyp, "--allow-missing"], "have no utterance in common"),
        (["--ref", ref, "--hyp", hyp, "--out", ref], "cannot be written"),
        (["--ref", ref, "--hyp", hyp, "--out", ref / "below"], "cannot be written"),
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
    half = {"subnet": {"width": 0.5}}
    (tmp_path / "results.json").write_text(
        json.dumps({"seed": 7, "subnets": {"w0.5": {**half, "costs": {"params": 3}, "wer": {"other": scored()}}}})
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
    results = results_json(tmp_path)
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
    assert list(results_json(tmp_path)["subnets"]["w0.5"]["wer"]) == ["test"]
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
    error = score(tmp_path).stderr
    assert "decode.json: not valid JSON" in error and "; run stage 6 (slimasr-decode) again" in error
    (folder / "recogs").write_text("test0:\tref=['A']\n")
    assert "recogs: expected two lines" in score(tmp_path).stderr
    assert not (tmp_path / "results.json").exists()


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    given = texts(tmp_path)
    (tmp_path / "utt2spk").write_text("u1 a\nu2 b\nu3 b\n")
    write_decoded(tmp_path / "exp", "dev", decoded("ABC", "dev"))
    exp, speakers = tmp_path / "exp", ["--utt2spk", tmp_path / "utt2spk"]
    for arguments, message in (
        ([*given, "--set-name", "dev"], "--set-name goes with an experiment folder"),
        ([*given, "--pool"], "--pool goes with an experiment folder"),
        ([*given, *speakers], "--utt2spk is used for the file per_spk only: name its folder with --out"),
        ([exp, *speakers], "--utt2spk goes with --ref and --hyp"),
        ([exp, "--out", tmp_path / "out"], "--out goes with --ref and --hyp"),
        ([exp, "--allow-missing"], "--allow-missing goes with --ref and --hyp"),
        ([*given[:2], "--hyp2", tmp_path / "hyp"], "name either an experiment folder, or --ref and --hyp"),
        ([exp, "--hyp2", tmp_path / "hyp"], "name either an experiment folder, or --ref and --hyp"),
    ):
        result = score(*arguments)
        assert result.exit_code == 1, arguments
        assert result.stdout == "" and message in result.stderr
    assert not (tmp_path / "out").exists() and not (exp / "results.json").exists()
    result = score(exp, "--pool")
    assert result.exit_code == 0 and "only set of w0.5, --pool changes nothing" in result.stderr


def test_trn_files_and_mixed_layouts(tmp_path: Path) -> None:
    trn = "".join(f"{' '.join(words)} ({name})\n" for name, *words in (line.split() for line in REF.splitlines()))
    given = texts(tmp_path, trn)
    expected = score(*texts(tmp_path)).stdout
    (tmp_path / "ref").write_text(trn)
    result = score(*given)
    assert result.exit_code == 0 and result.stdout == expected
    (note,) = result.stderr.splitlines()
    assert note.startswith(f"note: {tmp_path / 'ref'}: read as sclite's .trn")
    (tmp_path / "ref").write_text("u1 YES (noise)\n")
    result = score(*given)
    assert result.exit_code == 1 and result.stderr.startswith("note: ") and "in common" in result.stderr
    (tmp_path / "both.trn").write_text(trn)
    assert score("--ref", tmp_path / "both.trn", "--hyp", tmp_path / "both.trn").stdout.startswith("%WER 0.00 [ 0 / 7")


def test_differences_in_writing_are_said(tmp_path: Path) -> None:
    result = score(*texts(tmp_path, hyp=REF.lower()))
    assert result.stdout.startswith("%WER 100.00")
    assert "without regard to case the WER falls from 100.00 to 0.00" in result.stderr
    folder = write_decoded(tmp_path / "exp", "dev", decoded("ABC", "dev"))
    (folder / "recogs").write_text("a:\tref=['A']\na:\thyp=['a']\nb:\tref=['B']\nb:\thyp=['b']\n")
    (folder / "utt2spk").write_text("a s\nb s\n")
    result = score(tmp_path / "exp")
    assert result.exit_code == 0
    assert f"note: {folder}: without regard to case the WER falls" in result.stderr


def test_one_utterance_gives_no_interval(tmp_path: Path) -> None:
    (tmp_path / "hyp2").write_text("u1 A B\n")
    result = score(*texts(tmp_path, "u1 A B\n", "u1 A\n"), "--hyp2", tmp_path / "hyp2", "--char")
    assert result.exit_code == 0, result.output
    assert "interval" not in result.stdout.replace("there is no confidence interval", "")
    assert "second against first: -50.00 points of WER; one utterance only" in result.stdout
    assert "second against first: -50.00 points of CER; one utterance only" in result.stdout
    assert "one utterance only: there is no confidence interval" in result.stderr


def test_characters_of_text_files(tmp_path: Path) -> None:
    given = texts(tmp_path, "u1 नमस्ते A\nu2 中文\nu3\n", "u1 नमस्ते\nu2 中 文\nu3 一\n")
    (tmp_path / "utt2spk").write_text("u1 a\nu2 b\nu3 b\n")
    (tmp_path / "hyp2").write_text("u1 नमस्ते A\nu2 中文\nu3\n")
    out = tmp_path / "out"
    plain = score(*given)
    options = ["--hyp2", tmp_path / "hyp2", "--out", out, "--utt2spk", tmp_path / "utt2spk"]
    result = score(*given, "--char", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(plain.stdout)
    # नमस्ते is three characters; A is lost and 一 put in.
    assert "%CER 33.33 [ 2 / 6, 1 ins, 1 del, 0 sub ]" in result.stdout
    assert "second against first: -33.33 points of CER" in result.stdout
    names = ("per_utt", "per_spk", "ops", "errs")
    expected = {"wer", "cer", *names, *(f"{name}_char" for name in names)}
    assert {path.name for path in out.iterdir()} == expected
    assert "u2 #csid 2 0 0 0\n" in (out / "per_utt_char").read_text()
    assert (out / "cer").read_text().startswith("%CER 33.33 [ 2 / 6")
    rows = [line.split() for line in (out / "per_spk_char").read_text().splitlines()]
    assert ["b", "raw", "2", "2", "2", "0", "1", "0", "1", "1"] in rows


def test_characters_of_an_experiment(tmp_path: Path) -> None:
    write_decoded(tmp_path, "dev", decoded("ABC", "dev"))
    folder = write_decoded(tmp_path, "test", decoded("A", "test"))
    result = score(tmp_path, "--char", "--pool")
    assert result.exit_code == 0, result.output
    subnet = results_json(tmp_path)["subnets"]["w0.5"]
    assert sorted(subnet["cer"]) == sorted(subnet["wer"]) == ["dev", "dev+test", "test"]
    entry = subnet["cer"]["test"]
    assert (entry["errors"], entry["characters"], entry["sentences"]) == (2, 3, 3)
    assert entry["checkpoint"] == "final" and entry["cer"] == pytest.approx(200 / 3)
    assert (folder / "cer").read_text().startswith("%CER 66.67 [ 2 / 3, 0 ins, 2 del, 0 sub ]\n")
    # Decoded and scored again, also without the option, no figure of the first decoding is left.
    write_decoded(tmp_path, "test", decoded("ABC", "test"))
    assert not any((folder / name).exists() for name in ("cer", "wer", "per_utt_char", "per_spk_char"))
    assert score(tmp_path).exit_code == 0
    assert results_json(tmp_path)["subnets"]["w0.5"]["cer"]["test"]["cer"] == 0.0


def test_a_transcript_keeps_its_words_from_recogs_to_kaldi_text(tmp_path: Path) -> None:
    # What stage 1 makes of it has plain spaces; the same transcript as Kaldi's text counts the same words.
    spoken = "YES\u2028NO\u00a0TEN\u3000A\x85B\vC"
    (tmp_path / "hyp").write_text(f"u1 {' '.join(spoken.split())}\nu2 X\n", encoding="utf-8")
    (tmp_path / "ref").write_text(f"u1 {spoken}\nu2 X\n", encoding="utf-8")
    result = score("--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    assert result.stdout.startswith("%WER 0.00 [ 0 / 7,")
