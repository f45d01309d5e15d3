"""Stage 1: checked lhotse cuts from the utterances that a corpus lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slimasr.config.data import DataConfig
from slimasr.config.data_text import TextConfig
from slimasr.data.audio.recordings import AudioError, read_recording
from slimasr.data.augmentation.folders import list_folders
from slimasr.data.augmentation.musan import prepare_musan_cuts
from slimasr.data.corpora import ListedUtterance, Progress, corpus_of, find_corpus
from slimasr.data.corpora.named_files import record_corpus_folder
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, write_bad, write_cuts, write_split
from slimasr.data.identity.digests import AudioStamp
from slimasr.data.identity.manifest_record import manifest_text, write_manifest_record
from slimasr.data.inspection.facts import DataFacts, inspect_sets
from slimasr.data.manifests.listing import channel_problem, check_names, segment_problem, text_problem, without_rounding
from slimasr.data.manifests.normalise import Counts, normalise_utterances, read_rules
from slimasr.data.manifests.overlap import check_overlap
from slimasr.data.shar.found import without_given
from slimasr.data.shar.preparing import GivenSet, prepare_given
from slimasr.errors import UserError
from slimasr.locking import folder_lock
from slimasr.progress import Notes, unread

NUM_THREADS = 8


@dataclass(frozen=True)
class _PreparedSet:
    """The cuts of a set, the utterances left out, and how often transcripts were changed."""

    cuts: list[Cut]
    bad: list[BadUtterance]
    text: Counts


def set_names(config: DataConfig) -> list[str]:
    """All sets of the recipe, each once: train, dev, test."""
    return list(dict.fromkeys([*config.train, config.dev, *config.test]))


def get_corpus(
    config: DataConfig,
    data_dir: Path,
    corpus_dir: Path | None,
    download: bool,
    progress: Progress,
    further: Sequence[str] = (),
) -> Path:
    """Stage 0: find, synthesise or (if allowed) download the corpus, and return its folder.

    Raises:
        UserError: the corpus was not found, or an archive is refused.
    """
    # Shards that are read in place are no part of the corpus that is found and listed.
    config = without_given(config)
    corpus = corpus_of(config)
    own_dir = data_dir / "corpora"
    # Own data lie in data.sources, and the folder that the user gives may hold the noise of data.musan.
    given = None if config.corpus == "own" else corpus_dir
    return find_corpus(corpus, given, own_dir, [*set_names(config), *further], config.options, progress, download)


def prepare(
    config: DataConfig,
    data_dir: Path,
    corpus_dir: Path | None,
    download: bool,
    progress: Progress,
    *,
    check_audio: bool = False,
    further: Sequence[str] = (),
    notes: Notes = unread,
    inspected: Callable[[DataFacts], None] | None = None,
) -> dict[str, int]:
    """Stage 1: write ``manifests/cuts_<set>.jsonl.gz`` for every set of the recipe.

    Training utterances without usable audio or text are listed in ``manifests/bad_<set>.json``; in other sets they are
    errors. Nothing is written before all sets have been checked.

    Args:
        check_audio: identify audio files by their content instead of their modification times.
        further: more sets, which only the tokenizer or the feature statistics need.
        notes: receives how sets were split off from others.
        inspected: receives the facts about the sets; without it, the sets are not inspected.

    Returns:
        Set name -> number of cuts.

    Raises:
        UserError: the corpus is missing, an utterance is unusable, a set is empty, training and evaluation sets share
            utterances, or another process writes manifests into this data folder.
    """
    folder = DataFolder(data_dir)
    with folder_lock(folder.lock("manifests"), "slimasr-prepare") as lock:
        source = get_corpus(config, data_dir, corpus_dir, download, progress, further)
        folders = list_folders(config)
        # Sets of given shards are read in place; stage 1 only takes a sample of them.
        listed = without_given(config)
        given = [name for name in config.train if name not in listed.train]
        # All sets are checked before the first one is written.
        listing = corpus_of(listed).listing(source, [*set_names(listed), *further], config.options)
        notes(listing.notes)
        prepared = _prepare_sets(listed, source, listing.sets, progress, check_audio=check_audio)
        sampled = {name: prepare_given(config, folder, name) for name in given}
        record_corpus_folder(folder, source)
        write_split(folder, listing.split)
        for name, made in prepared.items():
            lock.verify()
            write_cuts(folder.raw_cuts(name), made.cuts)
            # The record contains a digest of the manifest's file, so it comes after it.
            write_manifest_record(folder, name, config, made.cuts, made.text)
            write_bad(folder.raw_bad(name), made.bad)
        if config.musan is not None:
            prepare_musan_cuts(config, folder, corpus_dir, data_dir / "corpora", download)
        for item in folders:
            item.write(folder)
    if inspected is not None:
        found = {name: sampled.get(name) or prepared[name] for name in [*set_names(config), *further]}
        inspected(_facts(found))
        notes([note for name, made in sampled.items() if (note := made.note(name)) is not None])
    counts = {name: made.utterances for name, made in sampled.items()}
    return counts | {name: len(made.cuts) for name, made in prepared.items()}


def _facts(sets: Mapping[str, _PreparedSet | GivenSet]) -> DataFacts:
    """The facts about sets, without reading their audio."""
    without_audio = {name: ((cut, None) for cut in made.cuts) for name, made in sets.items()}
    return inspect_sets(without_audio, {name: made.bad for name, made in sets.items()})


def text_notes(data_dir: Path, names: Iterable[str]) -> list[str]:
    """One line for each set whose transcripts ``data.text`` has changed."""
    notes = []
    for name in names:
        counts = manifest_text(DataFolder(data_dir), name).describe()
        if counts:
            notes.append(f"{name}: data.text changed transcripts: {counts}")
    return notes


def idle_rules(text: TextConfig, data_dir: Path, names: Iterable[str]) -> list[str]:
    """One line for each rule of ``data.text`` that names text which no set has: a likely mistake."""
    total = Counts()
    for name in names:
        total.add(manifest_text(DataFolder(data_dir), name))
    notes = [
        f"data.text.drop: {pattern!r} matches in no transcript; case and brackets count"
        for pattern in text.drop
        if pattern not in total.dropped
    ]
    if text.map is not None and not total.mapped:
        notes.append(f"data.text.map: nothing in {text.map} is in any transcript; case and the Unicode form count")
    return notes


def _prepare_sets(
    config: DataConfig,
    source: Path,
    listed: Mapping[str, Sequence[ListedUtterance]],
    progress: Progress,
    *,
    check_audio: bool,
) -> dict[str, _PreparedSet]:
    """Set name -> its cuts and the utterances left out; all sets are checked."""
    prepared: dict[str, _PreparedSet] = {}
    rules = read_rules(config.text)
    sources: dict[str, str] = {}
    evaluated = {config.dev, *config.test} - {*config.train}
    for name, utterances in listed.items():
        # An id in several sets keeps the last place: it is only an example for the message about overlap.
        sources.update((item.id, item.source or str(item.audio)) for item in utterances)
        changed = normalise_utterances(utterances, rules)
        shown = progress(changed.utterances, len(utterances), f"{config.corpus} {name}")
        cuts, bad = build_cuts(shown, config, check_audio=check_audio)
        bad = changed.explained(bad)
        # Error rates on a dev or test set would not be comparable if utterances were left out.
        if bad and name in evaluated:
            raise UserError(f"{name}: {bad[0].id}: {bad[0].reason}")
        check_bad_share(bad, len(utterances), config.max_bad_share, name)
        if not cuts:
            why = f" that can be used; first: {bad[0].id}: {bad[0].reason}" if bad else ""
            raise UserError(f"{source}: set {name} of corpus {config.corpus} has no utterances{why}")
        prepared[name] = _PreparedSet(cuts, bad, changed.counts)
    if not config.allow_overlap:
        check_overlap(config, {name: made.cuts for name, made in prepared.items()}, sources)
    return prepared


def build_cuts(
    utterances: Iterable[ListedUtterance], config: DataConfig, *, check_audio: bool = False
) -> tuple[list[Cut], list[BadUtterance]]:
    """Return a cut for every utterance whose audio header and transcript are usable, and the others with the reason.

    Args:
        check_audio: store the digest of every audio file's content in its cut.

    Raises:
        UserError: a sampling rate differs from ``data.sampling_rate`` without ``data.resample``, an id is listed twice,
            or later files cannot hold an id or speaker.
    """
    cuts: list[Cut] = []
    bad: list[BadUtterance] = []
    seen: set[str] = set()
    # Reading headers mostly waits for the disk, so threads help in spite of the interpreter's lock.
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for utterance, result in _in_order(pool, utterances, check_audio):
            check_names(utterance)
            if utterance.id in seen:
                raise UserError(f"{utterance.audio}: utterance id {utterance.id} is listed twice")
            seen.add(utterance.id)
            if isinstance(result, BadUtterance):
                bad.append(result)
            else:
                cuts.append(_match_rate(result, utterance, config))
    return cuts, bad


def _in_order(
    pool: ThreadPoolExecutor, utterances: Iterable[ListedUtterance], check_audio: bool
) -> Iterator[tuple[ListedUtterance, Cut | BadUtterance]]:
    listed = list(utterances)
    # A file may hold many utterances, and is read once. `map` keeps the order, so manifests do not depend on timing.
    files = list(dict.fromkeys(utterance.audio for utterance in listed))
    read = dict(zip(files, pool.map(partial(_read_file, check_audio=check_audio), files), strict=True))
    for utterance in listed:
        yield utterance, _build_cut(utterance, read[utterance.audio])


def _read_file(path: Path, *, check_audio: bool) -> tuple[Recording, AudioStamp] | AudioError:
    """Header and stamp of an audio file, or why it cannot be used."""
    try:
        return read_recording(path, path.stem, mono=False), AudioStamp.of_file(path, content=check_audio)
    except AudioError as error:
        return error


def _build_cut(utterance: ListedUtterance, file: tuple[Recording, AudioStamp] | AudioError) -> Cut | BadUtterance:
    # One space between words, as `slimasr.textfiles` promises to all later stages.
    text = " ".join(utterance.text.split())
    problem = text_problem(text)
    if problem is not None:
        return BadUtterance(utterance.id, f"{utterance.source or utterance.audio}: {problem}")
    if isinstance(file, AudioError):
        return BadUtterance(utterance.id, f"{file}{_listed_in(utterance)}")
    recording, stamp = file
    problem = channel_problem(utterance, recording.num_channels)
    if problem is not None:
        return BadUtterance(utterance.id, f"{utterance.audio}: {problem}{_listed_in(utterance)}")
    utterance = without_rounding(utterance, recording.duration)
    if not utterance.is_segment:
        # The recording, the cut and the utterance are one, so all of them have the same id.
        recording = fastcopy(recording, id=utterance.id)
    problem = segment_problem(utterance, recording.duration)
    if problem is not None:
        return BadUtterance(utterance.id, f"{utterance.source or utterance.audio}: {problem}")
    # A segment may end a little behind the recording (`segment_problem`).
    rest = recording.duration - utterance.start
    duration = rest if utterance.duration is None else min(utterance.duration, rest)
    channel = _channel(utterance, recording)
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=recording.id,
        # Times of supervisions are those within the cut.
        start=0.0,
        duration=duration,
        channel=channel,
        text=text,
        speaker=utterance.speaker,
        language=utterance.language,
    )
    kind = MonoCut if isinstance(channel, int) else MultiCut
    return kind(
        id=utterance.id,
        start=utterance.start,
        duration=duration,
        channel=channel,
        supervisions=[supervision],
        recording=recording,
        custom=stamp.to_custom(),
    )


def _channel(utterance: ListedUtterance, recording: Recording) -> int | list[int]:
    """The channel of an utterance, or all channels of which it is the average (`load_samples`)."""
    if utterance.average_channels and recording.num_channels > 1:
        return list(recording.channel_ids)
    return utterance.channel or 0


def _listed_in(utterance: ListedUtterance) -> str:
    """The place in a list that names an utterance, at the end of a message."""
    return f"; listed in {utterance.source}" if utterance.source else ""


def _match_rate(cut: Cut, utterance: ListedUtterance, config: DataConfig) -> Cut:
    if cut.sampling_rate == config.sampling_rate:
        return cut
    if not config.resample:
        raise UserError(
            f"{utterance.audio}: sampling rate {cut.sampling_rate} differs from data.sampling_rate "
            f"{config.sampling_rate}; set data.resample to true to allow it{_listed_in(utterance)}"
        )
    # lhotse only notes this in the cut, and resamples when the audio is read.
    return cut.resample(config.sampling_rate)
