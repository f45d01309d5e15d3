"""The trainer: `train` is the whole story from a configuration to ``final.pt``; `Trainer` runs its epochs.

One step is in `slimasr.training.step`; what its passes compute is the method's plan (`slimasr.methods`).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch

from slimasr.config.load import first_difference, load_config
from slimasr.config.schema import Config
from slimasr.data.batch import Batch
from slimasr.data.features import read_stats
from slimasr.data.files import DataFolder
from slimasr.data.tokenizer import Tokenizer
from slimasr.energy import EnergyMeter, measure_energy
from slimasr.errors import UserError
from slimasr.experiment import load_weights, resolve_separate, update_results, write_record
from slimasr.files import understanding
from slimasr.methods import build_method
from slimasr.methods.base import Method, StepContext
from slimasr.methods.objective import Objective
from slimasr.models.build import build_model
from slimasr.supernet.space import build_space
from slimasr.training.average import RunningAverage, calibrate
from slimasr.training.batches import TrainingData, open_data
from slimasr.training.checkpoint import RunState, newest_checkpoint, prune_checkpoints, save_checkpoint
from slimasr.training.distributed import World, process_group
from slimasr.training.guards import explained_out_of_memory, note_nonfinite, untouched
from slimasr.training.logs import Progress, RunLog, silent
from slimasr.training.seeding import derive_seed, seed_all
from slimasr.training.step import Stepper, StepResult
from slimasr.training.validation import dev_metric, validate


def train(config: Config, data_dir: Path, exp: Path, *, command: str = "", progress: Progress = silent) -> None:
    """Train one experiment, or go on with it where it was interrupted.

    Args:
      config: as the recipe says it; `slimasr.experiment.resolve_separate` makes a baseline of it where asked.
      data_dir: manifests, features and tokenizers of stages 1 to 3.
      exp: experiment folder, the record of the run.
      command: what to note as the command that made it.
      progress: shows how far an epoch is.

    Raises:
      UserError: an input is missing or unusable, or ``exp`` holds another configuration.
    """
    config, separate_of = resolve_separate(config)
    if config.training.num_threads is not None:
        torch.set_num_threads(config.training.num_threads)
    with process_group() as world:
        lang = DataFolder(data_dir).lang(config.tokenizer.kind, config.tokenizer.vocab_size)
        begin_record(exp, config, lang, {"command": command, "separate_of": separate_of}, world)
        log = RunLog(exp, active=world.is_main)
        if (exp / "final.pt").exists():
            log.say(f"{exp}: training is complete, final.pt is there")
            return
        tokenizer = Tokenizer.load(exp / "lang")
        seed_all(derive_seed(config.seed, "weights"))
        space = build_space(config.space)
        model = build_model(config.model, config.loss, tokenizer.vocab_size, space.widths)
        model.set_feature_stats(*read_stats(config, data_dir))
        method = build_method(config, space)
        data = open_data(config, data_dir, exp, tokenizer, model.encoder, method.batch_key(), world)
        if data.left_out:
            log.say(data.left_out)
        gpus = world.size if world.device.type == "cuda" else 0
        with measure_energy(config.training.energy and world.is_main, gpus) as meter:
            Trainer(config, exp, data, Objective(model, config.loss), method, world, log, progress, meter).run()


def begin_record(exp: Path, config: Config, lang: Path, facts: dict[str, str | None], world: World) -> None:
    """Write the record's beginning, or check that the folder's configuration is the one asked for.

    A run that failed before its first checkpoint has nothing to be consistent with: its record is written anew.

    Raises:
      UserError: it is another one (the first key that differs is named), or the tokenizer is missing.
    """
    stored = exp / "config.yaml"
    if stored.exists() and ((exp / "final.pt").exists() or any((exp / "checkpoints").glob("*.pt"))):
        difference = first_difference(load_config(stored), config)
        if difference is not None:
            raise UserError(
                f"{stored} differs from the configuration asked for: {difference}; "
                "give the same one to go on with this run, or another --exp"
            )
    elif not lang.exists():
        raise UserError(f"{lang} is missing: run stage 3 (slimasr-bpe) first")
    elif world.is_main:
        write_record(exp, config, lang, facts)
    world.barrier()


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
        self.state = RunState()
        self.average = RunningAverage()
        epochs = range(1, config.training.num_epochs + 1)
        self.steps = [self.num_steps(epoch) for epoch in progress(epochs, None, "counting steps")]
        if not sum(self.steps):
            raise UserError("the training sets hold no usable utterance; see bad_utterances.jsonl")
        self.stepper = Stepper(objective, method, config.training, config.seed, sum(self.steps), world)
        self.ticked = self.saved = time.monotonic()

    def run(self) -> None:
        """Train to the end."""
        with understanding(self.exp / "checkpoints", "made by another version of slimasr? choose another --exp"):
            self.resume()
        self.log.begin(self.state.epoch, self.state.step)
        if self.config.training.scan_worst_batches:
            self.scan_worst_batches()
        while self.state.epoch < self.config.training.num_epochs:
            self.run_epoch()
        self.finish()
        self.log.close()

    def run_epoch(self) -> None:
        """One epoch, or what is left of it; then validation and a checkpoint."""
        epoch = self.state.epoch + 1
        self.objective.train()
        self.method.train()
        left = self.steps[epoch - 1] - math.ceil(self.state.batch / self.config.training.accumulate)
        for batches in self.progress(self.groups(epoch), left, f"epoch {epoch}/{self.config.training.num_epochs}"):
            self.stepper.enter_phase(epoch)
            with explained_out_of_memory(f"step {self.state.step}"):
                result = self.stepper.step(batches, self.context())
            self.note(result, batches)
            if time.monotonic() - self.saved > 60.0 * self.config.training.checkpoint_minutes:
                self.save()
        self.end_epoch(epoch)

    def groups(self, epoch: int) -> Iterator[list[Batch]]:
        """The batches of each step left in the epoch."""
        seed_all(derive_seed(self.config.seed, "epoch", epoch, self.world.rank))
        batches = self.data.train.train_batches(epoch, skip=self.state.batch)
        while group := list(islice(batches, self.config.training.accumulate)):
            yield group

    def num_steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.data.train.num_train_batches(epoch) / self.config.training.accumulate)

    def context(self) -> StepContext:
        """Where the run is; its random numbers are the same on all processes."""
        rng = random.Random(derive_seed(self.config.seed, "plan", self.state.step))
        return StepContext(self.state.step, self.state.epoch + 1, sum(self.steps), rng)

    def note(self, result: StepResult, batches: list[Batch]) -> None:
        """Count a step: position, running average, sums for the logs, skipped steps."""
        state, config = self.state, self.config.training
        if result.skipped and not result.overflow:
            failed = [name for names in self.world.gather(result.report.nonfinite) for name in names]
            self.log.say(f"step {state.step}: non-finite loss or gradient, skipped ({', '.join(failed[:5])})")
            note_nonfinite(state, failed, config.max_nonfinite)
        elif not result.skipped:
            state.nonfinite_row = 0
            for name, value in result.report.losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
                state.units[name] = state.units.get(name, 0.0) + result.report.units[name]
        state.lr = result.lr
        state.batch += len(batches)
        state.step += 1
        if state.step >= config.average_start * sum(self.steps) and state.step % config.average_period == 0:
            self.average.update(self.objective.model)
        if state.step % config.log_every == 0 and not result.skipped:
            means = {name: value / max(1.0, result.report.units[name]) for name, value in result.report.losses.items()}
            self.log.scalars("step", {**means, "lr": result.lr, "grad_norm": result.grad_norm}, state.step)

    def end_epoch(self, epoch: int) -> None:
        """Validate, log, keep what is best, and save."""
        state, config = self.state, self.config.training
        state.epoch, state.batch = epoch, 0
        sums, units = self.world.sum_by_key(state.sums), self.world.sum_by_key(state.units)
        train_losses = {name: value / max(1.0, units[name]) for name, value in sums.items()}
        due = epoch % config.validate_every == 0 or epoch == config.num_epochs
        dev = self.validate(epoch) if due else {}
        state.sums, state.units = {}, {}
        record = {"epoch": epoch, "step": state.step, "minutes": self.minutes(), "lr": state.lr}
        self.log.epoch({**record, "nonfinite": state.nonfinite, "train": train_losses, "dev": dev})
        if dev and (state.best is None or dev_metric(dev) < state.best):
            state.best = dev_metric(dev)
            self.save_weights(self.exp / "checkpoints" / "best.pt")
        self.save()

    def validate(self, epoch: int) -> dict[str, float]:
        """Losses and WER of every evaluated subnet on dev."""
        dev, decoding = self.progress(self.data.dev(), None, f"validation {epoch}"), self.config.decoding
        tokenizer = self.data.tokenizer
        return validate(self.objective, self.method, dev, tokenizer, decoding, self.context(), self.world)

    def scan_worst_batches(self) -> None:
        """Run the largest batches forward and backward: running out of memory shows now. Changes nothing."""
        self.objective.train()
        with untouched(self.objective, self.method):
            for batch in self.data.train.worst_batches():
                seconds = float(batch.x_lens.sum()) / 100
                with explained_out_of_memory(f"largest batch ({len(batch)} utterances, {seconds:.0f} s)"):
                    self.stepper.gradients([batch], self.context())

    def finish(self) -> None:
        """Average the weights, estimate the batch norms anew, write final.pt: the run is complete."""
        model, config = self.objective.model, self.config.training
        self.average.copy_to(model)
        seed_all(derive_seed(self.config.seed, "calibration", self.world.rank))
        count = math.ceil(config.calibration_batches / self.world.size)
        source = islice(self.data.train.train_batches(config.num_epochs + 1), count)
        batches = self.progress((batch.to(self.world.device) for batch in source), count, "batch norms")
        calibrate(self.objective, self.method, self.method.calibrated(), batches, self.context())
        dev = self.validate(self.state.epoch)
        self.log.say("final weights: " + ", ".join(f"{name} {value:.4f}" for name, value in dev.items()))
        if self.world.is_main:
            facts = {"epochs": self.state.epoch, "steps": self.state.step, "train_minutes": self.minutes()}
            energy = {} if self.state.energy is None else {"energy": {"train": self.state.energy}}
            update_results(self.exp, {**facts, "nonfinite_steps": self.state.nonfinite, **energy})
            self.save_weights(self.exp / "final.pt")
        self.world.barrier()

    def minutes(self) -> float:
        """Time spent training so far, over all resumes; the energy it took is noted along."""
        now = time.monotonic()
        if self.meter is not None:
            self.state.energy = self.meter.read().after(self.state.energy).to_dict()
        self.state.seconds += now - self.ticked
        self.ticked = now
        return round(self.state.seconds / 60.0, 3)

    def save(self) -> None:
        """Write a checkpoint from which the run goes on as if never interrupted; remove the oldest."""
        self.minutes()
        self.saved = time.monotonic()
        if not self.world.is_main:
            return
        folder = self.exp / "checkpoints"
        content = {
            "model": self.objective.model.state_dict(),
            "method": self.method.state_dict(),
            "state": asdict(self.state),
            "average": self.average.state_dict(),
            **self.stepper.state_dict(),
        }
        save_checkpoint(folder / self.state.checkpoint_name, content)
        prune_checkpoints(folder, self.config.training.keep_last)

    def save_weights(self, path: Path) -> None:
        """Write the model alone, as later stages load it."""
        if self.world.is_main:
            place = {"epoch": self.state.epoch, "step": self.state.step}
            save_checkpoint(path, {"model": self.objective.model.state_dict(), **place})

    def resume(self) -> None:
        """Take up the newest checkpoint that can be read."""
        folder = self.exp / "checkpoints"
        saved = newest_checkpoint(folder, self.log.say)
        if saved is None:
            return
        load_weights(self.objective.model, saved["model"], folder)
        self.method.load_state_dict(saved["method"])
        self.state = RunState(**saved["state"])
        if not self.world.is_main:
            self.state.sums, self.state.units = {}, {}
        self.average.load_state_dict(saved["average"], self.world.device)
        self.stepper.enter_phase(self.state.epoch + 1)
        self.stepper.load_state_dict(saved)
