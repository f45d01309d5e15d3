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
from slimasr.results.schema import Results, ScoreEntry, SubnetEntry
from slimasr.scoring.alignment import Utterance, align
from slimasr.scoring.characters import in_characters
from slimasr.scoring.icefall import errs, read_recogs
from slimasr.scoring.kaldi import ops, per_spk, per_utt, wer_lines
from slimasr.scoring.notes import notes
from slimasr.scoring.transcripts import read_utt2spk
from slimasr.scoring.wer import CHARACTER, WORD, Unit, WerResult, score
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
)
"""Files that scoring adds to a decoded set; ``errs`` is written by decoding, too."""

Sets = dict[str, list[Utterance]]

S = TypeVar("S", bound=ScoreEntry)


@dataclass(frozen=True)
class ScoredSubnet:
    """The scores of one subnet.

    Attributes:
        wers: set name -> result; pooled sets have their names joined by ``+``.
        cers: the same over characters; empty if characters are not scored.
        entry: the subnet's part of ``results.json``.
        notes: one line for each peculiarity of the sets.
    """

    wers: dict[str, WerResult]
    cers: dict[str, WerResult]
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
    for recogs in sorted(exp.glob("decode/*/*/recogs")):
        found.setdefault(recogs.parent.parent.name, []).append(recogs.parent)
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


def score_decoded(folders: Sequence[Path], pool: bool = False, characters: bool = False) -> ScoredSubnet:
    """Score the decoded sets of one subnet, and write details (`write_details`) into the folder of each.

    Args:
        folders: one folder per set, as ``slimasr.decoding.sets`` writes them.
        pool: score all utterances together as well.
        characters: score characters as well as words.

    Raises:
        UserError: a file is missing or damaged, no reference has a word, or sets to be pooled were decoded with
            different checkpoints or searches.
    """
    # All sets are locked before the first one is read, so that no decoding replaces one of them meanwhile.
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(file_lock(folder / "recogs"))
        return _score_decoded(folders, pool, characters)


def _score_decoded(folders: Sequence[Path], pool: bool, characters: bool) -> ScoredSubnet:
    sets = {folder.name: read_recogs(folder / "recogs") for folder in folders}
    hows = {folder.name: Decoded.load(folder / Decoded.PLACE) for folder in folders}
    wers = _score_sets(folders, sets, WORD)
    split: Sets = {}
    if characters:
        split = {name: [in_characters(utterance) for utterance in utterances] for name, utterances in sets.items()}
    cers = _score_sets(folders, split, CHARACTER)
    if pool and len(sets) > 1:
        pooled = "+".join(sets)
        how = next(iter(hows.values()))
        if any(_way(other) != _way(how) for other in hows.values()):
            raise UserError(f"{folders[0].parent}: the sets were decoded in different ways; decode them again")
        wers[pooled] = _score_together(sets, WORD)
        if characters:
            cers[pooled] = _score_together(split, CHARACTER)
        # The identity of the data is that of a single set.
        hows[pooled] = how.model_copy(update={"data": None})
    odd = (f"{folder}: {note}" for folder in folders for note in notes(sets[folder.name], wers[folder.name]))
    return ScoredSubnet(wers, cers, _entry(wers, cers, hows), tuple(odd))


def _way(how: Decoded) -> tuple[Subnet, str, str]:
    """Return how a set was decoded, regardless of the set."""
    return how.subnet, how.checkpoint, how.decoding


def _entry(wers: Mapping[str, WerResult], cers: Mapping[str, WerResult], hows: Mapping[str, Decoded]) -> SubnetEntry:
    """Make the entry of the scores in results.json.

    Args:
        wers: set name -> its score.
        cers: the same of characters; empty if they were not scored.
        hows: set name -> how it was decoded.
    """
    subnet = next(iter(hows.values())).subnet
    words = {name: _with(result.wer_entry(), hows[name]) for name, result in wers.items()}
    if not cers:
        return SubnetEntry(subnet=subnet, wer=words)
    characters = {name: _with(result.cer_entry(), hows[name]) for name, result in cers.items()}
    return SubnetEntry(subnet=subnet, wer=words, cer=characters)


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

    The files of characters are named ``cer``, ``per_utt_char`` and so on.

    Args:
        folder: is created if it does not exist.
        utterances: the scored utterances; they consist of characters if ``result`` counts characters.
        result: their score.
        utt2spk: utterance id -> speaker.
        missing: number of utterances without a hypothesis, which were scored as empty.

    Raises:
        UserError: an utterance has no speaker, or a file cannot be written.
    """
    alignments = [align(u) for u in utterances]
    suffix = "" if result.unit == WORD else "_char"
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
    return score([utterance for utterances in sets.values() for utterance in utterances], unit=unit)
