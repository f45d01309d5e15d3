"""Stage 7: word error rates, of decoded sets or of two Kaldi text files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimasr.cli.common import DebugOption, entry
from slimasr.errors import UserError
from slimasr.scoring import Paired, compare, pair, read_text, read_utt2spk, score
from slimasr.scoring.folder import find_decoded, score_decoded, write_details
from slimasr.scoring.kaldi import wer_lines

ExpOptional = Annotated[Path | None, typer.Argument(help="Experiment folder whose decoded sets are scored.")]
SetsOption = Annotated[list[str] | None, typer.Option("--set-name", help="Repeatable (default: all decoded).")]
PoolOption = Annotated[bool, typer.Option("--pool", help="Score the sets of each subnet together as well.")]
RefOption = Annotated[Path | None, typer.Option(help="Kaldi text file: '<utterance id> <word> ...' per line.")]
HypOption = Annotated[Path | None, typer.Option(help="Kaldi text file of hypotheses.")]
Hyp2Option = Annotated[Path | None, typer.Option(help="Hypotheses of a second system, to compare with --hyp.")]
MissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Score utterances without hypothesis as empty, and say so.")
]
SpeakersOption = Annotated[Path | None, typer.Option(help="Kaldi utt2spk file, for per_spk.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder for wer, per_utt, per_spk, ops and errs.")]


def run(
    exp: ExpOptional = None,
    set_names: SetsOption = None,
    pool: PoolOption = False,
    ref: RefOption = None,
    hyp: HypOption = None,
    hyp2: Hyp2Option = None,
    allow_missing: MissingOption = False,
    utt2spk: SpeakersOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Score an experiment's decoded sets into results.json, or --ref against --hyp."""
    if exp is not None and ref is None and hyp is None and hyp2 is None:
        _score_experiment(exp, set_names, pool)
    elif exp is None and ref is not None and hyp is not None:
        first = _score_texts(ref, hyp, allow_missing, utt2spk, out)
        if hyp2 is not None:
            second = _score_texts(ref, hyp2, allow_missing, None, None)
            _print_comparison(first, second)
    else:
        raise UserError("name either an experiment folder, or --ref and --hyp")


def main() -> None:
    """Console script ``slimasr-score``."""
    entry(run)


def _score_experiment(exp: Path, set_names: list[str] | None, pool: bool) -> None:
    from slimasr.experiment import update_results  # imports torch: not needed for text files

    for subnet_id, folders in find_decoded(exp, set_names).items():
        result = score_decoded(folders, pool)
        for name, wer in result.wers.items():
            typer.echo(f"{subnet_id} {name}")
            typer.echo(wer_lines(wer), nl=False)
            _print_interval(wer.ci95)
        update_results(exp, {"subnets": {subnet_id: result.entry}})


def _score_texts(ref: Path, hyp: Path, allow_missing: bool, utt2spk: Path | None, out: Path | None) -> Paired:
    paired = pair(read_text(ref), read_text(hyp), allow_missing=allow_missing)
    result = score(paired.utterances)
    typer.echo(wer_lines(result, len(paired.missing)), nl=False)
    _print_interval(result.ci95)
    _print_notes(hyp, paired)
    if out is not None:
        speakers = None if utt2spk is None else read_utt2spk(utt2spk)
        write_details(out, paired.utterances, result, speakers, len(paired.missing))
    return paired


def _print_interval(ci95: tuple[float, float] | None) -> None:
    if ci95 is not None:
        typer.echo(f"95 % interval {ci95[0]:.2f} to {ci95[1]:.2f} (bootstrap over utterances)")


def _print_notes(hyp: Path, paired: Paired) -> None:
    """What is unusual about the input, on stderr."""
    notes = (
        (len(paired.missing), "without hypothesis, scored as empty"),
        (len(paired.extra), "without reference, not scored"),
        (sum(not u.ref for u in paired.utterances), "with an empty reference, all words count as insertions"),
    )
    for number, note in notes:
        if number:
            typer.echo(f"note: {hyp}: {number} utterances {note}", err=True)


def _print_comparison(first: Paired, second: Paired) -> None:
    result = compare(first.utterances, second.utterances)
    typer.echo(
        f"second against first: {result.difference:+.2f} points, 95 % interval {result.ci95[0]:+.2f} to "
        f"{result.ci95[1]:+.2f}, better in {100 * result.probability:.1f} % of resampled sets"
    )
