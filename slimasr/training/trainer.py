"""The trainer: `train` leads from a configuration to ``final.pt``; `Trainer` runs the epochs.

One step is in `slimasr.training.step`; the method's plan (`slimasr.methods`) determines what its passes compute.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.data.identity.experiment import unverified_sets
from slimasr.data.tokens.load import load_tokenizer
from slimasr.energy import EnergyMeter, measure_energy
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import check_structure_of, check_tokenizer_of, load_weights, structure_in_words
from slimasr.files import understanding
from slimasr.locking import Lock
from slimasr.methods import build_method
from slimasr.methods.base import Method, StepContext
from slimasr.models.packed import weights_of
from slimasr.objective.objective import Objective
from slimasr.progress import Progress, silent
from slimasr.results.schema import Results
from slimasr.results.store import update_results
from slimasr.supernet.build import build_space
from slimasr.training.average import RunningAverage, estimate_statistics
from slimasr.training.batches import TrainingData, open_data
from slimasr.training.checkpoint import RunState, keeper, newest_checkpoint, prune_checkpoints, save_checkpoint
from slimasr.training.compilation import compilation_note
from slimasr.training.denormals import denormals_flushed
from slimasr.training.distributed import World, lock_experiment, process_group
from slimasr.training.guards import explained_out_of_memory, note_nonfinite
from slimasr.training.learnt import record_subnets, saved_subnets
from slimasr.training.logs import RunLog
from slimasr.training.plan import Course, passes_multiple
from slimasr.training.record import begin_record, check_data, check_inputs, epoch_entry, final_facts, resolved
from slimasr.training.seeding import derive_seed, seed_all
from slimasr.training.start import Reader, begun_model, initial_reader, lang_folder, read_start, record_inputs
from slimasr.training.step import Stepper, StepResult
from slimasr.training.threads import choose_threads, set_threads
from slimasr.training.timing import Clock, describe_seconds
from slimasr.training.trials import repeated_trial, try_largest
from slimasr.training.validation import dev_metric, validate


def train(
    config: Config,
    data_dir: Path,
    exp: Path,
    *,
    command: str = "",
    progress: Progress = silent,
    accept_changed_data: bool = False,
) -> None:
    """Train one experiment, or resume it where it was interrupted.

    Args:
        config: the recipe's configuration; `slimasr.training.record.resolved` derives from it the one that is
            trained.
        data_dir: manifests, features and tokenizers of stages 1 to 3.
        exp: experiment folder, the record of the run.
        command: the command line, for the record.
        progress: displays the progress of an epoch.
        accept_changed_data: resume although the data differ from those that the run began with.

    Raises:
        UserError: an input is missing or unusable, or ``exp`` holds another configuration or a run on other data.
    """
    asked = config
    config, separate_of = resolved(asked)
    if isinstance(config.training.num_threads, int):
        torch.set_num_threads(config.training.num_threads)
    with denormals_flushed(), process_group() as world, lock_experiment(exp, world) as lock:
        start = read_start(config, exp, asked)
        lang = lang_folder(config, data_dir)
        resumed = begin_record(exp, config, lang, Results(command=command, separate_of=separate_of), world)
        log = RunLog(exp, active=world.is_main)
        tokenizer = load_tokenizer(exp / "lang")
        for note in unverified_sets(config, data_dir, [*config.data.train, config.data.dev]):
            log.say(f"note: {note}")
        identity = check_data(config, data_dir, tokenizer=None if resumed else tokenizer)
        if world.is_main:
            accept = accept_changed_data
            for note in record_inputs(config, exp, identity, tokenizer, start, resumed=resumed, accept_changes=accept):
                log.say(f"note: {note}")
        # Only now: the data of a complete run are checked too.
        if (exp / "final.pt").exists():
            log.say(f"{exp}: training is complete, final.pt is there")
            return
        # All processes draw the same initial weights, so these need not be sent.
        seed_all(derive_seed(config.seed, "weights"))
        model = begun_model(config, data_dir, exp, tokenizer, start, log)
        method = build_method(config, build_space(config), model)
        if world.is_main:
            check_inputs(exp, method.inputs())
        data = open_data(config, data_dir, exp, tokenizer, model.encoder, method.batch_key(), world, identity)
        for note in filter(None, (data.left_out, *data.notes, compilation_note(config.training))):
            log.say(f"note: {note}")
        gpus = world.size if world.device.type == "cuda" else 0
        initial = initial_reader(config, exp, start)
        objective = Objective(model, config.loss)
        with measure_energy(config.training.energy and world.is_main, gpus) as meter:
            Trainer(config, exp, data, objective, method, world, log, progress, meter, lock, initial).run()


class Trainer:
    """Runs a method's epochs. Knows no method by name, and keeps no state that a checkpoint lacks."""

    def __init__(
        self,
        config: Config,
        exp: Path,
        data: TrainingData,
        objective: Objective,
        method: Method,
        world: World,
        log: RunLog,
        progress: Progress = silent,
        meter: EnergyMeter | None = None,
        lock: Lock | None = None,
        initial: Reader | None = None,
    ) -> None:
        self.config = config
        self.exp = exp
        self.data = data
        self.objective = objective.to(world.device)
        self.method = method.to(world.device)
        self.world = world
        self.log = log
        self.progress = progress
        self.meter = meter
        self.lock = lock
        self.initial = initial
        self.flow = data.flow
        self.state = RunState()
        self.average = RunningAverage()
        epochs = range(1, config.training.epochs + 1)
        num_batches = [data.train.num_train_batches(epoch) for epoch in progress(epochs, None, "counting steps")]
        if not sum(num_batches):
            raise UserError("the training sets hold no usable utterance; see bad_utterances.jsonl")
        self.course = Course(num_batches, config.training.accumulate, world.size)
        self.course.begin_epoch(self.state)
        self.clock = Clock()
        self.stepper = Stepper(objective, method, config.training, config.seed, world, self.clock)
        # When the last checkpoint was written.
        self.saved = time.monotonic()

    def run(self) -> None:
        """Train to the end."""
        with understanding(self.exp / "checkpoints", "made by another version of slimasr? choose another --exp"):
            self.resume()
        self.settle_threads()
        # An epoch without its validation has no log entry yet: the log ends with the epoch before.
        pending = self.state.unvalidated
        self.log.begin(self.state.epoch if pending is None else self.state.epoch - 1, self.state.step)
        if pending is not None:
            self.log.say(
                f"the validation of epoch {self.state.epoch} was interrupted and comes first; "
                "if memory does not suffice for it, lower decoding.batch_seconds"
            )
            self.close_epoch(pending)
        if self.config.training.scan_worst_batches and self.state.epoch < self.config.training.epochs:
            self.scan_worst_batches()
        while self.state.epoch < self.config.training.epochs:
            self.run_epoch()
        self.finish()
        self.log.close()

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it, then validation, and save a checkpoint."""
        epoch = self.state.epoch + 1
        self.objective.train()
        self.method.train()
        left = self.course.steps_left(self.state)
        for batches in self.progress(self.groups(epoch), left, f"epoch {epoch}/{self.config.training.epochs}"):
            self.stepper.enter_phase(epoch)
            if self.lock is not None:
                self.lock.check()
            with explained_out_of_memory(f"step {self.state.step}"):
                result = self.stepper.step(batches, self.context())
            self.note(result, batches)
            if time.monotonic() - self.saved > 60.0 * self.config.training.checkpoint_minutes:
                self.save()
        self.end_epoch(epoch)

    def groups(self, epoch: int) -> Iterator[list[Batch]]:
        """Iterate over the batches of each step left in the epoch."""
        seed_all(derive_seed(self.config.seed, "epoch", epoch, self.world.rank))
        batches = self.flow.rest_of_epoch(self.state)
        while group := self.take(batches):
            yield group

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """Return the batches of the next step, none at the end of the epoch."""
        with self.clock.part("data"):
            return list(islice(batches, self.config.training.accumulate))

    def context(self) -> StepContext:
        """Return the position of the run; its random numbers are the same on all processes."""
        state = self.state
        rng = random.Random(derive_seed(self.config.seed, "plan", state.step))
        place = self.course.position(state), self.course.stride(state)
        keep = keeper(self.exp, active=self.world.is_main)
        total = self.course.plan.total
        return StepContext(state.step, state.epoch + 1, total, rng, *place, keep=keep, initial=self.initial)

    def note(self, result: StepResult, batches: list[Batch]) -> None:
        """Count a step: position, running average, sums for the logs, skipped steps."""
        state = self.state
        config = self.config.training
        # A step skipped because fp16 overflowed is normal: it counts neither as a failure nor in the losses.
        if result.skipped and not result.overflow:
            failed = [name for names in self.world.gather(result.report.nonfinite) for name in names]
            self.log.say(f"step {state.step}: non-finite loss or gradient, skipped ({', '.join(failed[:5])})")
            note_nonfinite(state, failed, config.max_nonfinite)
        elif not result.skipped:
            state.nonfinite_row = 0
            state.add_losses(result.report)
        state.lr = result.lr
        before = self.course.position(state)
        state.batch += len(batches)
        state.place = batches[-1].place
        state.step += 1
        after = self.course.position(state)
        averaging = after >= config.average_start * self.course.plan.total
        if averaging and passes_multiple(before, after, config.average_period) and self.method.averages(self.context()):
            self.average.update(self.objective.model)
        if state.step % config.log_every == 0 and not result.skipped:
            # Means over the main process's batches; those of an epoch are over all processes.
            means = {name: value / max(1.0, result.report.units[name]) for name, value in result.report.losses.items()}
            self.log.scalars("step", {**means, "lr": result.lr, "grad_norm": result.grad_norm}, state.step)

    def end_epoch(self, epoch: int) -> None:
        """Count the epoch as finished, save it before validation can fail, and close it."""
        state = self.state
        state.epoch = epoch
        self.course.begin_epoch(state)
        record = epoch_entry(self.config, state, self.world)
        state.clear_losses()
        if note := self.flow.left_out():
            self.log.say(note)
        if statistics := self.method.statistics(self.objective, self.context()):
            record["method"] = statistics
        if self.validation_is_due(epoch):
            state.unvalidated = record
            self.save()
            # A process that fails in validation ends the others, also while one of them writes.
            self.world.barrier()
        self.close_epoch(record)

    def validation_is_due(self, epoch: int) -> bool:
        """Whether an epoch ends with a validation."""
        return epoch % self.config.training.validate_every == 0 or epoch == self.config.training.epochs

    def close_epoch(self, record: dict[str, Any]) -> None:
        """Validate the finished epoch if that is due, log it, keep the best weights, and save a checkpoint."""
        state = self.state
        dev = self.validate(state.epoch) if self.validation_is_due(state.epoch) else {}
        self.verify_lock()
        state.unvalidated = None
        self.log.epoch({**record, "minutes": self.minutes(), "dev": dev})
        if dev and self.method.settled() and (state.best is None or dev_metric(dev) < state.best):
            state.best = dev_metric(dev)
            self.save_weights(self.exp / "checkpoints" / "best.pt")
        self.save()

    def validate(self, epoch: int) -> dict[str, float]:
        """Compute losses and WER of every evaluated subnet on dev."""
        dev = self.progress(self.data.dev(), None, f"validation {epoch}")
        decoding = self.config.decoding
        tokenizer = self.data.tokenizer
        with self.clock.part("validation"):
            return validate(self.objective, self.method, dev, tokenizer, decoding, self.context(), self.world)

    def scan_worst_batches(self) -> None:
        """Run the largest batches forward and backward, so that a lack of memory shows now. This changes nothing."""
        try_largest(self.stepper, self.data.train.worst_batches(), self.context())

    def settle_threads(self) -> None:
        """Set the number of processor threads: the recipe's, else that of the checkpoint, else the best one timed."""
        state = self.state
        named = self.config.training.num_threads
        if named == "auto" and state.num_threads is None and self.world.device.type == "cpu":
            batches = self.data.train.train_batches(state.epoch + 1, state.batch, state.parts)
            trial = repeated_trial(self.stepper, batches, self.context())
            steps = math.ceil(self.course.plan.total - self.course.position(state))
            choice = choose_threads(trial, steps * self.config.training.accumulate, self.world)
            self.log.say(f"training.num_threads: auto takes {choice}")
            named = choice.threads
        state.num_threads = set_threads(named, state.num_threads, self.log.say)

    def finish(self) -> None:
        """Average the weights, estimate the batch norms again, write final.pt: the run is complete."""
        self.average.copy_to(self.objective.model)
        self.method.finish(self.objective, self.context())
        estimate_statistics(self.objective, self.method, self.calibration_batches, self.context(), self.world)
        dev = self.validate(self.state.epoch)
        self.log.say("final weights: " + ", ".join(f"{name} {value:.4f}" for name, value in dev.items()))
        if not all(map(math.isfinite, dev.values())):
            self.log.say("note: final losses are not finite: the training diverged; lower training.optimizer.lr")
        self.verify_lock()
        if self.world.is_main:
            # Time and energy since the last checkpoint count as well.
            self.minutes()
            update_results(
                self.exp, final_facts(self.state, self.data.longest_seconds, self.method.facts(self.objective))
            )
            self.log.say(describe_seconds(self.state.seconds))
            self.save_weights(self.exp / "final.pt")
        self.world.barrier()

    def calibration_batches(self) -> Iterable[Batch]:
        """Return the batches over which batch norms and label priors are estimated, the same ones at every call."""
        config = self.config.training
        seed_all(derive_seed(self.config.seed, "calibration", self.world.rank))
        count = math.ceil(config.calibration_batches / self.world.size)
        # The epoch after the last one, so that their order and augmentation are those of no epoch of training.
        source = islice(self.data.train.train_batches(config.epochs + 1), count)
        return self.progress((batch.to(self.world.device) for batch in source), count, "calibration")

    def minutes(self) -> float:
        """Return the minutes spent training, over all resumes; time and energy since the last call enter the state."""
        if self.meter is not None:
            self.state.energy = self.meter.read().after(self.state.energy)
        self.state.add_seconds(self.clock.take())
        return round(self.state.minutes, 3)

    def save(self) -> None:
        """Write a checkpoint, from which the run resumes as if never interrupted, and remove the oldest."""
        self.minutes()
        self.saved = time.monotonic()
        if not self.world.is_main:
            return
        self.verify_lock()
        folder = self.exp / "checkpoints"
        content = {
            "model": self.objective.model.state_dict(),
            "method": self.method.state_dict(),
            "state": asdict(self.state),
            "plan": asdict(self.course.plan),
            "average": self.average.state_dict(),
            **self.origin(),
            **self.stepper.state_dict(),
        }
        with self.clock.part("checkpoint"):
            save_checkpoint(folder / self.state.checkpoint_name, content)
            record_subnets(self.exp, self.objective.model, self.method)
            prune_checkpoints(folder, self.config.training.keep_last)

    def verify_lock(self) -> None:
        """Stop if the folder belongs to another process by now, before anything is written into it."""
        if self.lock is not None:
            self.lock.verify()

    def save_weights(self, path: Path) -> None:
        """Write the model alone, as later stages load it."""
        if self.world.is_main:
            place = {"epoch": self.state.epoch, "step": self.state.step}
            with self.clock.part("checkpoint"):
                save_checkpoint(path, {**weights_of(self.objective.model), **self.origin(), **place})

    def origin(self) -> dict[str, Any]:
        """Return digests of the tokenizer and the data to which the weights belong, the tree, and learnt subnets."""
        origin = {"tokenizer": self.data.tokenizer.fingerprint, "data": self.data.fingerprint}
        return origin | structure_in_words(self.objective.model) | saved_subnets(self.method)

    def resume(self) -> None:
        """Continue from the newest checkpoint that can be read, if there is any."""
        folder = self.exp / "checkpoints"
        saved = newest_checkpoint(folder, self.log.say)
        if saved is None:
            return
        check_tokenizer_of(saved, self.data.tokenizer, folder)
        check_structure_of(saved, self.config, folder)
        load_weights(self.objective.model, saved["model"], folder)
        self.method.load_state_dict(saved["method"])
        self.state = RunState.of(saved["state"])
        # The processors are shared by another number of processes, and sums are rounded differently anyway.
        if self.state.world_size != self.world.size:
            self.state.num_threads = None
        for note in self.course.resume(self.state, saved.get("plan"), self.data.train):
            self.log.say(note)
        # The checkpoint holds the main process's sums, which would otherwise count once per process.
        if not self.world.is_main:
            self.state.clear_losses()
        self.average.load_state_dict(saved["average"], self.world.device)
        # The optimiser must be that of the phase before its state can be loaded.
        self.stepper.enter_phase(self.state.epoch + 1)
        self.stepper.load_state_dict(saved)
