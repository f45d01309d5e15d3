"""Synthetic digit strings by espeak-ng: languages, many voices, rates and pitches, light noise and reverberation.

The corpus is made offline from a seed: ``wav/<utterance>.flac`` (16 kHz), ``digits.tsv`` (set, id, voice, text) and,
written last, ``options.json``. No timbre of dev or test occurs in train, in any language. The utterances of a language
do not depend on the other languages of the corpus.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from slimasr.config.corpora import LARGEST_SET, DigitsOptions
from slimasr.data.corpora.base import (
    Corpus,
    ListedUtterance,
    Options,
    Progress,
    only_sets,
    parse_options,
    refuse_contradictions,
)
from slimasr.data.corpora.made import AUDIO, RECEIPT, make_once, read_list, write_list
from slimasr.data.synthesis.digit_languages import DIGIT_LANGUAGES, ENGLISH
from slimasr.data.synthesis.digit_speech import Recording, record_all
from slimasr.data.synthesis.espeak import Voice
from slimasr.errors import UserError
from slimasr.locking import Lock

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
# To be increased whenever the same options produce different audio.
VERSION = 1
_SIZE = re.compile(r"[0-9]{1,7}")
SPOKEN = tuple(code for code, language in DIGIT_LANGUAGES.items() if language.accents)
# Receipts hold other options only if they are not the default, so that corpora made before these existed are complete.
FIRST_OPTIONS = {"num_train", "num_dev", "num_test", "max_digits", "seed"}


def generate(target: Path, options: Options, progress: Progress) -> None:
    """Make the corpus in ``target``, unless it exists with these options; an interrupted run is resumed.

    Raises:
        UserError: the extra ``demo`` is not installed, or an option is out of range or names no language or set.
    """
    parsed = parse_options(DigitsOptions, options, "digits")
    plan = plan_recordings(parsed)
    defaults = DigitsOptions().model_dump()
    chosen = {
        key: value for key, value in parsed.model_dump().items() if key in FIRST_OPTIONS or value != defaults[key]
    }
    make_once(target, {"version": VERSION, **chosen}, partial(_make, target, plan, progress))


def _make(target: Path, plan: list[Recording], progress: Progress, lock: Lock) -> None:
    chunks = [(chunk, target / AUDIO) for chunk in _chunks(plan)]
    # A new process for each chunk, because speech depends on what the process said before.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(os.cpu_count() or 1, len(chunks)), maxtasksperchild=1) as pool:
        for _ in progress(pool.imap(record_all, chunks), len(chunks), "digits"):
            lock.check()
    lock.verify()
    write_list(target / LISTING, ((item.set, item.id, item.voice.timbre, item.text) for item in plan))


def _chunks(plan: Sequence[Recording]) -> Iterator[list[Recording]]:
    # No chunk holds two languages, so that the speech of one does not depend on the others.
    for _, group in groupby(plan, key=attrgetter("language")):
        recordings = list(group)
        for start in range(0, len(recordings), CHUNK):
            yield recordings[start : start + CHUNK]


def list_utterances(corpus_dir: Path, sets: Sequence[str], options: Options) -> dict[str, list[ListedUtterance]]:
    """List the sets ``train-fr``, ``dev-fr``, ``test-fr`` and so on; the speaker is the timbre.

    If the corpus is all English, its sets are also named ``train``, ``dev`` and ``test``.
    """
    languages = _languages(parse_options(DigitsOptions, options, "digits"))
    named = {_listed_set(name, language): (name, language) for language in languages for name in TIMBRES}
    found: dict[str, list[ListedUtterance]] = {f"{name}-{language}": [] for name, language in named.values()}
    for line, (listed, utterance_id, timbre, text) in read_list(corpus_dir / LISTING, named):
        name, language = named[listed]
        audio = corpus_dir / AUDIO / f"{utterance_id}.flac"
        utterance = ListedUtterance(utterance_id, audio, text, timbre, language, source=line.where)
        found[f"{name}-{language}"].append(utterance)
    refuse_contradictions(found)
    if languages == [ENGLISH]:
        found |= {name: found[f"{name}-{ENGLISH}"] for name in TIMBRES}
    return only_sets(found, sets, "digits")


def plan_recordings(options: DigitsOptions) -> list[Recording]:
    """Plan everything about every utterance except its samples, from the seed; one language after the other.

    Raises:
        UserError: an option names a language or set that there is not.
    """
    sizes = _sizes(options)
    return [
        _plan_one(name, number, language, options)
        for language in _languages(options)
        for name in TIMBRES
        for number in range(sizes[f"{name}-{language}"])
    ]


def _plan_one(name: str, number: int, language: str, options: DigitsOptions) -> Recording:
    listed = _listed_set(name, language)
    rng = random.Random(f"{options.seed}/{listed}/{number}")
    # Voices take turns, so that small sets have all of them.
    timbre = TIMBRES[name][number % len(TIMBRES[name])]
    digits = DIGIT_LANGUAGES[language]
    # The order of the draws, here and below, is part of the corpus: a change of it needs a new `VERSION`.
    voice = Voice(rng.choice(digits.accents), timbre, rng.randint(130, 210), rng.randint(30, 70), rng.randint(30, 70))
    num_digits = rng.randint(options.min_digits, options.max_digits)
    return Recording(
        id=f"{timbre}-{listed}-{number:05d}",
        set=listed,
        language=language,
        text=" ".join(rng.choice(digits.words) for _ in range(num_digits)),
        voice=voice,
        pauses=rng.random() < 0.3,
        snr=rng.uniform(options.min_snr, options.max_snr),
        reverberation=rng.uniform(0.1, 0.4) if rng.random() < 0.5 else 0.0,
        direct_ratio=rng.uniform(3.0, 12.0),
        lead=rng.uniform(0.05, 0.3),
        tail=rng.uniform(0.05, 0.3),
        peak=rng.uniform(0.1, 0.9),
        seed=rng.randrange(2**31),
    )


def _listed_set(name: str, language: str) -> str:
    """The name of a set in ids, in the list and in seeds; English had no name when it was the only language."""
    return name if language == ENGLISH else f"{name}-{language}"


def _languages(options: DigitsOptions) -> list[str]:
    """The languages of ``data.options.languages``, in this order."""
    codes = options.languages.split()
    known = f"the languages of corpus digits are {', '.join(SPOKEN)}, with spaces between them"
    if not codes:
        raise UserError(f"data.options.languages: names no language; {known}")
    for code in codes:
        if code not in SPOKEN:
            raise UserError(f"data.options.languages: unknown language {code!r}; {known}")
        if codes.count(code) > 1:
            raise UserError(f"data.options.languages: {code} is named twice; name it once")
    return codes


def _sizes(options: DigitsOptions) -> dict[str, int]:
    """Set name with language -> number of utterances."""
    general = {"train": options.num_train, "dev": options.num_dev, "test": options.num_test}
    sizes = {f"{name}-{language}": count for language in _languages(options) for name, count in general.items()}
    for item in options.set_sizes.split():
        name, _, size = item.partition("=")
        if name not in sizes:
            raise UserError(f"data.options.set_sizes: there is no set {name!r}; the sets are {', '.join(sizes)}")
        if _SIZE.fullmatch(size) is None or not 1 <= int(size) <= LARGEST_SET:
            raise UserError(f"data.options.set_sizes: {item!r}: needs SET=NUMBER, from 1 to {LARGEST_SET}")
        sizes[name] = int(size)
    return sizes


CORPUS = Corpus("digits", ("digits",), RECEIPT, list_utterances, generate=generate)
