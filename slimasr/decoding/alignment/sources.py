"""Where the timelines of a set come from: a model's best path, a CTM file, or a folder of alignments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.features.frames import feature_frames
from slimasr.data.files import DataFolder
from slimasr.data.identity.digests import DIGITS, file_digest
from slimasr.data.identity.provenance import stored_speeds
from slimasr.data.memory.dataloading import eval_batches
from slimasr.data.memory.training_cuts import read_feature_cuts
from slimasr.data.timelines.ctm import Entry, Reference, check_known, read_ctm, timeline_of
from slimasr.data.timelines.folder import Alignments, Origin, read_alignments, read_facts
from slimasr.data.timelines.timeline import Timeline, from_spans, without_times
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.alignment.align import align_batches
from slimasr.decoding.alignment.pronunciations import Pronounced, align_pronunciations
from slimasr.decoding.decode import default_device
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.models.prepared import Prepared, prepare
from slimasr.supernet.subnet import Subnet

Timelines = dict[str, Timeline]
Watch = Callable[[Iterable[Batch], str], Iterable[Batch]]
"""Shows the progress through the batches of a set."""


@dataclass(frozen=True)
class AlignmentData:
    """The data whose utterances are aligned.

    Attributes:
        config: names the sets and says how features are made.
        root: data folder of stages 1 to 3.
        tokenizer: makes the tokens of batches.
    """

    config: Config
    root: Path
    tokenizer: Tokenizer

    def references(self, set_name: str) -> dict[str, Reference]:
        """Utterance id -> its transcript and length at natural speed.

        Raises:
            UserError: stage 2 has not run, or not at natural speed.
        """
        if 1.0 not in stored_speeds(self.config):
            raise UserError("data.speeds: needs 1.0, because alignments are made at natural speed")
        cuts = read_feature_cuts(DataFolder(self.root), set_name)
        return {cut.id: Reference(cut.supervisions[0].text, feature_frames(cut.duration)) for cut in cuts}


@dataclass(frozen=True)
class ModelSource:
    """The best path of a trained model.

    Attributes:
        experiment: the run whose model aligns.
        subnet: the subnet that runs.
        kind: ``ctc``, ``transducer`` or ``pronunciations``.
        watch: shows the progress.
        language: the only language whose utterances it aligns, "" = all utterances.
    """

    experiment: Experiment
    subnet: Subnet
    kind: str
    watch: Watch
    language: str = ""

    @classmethod
    def of(
        cls, experiment: Experiment, subnet: Subnet, kind: str | None, watch: Watch, language: str = ""
    ) -> ModelSource:
        """Choose the CTC head if the model has one, unless ``kind`` says otherwise; for phonemes all pronunciations.

        Raises:
            UserError: the CTC head, the lattice or the lexicon is asked for, and the model has none.
        """
        has_lexicon = isinstance(experiment.tokenizer, PhonemeTokenizer)
        if kind == "pronunciations" and not has_lexicon:
            raise UserError("--source pronunciations: the tokens of the model are no phonemes; give --source ctc")
        if kind is None and has_lexicon:
            kind = "pronunciations"
        has_ctc = experiment.model.ctc_head_of(subnet) is not None
        if kind == "transducer" and experiment.model.main_loss != "transducer":
            raise UserError(f"--source transducer: the model of {experiment.dir} is a CTC model; give --source ctc")
        if kind == "ctc" and not has_ctc:
            raise UserError(f"--source ctc: the model of {experiment.dir} has no CTC head (loss.ctc_weight)")
        return cls(experiment, subnet, kind or ("ctc" if has_ctc else "transducer"), watch, language)

    @property
    def origin(self) -> Origin:
        """What the folder records."""
        name = self.experiment.config.name
        return Origin(self.kind, f"{name}, subnet {self.subnet.id}, checkpoint {self.experiment.checkpoint}")

    def timelines(self, data: AlignmentData, set_name: str) -> Timelines:
        """Align a set; utterances in other languages than the source's have no times."""
        config = data.config
        references = data.references(set_name)
        longest = config.data.max_cut_seconds
        seconds = config.decoding.batch_seconds
        batches = eval_batches(
            config, data.root, set_name, data.tokenizer, seconds, longest=longest, language=self.language
        )
        prepared = prepare(self.experiment.model.to(default_device()), self.subnet)
        found = {name: without_times(reference.text, reference.frames) for name, reference in references.items()}
        watched = self.watch(batches, set_name)
        for name, aligned in self._aligned(prepared, watched, data, references):
            reference = references[name]
            if aligned is not None:
                found[name] = from_spans(reference.text, aligned.counts, aligned.spans, reference.frames)
        return found

    def _aligned(
        self, prepared: Prepared, batches: Iterable[Batch], data: AlignmentData, references: Mapping[str, Reference]
    ) -> Iterator[tuple[str, Pronounced | None]]:
        """Align batches; yield the id of each utterance and the times of its tokens, None if it has no alignment."""
        tokenizer = data.tokenizer
        if self.kind == "pronunciations":
            assert isinstance(tokenizer, PhonemeTokenizer), "only phonemes have pronunciations"
            yield from align_pronunciations(prepared.model, batches, prepared.active, tokenizer)
            return
        for name, spans in align_batches(prepared.model, batches, prepared.active, data.config.loss, self.kind):
            counts = tokenizer.unit_counts(references[name].text)
            yield name, None if spans is None else Pronounced(counts, spans)


