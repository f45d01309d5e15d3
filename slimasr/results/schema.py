"""The layout of results.json, the record of one experiment.

Training begins it, and every later stage adds what it has measured. Only few keys are needed: a file holds what has
been measured so far, and files of older versions lack keys that are newer; their sentences say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer

from slimasr.results.deployed import DeployedModel
from slimasr.results.device import LatencyDeviceEntry
from slimasr.results.entry import Entry, File, Flag, Genes, Number, Whole
from slimasr.results.latency import LatencyEntry
from slimasr.results.masks import MasksEntry

S = TypeVar("S", bound="ScoreEntry")


def _split(value: Any) -> Any:
    # Code that makes an entry passes a tuple, files hold a text; pydantic refuses anything else.
    return tuple(int(number) for number in value.split()) if isinstance(value, str) else value


def _joined(value: tuple[int, ...]) -> str:
    return " ".join(map(str, value))


CountsInText = Annotated[tuple[int, ...], BeforeValidator(_split), PlainSerializer(_joined)]
"""Whole numbers in one text, as thousands of them would fill a line each."""


class WordRate(Entry):
    """The first keys of a word error rate."""

    wer: Number
    """Word error rate in percent."""

    errors: Whole
    """Word errors: insertions, deletions and substitutions together."""

    words: Whole
    """Words of the references."""


class CharacterRate(Entry):
    """The first keys of a character error rate."""

    cer: Number
    """Character error rate in percent."""

    errors: Whole
    """Character errors: insertions, deletions and substitutions together."""

    characters: Whole
    """Characters of the references, spaces not counted."""


class PhonemeRate(Entry):
    """The first keys of a phoneme error rate."""

    per: Number
    """Phoneme error rate in percent; the last phoneme of a word differs from the same one inside of words."""

    errors: Whole
    """Phoneme errors: insertions, deletions and substitutions together."""

    phonemes: Whole
    """Phonemes of the first pronunciations of the references' words."""


class ScoreEntry(Entry):
    """The keys that error rates have in common: the kinds of errors, and what they were measured with."""

    ins: Whole
    """Insertions."""

    deletions: Whole = Field(validation_alias="del", serialization_alias="del")
    """Deletions."""

    sub: Whole
    """Substitutions."""

    ser: Number
    """Sentence error rate: utterances with at least one error, in percent."""

    sentences: Whole
    """Utterances of the set."""

    ci95: tuple[Number, Number] | None
    """Ends of the 95 % bootstrap interval of the error rate in percent; null where there is none, as of one
    utterance."""

    checkpoint: str | None = None
    """Checkpoint of the weights: `final`, `best`, or the name of one in `checkpoints/`. Models in int8 have `weights`
    instead."""

    decoding: str = ""
    """The search for the words, in words."""

    data: str | None = None
    """Fingerprint of the set; null or absent where it is not known, as of sets pooled and in files of older
    versions."""

    def measured(self: S, checkpoint: str, decoding: str, data: str | None) -> S:
        """Return a copy that says what it was measured with."""
        return self.model_copy(update={"checkpoint": checkpoint, "decoding": decoding, "data": data})


class LanguageEntry(WordRate):
    """This is the word error rate of a subnet on the utterances of a set that are in one language."""

    sentences: Whole
    """Utterances."""

    ci95: tuple[Number, Number] | None
    """Ends of the 95 % bootstrap interval in percent; null where there is none, as of one utterance."""

    by_utterance: CountsInText = Field(
        default=(), validation_alias="errors_by_utterance", serialization_alias="errors_by_utterance"
    )
    """Word errors of every utterance, in the order of the report's `utterances` of `<set>/<language>`, with spaces
    between. Only reports hold it."""


