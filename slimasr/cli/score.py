"""``slimasr-score`` (stage 7): compute error rates of decoded sets, or of two files of transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimasr.cli.common import DebugOption, entry, print_notes, set_name_option
from slimasr.errors import UserError

if TYPE_CHECKING:
    from slimasr.scoring import Paired, Utterance, WerResult
    from slimasr.scoring.wer import Unit

ExpOptional = Annotated[
    Path | None,
    typer.Argument(metavar="EXP", show_default=False, help="Experiment folder whose decoded sets are scored."),
]
PoolOption = Annotated[bool, typer.Option("--pool", help="Also score the sets of each subnet together as one set.")]
CharOption = Annotated[
    bool,
    typer.Option("--char", help="Also print the character error rate: grapheme clusters are counted, spaces are not."),
]
RefOption = Annotated[
    Path | None,
    typer.Option(
        "--ref",
        metavar="FILE",
        help="Reference transcripts: a Kaldi text file (lines of '<utterance id> <word> ...') or sclite's .trn.",
    ),
]
HypOption = Annotated[
    Path | None,
    typer.Option("--hyp", metavar="FILE", help="Recognised transcripts, in the same formats as --ref."),
]
Hyp2Option = Annotated[
    Path | None,
    typer.Option("--hyp2", metavar="FILE", help="Transcripts of a second system, which is compared with --hyp."),
]
MissingOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="Score utterances that --hyp lacks as empty, and print their number, instead of failing.",
    ),
]
SpeakersOption = Annotated[
    Path | None,
    typer.Option("--utt2spk", metavar="FILE", help="Kaldi file of speakers, for the file per_spk; needs --out."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder to write the files wer, per_utt, per_spk, ops and errs to."),
]


def run(
    exp: ExpOptional = None,
    set_names: Annotated[list[str] | None, set_name_option("all decoded sets")] = None,
    pool: PoolOption = False,
    char: CharOption = False,
    ref: RefOption = None,
    hyp: HypOption = None,
    hyp2: Hyp2Option = None,
    allow_missing: MissingOption = False,
    utt2spk: SpeakersOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Compute word error rates of decoded sets or of two text files.

    The rates of an experiment's decoded sets are also written to its results.json.
    """
    of_experiments = {"--set-name": set_names, "--pool": pool}
    of_texts = {"--allow-missing": allow_missing, "--utt2spk": utt2spk, "--out": out}
    if exp is not None and ref is None and hyp is None and hyp2 is None:
        _refuse_options(of_texts, "goes with --ref and --hyp, not with an experiment folder")
        _score_experiment(exp, set_names, pool, char)
    elif exp is None and ref is not None and hyp is not None:
        _refuse_options(of_experiments, "goes with an experiment folder, not with --ref and --hyp")
        if out is None:
            _refuse_options({"--utt2spk": utt2spk}, "is used for the file per_spk only: name its folder with --out")
        first = _score_texts(ref, hyp, allow_missing, char, utt2spk, out)
        if hyp2 is not None:
            second = _score_texts(ref, hyp2, allow_missing, char, None, None)
            _print_comparisons(first, second, char)
    else:
        raise UserError("name either an experiment folder, or --ref and --hyp")


main = partial(entry, run)


def _refuse_options(options: Mapping[str, object], reason: str) -> None:
    """Refuse options that were given but would have no effect.

    Raises:
        UserError: an option has a value; the message is its name and ``reason``.
    """
    for name, value in options.items():
        if value:
            raise UserError(f"{name} {reason}")


def _score_experiment(exp: Path, set_names: list[str] | None, pool: bool, char: bool) -> None:
    from slimasr.results.schema import Results
    from slimasr.results.store import read_results, update_results
    from slimasr.scoring.folder import find_decoded, has_characters, pooled_folders, score_decoded

    for subnet_id, folders in find_decoded(exp, set_names).items():
        if pool and len(pooled_folders(folders)) == 1:
            print_notes([f"{folders[0]}: is the only set of {subnet_id}, --pool changes nothing"])
        # Old character error rates must not stay next to new word error rates.
        with_characters = char or has_characters(read_results(exp), subnet_id)
        result = score_decoded(folders, pool, with_characters)
        for name in dict.fromkeys([*result.wers, *result.pers]):
            typer.echo(f"{subnet_id} {name}")
            for scores in (result.wers, result.cers, result.pers):
                if name in scores:
                    _print_result(scores[name])
            _print_languages(result.languages.get(name, {}))
        print_notes(result.notes)
        update_results(exp, Results(subnets={subnet_id: result.entry}))


