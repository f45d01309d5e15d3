"""The errors that an experiment made on every utterance, from the hypotheses in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slimasr.errors import UserError
from slimasr.report.comparison.languages import part_of
from slimasr.results.decoded import Decoded
from slimasr.results.perturbed import is_perturbed
from slimasr.results.report import Report
from slimasr.results.schema import PerEntry, SubnetEntry, WerEntry
from slimasr.scoring import Alignment, align
from slimasr.scoring.folder import LANGUAGES_FILE, PHONEMES_FILE, WORDS_FILE
from slimasr.scoring.icefall import read_recogs
from slimasr.scoring.transcripts import read_utt2lang

R = TypeVar("R", WerEntry, PerEntry)

Sets = dict[str, Mapping[str, int]]
"""Set, or the part of a set in one language -> utterance -> words or phonemes of its reference."""


@dataclass(frozen=True)
class References:
    """The sets of a report, which all experiments have in common; they are gathered while the folders are read.

    Attributes:
        utterances: words of the references.
        phonemes: phonemes of the references, of sets that were recognised in phonemes.
    """

    utterances: Sets
    phonemes: Sets

    def note_file(self, report: Report, where: Path) -> None:
        """Note the sets of an earlier report. Raises as `note`."""
        for name, words in report.utterances.items():
            note(self.utterances, name, words, where)
        for name, phonemes in report.phonemes.items():
            note(self.phonemes, name, phonemes, where)

    def sorted(self) -> dict[str, Sets]:
        """Return the sets in the order of their names, without an entry for phonemes if there are none."""
        words = {"utterances": dict(sorted(self.utterances.items()))}
        return words | ({"phonemes": dict(sorted(self.phonemes.items()))} if self.phonemes else {})


def note(sets: Sets, name: str, units: Mapping[str, int], where: Path) -> None:
    """Note the utterances of a set, with the words or phonemes of their references.

    Raises:
        UserError: another experiment has a different set of this name.
    """
    known = sets.setdefault(name, units)
    if known != units:
        # Entries that only one of the sets has, and both entries of an utterance whose references differ.
        differing = len(known.items() ^ units.items())
        raise UserError(
            f"{where}: its set {name} is not that of the other experiments ({differing} entries differ); "
            "decode all on one set, or report on them apart"
        )


def with_errors(path: Path, subnet_id: str, entry: SubnetEntry, references: References) -> SubnetEntry:
    """Return a copy of a subnet with the errors of every utterance, for the sets whose hypotheses are in the folder.

    Args:
        path: folder of the experiment.
        subnet_id: the subnet.
        entry: what results.json says of it.
        references: the sets of the report, to which those of the folder are added.

    Raises:
        UserError: the hypotheses are not those that were scored, or they are those of another set.
    """
    decoded = path / "decode" / subnet_id
    # A pathway has recognised the utterances of its language alone, which need not be the whole set.
    whole = entry.subnet.serves("")
    wer = {}
    for name, rate in entry.wer.items():
        # Perturbed sets are not compared, utterance by utterance or otherwise.
        if is_perturbed(name):
            wer[name] = rate
            continue
        found = _with_languages(decoded / name, rate, references.utterances)
        wer[name] = _filled(decoded / name, WORDS_FILE, found, references.utterances) if whole else found
    per = {}
    for name, score in entry.per.items():
        compared = not is_perturbed(name)
        per[name] = _filled(decoded / name, PHONEMES_FILE, score, references.phonemes) if compared else score
    # Setting a field would write an empty mapping for a subnet that was never scored.
    return entry.model_copy(update={key: rates for key, rates in (("wer", wer), ("per", per)) if rates})


def _with_languages(folder: Path, rate: WerEntry, sets: Sets) -> WerEntry:
    """Return a copy of a word error rate with the errors of every utterance by language.

    Nothing is added unless the hypotheses are there and say their languages.
    """
    if not rate.languages or not (folder / WORDS_FILE).exists() or not (folder / LANGUAGES_FILE).exists():
        return rate
    spoken = read_utt2lang(folder / LANGUAGES_FILE)
    alignments = _aligned(folder / WORDS_FILE)
    _check_scored(folder, rate, sum(alignment.counts().errors for alignment in alignments))
    languages = {}
    for language, part in rate.languages.items():
        own = [alignment for alignment in alignments if spoken.get(alignment.id) == language]
        words = {alignment.id: alignment.counts().words for alignment in own}
        note(sets, part_of(folder.name, language), words, folder.parents[2])
        errors = tuple(alignment.counts().errors for alignment in own)
        languages[language] = part.model_copy(update={"by_utterance": errors})
    return rate.model_copy(update={"languages": languages})


def _aligned(recogs: Path) -> list[Alignment]:
    """The utterances of a file in the order of their ids, so that entry k is the same one in all experiments."""
    return sorted(map(align, read_recogs(recogs)), key=lambda alignment: alignment.id)


def _filled(folder: Path, file: str, rate: R, sets: Sets) -> R:
    """Return a copy of an error rate with the errors of every utterance, if the hypotheses are there."""
    recogs = folder / file
    if not recogs.exists():
        return rate
    alignments = _aligned(recogs)
    note(sets, folder.name, {alignment.id: alignment.counts().words for alignment in alignments}, folder.parents[2])
    errors = tuple(alignment.counts().errors for alignment in alignments)
    _check_scored(folder, rate, sum(errors))
    return rate.model_copy(update={"by_utterance": errors})


def _check_scored(folder: Path, rate: WerEntry | PerEntry, errors: int) -> None:
    """Check that the hypotheses in a folder are those that results.json has scored.

    Raises:
        UserError: they are not.
    """
    notes = Decoded.load(folder / Decoded.PLACE)
    # Equal numbers of errors alone would not do: another checkpoint may make as many. Phonemes are always found by the
    # same search, which decode.json does not name.
    decoding = notes.decoding if isinstance(rate, WerEntry) else rate.decoding
    if (errors, notes.checkpoint, decoding) != (rate.errors, rate.checkpoint, rate.decoding):
        raise UserError(
            f"{folder}: not the hypotheses that were scored: run stage 7 (slimasr-score), "
            "and before it stage 6 (slimasr-decode) if the model was trained again"
        )
