"""Stage 1: a corpus's listed utterances to checked lhotse cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lhotse import MonoCut, SupervisionSegment
from lhotse.cut import Cut

from slimasr.config.schema import DataConfig
from slimasr.data.audio import AudioError, read_recording
from slimasr.data.corpora import CORPORA, Progress, Utterance, find_corpus
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, write_bad, write_cuts
from slimasr.data.musan import prepare_musan_cuts
from slimasr.errors import UserError
from slimasr.locking import Lock, folder_lock

NUM_THREADS = 8


def set_names(config: DataConfig) -> list[str]:
    """All sets of the recipe, each once: train, dev, test."""
    return list(dict.fromkeys([*config.train, config.dev, *config.test]))


def get_corpus(config: DataConfig, data_dir: Path, corpus_dir: Path | None, download: bool, progress: Progress) -> Path:
    """Stage 0: the corpus's folder; found, made or (where allowed) downloaded.

    Raises:
      UserError: it is nowhere, or an archive is refused.
    """
    corpus, own_dir = CORPORA[config.corpus], data_dir / "corpora"
    return find_corpus(corpus, corpus_dir, own_dir, set_names(config), config.options, progress, download)


def prepare(
    config: DataConfig, data_dir: Path, corpus_dir: Path | None, download: bool, progress: Progress
) -> dict[str, int]:
    """Stage 1: write ``manifests/cuts_<set>.jsonl.gz`` for every set of the recipe.

    Training utterances without usable audio or text are listed in ``manifests/bad_<set>.json``; in other sets
    they are errors.

    Returns:
      Set name -> number of cuts.

    Raises:
      UserError: the corpus is not there or unusable, or another process writes manifests into this data folder.
    """
    with folder_lock(DataFolder(data_dir).lock("manifests"), "slimasr-prepare") as lock:
        return _write_manifests(config, data_dir, corpus_dir, download, progress, lock)


def _write_manifests(
    config: DataConfig, data_dir: Path, corpus_dir: Path | None, download: bool, progress: Progress, lock: Lock
) -> dict[str, int]:
    folder = DataFolder(data_dir)
    source = get_corpus(config, data_dir, corpus_dir, download, progress)
    counts = {}
    for name, utterances in CORPORA[config.corpus].list_utterances(source, set_names(config), config.options).items():
        cuts, bad = build_cuts(progress(utterances, len(utterances), f"{config.corpus} {name}"), config)
        if bad and name not in config.train:
            raise UserError(f"{name}: {bad[0].id}: {bad[0].reason}")
        check_bad_share(bad, len(utterances), config.max_bad_share, name)
        if not cuts:
            raise UserError(f"{source}: set {name} of corpus {config.corpus} has no utterances")
        lock.verify()
        write_cuts(folder.raw_cuts(name), cuts)
        write_bad(folder.raw_bad(name), bad)
        counts[name] = len(cuts)
    if config.musan is not None:
        prepare_musan_cuts(config, folder, corpus_dir, data_dir / "corpora", download)
    return counts


def build_cuts(utterances: Iterable[Utterance], config: DataConfig) -> tuple[list[Cut], list[BadUtterance]]:
    """One cut per utterance whose audio header and transcript are usable, and the others with the reason.

    Raises:
      UserError: sampling rate other than ``data.sampling_rate`` without ``data.resample``; id listed twice.
    """
    cuts: list[Cut] = []
    bad: list[BadUtterance] = []
    seen: set[str] = set()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for utterance, result in _in_order(pool, utterances):
            if utterance.id in seen:
                raise UserError(f"{utterance.audio}: utterance id {utterance.id} is listed twice")
            seen.add(utterance.id)
            if isinstance(result, BadUtterance):
                bad.append(result)
            else:
                cuts.append(_match_rate(result, utterance, config))
    return cuts, bad


def _in_order(
    pool: ThreadPoolExecutor, utterances: Iterable[Utterance]
) -> Iterator[tuple[Utterance, Cut | BadUtterance]]:
    listed = list(utterances)
    yield from zip(listed, pool.map(_build_cut, listed), strict=True)


def _build_cut(utterance: Utterance) -> Cut | BadUtterance:
    text = " ".join(utterance.text.split())
    if not text:
        return BadUtterance(utterance.id, f"{utterance.audio}: empty transcript")
    try:
        recording = read_recording(utterance.audio, utterance.id)
    except AudioError as error:
        return BadUtterance(utterance.id, str(error))
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=recording.duration,
        text=text,
        speaker=utterance.speaker,
        language=utterance.language,
    )
    return MonoCut(
        id=utterance.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )


def _match_rate(cut: Cut, utterance: Utterance, config: DataConfig) -> Cut:
    if cut.sampling_rate == config.sampling_rate:
        return cut
    if not config.resample:
        raise UserError(
            f"{utterance.audio}: sampling rate {cut.sampling_rate} differs from data.sampling_rate "
            f"{config.sampling_rate}; set data.resample to true to allow it"
        )
    return cut.resample(config.sampling_rate)
