"""Score decoded sets where they lie: ``recogs`` in, Kaldi's and icefall's files out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.scoring.alignment import Utterance, align
from slimasr.scoring.icefall import errs, read_recogs
from slimasr.scoring.kaldi import ops, per_spk, per_utt, wer_lines
from slimasr.scoring.transcripts import read_utt2spk
from slimasr.scoring.wer import WerResult, score


@dataclass(frozen=True)
class ScoredSubnet:
    """What one subnet reached.

    Attributes:
      wers: set name -> result; sets pooled under their names joined by ``+``.
      entry: the subnet's part of ``results.json``.
    """

    wers: dict[str, WerResult]
    entry: dict[str, Any]


def find_decoded(exp: Path, set_names: Sequence[str] | None = None) -> dict[str, list[Path]]:
    """Subnet id -> folders of its decoded sets.

    Args:
      exp: experiment folder.
      set_names: the sets wanted, None = all there are.

    Raises:
      UserError: nothing was decoded, or a subnet was not decoded on a set that is wanted.
    """
    found: dict[str, list[Path]] = {}
    for recogs in sorted(exp.glob("decode/*/*/recogs")):
        found.setdefault(recogs.parent.parent.name, []).append(recogs.parent)
    if not found:
        raise UserError(f"{exp / 'decode'}: holds no decoded set; run stage 6 (slimasr-decode) first")
    if set_names is None:
        return found
    for subnet_id, folders in found.items():
        missing = set(set_names) - {folder.name for folder in folders}
        if missing:
            where, known = exp / "decode" / subnet_id / min(missing), ", ".join(folder.name for folder in folders)
            advice = f"run stage 6 (slimasr-decode --set-name {min(missing)}) first"
            raise UserError(f"{where} is missing; {advice}; decoded sets: {known}")
    return {subnet_id: [f for f in folders if f.name in set_names] for subnet_id, folders in found.items()}


def score_decoded(folders: Sequence[Path], pool: bool = False) -> ScoredSubnet:
    """Score the decoded sets of one subnet, and write details (`write_details`) beside each.

    Args:
      folders: one per set, as ``slimasr.decoding.sets`` writes them.
      pool: score all utterances together as well.

    Raises:
      UserError: a file is missing or damaged, no reference has a word, or sets to be pooled were decoded with
        different checkpoints or searches.
    """
    sets = {folder.name: read_recogs(folder / "recogs") for folder in folders}
    hows = {folder.name: _read_how(folder / "decode.json") for folder in folders}
    wers = {name: score(utterances) for name, utterances in sets.items()}
    for folder in folders:
        write_details(folder, sets[folder.name], wers[folder.name], read_utt2spk(folder / "utt2spk"))
    if pool and len(sets) > 1:
        pooled, how = "+".join(sets), next(iter(hows.values()))
        if any(other != how for other in hows.values()):
            raise UserError(f"{folders[0].parent}: the sets were decoded in different ways; decode them again")
        wers[pooled] = score([utterance for utterances in sets.values() for utterance in utterances])
        hows[pooled] = how
    made_by = {name: {key: hows[name][key] for key in ("checkpoint", "decoding")} for name in wers}
    entries = {name: wer.to_dict() | made_by[name] for name, wer in wers.items()}
    return ScoredSubnet(wers, {"subnet": next(iter(hows.values()))["subnet"], "wer": entries})


def write_details(
    folder: Path,
    utterances: Sequence[Utterance],
    result: WerResult,
    utt2spk: Mapping[str, str] | None,
    missing: int = 0,
) -> None:
    """Write ``wer``, ``per_utt``, ``ops``, ``errs`` and, where speakers are known, ``per_spk``.

    Args:
      folder: made where it does not exist.
      utterances: what was scored.
      result: its score.
      utt2spk: utterance id -> speaker.
      missing: how many utterances had no hypothesis and were scored as empty.

    Raises:
      UserError: an utterance has no speaker, or a file cannot be written.
    """
    alignments = [align(u) for u in utterances]
    files = {
        "wer": wer_lines(result, missing),
        "per_utt": per_utt(alignments),
        "ops": ops(alignments),
        "errs": errs(alignments),
    }
    if utt2spk is not None:
        files["per_spk"] = per_spk(alignments, utt2spk)
    for name, content in files.items():
        write_atomic(folder / name, content)


def _read_how(path: Path) -> dict[str, Any]:
    """Subnet, checkpoint and search of a decoded set."""
    try:
        how = json.loads(path.read_text(encoding="utf-8"))
        return {key: how[key] for key in ("subnet", "checkpoint", "decoding")}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: missing or damaged; run stage 6 (slimasr-decode) again") from None