@dataclass(frozen=True)
class CtmSource:
    """A CTM file of another aligner."""

    path: Path
    entries: Mapping[str, list[Entry]]

    @classmethod
    def read(cls, path: Path, data: AlignmentData, set_names: Iterable[str]) -> CtmSource:
        """Read the file.

        Raises:
            UserError: it is damaged, or names utterances that are in none of the sets.
        """
        entries = read_ctm(path)
        section = data.config.data
        known: dict[str, Reference] = {}
        for name in dict.fromkeys([*set_names, *section.train, section.dev, *section.test]):
            # Sets that nobody asked for need not be there.
            if name in set_names or DataFolder(data.root).cuts(name).is_file():
                known |= data.references(name)
        check_known(path, entries, known)
        return cls(path, entries)

    @property
    def origin(self) -> Origin:
        """What the folder records."""
        return Origin("ctm", f"{self.path.name} {file_digest(self.path)[:DIGITS]}")

    def timelines(self, data: AlignmentData, set_name: str) -> Timelines:
        """The timelines of a set; an utterance that is not in the file has no times.

        Raises:
            UserError: words or times do not fit the set, or none of its utterances is in the file.
        """
        references = data.references(set_name)
        if not any(name in self.entries for name in references):
            raise UserError(f"{self.path}: has no utterance of {set_name}")
        return {
            name: timeline_of(self.path, name, self.entries[name], reference)
            if self.entries.get(name)
            else without_times(reference.text, reference.frames)
            for name, reference in references.items()
        }


@dataclass(frozen=True)
class FolderSource:
    """A folder that slimasr-align wrote earlier."""

    folder: Path

    @property
    def origin(self) -> Origin:
        """What the folder records of itself."""
        facts = read_facts(self.folder)
        return Origin(str(facts.get("source")), str(facts.get("made_by")), int(facts.get("realign", 0)))

    def timelines(self, data: AlignmentData, set_name: str) -> Timelines:
        """Read the timelines of a set.

        Raises:
            UserError: they are missing or damaged, or belong to other transcripts.
        """
        found: Alignments = read_alignments(self.folder, [set_name])
        timelines: Timelines = {}
        for name, reference in data.references(set_name).items():
            found.check(name, reference.text, reference.frames / 100)
            timelines[name] = found.of(name)
        return timelines


Source = ModelSource | CtmSource | FolderSource


def features_at_natural_speed(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Cut (T, F) features to so many frames, or repeat the last one; rounding may make them differ by a frame."""
    x = x[:frames]
    missing = frames - len(x)
    return x if missing <= 0 else torch.cat([x, x[-1:].expand(missing, -1)])
