"""``data.options``: the options of each corpus.

They are declared here and not in `slimasr.data.corpora`, so that `slimasr config` can list them without the code of
the corpora.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from slimasr.config.augmentation import Decibels
from slimasr.config.section import Bounds, Natural, Section

AVERAGE = "average"
"""The value of the option ``channel`` for the average of all channels."""

LARGEST_SET = 10**6
"""The largest number of utterances in a set of synthetic digits."""

NumUtterances = Annotated[int, Bounds(1, LARGEST_SET)]
NumDigits = Annotated[int, Bounds(1, 100)]
NumKept = Annotated[int, Bounds(0)]


class DigitsOptions(Section):
    """Languages, sizes and seed of the synthetic digits; the corpus is made again when they change."""

    num_train: NumUtterances = 1500
    """Number of training utterances of each language."""

    num_dev: NumUtterances = 150
    """Number of dev utterances of each language."""

    num_test: NumUtterances = 200
    """Number of test utterances of each language."""

    languages: str = "en"
    """Languages between spaces, out of en, fr, it and nl, each with sets of its own (``train-fr``, ``dev-fr``,
    ``test-fr``); if only English is spoken, its sets are also named train, dev and test."""

    set_sizes: str = ""
    """Sets with another number of utterances, between spaces (``train-it=200 train-fr=800``)."""

    min_digits: NumDigits = 1
    """Smallest number of digits in an utterance."""

    max_digits: NumDigits = 7
    """Largest number of digits in an utterance; the number is drawn uniformly from ``min_digits`` on."""

    min_snr: Decibels = 15.0
    """Lowest signal-to-noise ratio in dB."""

    max_snr: Decibels = 35.0
    """Highest signal-to-noise ratio in dB; each utterance gets one drawn uniformly from ``min_snr`` on."""

    seed: int = 0
    """Seed of texts, voices, noise and reverberation."""

    @model_validator(mode="after")
    def _in_order(self) -> DigitsOptions:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits: must not exceed max_digits {self.max_digits}, got {self.min_digits}")
        if self.min_snr > self.max_snr:
            raise ValueError(f"min_snr: must not exceed max_snr {self.max_snr:g}, got {self.min_snr:g}")
        return self


class FsddOptions(Section):
    """FSDD has no options."""


class An4Options(Section):
    """AN4 has no options."""


class LibriSpeechOptions(Section):
    """Options to train on a few utterances of LibriSpeech."""

    shortest: NumKept = 0
    """Number of utterances to keep of each part, those with the shortest transcripts; 0 = all."""


class TedLium2Options(Section):
    """TED-LIUM 2 has no options."""


class MlsOptions(Section):
    """Which variant of Multilingual LibriSpeech is read or downloaded."""

    opus: bool = False
    """Whether the compressed audio is used, of folders such as ``mls_french_opus``; false = FLAC, ``mls_french``."""


class SpokenDigitsOptions(Section):
    """Whether recorded digits are used one by one, or joined into strings."""

    strings: Annotated[int, Bounds(0, 100)] = 0
    """Number of recordings of one speaker that are joined into an utterance, in random order; 0 = one word each."""

    rounds: Annotated[int, Bounds(1, 100)] = 1
    """Number of times that each recording is used in strings of training sets; once in other sets."""

    seed: int = 0
    """Seed of the order of recordings in strings."""


class PromptsOptions(Section):
    """Telephone prompts have no options."""


class OwnOptions(Section):
    """How the files of ``data.sources`` are read, and how dev and test sets are split off."""

    format: Literal["auto", "kaldi", "lhotse", "shar", "jsonl", "csv", "folder"] = "auto"
    """Format of all sources: a Kaldi data directory, lhotse manifests, lhotse Shar, JSON lines as NeMo writes them, a
    table with a header (comma, semicolon or tab), or a folder of audio with transcripts; auto = found by looking."""

    id_column: str = ""
    """Column or JSON key with the id of the utterance; empty = one that is commonly named so (docs/own_data.md), or
    else the name of the audio file."""

    audio_column: str = ""
    """Column or JSON key with the path of the audio; empty = one that is commonly named so, such as audio_filepath or
    path."""

    text_column: str = ""
    """Column or JSON key with the transcript; empty = one that is commonly named so, such as text or sentence."""

    speaker_column: str = ""
    """Column or JSON key with the speaker; empty = one that is commonly named so, such as speaker or client_id, or else
    the speakers are unknown."""

    language_column: str = ""
    """Column or JSON key with the language; empty = one that is commonly named so, such as lang or locale, or else
    ``language``."""

    start_column: str = ""
    """Column or JSON key with the start of the utterance in its recording, in seconds; empty = one that is commonly
    named so, such as offset or start, or else the start of the file."""

    duration_column: str = ""
    """Column or JSON key with the length of the utterance in seconds; empty = one that is commonly named so, such as
    duration, or else what ``end_column`` says, or up to the end of the file."""

    end_column: str = ""
    """Column or JSON key with the end of the utterance in its recording, in seconds; empty = one that is commonly named
    so, such as end; where the length is given, too, both must agree."""

    channel: str = ""
    """What is used of audio with several channels: the number of a channel, from 0 on, or average; empty = such audio
    is an error, unless the list names the channel of each utterance."""

    audio_root: str = ""
    """Folder against which relative paths of audio are read, and below which absolute paths are looked for that have
    moved; empty = relative paths are read against the folder of the list."""

    allow_pipes: bool = False
    """Whether the shell commands of a list, such as those that wav.scp of Kaldi may hold, are run; false = such an
    entry is an error."""

    split: str = "0.05 0.05"
    """Shares of the training utterances that become the dev set and the test set, between spaces or commas, where
    ``data.sources`` has no such set."""

    split_seed: Natural = 0
    """Seed by which the speakers or utterances of these sets are chosen."""

    language: str = "und"
    """Language of utterances for which the data name none, such as en; und = not known."""

    @model_validator(mode="after")
    def _channel_known(self) -> OwnOptions:
        if self.channel not in ("", AVERAGE) and not self.channel.isdecimal():
            raise ValueError(f"channel: must be a number from 0 on, or {AVERAGE}, got {self.channel!r}")
        return self


CORPUS_OPTIONS: dict[str, type[Section]] = {
    "digits": DigitsOptions,
    "fsdd": FsddOptions,
    "an4": An4Options,
    "librispeech": LibriSpeechOptions,
    "tedlium2": TedLium2Options,
    "mls": MlsOptions,
    "spoken_digits": SpokenDigitsOptions,
    "prompts": PromptsOptions,
    "own": OwnOptions,
}
"""``data.corpus`` -> the section of its options."""
