"""Score decoded sets in their folders: read ``recogs``, write Kaldi's and icefall's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.locking import file_lock
from slimasr.results.decoded import Decoded
from slimasr.results.perturbed import is_perturbed
from slimasr.results.schema import PerEntry, Results, ScoreEntry, SubnetEntry
from slimasr.scoring.alignment import Utterance, align
from slimasr.scoring.characters import in_characters
from slimasr.scoring.icefall import errs, read_recogs
from slimasr.scoring.kaldi import ops, per_spk, per_utt, wer_lines
from slimasr.scoring.languages import score_languages, with_languages
from slimasr.scoring.notes import notes
from slimasr.scoring.transcripts import read_utt2lang, read_utt2spk
from slimasr.scoring.wer import CHARACTER, PHONEME, WORD, Unit, WerResult, score
from slimasr.supernet.subnet import Subnet

SCORE_FILES = (
    "wer",
    "per_utt",
    "per_spk",
    "ops",
    "cer",
    "per_utt_char",
    "per_spk_char",
    "ops_char",
    "errs_char",
    "per",
    "per_utt_phone",
    "per_spk_phone",
    "ops_phone",
)
"""Files that scoring adds to a decoded set; ``errs`` and ``errs_phone`` are written by decoding, too."""

WORDS_FILE = "recogs"
"""References and hypotheses in words; a decoded set has this file, `PHONEMES_FILE`, or both."""

PHONEMES_FILE = "recogs_phone"
"""References and hypotheses in phonemes."""

LANGUAGES_FILE = "utt2lang"
"""Languages of the utterances (Kaldi's layout); only where error rates per language are wanted."""

Sets = dict[str, list[Utterance]]

S = TypeVar("S", bound=ScoreEntry)


@dataclass(frozen=True)
class ScoredSubnet:
    """The scores of one subnet.

    Attributes:
        wers: set name -> result; pooled sets have their names joined by ``+``.
        cers: the same over characters; empty if characters are not scored.
        pers: the same over phonemes; empty if the model has none.
        languages: set name -> language -> result over words; only of sets whose languages are known.
        entry: the subnet's part of ``results.json``.
        notes: one line for each peculiarity of the sets.
    """

    wers: dict[str, WerResult]
    cers: dict[str, WerResult]
    pers: dict[str, WerResult]
    languages: dict[str, dict[str, WerResult]]
    entry: SubnetEntry
    notes: tuple[str, ...]


def find_decoded(exp: Path, set_names: Sequence[str] | None = None) -> dict[str, list[Path]]:
    """Find the decoded sets of an experiment: subnet id -> folders.

    Args:
        exp: experiment folder.
        set_names: the requested sets; None = all that are found.

    Raises:
        UserError: nothing was decoded, or a subnet was not decoded on a requested set.
    """
    found: dict[str, list[Path]] = {}
    # decode/<subnet>/<set>/recogs
    complete = {path.parent for name in (WORDS_FILE, PHONEMES_FILE) for path in exp.glob(f"decode/*/*/{name}")}
    for folder in sorted(complete):
        found.setdefault(folder.parent.name, []).append(folder)
    if not found:
        another = "" if exp.is_dir() else ", or name an experiment folder that exists"
        raise UserError(f"{exp / 'decode'}: holds no decoded set; run stage 6 (slimasr-decode) first{another}")
    if set_names is None:
        return found
    for subnet_id, folders in found.items():
        missing = set(set_names) - {folder.name for folder in folders}
        if missing:
            where = exp / "decode" / subnet_id / min(missing)
            known = ", ".join(folder.name for folder in folders)
            advice = f"run stage 6 (slimasr-decode --set-name {min(missing)}) first"
            raise UserError(f"{where} is missing; {advice}; decoded sets: {known}")
    return {
        subnet_id: [folder for folder in folders if folder.name in set_names] for subnet_id, folders in found.items()
    }


def pooled_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the decoded sets that are scored together: all but perturbed ones."""
    return [folder for folder in folders if not is_perturbed(folder.name)]


def score_decoded(folders: Sequence[Path], pool: bool = False, characters: bool = False) -> ScoredSubnet:
    """Score the decoded sets of one subnet, and write details (`write_details`) into the folder of each.

    Args:
        folders: one folder per set, as ``slimasr.decoding.sets`` writes them.
        pool: score all utterances together as well, those of perturbed sets excepted.
        characters: score characters as well as words.

    Raises:
        UserError: a file is missing or damaged, no reference has a word, or sets to be pooled were decoded with
            different checkpoints or searches.
    """
    # All sets are locked before the first one is read, so that no decoding replaces one of them meanwhile.
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(file_lock(folder / WORDS_FILE))
        return _score_decoded(folders, pool, characters)


def _score_decoded(folders: Sequence[Path], pool: bool, characters: bool) -> ScoredSubnet:
    words = _read_sets(folders, WORDS_FILE)
    hows = {folder.name: Decoded.load(folder / Decoded.PLACE) for folder in folders}
    split: Sets = {}
    if characters:
        split = {name: [in_characters(utterance) for utterance in utterances] for name, utterances in words.items()}
    in_units = {WORD: words, CHARACTER: split, PHONEME: _read_sets(folders, PHONEMES_FILE)}
    results = {unit: _score_sets(folders, sets, unit) for unit, sets in in_units.items()}
    utt2lang = {folder.name: read_utt2lang(folder / LANGUAGES_FILE) for folder in folders if _has_languages(folder)}
    spoken = {name: score_languages(words[name], utt2lang[name], name) for name in words if name in utt2lang}
    joined = [folder.name for folder in pooled_folders(folders)]
    if pool and len(joined) > 1:
        pooled = "+".join(joined)
        hows[pooled] = _common_way(folders, {name: hows[name] for name in joined})
        for unit, sets in in_units.items():
            together = {name: sets[name] for name in joined if name in sets}
            # A set without words, of a greedy search for phonemes, cannot be pooled with others that have some.
            if len(together) == len(joined):
                results[unit][pooled] = _score_together(together, unit)
        # Languages of the pooled set are known if those of all its sets are.
        if all(name in spoken for name in joined):
            languages = {utterance: language for name in joined for utterance, language in utt2lang[name].items()}
            spoken[pooled] = score_languages(_joined({name: words[name] for name in joined}), languages, pooled)
    wers, cers, pers = results[WORD], results[CHARACTER], results[PHONEME]
    odd = (
        f"{folder}: {note}"
        for folder in folders
        if folder.name in words
        for note in notes(words[folder.name], wers[folder.name])
    )
    return ScoredSubnet(wers, cers, pers, spoken, _entry(results, spoken, hows), tuple(odd))


def _has_languages(folder: Path) -> bool:
    return (folder / LANGUAGES_FILE).exists()


def _read_sets(folders: Sequence[Path], name: str) -> Sets:
    """Read the files with this name; sets that do not have it are left out."""
    return {folder.name: read_recogs(folder / name) for folder in folders if (folder / name).exists()}


def _common_way(folders: Sequence[Path], hows: Mapping[str, Decoded]) -> Decoded:
    """Return how all sets were decoded.

    Raises:
        UserError: they were decoded in different ways.
    """
    how = next(iter(hows.values()))
    if any(_way(other) != _way(how) for other in hows.values()):
        raise UserError(f"{folders[0].parent}: the sets were decoded in different ways; decode them again")
    # The identity of the data is that of a single set.
    return how.model_copy(update={"data": None})


def _way(how: Decoded) -> tuple[Subnet, str, str]:
    """Return how a set was decoded, regardless of the set."""
    return how.subnet, how.checkpoint, how.decoding


def _entry(
    results: Mapping[Unit, Mapping[str, WerResult]],
    spoken: Mapping[str, Mapping[str, WerResult]],
    hows: Mapping[str, Decoded],
) -> SubnetEntry:
    """Make the entry of the scores in results.json.

    Args:
        results: unit -> set name -> its score; empty where a unit was not scored.
        spoken: set name -> language -> its score over words.
        hows: set name -> how it was decoded.
    """
    subnet = next(iter(hows.values())).subnet
    scores = {
        "wer": {
            name: with_languages(_with(result.wer_entry(), hows[name]), spoken.get(name, {}))
            for name, result in results[WORD].items()
        },
        "cer": {name: _with(result.cer_entry(), hows[name]) for name, result in results[CHARACTER].items()},
        "per": {name: _with_greedy(result.per_entry(), hows[name]) for name, result in results[PHONEME].items()},
    }
    # Only what is set replaces an earlier entry.
    return SubnetEntry.model_validate({"subnet": subnet, **{name: found for name, found in scores.items() if found}})


def _with_greedy(entry: PerEntry, how: Decoded) -> PerEntry:
    """Note how phonemes were found, which is always the same: without lexicon and language model."""
    return entry.measured(how.checkpoint, "greedy", how.data)


def _with(entry: S, how: Decoded) -> S:
    return entry.measured(how.checkpoint, how.decoding, how.data)


def has_characters(results: Results, subnet_id: str) -> bool:
    """Whether results.json has character error rates of a subnet, which a new score then replaces."""
    return subnet_id in results.subnets and bool(results.subnets[subnet_id].cer)


def write_details(
    folder: Path,
    utterances: Sequence[Utterance],
    result: WerResult,
    utt2spk: Mapping[str, str] | None,
    missing: int = 0,
) -> None:
    """Write ``wer``, ``per_utt``, ``ops``, ``errs`` and, if speakers are known, ``per_spk``.

    The files of characters are named ``cer``, ``per_utt_char`` and so on, those of phonemes ``per``, ``per_utt_phone``.

    Args:
        folder: is created if it does not exist.
        utterances: the scored utterances, in the units that ``result`` counts.
        result: their score.
        utt2spk: utterance id -> speaker.
        missing: number of utterances without a hypothesis, which were scored as empty.

    Raises:
        UserError: an utterance has no speaker, or a file cannot be written.
    """
    alignments = [align(u) for u in utterances]
    suffix = result.unit.suffix
    files = {
        result.unit.rate: wer_lines(result, missing),
        f"per_utt{suffix}": per_utt(alignments),
        f"ops{suffix}": ops(alignments),
        f"errs{suffix}": errs(alignments, result.unit),
    }
    if utt2spk is not None:
        files[f"per_spk{suffix}"] = per_spk(alignments, utt2spk, result.unit)
    for name, content in files.items():
        write_atomic(folder / name, content)


def _score_sets(folders: Sequence[Path], sets: Sets, unit: Unit) -> dict[str, WerResult]:
    """Score sets one by one, and write the details of each into its folder."""
    results = {name: score(utterances, unit=unit) for name, utterances in sets.items()}
    for folder in folders:
        # Characters are scored for all sets or for none.
        if folder.name in results:
            write_details(folder, sets[folder.name], results[folder.name], read_utt2spk(folder / "utt2spk"))
    return results


def _score_together(sets: Sets, unit: Unit) -> WerResult:
    return score(_joined(sets), unit=unit)


def _joined(sets: Sets) -> list[Utterance]:
    return [utterance for utterances in sets.values() for utterance in utterances]