def _score_texts(
    ref: Path, hyp: Path, allow_missing: bool, char: bool, utt2spk: Path | None, out: Path | None
) -> Paired:
    from slimasr.scoring import pair, read_utt2spk, score
    from slimasr.scoring.folder import write_details
    from slimasr.scoring.layouts import read_transcripts
    from slimasr.scoring.notes import notes
    from slimasr.scoring.wer import WORD

    transcripts = {path: read_transcripts(path) for path in (ref, hyp)}
    # Print this first: a layout that was guessed wrongly explains the error that follows.
    for path, found in transcripts.items():
        if found.layout == "trn":
            print_notes([f"{path}: read as sclite's .trn, with the utterance id at the end of the line"])
    paired = pair(transcripts[ref].words, transcripts[hyp].words, allow_missing=allow_missing)
    speakers = None if utt2spk is None else read_utt2spk(utt2spk)
    for unit in _units(char):
        utterances = _in_units(paired, unit)
        result = score(utterances, unit=unit)
        _print_result(result, len(paired.missing))
        if unit == WORD:
            print_notes(f"{hyp}: {note}" for note in notes(utterances, result))
        if out is not None:
            write_details(out, utterances, result, speakers, len(paired.missing))
    print_notes(f"{hyp}: {note}" for note in _pair_notes(paired))
    return paired


def _units(char: bool) -> list[Unit]:
    from slimasr.scoring.wer import CHARACTER, WORD

    return [WORD, CHARACTER] if char else [WORD]


def _in_units(paired: Paired, unit: Unit) -> list[Utterance]:
    from slimasr.scoring.characters import in_characters
    from slimasr.scoring.wer import CHARACTER

    if unit != CHARACTER:
        return list(paired.utterances)
    return [in_characters(utterance) for utterance in paired.utterances]


def _print_result(result: WerResult, missing: int = 0) -> None:
    from slimasr.scoring.kaldi import wer_lines

    typer.echo(wer_lines(result, missing), nl=False)
    if result.ci95 is not None:
        typer.echo(f"95 % interval {result.ci95[0]:.2f} to {result.ci95[1]:.2f} (bootstrap over utterances)")


def _print_languages(languages: Mapping[str, WerResult]) -> None:
    """Print the rates of the languages of a set and their mean, unless all of it is in one language."""
    from slimasr.scoring.languages import mean_over_languages

    if len(languages) < 2:
        return
    for language, result in languages.items():
        typer.echo(f"language {language}: WER {result.wer:.2f} % ({result.counts.errors} / {result.counts.words})")
    typer.echo(f"mean over languages: WER {mean_over_languages(languages):.2f} %")


def _pair_notes(paired: Paired) -> Iterator[str]:
    """Yield notes on what is unusual about the pairs."""
    without_words = sum(not utterance.ref for utterance in paired.utterances)
    counted = (
        (len(paired.missing), "without a hypothesis, scored as empty"),
        (len(paired.extra), "without a reference, not scored"),
        (without_words, "with an empty reference, all words count as insertions"),
    )
    for number, what in counted:
        if number:
            noun = "utterance" if number == 1 else "utterances"
            yield f"{number} {noun} {what}"


def _print_comparisons(first: Paired, second: Paired, char: bool) -> None:
    from slimasr.scoring import compare

    for unit in _units(char):
        result = compare(_in_units(first, unit), _in_units(second, unit))
        difference = f"second against first: {result.difference:+.2f} points"
        if char:
            difference += f" of {unit.rate.upper()}"
        if result.ci95 is None or result.probability is None:
            typer.echo(f"{difference}; one utterance only, so there is no confidence interval")
            continue
        typer.echo(
            f"{difference}, 95 % interval {result.ci95[0]:+.2f} to {result.ci95[1]:+.2f}, "
            f"better in {100 * result.probability:.1f} % of resampled sets"
        )
