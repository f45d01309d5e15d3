"""What results.json and check.json say of a subnet as a model in an unmodified runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from slimasr.results.entry import Entry, File, Genes, Number, Whole


class DeployedRate(Entry):
    """This is what the runtime recognised of a set, beside what the search in torch recognised of the same audio."""

    utterances: Whole
    """Utterances of the set."""

    identical: Whole
    """Utterances whose tokens are those of the search in torch, in every search and batch that was tried."""

    tokens: Whole
    """Tokens that greedy search in torch finds in the set; words where a graph is searched, here and below."""

    changed_tokens: Whole
    """Insertions, deletions and substitutions between these tokens and those of the runtime's greedy search, one
    utterance at a time."""

    wer: Number | None = None
    """WER in percent of greedy search, one utterance at a time; null without references, as of files."""

    torch_wer: Number | None = None
    """WER in percent of greedy search in torch."""

    beam_wer: Number | None = None
    """WER in percent of modified beam search; null without references, and of CTC models."""

    errors: Whole | None = None
    """Word errors of greedy search; null without references."""

    words: Whole | None = None
    """Words of the references; null without references."""

    weights: str | None = None
    """Digest of the checkpoint."""

    data: str | None = None
    """Fingerprint of the set; null where it is not known."""


class DeployedModel(Entry):
    """This is a subnet as the files that a device loads, in one precision."""

    bytes: Whole
    """Size in bytes of all files that the runtime opens."""

    encoder: str | None = None
    """Digest of the encoder's file."""

    runtime: str
    """Name and version of the runtime."""

    sets: Mapping[str, DeployedRate] = {}
    """What was recognised, by the name of the set."""

    emulated: Mapping[str, Mapping[str, DeployedRate]] = {}
    """The same with the encoder on an emulated processor, by its name, such as `haswell`, and that of the set."""

    load_ms: Number | None = None
    """Milliseconds in which the runtime opens the files with one thread."""

    load_ms_threads: Number | None = None
    """The same with all threads."""

    rtf: Number | None = None
    """Seconds of computing per second of audio with one thread: features, encoder and greedy search, one utterance at a
    time."""

    rtf_threads: Number | None = None
    """The same with all threads."""

    threads: Whole | None = None
    """What all threads are: the cores of the machine."""

    peak_mb: Number | None = None
    """Largest resident memory of the process with one thread, in megabytes of 1e6 bytes."""

    before_mb: Number | None = None
    """Resident memory of the process before it opened the files: Python and the runtime."""

    hardware: str = ""
    """Processor."""


class CheckedSize(Entry):
    """This is a size of a bundle."""

    subnet: Genes
    """The subnet."""

    language: str | None = None
    """Language of its pathway; null if it serves any."""

    models: Mapping[str, DeployedModel] = {}
    """Its models by precision, `float` and `int8`; if they take speech chunk by chunk, the length of a chunk follows,
    as in `float, chunks of 320 ms`."""


class CheckFile(File):
    """The record that `slimasr-check` leaves in a bundle."""

    PLACE: ClassVar[str] = "check.json"
    ADVICE: ClassVar[str] = "remove it and run slimasr-check again"

    experiment: str = ""
    """Name of the experiment that the bundle was compared with."""

    weights: str = ""
    """Digest of its checkpoint."""

    sizes: Mapping[str, CheckedSize] = {}
    """The sizes, by id."""
