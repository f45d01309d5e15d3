"""Synthetic digit strings by espeak-ng: many voices, rates and pitches, light noise and reverberation.

The corpus is made offline from a seed: ``wav/<utterance>.flac`` (16 kHz), ``digits.tsv`` (set, id, voice, text) and,
written last, ``options.json``. No timbre of dev or test occurs in train.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimasr.config.corpora import DigitsOptions
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    Progress,
    only_sets,
    parse_options,
    read_lines,
    refuse_contradictions,
)
from slimasr.data.corpora.fsdd import WORDS
from slimasr.data.digit_speech import Recording, record_all
from slimasr.data.espeak import Voice
from slimasr.errors import UserError
from slimasr.files import write_atomic, write_json_atomic, writing
from slimasr.locking import Lock, folder_lock

ACCENTS = (
    "en",
    "en-us",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
TIMBRES = {
    "train": (
        "m1",
        "m2",
        "m3",
        "m5",
        "m6",
        "m8",
        "f1",
        "f2",
        "f4",
        "f5",
        "Alicia",
        "Andy",
        "Denis",
        "Gene",
        "Jacky",
        "Lee",
        "Marco",
        "Michael",
        "Reed",
        "adam",
        "belinda",
        "boris",
        "david",
        "edward",
        "john",
        "linda",
        "max",
        "paul",
        "rob",
        "robert",
        "steph",
        "victor",
        "zac",
    ),
    "dev": ("m4", "f3", "Diogo", "anika"),
    "test": ("m7", "Andrea", "Annie", "Hugo", "sandro", "travis"),
}
# Speech depends on what its process said before, so the number of utterances per process is part of the definition.
CHUNK = 250
LISTING = "digits.tsv"
RECEIPT = "options.json"
# To be increased whenever the same options produce different audio.
VERSION = 1


def generate(target: Path, options: Options, progress: Progress) -> None:
    """Make the corpus in ``target``, unless it exists with these options; an interrupted run is resumed.

    Raises:
        UserError: the extra ``demo`` is not installed, or an option is out of range.
    """
    parsed = parse_options(DigitsOptions, options, "digits")
    receipt = {"version": VERSION, **parsed.model_dump()}
    if _is_made(target / RECEIPT, receipt):
        return
    with folder_lock(target / "corpus.lock", "slimasr-prepare, which makes this corpus") as lock:
        # Another process may have made it while this one waited for the lock.
        if not _is_made(target / RECEIPT, receipt):
            _make(target, parsed, receipt, progress, lock)


def _make(target: Path, parsed: DigitsOptions, receipt: dict[str, Any], progress: Progress, lock: Lock) -> None:
    path = target / RECEIPT
    with writing(target):
        # Without its receipt the folder counts as incomplete until all files are written.
        path.unlink(missing_ok=True)
        (target / "wav").mkdir(parents=True, exist_ok=True)
    plan = plan_recordings(parsed)
    chunks = [(plan[start : start + CHUNK], target / "wav") for start in range(0, len(plan), CHUNK)]
    # A new process for each chunk, because speech depends on what the process said before.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(os.cpu_count() or 1, len(chunks)), maxtasksperchild=1) as pool:
        for _ in progress(pool.imap(record_all, chunks), len(chunks), "digits"):
            lock.check()
    lock.verify()
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerows((item.set, item.id, item.voice.timbre, item.text) for item in plan)
    write_atomic(target / LISTING, table.getvalue())
    write_json_atomic(path, receipt)


def _is_made(path: Path, receipt: dict[str, int]) -> bool:
    """Whether the receipt in the folder equals this one; a damaged receipt does not."""
    try:
        return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == receipt
    except (OSError, ValueError):
        return False


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the sets ``train``, ``dev``, ``test``; the speaker is the timbre."""
    utterances: dict[str, list[ListedUtterance]] = {name: [] for name in TIMBRES}
    for line in read_lines(corpus_dir / LISTING):
        fields = line.text.split("\t")
        if len(fields) != 4 or fields[0] not in utterances:
            raise UserError(
                f"{line.where}: expected set ({', '.join(TIMBRES)}), utterance id, voice and text between tabs; "
                f"remove {corpus_dir / RECEIPT} to have the corpus made again"
            )
        name, utterance_id, timbre, text = fields
        audio = corpus_dir / "wav" / f"{utterance_id}.flac"
        utterances[name].append(ListedUtterance(utterance_id, audio, text, timbre, source=line.where))
    refuse_contradictions(utterances)
    return only_sets(utterances, sets, "digits")


def plan_recordings(options: DigitsOptions) -> list[Recording]:
    """Plan everything about every utterance except its samples, from the seed."""
    counts = {"train": options.num_train, "dev": options.num_dev, "test": options.num_test}
    return [
        _plan_one(name, number, options, random.Random(f"{options.seed}/{name}/{number}"))
        for name, count in counts.items()
        for number in range(count)
    ]


def _plan_one(name: str, number: int, options: DigitsOptions, rng: random.Random) -> Recording:
    # Voices take turns, so that small sets have all of them.
    timbre = TIMBRES[name][number % len(TIMBRES[name])]
    # The order of the draws, here and below, is part of the corpus: a change of it needs a new `VERSION`.
    voice = Voice(rng.choice(ACCENTS), timbre, rng.randint(130, 210), rng.randint(30, 70), rng.randint(30, 70))
    return Recording(
        id=f"{timbre}-{name}-{number:05d}",
        set=name,
        text=" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, options.max_digits))),
        voice=voice,
        pauses=rng.random() < 0.3,
        snr=rng.uniform(15.0, 35.0),
        reverberation=rng.uniform(0.1, 0.4) if rng.random() < 0.5 else 0.0,
        direct_ratio=rng.uniform(3.0, 12.0),
        lead=rng.uniform(0.05, 0.3),
        tail=rng.uniform(0.05, 0.3),
        peak=rng.uniform(0.1, 0.9),
        seed=rng.randrange(2**31),
    )


CORPUS = Corpus("digits", ("digits",), RECEIPT, list_utterances, generate=generate)
