"""Decoded sets in the experiment folder.

::

    exp/<name>/decode/<subnet id>/<set>/recogs        references and hypotheses (icefall's layout)
                                        errs          errors marked (icefall's layout)
                                        recogs_phone  the same in phonemes, if these are the model's tokens
                                        errs_phone
                                        utt2spk       speakers (Kaldi's layout)
                                        utt2lang      languages (Kaldi's layout), if there are several
                                        decode.json   subnet, checkpoint, search
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.manifests.listing import unusable_character
from slimasr.errors import UserError
from slimasr.files import write_atomic
from slimasr.locking import file_lock
from slimasr.results.decoded import Decoded
from slimasr.scoring import Utterance, align
from slimasr.scoring.folder import LANGUAGES_FILE, PHONEMES_FILE, SCORE_FILES, WORDS_FILE
from slimasr.scoring.icefall import errs, recogs
from slimasr.scoring.wer import PHONEME, WORD
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class DecodedSet:
    """A set that one subnet has recognised.

    Attributes:
        subnet: the subnet.
        utterances: references and hypotheses as words; None = the search finds phonemes alone.
        utt2spk: utterance id -> speaker.
        checkpoint: name of the checkpoint with the weights.
        decoding: the search in words (`slimasr.decoding.decode.describe`).
        data: fingerprint of the set, None if it is not known.
        phonemes: references and hypotheses as phonemes, if these are the model's tokens.
        utt2lang: utterance id -> language, for error rates per language; empty = these are not wanted.
    """

    subnet: Subnet
    utterances: tuple[Utterance, ...] | None
    utt2spk: Mapping[str, str]
    checkpoint: str
    decoding: str
    data: str | None = None
    phonemes: tuple[Utterance, ...] | None = None
    utt2lang: Mapping[str, str] = field(default_factory=dict)


def read_speakers(data_dir: Path, set_name: str) -> dict[str, str]:
    """Read the speaker of every utterance of a set; an utterance without a speaker is its own, as in Kaldi.

    Args:
        data_dir: folder of the recipe's data.
        set_name: the set.

    Raises:
        UserError: stage 1 has not run, or an earlier version of it has accepted an id that ``utt2spk`` cannot hold.
    """
    path = DataFolder(data_dir).raw_cuts(set_name)
    speakers = {cut.id: cut.supervisions[0].speaker or cut.id for cut in read_cuts(path, "stage 1 (slimasr-prepare)")}
    # The files of a decoded set separate their fields by spaces, as those of Kaldi and icefall do.
    for name in (*speakers, *speakers.values()):
        character = unusable_character(name)
        if character is not None:
            raise UserError(
                f"{path}: the id or speaker {name!r} holds {character}, which scores cannot be read with; rename it "
                "and run from stage 1 (slimasr-prepare)"
            )
    return speakers


def write_decoded(exp: Path, set_name: str, decoded: DecodedSet) -> Path:
    """Write a decoded set, and return its folder. Scores of an earlier decoding are removed.

    If two commands decode the same set at the same time, all files are those of the later one.

    Raises:
        UserError: a file cannot be written, or the references have no word.
    """
    folder = exp / "decode" / decoded.subnet.id / set_name
    with file_lock(folder / WORDS_FILE):
        _write(folder, decoded)
    return folder


def _write(folder: Path, decoded: DecodedSet) -> None:
    """Write the files of a decoded set; the caller holds the lock."""
    # First, so that a kill cannot leave scores that belong to other hypotheses.
    for name in SCORE_FILES:
        (folder / name).unlink(missing_ok=True)
    how = Decoded(subnet=decoded.subnet, checkpoint=decoded.checkpoint, decoding=decoded.decoding, data=decoded.data)
    how.write(folder)
    if not decoded.utt2lang:
        (folder / LANGUAGES_FILE).unlink(missing_ok=True)
    # Each kind of unit has two files; the last one written means that the folder is complete.
    units = {PHONEMES_FILE: ("errs_phone", decoded.phonemes), WORDS_FILE: ("errs", decoded.utterances)}
    for name, (marked, utterances) in units.items():
        if utterances is None:
            (folder / name).unlink(missing_ok=True)
            continue
        ordered = sorted(utterances, key=lambda u: u.id)
        speakers = (f"{u.id} {decoded.utt2spk[u.id]}\n" for u in ordered)
        write_atomic(folder / "utt2spk", "".join(speakers))
        if decoded.utt2lang:
            write_atomic(folder / LANGUAGES_FILE, "".join(f"{u.id} {decoded.utt2lang[u.id]}\n" for u in ordered))
        unit = PHONEME if name == PHONEMES_FILE else WORD
        write_atomic(folder / marked, errs([align(u) for u in ordered], unit))
        write_atomic(folder / name, recogs(ordered))
