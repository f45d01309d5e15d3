"""Data, features and tokenizer, which stages 1 to 3 make."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from slimasr.config.augmentation import (
    TELEPHONE_RATE,
    GainConfig,
    MusanConfig,
    NoiseConfig,
    ReverbConfig,
    TelephoneConfig,
)
from slimasr.config.data_text import TextConfig
from slimasr.config.sampling import LanguageSampling
from slimasr.config.section import (
    LARGEST_INT,
    Bounds,
    Fraction,
    MelBins,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Processes,
    ProductName,
    Section,
    SetName,
    Text,
    is_distinct,
)
from slimasr.config.shar import SharConfig, check_shards

if TYPE_CHECKING:
    from slimasr.config.schema import Config

SPELLING = "spelling"
PIECES = "pieces"
"""The values of ``tokenizer.lexicon`` that are no path."""

VocabSize = Annotated[int, Bounds(4, LARGEST_INT)]
Speed = Annotated[float, Bounds(0.1, 10.0)]
NgramOrder = Annotated[int, Bounds(2, 5)]
SamplingRate = Annotated[int, Bounds(1000, 1_000_000)]


def _plain(value: Any) -> Any:
    """Refuse lists, mappings, null, NaN and infinity."""
    if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise PydanticCustomError("option", "must be a finite number, a text, true or false")
    return value


Option = Annotated[int | float | str | bool, BeforeValidator(_plain)]
"""An option of a corpus; the corpus checks its name and range when it is prepared."""


Source = Text | list[Text]
"""Where a set of own data lies: a path, or the paths of several parts of it."""


def check_sets_named(names: list[str] | None) -> None:
    """Refuse an empty list of sets, and one that names a set twice."""
    if names is not None and (not names or not is_distinct(names)):
        raise ValueError("sets: needs at least one set, all different, or null for those of data.train")


class DataConfig(Section):
    """The corpus, its sets, and how batches are drawn from them."""

    corpus: Literal["digits", "fsdd", "an4", "librispeech", "tedlium2", "mls", "spoken_digits", "prompts", "own"]
    """The corpus that stage 1 (slimasr-prepare) reads; digits is synthetic and is made by that stage, own is the data
    of ``sources``."""

    sources: dict[SetName, Source] = {}
    """Set -> the folder or file that holds its audio and transcripts, or a list of them, in a format that
    ``options`` of corpus own may name and that is otherwise found by looking; for corpus own only, where ``dev`` and
    ``test`` are split off from the sets of ``train`` unless they have a source."""

    train: list[SetName] = ["train"]
    """Sets to train on, named as in the corpus, where ``+`` joins several into one (``train-fr+train-nl``); at least
    one, all different."""

    dev: SetName = "dev"
    """Set for validation during training and for the search; ``+`` joins several."""

    test: list[SetName] = ["test"]
    """Sets to decode and score after training, all different, where ``+`` joins several into one; [] = none."""

    sampling_rate: SamplingRate = 16000
    """Sampling rate in Hz at which features are computed."""

    resample: bool = False
    """Whether audio of another sampling rate is resampled; false = such audio is an error."""

    speeds: list[Speed] = [1.0]
    """Speed factors for training; every epoch draws one of them uniformly for each utterance; all different."""

    storage: Literal["precomputed", "on_the_fly", "shar"] = "precomputed"
    """Whether stage 2 (slimasr-features) stores the features, or they are computed from audio for every batch; both
    list all utterances in memory; shar = the training sets are read as a stream of shards, of which a run keeps only a
    part in memory (docs/large_data.md)."""

    shar: SharConfig = SharConfig()
    """Shards of the training sets, with ``storage: shar``."""

    set_weights: dict[SetName, PositiveFloat] = {}
    """Relative frequency of the utterances of each set in ``train`` with ``storage: shar``, for all of them; small sets
    then recur sooner than large ones; {} = each utterance occurs once before any occurs again."""

    min_cut_seconds: NonNegativeFloat = 0.1
    """Length in seconds below which training utterances are left out; at most ``max_cut_seconds``."""

    max_cut_seconds: PositiveFloat = 30.0
    """Length in seconds above which training utterances are left out; dev and test utterances longer than twice this,
    or than 60 s, are recognised in pieces."""

    max_bad_share: Fraction = 0.01
    """Largest fraction of a training set that may be left out as unusable; above it the stage stops; 0 = none."""

    batch_seconds: PositiveFloat = 200.0
    """Longest training batch of one process in seconds of audio, padding included; a longer utterance is a batch of
    its own."""

    max_cuts: Positive | None = None
    """Largest number of utterances in a training batch of one process; null = only ``batch_seconds`` limits it."""

    num_buckets: Positive = 10
    """Number of groups of similar duration, from one of which each training batch is drawn; 1 = durations are mixed."""

    language_batches: bool = False
    """Whether every training step has batches of one language, also with a method that could mix languages."""

    language_sampling: LanguageSampling = "natural"
    """How often batches of one language are drawn in an epoch; natural = until each utterance has occurred once,
    uniform = equally often, {power: 0.5} = in proportion to the root of the language's hours; an epoch keeps its number
    of batches."""

    num_workers: Processes = 0
    """Number of worker processes that load batches; 0 = the process that uses the batches also loads them."""

    allow_overlap: bool = False
    """Whether training sets may share utterances with the dev and test sets, for example to show that a model can
    memorise them."""

    musan: MusanConfig | None = None
    """Additive noise of MUSAN on training utterances; null = none."""

    noise: NoiseConfig | None = None
    """Additive noise of any folder of audio on training utterances; null = none; not together with ``musan``."""

    gain: GainConfig | None = None
    """Random levels of training utterances; null = as they were recorded."""

    reverb: ReverbConfig | None = None
    """Reverberation of training utterances; null = none; needs training from audio (``storage``)."""

    telephone: TelephoneConfig | None = None
    """Telephone channels for training utterances; null = none; needs training from audio (``storage``) and a
    ``sampling_rate`` of at least 8000."""

    text: TextConfig = TextConfig()
    """Changes of the transcripts of all sets, which stage 1 makes."""

    options: dict[str, Option] = {}
    """Options of the corpus; each corpus has its own, and checks them when it is prepared."""

    @model_validator(mode="after")
    def _possible(self) -> DataConfig:
        if not self.train or not is_distinct(self.train):
            raise ValueError("train: needs at least one set, all different")
        if not is_distinct(self.test):
            raise ValueError("test: the sets must be different")
        # File names hold the speed with six digits: speeds that print alike would share their files.
        if not self.speeds or not is_distinct([f"{speed:g}" for speed in self.speeds]):
            raise ValueError("speeds: needs at least one factor, all different")
        if self.min_cut_seconds > self.max_cut_seconds:
            raise ValueError("min_cut_seconds: must not exceed data.max_cut_seconds")
        self._check_sources()
        check_shards(self)
        return self

    def check(self, config: Config) -> None:
        if self.storage == "shar" and config.loss.alignments is not None:
            raise ValueError(
                "loss.alignments: alignments are read for all utterances at once, which data.storage shar does not do; "
                "use another storage"
            )

    def _check_sources(self) -> None:
        """Refuse sources of another corpus than own, and training sets of own data without a source."""
        if self.corpus != "own":
            if self.sources:
                raise ValueError(f"sources: only corpus own reads them; remove them, or replace corpus {self.corpus}")
            return
        # Presets leave the sources to the command line; stage 1 needs them.
        if not self.sources:
            return
        for name in self.sources:
            if "+" in name:
                raise ValueError(f"sources: {name}: names with + join sets that have sources of their own")
        # dev and test may be split off from what remains.
        known = ", ".join(self.sources) or "none"
        for part in dict.fromkeys(part for name in self.train for part in name.split("+")):
            if part not in self.sources:
                raise ValueError(f"sources: the training set {part} needs a path here; sets with a path: {known}")

    @property
    def reads_audio(self) -> bool:
        """Whether training reads audio, which can be changed before features are computed for every batch."""
        return self.storage == "on_the_fly" or (self.storage == "shar" and self.shar.content == "audio")

    @model_validator(mode="after")
    def _augmentation_possible(self) -> DataConfig:
        for key in ("reverb", "telephone"):
            if getattr(self, key) is not None and not self.reads_audio:
                raise ValueError(
                    f"{key}: changes audio, not stored features; set data.storage to on_the_fly, or to shar with "
                    "shar.content audio"
                )
        if self.telephone is not None and self.sampling_rate < TELEPHONE_RATE:
            raise ValueError(f"telephone: needs a data.sampling_rate of at least {TELEPHONE_RATE} Hz")
        if self.musan is not None and self.noise is not None:
            raise ValueError("noise: stands beside data.musan; leave one of the two out, or put MUSAN into the folder")
        return self


class FeatureConfig(Section):
    """Log-mel filter banks, lhotse ``Fbank`` defaults: 25/10 ms, povey window, 20/-400 Hz, no dither."""

    num_mel_bins: MelBins = 80
    """Number of mel filters, the size of a feature frame; must equal ``model.num_mel_bins``."""

    sets: list[SetName] | None = None
    """Sets over which feature statistics are computed, which all recipes of a data folder share that name the same
    statistics; null = ``data.train``."""

    name: ProductName = ""
    """Name of the feature statistics in the data folder, for recipes whose statistics are their own; empty = the
    statistics without a name."""

    @model_validator(mode="after")
    def _sets_differ(self) -> FeatureConfig:
        check_sets_named(self.sets)
        return self


class TokenizerConfig(Section):
    """Units of transcripts, which stage 3 makes; ids 0, 1, 2 are ``<blk>``, ``<sos/eos>``, ``<unk>``."""

    kind: Literal["bpe", "unigram", "char", "phonemes"] = "bpe"
    """A SentencePiece model of byte-pair encoding, unigrams or single characters, or the phonemes of ``lexicon``, the
    last one of each word with a token of its own; phonemes need ``model.kind: ctc`` and are searched for words by
    ``decoding.kind: graph``."""

    vocab_size: VocabSize = 500
    """Number of tokens, the three special ones included; with ``kind: char`` and ``kind: phonemes`` an upper limit."""

    allow_fewer: bool = False
    """Whether stage 3 makes fewer tokens than ``vocab_size``, and says so, where the training text is too small: at
    most one piece of several characters for each 50 characters of text; false = as many as asked for, or an error."""

    lexicon: Text | None = None
    """Pronunciations of words for the search graph that slimasr-graph makes: the path of a dictionary in CMU's form
    (``corpus:PATH`` = in the corpus's folder), spelling = the letters of the words of the training text, or pieces =
    the tokens of a SentencePiece model; null = no search graph; ``kind: phonemes`` needs one of the first two, the
    other kinds pieces or null."""

    sets: list[SetName] | None = None
    """Sets on whose transcripts the tokenizer is trained, which all recipes of a data folder with this kind and size,
    or with this name, share; null = ``data.train``."""

    name: ProductName = ""
    """Name of the tokenizer and of its search graph in the data folder, for recipes that need their own; empty = they
    are named by kind and size."""

    balance: bool = False
    """Whether the tokenizer is trained on equally many characters of each language; transcripts of small ones recur."""

    stress: bool = True
    """Whether digits at the end of a dictionary's phonemes, with which CMU marks stress, are kept."""

    @model_validator(mode="after")
    def _lexicon_fits(self) -> TokenizerConfig:
        check_sets_named(self.sets)
        if self.balance and self.kind == "phonemes":
            raise ValueError("balance: has no meaning for phonemes, which come from a lexicon; leave it out")
        if self.kind == "phonemes" and self.lexicon in (None, PIECES):
            raise ValueError(f"lexicon: phonemes need the path of a dictionary, or {SPELLING}")
        if self.kind != "phonemes" and self.lexicon not in (None, PIECES):
            raise ValueError(f"lexicon: must be {PIECES} or null with kind: {self.kind}; dictionaries need phonemes")
        return self

    def check(self, config: Config) -> None:
        if self.kind == "phonemes" and config.model.kind != "ctc":
            raise ValueError("tokenizer.kind: phonemes have no spelling, so they need model.kind: ctc")


class LanguageModelConfig(Section):
    """The n-gram model of words in the search graph, which slimasr-graph makes if there is a ``tokenizer.lexicon``."""

    order: NgramOrder = 3
    """Length in words of the longest n-grams of a model that is trained; a given model has its own."""

    arpa: Text | None = None
    """Path of a model in ARPA format, plain or with ending .gz (``corpus:PATH`` = in the corpus's folder); null = a
    Kneser-Ney model is trained on the training transcripts and ``texts``."""

    texts: list[Text] = []
    """Paths of further training texts, which may hold ``*`` and end in .gz, with one sentence per line (``corpus:PATH``
    = in the corpus's folder)."""

    max_words: Positive = 5_000_000
    """Largest number of words to train on, as 1000 words of a 4-gram model take about 1.3 MB of memory; of longer
    ``texts``, lines at equal distances are used; transcripts are used as a whole."""

    max_ngrams: Positive = 1_000_000
    """Largest number of n-grams, as the memory of the search graph grows with it; a larger model is pruned by
    entropy."""

    @model_validator(mode="after")
    def _one_source(self) -> LanguageModelConfig:
        if self.arpa is not None and self.texts:
            raise ValueError("texts: a given model (language_model.arpa) is not trained; leave one of the two out")
        return self