class WerEntry(ScoreEntry, WordRate):
    """This is the word error rate of a subnet on a set."""

    languages: Mapping[str, LanguageEntry] = {}
    """WER on the utterances of each language; absent unless the subnet is a pathway or the sets of the experiment have
    several languages."""

    by_utterance: CountsInText = Field(
        default=(), validation_alias="errors_by_utterance", serialization_alias="errors_by_utterance"
    )
    """Word errors of every utterance, in the order of the report's `utterances`, with spaces between. Only reports
    hold it, and those of older versions do not."""

    weights: str | None = None
    """Digest of the checkpoint. Of models in int8 only."""

    runtime: str | None = None
    """Name and version of the runtime. Of models in int8 only."""

    def measured_in_int8(self, weights: str, decoding: str, runtime: str, data: str) -> WerEntry:
        """Return a copy that says what it was measured with."""
        conditions = {"decoding": decoding, "data": data, "weights": weights, "runtime": runtime}
        return self.model_copy(update=conditions)


class CerEntry(ScoreEntry, CharacterRate):
    """This is the character error rate of a subnet on a set."""


class PerEntry(ScoreEntry, PhonemeRate):
    """This is the phoneme error rate of a subnet on a set, without lexicon and language model."""

    by_utterance: CountsInText = Field(
        default=(), validation_alias="errors_by_utterance", serialization_alias="errors_by_utterance"
    )
    """Phoneme errors of every utterance, in the order of the report's `phonemes`, with spaces between. Only reports
    hold it."""


class SearchedEntry(Entry):
    """The search of stage 5 chose by these values. Another search reuses them if its conditions are the same."""

    wer: Number
    """WER on dev in percent."""

    dev_loss: Number | None
    """Main loss of the model on dev per reference token; null where it is not finite or no utterance has a loss."""

    weights: str
    """Digest of `final.pt`."""

    int8: Flag = False
    """Whether the weights were rounded as int8 has them. Files of older versions lack it; then they were not."""

    decoding: str | None = None
    """The search for the words, in words. Files of older versions lack it; what `wer` says of dev holds then."""

    data: str | None = None
    """Fingerprint of dev. Files of older versions lack it."""


class Int8Entry(Entry):
    """`slimasr-export --int8` adds this: the subnet as an int8 model in a device's runtime."""

    wer: Mapping[str, WerEntry] = {}
    """WER by the name of the set."""

    bytes: Whole | None = None
    """Size of the model's files in bytes."""

    runtime: str | None = None
    """Name and version of the runtime."""


class SubnetEntry(Entry):
    """An entry says what a subnet is, what it costs, and how well it recognises speech."""

    subnet: Genes
    """The subnet's genes: `width`, a fraction of all channels; `path`, the layers that run; `units`, how many units
    of a layer's module run, or which; `pathway`, the language whose masks choose its weights. A gene that keeps
    everything is left out, and an unknown one is an error."""

    costs: Mapping[str, Number] = {}
    """`params`: parameters; `int8_bytes`: bytes of the weights in int8; `paper_size`: the size that the papers count;
    `macs`: multiply-accumulate operations of encoder and joiner per second of audio; `predictor_macs`: those of the
    predictor per token; `rtf` and `rtf_p90`: seconds of computing per second of audio, median and 90th percentile;
    `peak_memory`: bytes. Of a pathway, `params`, `int8_bytes` and MACs are those that it keeps, `paper_size`, time and
    memory those of the dense model with zeros. `latency`: milliseconds of the encoder for an utterance on the device
    that `latency_device` names, as predicted. Those that have not been measured are absent."""

    dev_loss: Number | None = None
    """Main loss of the model on dev per reference token; null where it is not finite or no utterance has a loss."""

    wer: Mapping[str, WerEntry] = {}
    """WER by the name of the set; sets scored together have the name `dev+test`, perturbed ones `test@gain=-20`."""

    cer: Mapping[str, CerEntry] = {}
    """CER by the name of the set; absent unless `slimasr-score --char` was asked for it."""

    per: Mapping[str, PerEntry] = {}
    """PER by the name of the set; of models whose tokens are phonemes only."""

    search: SearchedEntry | None = None
    """What the search chose by; absent in entries that no search has made."""

    latency: LatencyEntry | None = None
    """How late streams are; absent unless `slimasr-profile --latency` or `slimasr-decode` has measured it."""

    int8: Int8Entry | None = None
    """The int8 model; absent unless `slimasr-export --int8` has made it."""

    deployed: Mapping[str, DeployedModel] = {}
    """The subnet in a device's runtime by precision, `float` and `int8`; if it takes speech chunk by chunk, the
    length of a chunk follows, as in `float, chunks of 320 ms`. Absent unless `slimasr-check` has run it."""


