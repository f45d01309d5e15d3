"""Measures the int8 files of a bundle on dev, and leaves out those that lose too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slimasr.data.batches.batch import Batch
from slimasr.data.batches.evaluation_notes import evaluation_notes
from slimasr.data.files import DataFolder, check_sets
from slimasr.data.identity.experiment import checked_identity
from slimasr.data.memory.dataloading import eval_batches
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.graphs import graph_in
from slimasr.decoding.tasks import Languages, Task, is_multilingual, languages_of_sets, tasks_of
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.export.manifest import Manifest, SizeNote, VariantNote
from slimasr.export.measure import Int8Trial, float_rates, int8_rates, measure_int8, search_of
from slimasr.supernet.subnet import Subnet

Say = Callable[[str], None]
"""Prints one line for the user."""


@dataclass(frozen=True)
class Gate:
    """When int8 files are written.

    Attributes:
        data: the data folder with the sets.
        sets: names of the sets that are measured; the first one is dev, which decides.
        margin: WER points that int8 may lose on dev.
        force: whether files that lose more are written all the same.
    """

    data: Path
    sets: Sequence[str]
    margin: float = 0.5
    force: bool = False


@dataclass(frozen=True)
class GateTrials:
    """The sets of a gate, found and checked before anything is exported.

    Attributes:
        gate: the gate.
        graph: the graph of ``decoding.kind: graph``.
        languages: of the utterances of the sets.
        fingerprints: set name -> fingerprint of the set.
        multilingual: whether the sets have several languages.
    """

    gate: Gate
    graph: SearchGraph | None
    languages: Languages
    fingerprints: dict[str, str]
    multilingual: bool

    @classmethod
    def find(cls, experiment: Experiment, gate: Gate, say: Say) -> GateTrials:
        """Find the sets.

        Raises:
            UserError: the data folder lacks a set, or it is not the one of the experiment.
        """
        config = experiment.config
        check_sets(gate.sets, DataFolder(gate.data).cuts, "stage 2 (slimasr-features)")
        fingerprints = {name: checked_identity(config, gate.data, name).fingerprint for name in gate.sets}
        for name in gate.sets:
            for note in evaluation_notes(config, gate.data, name, experiment.tokenizer, losses=False):
                say(note)
        languages = languages_of_sets(gate.data, gate.sets)
        graph = graph_in(experiment, config.decoding, gate.data)
        return cls(gate, graph, languages, fingerprints, is_multilingual(config, gate.data, languages))

    def check_known(self, experiment: Experiment, subnets: Sequence[Subnet]) -> None:
        """Check that the WER of each size in float is known on dev, with which int8 is compared unless it is forced.

        Raises:
            UserError: that of a size is not, or the set has no utterance in the language of a pathway.
        """
        if self.gate.force:
            return
        dev = self.gate.sets[0]
        for subnet in subnets:
            if not any(map(subnet.serves, self.languages[dev].values())):
                raise UserError(
                    f"{subnet.id}: {dev} has no utterance in its language, so what int8 loses is not known; --force "
                    "writes it"
                )
            if self.float_rate(experiment, subnet) is None:
                # A pathway gets the utterances of other languages as well if both subnet and set are named.
                named = f" --set-name {dev}" if subnet.serves("") else ""
                raise UserError(
                    f"{subnet.id}: its WER on {dev} in float is not known for these weights, this set and this search "
                    f"({search_of(experiment)}), so that of int8 cannot be compared; run slimasr-decode "
                    f"{experiment.dir} --data {self.gate.data} --subnet {subnet.id}{named} and slimasr-score "
                    f"{experiment.dir} first"
                )

    def float_rate(self, experiment: Experiment, subnet: Subnet) -> float | None:
        """Return the WER of a size on dev in float, None if it is not known under the conditions of int8."""
        return float_rates(experiment, subnet, self.fingerprints).get(self.gate.sets[0])

    def of(self, experiment: Experiment, size: SizeNote) -> Int8Trial:
        """Return the sets on which a size is measured: a pathway on the utterances of its language."""
        config = experiment.config
        tasks = tasks_of([size.subnet], self.languages, subnets_named=False, sets_named=False)
        spoken = {task.set_name: task.spoken(self.languages, multilingual=self.multilingual) for task in tasks}

        def batches(task: Task) -> Callable[[], Iterator[Batch]]:
            seconds = config.decoding.batch_seconds
            given = (config, self.gate.data, task.set_name, experiment.tokenizer, seconds)
            return partial(eval_batches, *given, language=task.language)

        return Int8Trial(
            sets={task.set_name: batches(task) for task in tasks},
            data=self.fingerprints,
            graph=self.graph,
            languages={name: of_set for name, of_set in spoken.items() if of_set},
        )


def pass_gate(
    experiment: Experiment, folder: Path, manifest: Manifest, scheme: str, trials: GateTrials, say: Say
) -> Manifest:
    """Measure the int8 files of a bundle, and remove those that lose too much.

    Args:
        experiment: the experiment of the supernet.
        folder: the bundle.
        manifest: its manifest.
        scheme: how weights were rounded, in words.
        trials: the sets.
        say: prints a line for the user.

    Returns:
        The manifest with the error rates, without what was removed.
    """
    sizes = []
    for size in manifest.sizes:
        wer = {}
        for name, entry in measure_int8(experiment, folder, manifest, size, scheme, trials.of(experiment, size)):
            say(f"{size.id} {name}: WER {entry.wer:.2f} % in int8")
            wer[name] = entry.wer
        variant = _judged(size, wer, trials.float_rate(experiment, size.subnet), trials.gate, say)
        assert size.int8 is not None
        if variant is None:
            (folder / size.int8.encoder).unlink()
        sizes.append(size.model_copy(update={"int8": variant}))
    return manifest.model_copy(update={"sizes": sizes})


def note_known(experiment: Experiment, manifest: Manifest, scheme: str) -> Manifest:
    """Note the error rates of int8 files that are not measured now, but were in an earlier export.

    Args:
        experiment: the experiment of the supernet.
        manifest: the manifest of a bundle with int8 files.
        scheme: how weights were rounded, in words.
    """
    sizes = []
    for size in manifest.sizes:
        assert size.int8 is not None
        wer = int8_rates(experiment, size.subnet, scheme)
        sizes.append(size.model_copy(update={"int8": size.int8.model_copy(update={"wer": wer})}))
    return manifest.model_copy(update={"sizes": sizes})


def _judged(size: SizeNote, wer: dict[str, float], known: float | None, gate: Gate, say: Say) -> VariantNote | None:
    """Return the note of the int8 files with their error rates, or None if they lose too much against that in float."""
    assert size.int8 is not None
    dev = gate.sets[0]
    # A pathway may have no utterance in this set.
    if known is None or dev not in wer:
        say(f"{size.id}: what int8 loses on {dev} is not known; it is written because of --force")
        return size.int8.model_copy(update={"wer": wer, "forced": True})
    loss = wer[dev] - known
    if loss <= gate.margin:
        return size.int8.model_copy(update={"wer": wer})
    if gate.force:
        say(f"{size.id}: int8 loses {loss:.2f} points of WER on {dev}; it is written because of --force")
        return size.int8.model_copy(update={"wer": wer, "forced": True})
    say(
        f"{size.id}: int8 loses {loss:.2f} points of WER on {dev}, more than {gate.margin:g}; its int8 file is left "
        "out (--force writes it)"
    )
    return None