class EnergyEntry(Entry):
    """An entry says what a stage took, over all its runs."""

    kwh: Number | None
    """Energy of the whole machine's processor and GPUs in kWh; null without a readable meter."""

    cpu_seconds: Number
    """Processor time in seconds."""

    gpu_seconds: Number
    """Wall time in seconds x GPUs held."""

    wall_seconds: Number
    """Wall time in seconds."""

    source: str
    """Which meters were read."""


class ExtractedFrom(Entry):
    """`slimasr-extract` notes where the weights of an extracted model come from."""

    experiment: str
    """Name of the supernet's experiment."""

    checkpoint: str
    """Checkpoint of the supernet."""

    subnet: Genes
    """The subnet that was extracted."""


class RunFacts(Entry):
    """The keys of results.json that reports take over: what made a run, and what was measured of it."""

    method: str | None = None
    """The training method, `method.kind` of the configuration."""

    separate_of: str | None = None
    """Id of the subnet that a separate model stands for; null for a supernet."""

    seed: Whole = 0
    """Seed of the training."""

    command: str = ""
    """The command that made the experiment. Files of older versions may lack it."""

    revision: str | None = None
    """Git revision of the code, with `-dirty` where tracked files were changed; null outside a checkout."""

    versions: Mapping[str, str] = {}
    """Versions of Python and of the libraries that results depend on, by name."""

    hardware: str = ""
    """Processor and accelerator."""

    epochs: Whole = 0
    """Epochs trained. Absent until the training is complete."""

    steps: Whole = 0
    """Optimiser steps, skipped ones included. Absent until the training is complete."""

    train_minutes: Number | None = None
    """Wall time of the training in minutes, over all resumes. Absent until the training is complete."""

    train_threads: Whole | None = None
    """Processor threads of each training process. Absent until the training is complete, and in files of older
    versions."""

    train_seconds: Mapping[str, Number] = {}
    """The same time in seconds by part, of the main process: `data`, `forward`, `backward`, `optimiser` (with checks of
    the gradients), `validation`, `checkpoint`, and `rest`, which is everything else. On a GPU, the part that needs a
    result gets the time of the work queued before it. Absent until the training is complete, and in files of older
    versions."""

    longest_seconds: Number | None = None
    """Length in seconds of the longest training utterance at the lowest speed. Absent until the training is complete,
    with training sets that are read as a stream, and in files of older versions."""

    energy: Mapping[str, EnergyEntry] = {}
    """What `train` and `search` took, by stage; absent unless `training.energy` or `search.energy` asked for it."""

    latency_device: LatencyDeviceEntry | None = None
    """The device whose `latency` is among the costs; absent unless `slimasr-search --latency` was given its profile."""

    masks: MasksEntry | None = None
    """The masks of pathways. Absent until the training is complete, and in models without pathways."""

    subnets: Mapping[str, SubnetEntry] = {}
    """The subnets measured, by id."""

    slices: Mapping[str, SubnetEntry] = {}
    """Untrained slices of a separate model, by the id of the slice; absent unless `slimasr-search --slice` was asked
    for them."""


class Named(File):
    """The beginning of results.json."""

    name: str = ""
    """Name of the experiment, `name` of the configuration."""


class Results(RunFacts, Named):
    """The record of an experiment folder. Training begins it, and every later stage adds what it has measured."""

    PLACE: ClassVar[str] = "results.json"
    ADVICE: ClassVar[str] = "restore it, or remove it and run stages 4 to 7 again"

    nonfinite_steps: Whole | None = None
    """Optimiser steps that were skipped as a loss or gradient was not finite. Absent until the training is complete."""

    extracted_from: ExtractedFrom | None = None
    """Where the weights come from, of a model that `slimasr-extract` has made."""
